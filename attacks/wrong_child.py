"""A member's encoder is a linear model, and its model an encoder: parts of types that do not belong there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import good


def build(folder: Path) -> None:
    good.save(folder)

    def change(document: dict[str, Any]) -> None:
        document["parts"][0]["children"] = [["encoder", 2], ["model", 1]]

    good.tamper(folder, change)
