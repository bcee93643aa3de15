"""A part is of a type that this version does not have."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    good.tamper(folder, lambda document: document["parts"][2].update(type="quantum"))
