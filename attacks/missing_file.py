"""A listed file is not there."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    (folder / good.ARRAYS).unlink()
