"""A category points to a row beyond its table, to read foreign memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import good
import numpy as np
from safetensors.numpy import load_file, save_file


def build(folder: Path) -> None:
    good.save(folder)
    path = folder / good.ARRAYS
    rows = np.full(300, 10**6, np.int32)
    save_file({**load_file(path), "1.category0.rows": rows}, path)

    def change(document: dict[str, Any]) -> None:
        document["parts"][1]["arrays"]["category0.rows"] = {"tensor": "1.category0.rows"}

    good.tamper(folder, change)
