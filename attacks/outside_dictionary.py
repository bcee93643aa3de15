"""An element of a dictionary array points beyond its table."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import good
import numpy as np
from safetensors.numpy import load_file, save_file


def build(folder: Path) -> None:
    good.save(folder)

    def change(document: dict[str, Any]) -> None:
        table = np.zeros(2, np.float32).tobytes()
        packed = zlib.compress(table + bytes([0, 1] * 150 + [200]))
        path = folder / good.ARRAYS
        save_file({**load_file(path), "1.category0.table": np.frombuffer(packed, np.uint8)}, path)
        document["parts"][1]["arrays"]["category0.table"]["table"] = 2

    good.tamper(folder, change)
    good.tamper(folder, good.nothing)
