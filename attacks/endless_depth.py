"""A thousand parts inside one another, to overflow the stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import good


def build(folder: Path) -> None:
    good.save(folder)

    def change(document: dict[str, Any]) -> None:
        head, encoder, linear = document["parts"]
        means: list[dict[str, Any]] = [
            {"type": "average", "meta": {"parts": 1}, "children": [["part0", k + 1]], "arrays": {}}
            for k in range(2, 1002)
        ]
        document["parts"] = [head, encoder, *means, linear]

    good.tamper(folder, change)
