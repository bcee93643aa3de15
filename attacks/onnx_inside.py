"""A sound bundle around an ONNX model, and how an attacker puts another model in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import good
import onnx
from onnx import TensorProto, helper

from conjoin import bundle
from conjoin.members.onnx import onnx_member
from conjoin.members.wrapped import Given


def model() -> Any:
    """y = x * 2, from an input x (n, 1)."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "two"], ["y"])], "double", [x], [y], [two])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def save(folder: Path) -> None:
    """A sound bundle at `folder`."""
    bundle.save(onnx_member(model().SerializeToString(), Given(name="double")), folder)


def replace(folder: Path, hostile: Any) -> None:
    """Put another model into a sound bundle, with new lengths and digests."""
    save(folder)
    next(folder.glob("*.onnx")).write_bytes(hostile.SerializeToString())
    good.tamper(folder, good.nothing)


def with_functions(functions: list[Any]) -> Any:
    """The model with functions of its own; it calls the first one."""
    hostile = model()
    hostile.functions.extend(functions)
    hostile.graph.node[0].CopyFrom(helper.make_node(functions[0].name, ["x"], ["y"], domain="own"))
    hostile.opset_import.append(helper.make_opsetid("own", 1))
    return hostile


def function(name: str, nodes: list[Any]) -> Any:
    """A function a -> b of the domain "own"."""
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1), helper.make_opsetid("evil", 1)]
    return helper.make_function("own", name, ["a"], ["b"], nodes, opsets)


def call(op: str, source: str, target: str, domain: str = "own") -> Any:
    """A node with one input and one output."""
    return helper.make_node(op, [source], [target], domain=domain)


__all__ = ["call", "function", "model", "onnx", "replace", "save", "with_functions"]
