"""A tensor reaches beyond the end of its file."""

from __future__ import annotations

import json
from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    header = {"1.shift": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}
    raw = json.dumps(header).encode()
    (folder / good.ARRAYS).write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(64))
    good.tamper(folder, good.nothing)
