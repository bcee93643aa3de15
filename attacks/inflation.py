"""A deflated array inflates to 128 megabytes where two kilobytes were declared."""

from __future__ import annotations

import zlib
from pathlib import Path

import good
import numpy as np
from safetensors.numpy import load_file, save_file


def build(folder: Path) -> None:
    good.save(folder)
    deflater = zlib.compressobj(9)
    block = deflater.compress(bytes(2**26)) + deflater.flush(zlib.Z_FULL_FLUSH)
    packed = block + deflater.compress(bytes(2**26)) + deflater.flush()
    path = folder / good.ARRAYS
    tensors = {**load_file(path), "1.category0.utf8": np.frombuffer(packed, np.uint8)}
    save_file(tensors, path)
    good.tamper(folder, good.nothing)
