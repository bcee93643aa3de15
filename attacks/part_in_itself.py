"""A part is its own child: following it never ends."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    good.tamper(folder, lambda document: document["parts"][1]["children"].append(["again", 1]))
