"""The document shows other classes than the member answers."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    good.tamper(folder, lambda document: document.update(classes=["yes", "no"]))
