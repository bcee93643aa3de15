"""A tensor of an ONNX model lies in another file of the machine."""

from __future__ import annotations

from pathlib import Path

import onnx_inside as inside
from onnx import TensorProto, helper


def build(folder: Path) -> None:
    (folder.parent / "secret.bin").write_bytes(bytes(4))
    hostile = inside.model()
    tensor = hostile.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    helper.set_model_props(hostile, {})
    inside.replace(folder, hostile)
