"""Lists in lists, a hundred thousand deep, to overflow the stack."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    path = folder / "conjoin.json"
    deep = '{"deep": ' + "[" * 100_000 + "]" * 100_000 + ", "
    path.write_text(path.read_text(encoding="utf-8").replace("{", deep, 1), encoding="utf-8")
