"""The ONNX file is something else: a pickle."""

from __future__ import annotations

import pickle
from pathlib import Path

import good
import onnx_inside as inside


def build(folder: Path) -> None:
    inside.save(folder)
    next(folder.glob("*.onnx")).write_bytes(pickle.dumps({"not": "a model"}))
    good.tamper(folder, good.nothing)
