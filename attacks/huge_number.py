"""A number of a million digits, which takes long to read; and one beyond float64."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    path = folder / "conjoin.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("{", '{"big": ' + "9" * 1_000_000 + ', "far": 1e999, ', 1), encoding="utf-8")
