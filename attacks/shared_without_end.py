"""Forty parts, each of which holds the next one twice: a trillion when written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import good


def build(folder: Path) -> None:
    good.save(folder)

    def change(document: dict[str, Any]) -> None:
        head, encoder, linear = document["parts"]
        means: list[dict[str, Any]] = [
            {
                "type": "average",
                "meta": {"parts": 2},
                "children": [["part0", k + 1], ["part1", k + 1]],
                "arrays": {},
            }
            for k in range(2, 42)
        ]
        head["children"] = [["encoder", 1], ["model", 2]]
        document["parts"] = [head, encoder, *means, linear]

    good.tamper(folder, change)
