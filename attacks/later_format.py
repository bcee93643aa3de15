"""The bundle has a format that does not exist yet."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    good.tamper(folder, lambda document: document.update(format=2, written_by="conjoin 9.0"))
