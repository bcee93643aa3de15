"""A deflated array declares a shape of a terabyte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import good


def build(folder: Path) -> None:
    good.save(folder)

    def change(document: dict[str, Any]) -> None:
        document["parts"][1]["arrays"]["category0.utf8"]["shape"] = [2**20, 2**20]

    good.tamper(folder, change)
