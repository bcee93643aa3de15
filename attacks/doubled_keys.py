"""A key stands twice in conjoin.json: two readers would see two documents."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    path = folder / "conjoin.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"kind"', '"kind": "values", "kind"', 1), encoding="utf-8"
    )
