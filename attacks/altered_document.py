"""A class is renamed in conjoin.json, its digest is left as it was."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    path = folder / "conjoin.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"yes"', '"oui"'), encoding="utf-8")
