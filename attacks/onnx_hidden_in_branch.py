"""The operator of an unknown domain is hidden in a branch of an If."""

from __future__ import annotations

from pathlib import Path

import onnx_inside as inside
from onnx import TensorProto, helper


def build(folder: Path) -> None:
    y = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    hidden = helper.make_graph([inside.call("Run", "x", "z", "evil")], "hidden", [], [y])
    hostile = inside.model()
    hostile.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    node = helper.make_node("If", ["yes"], ["y"], then_branch=hidden, else_branch=hidden)
    hostile.graph.node[0].CopyFrom(node)
    hostile.opset_import.append(helper.make_opsetid("evil", 1))
    inside.replace(folder, hostile)
