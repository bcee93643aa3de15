"""The safetensors file declares a header of 2**62 bytes."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    path = folder / good.ARRAYS
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])
    good.tamper(folder, good.nothing)
