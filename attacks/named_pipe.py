"""A file of the bundle is a named pipe, on which a reader would wait for ever."""

from __future__ import annotations

import os
from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    (folder / good.ARRAYS).unlink()
    os.mkfifo(folder / good.ARRAYS)
    good.tamper(folder, good.nothing)
