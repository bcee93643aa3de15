"""The type of a part names code: a module and a function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import good


def build(folder: Path) -> None:
    good.save(folder)

    def change(document: dict[str, Any]) -> None:
        document["parts"][2] |= {"type": "os:system", "meta": {"command": "touch owned"}}

    good.tamper(folder, change)
