"""Room on the disk for a tensor that a view computes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from conjoin.outputs import Array


def scratch_map(folder: Path | None, dtype: Any, shape: tuple[int, ...]) -> Array:
    """A new array in a file without a name, in a folder; None is the system's folder for such files.

    The room is taken at once, so that a full disk is an OSError and no crash, and is given back when the
    array is dropped.
    """
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if not size:
        return np.empty(shape, kind)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, kind, "r+", 0, shape)
