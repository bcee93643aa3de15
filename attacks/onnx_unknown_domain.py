"""An ONNX model calls an operator outside the standard domains."""

from __future__ import annotations

from pathlib import Path

import onnx_inside as inside
from onnx import helper


def build(folder: Path) -> None:
    hostile = inside.model()
    hostile.graph.node[0].CopyFrom(inside.call("Run", "x", "y", "evil"))
    hostile.opset_import.append(helper.make_opsetid("evil", 1))
    inside.replace(folder, hostile)
