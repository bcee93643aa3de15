"""One bit of the arrays is turned, the digest is left as it was."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    path = folder / good.ARRAYS
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
