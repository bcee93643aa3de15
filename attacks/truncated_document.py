"""conjoin.json ends early, as after a broken copy."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    path = folder / "conjoin.json"
    path.write_bytes(path.read_bytes()[:-100])
