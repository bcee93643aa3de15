"""What skl2onnx makes of scikit-learn's estimators and transformers, as parts of our graphs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import NotExportableError, need
from conjoin.graph.builder import OPSET

if TYPE_CHECKING:
    from conjoin.contracts import Column
    from conjoin.graph.builder import Graph

FLOAT, STRING, DOUBLE = 1, 8, 11
TEXT = ("category", "text")
DOMAINS = {"": OPSET, "ai.onnx.ml": 3}
MATRIX = "x"
"""The name of the input of a model that reads a matrix."""


@dataclass(frozen=True, slots=True, eq=False)
class OnnxModel:
    """A part made elsewhere. model: a serialised ModelProto. inputs: name -> the model's own name for it.

    output: the tensor of answers. element: the ONNX type in which it reads numbers. kind: "probabilities",
    "values" or "features".
    """

    model: bytes
    inputs: Mapping[str, str]
    output: str
    element: int
    kind: str

    def emit(self, graph: Graph, x: str, /) -> str:
        """Add the nodes over the tensor x (n, d); returns the tensor of answers."""
        return self.emit_columns(graph, {MATRIX: x}, {})

    def emit_columns(self, graph: Graph, numbers: Mapping[str, str], texts: Mapping[str, str]) -> str:
        """Add the nodes over a tensor for each input, by name; texts are not cast."""
        import onnx

        given = {name: graph.cast(tensor, self.element) for name, tensor in numbers.items()} | dict(texts)
        bound = {self.inputs[name]: tensor for name, tensor in given.items()}
        found = graph.splice(onnx.load_from_string(self.model), bound)[self.output]
        found = graph.cast(found, FLOAT if self.kind == "probabilities" else DOUBLE)
        if self.kind != "values":
            return found
        return graph.op("Reshape", found, graph.const([0, -1], np.int64))  # (n,) to (n, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A transformer before a model."""

    first: OnnxModel
    then: Any

    def emit(self, graph: Graph, x: str, /) -> str:
        """Add both over the tensor x (n, d)."""
        return cast(str, self.then.emit(graph, self.first.emit(graph, x)))

    def emit_columns(self, graph: Graph, numbers: Mapping[str, str], texts: Mapping[str, str]) -> str:
        """Add both over a tensor for each input."""
        return cast(str, self.then.emit(graph, self.first.emit_columns(graph, numbers, texts)))


@dataclass(frozen=True, slots=True, eq=False)
class ColumnsPart:
    """A model that reads columns by name."""

    columns: tuple[Column, ...]
    part: OnnxModel | Chain

    def emit(self, graph: Graph, /) -> str:
        """Add the nodes over the graph's own columns; returns the tensor of answers."""
        tensors = {c.name: graph.column(c) for c in self.columns}
        texts = {c.name: tensors[c.name] for c in self.columns if c.type in TEXT}
        numbers = {name: tensor for name, tensor in tensors.items() if name not in texts}
        return self.part.emit_columns(graph, numbers, texts)


def matrix_forms(estimator: Any, d: int, *, kind: str) -> list[OnnxModel]:
    """What skl2onnx makes of an estimator over a matrix of d features: in double, in float, where it can.

    Raises NotExportableError where it can do neither.
    """
    return _forms(estimator, lambda numbers: [(MATRIX, numbers([None, d]))], kind=kind)


def columns_forms(estimator: Any, columns: Sequence[Column], *, kind: str) -> list[OnnxModel]:
    """The same over one input for each column, text or number."""
    text = need("skl2onnx.common.data_types").StringTensorType

    def inputs(numbers: Any) -> list[tuple[str, Any]]:
        return [(c.name, (text if c.type in TEXT else numbers)([None, 1])) for c in columns]

    return _forms(estimator, inputs, kind=kind)


def _forms(estimator: Any, inputs: Any, *, kind: str) -> list[OnnxModel]:
    types = need("skl2onnx.common.data_types")
    forms, why = [], ""
    for element, numbers in ((DOUBLE, types.DoubleTensorType), (FLOAT, types.FloatTensorType)):
        try:
            forms.append(_form(estimator, inputs(numbers), element=element, kind=kind))
        except Exception as error:  # skl2onnx raises classes of its own, and whatever breaks inside it
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if not forms:
        raise NotExportableError(f"skl2onnx has no ONNX form of {type(estimator).__name__} ({why})")
    return forms


def _form(estimator: Any, inputs: list[tuple[str, Any]], *, element: int, kind: str) -> OnnxModel:
    skl2onnx = need("skl2onnx")
    options = {id(estimator): {"zipmap": False}} if kind == "probabilities" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto = skl2onnx.convert_sklearn(
            estimator, initial_types=inputs, options=options, target_opset=dict(DOMAINS)
        )
    strange = {o.domain for o in proto.opset_import} - DOMAINS.keys()
    if strange:
        raise NotExportableError(f"it uses the operator domains {sorted(strange)}")
    del proto.opset_import[:]  # skl2onnx writes the least versions that would do, some of them twice
    for domain, version in DOMAINS.items():
        proto.opset_import.add(domain=domain, version=version)
    _plain_imputers(proto)
    output = proto.graph.output[1 if kind == "probabilities" else 0].name
    own = [i.name for i in proto.graph.input]  # skl2onnx changes names that are no identifiers
    renamed = dict(zip((name for name, _ in inputs), own, strict=True))
    return OnnxModel(proto.SerializeToString(), renamed, output, element, kind)


def _plain_imputers(proto: Any) -> None:
    """Replaces the operator Imputer, which onnxruntime has in float alone, by such as take doubles too."""
    from onnx import helper, numpy_helper

    kept = []
    for node in proto.graph.node:
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type != "Imputer" or "imputed_value_floats" not in given:
            kept.append(node)
            continue
        x, stem = node.input[0], node.output[0]
        values = np.array(given["imputed_value_floats"], dtype=np.float64)
        marker = np.array(given.get("replaced_value_float", 0.0), dtype=np.float64)
        for name, array in (("values", values), ("marker", marker)):
            proto.graph.initializer.append(numpy_helper.from_array(array, f"{stem}:{name}"))
            kept.append(helper.make_node("CastLike", [f"{stem}:{name}", x], [f"{stem}:{name}:like"]))
        if np.isnan(marker):
            kept.append(helper.make_node("IsNaN", [x], [f"{stem}:gone"]))
        else:
            kept.append(helper.make_node("Equal", [x, f"{stem}:marker:like"], [f"{stem}:gone"]))
        kept.append(helper.make_node("Where", [f"{stem}:gone", f"{stem}:values:like", x], [stem]))
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
