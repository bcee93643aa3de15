"""Reads foreign ONNX graphs: refuses unsafe ones, finds inputs, the answer and the names of the classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import BundleError, InputError, listed

if TYPE_CHECKING:
    from conjoin.outputs import Array

SAFE_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
"""Operator domains that a foreign graph may use: what plain onnxruntime runs."""

MAX_NODES = 1_000_000
"""Nodes that functions of a model may have when they are written out."""

_FLOATS = (1, 10, 11)
_LABELS = (7, 8)


@dataclass(frozen=True, slots=True)
class Slot:
    """An input or output: its name, ONNX element type, and the shape of one row (None for a free axis)."""

    name: str
    element: int
    shape: tuple[int | None, ...]

    @property
    def row(self) -> int | None:
        """How many numbers a row has; None where the graph does not say."""
        if any(d is None for d in self.shape):
            return None
        return int(np.prod(cast("tuple[int, ...]", self.shape), dtype=np.int64))

    def fold(self, array: Array) -> Array:
        """The array (n, ...) in the shape that this slot takes."""
        return (
            array.reshape(len(array), *cast("tuple[int, ...]", self.shape)) if self.row is not None else array
        )


def checked_model(model: bytes) -> Any:
    """The ModelProto, its functions inlined.

    Raises BundleError where it cannot be parsed, refers to a file outside, or uses an operator of an unknown
    domain.
    """
    import onnx
    from onnx import inliner

    try:
        proto = onnx.load_from_string(model)
    except Exception as error:  # protobuf has an error class of its own for each backend
        raise BundleError(f"this is not an ONNX file, or it is damaged: {error}") from error
    if not proto.graph.node and not proto.graph.output:
        raise BundleError("this is not an ONNX file, or it is damaged: it holds no graph")
    graphs = [proto.graph, *proto.functions]
    for graph in graphs:
        for tensor in _tensors(graph):
            if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
                raise BundleError(
                    f"tensor {tensor.name!r} lies in another file; save the model with its data inside"
                )
    own = {(f.domain, f.name) for f in proto.functions}
    used = {(n.domain, n.op_type) for g in graphs for n in _nodes(g)} - own
    unknown = sorted({d for d, _ in used if d not in SAFE_DOMAINS})
    if unknown:
        raise BundleError(
            f"operator domain {listed(map(repr, unknown))} is not allowed; only the standard ones are: "
            "'' and 'ai.onnx.ml'"
        )
    if proto.functions:
        _check_functions(proto)
        proto = inliner.inline_local_functions(proto)
    versions = {("" if e.domain == "ai.onnx" else e.domain): e.version for e in proto.opset_import}
    del proto.opset_import[:]  # written anew: once each, the default domain first, as converters expect it
    for domain in ("", "ai.onnx.ml"):
        if domain in versions:
            proto.opset_import.append(onnx.helper.make_opsetid(domain, versions[domain]))
    return proto


def _check_functions(proto: Any) -> None:
    """Raise BundleError where writing the functions out would never end, or end with too many nodes."""
    bodies = {(f.domain, f.name): [(n.domain, n.op_type) for n in _nodes(f)] for f in proto.functions}
    sizes: dict[tuple[str, str], int] = {}
    for _ in bodies:  # functions may call one another: each round settles those whose callees are settled
        for name, calls in bodies.items():
            if name not in sizes and all(c in sizes for c in calls if c in bodies):
                sizes[name] = sum(sizes.get(c, 1) for c in calls)
        if len(sizes) == len(bodies):
            break
    total = sum(sizes.get((n.domain, n.op_type), 1) for n in _nodes(proto.graph))
    if len(sizes) < len(bodies):
        raise BundleError("functions of this ONNX model call themselves")
    if total > MAX_NODES:
        raise BundleError(
            f"written out, the functions of this ONNX model have {total} nodes; at most {MAX_NODES}"
        )


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)


def input_slots(proto: Any) -> tuple[Slot, ...]:
    """The inputs that are not constants. Raises InputError on sequences and on a fixed number of rows."""
    constants = {i.name for i in proto.graph.initializer}
    slots = [_slot(v, rows_free=True) for v in proto.graph.input if v.name not in constants]
    if not slots:
        raise InputError("the graph has no inputs, so it answers the same whatever the rows are")
    return tuple(slots)


def _slot(value: Any, *, rows_free: bool = False) -> Slot:
    if value.type.WhichOneof("value") != "tensor_type":
        raise InputError(f"{value.name!r} is a {value.type.WhichOneof('value')}, not a tensor")
    tensor = value.type.tensor_type
    dims = [d.dim_value if d.WhichOneof("value") == "dim_value" else None for d in tensor.shape.dim]
    if rows_free and dims and dims[0] is not None:
        raise InputError(
            f"input {value.name!r} takes exactly {dims[0]} rows; export the model with a free first axis"
        )
    if rows_free and not dims:
        raise InputError(f"input {value.name!r} has no shape; export the model with the shape of its inputs")
    return Slot(value.name, tensor.elem_type, tuple(dims[1:]) if tensor.HasField("shape") else (None,))


def answer_slot(proto: Any, output: str | None, kind: str | None) -> tuple[Slot, str]:
    """The output that is the answer, and the kind of the answer. Raises InputError where that is open."""
    if any(n.op_type == "ZipMap" for n in proto.graph.node):
        raise InputError(
            "this graph ends in ZipMap, which answers dictionaries; convert the model again with "
            "options={'zipmap': False}"
        )
    slots = _output_slots(proto)
    if output is not None:
        chosen = [s for s in slots if s.name == output]
        if not chosen:
            raise InputError(f"the graph has no output {output!r}; it has {listed(s.name for s in slots)}")
        slots = chosen
    numbers = [s for s in slots if s.element in _FLOATS]
    labels = [s for s in slots if s.element in _LABELS and len(s.shape) == 0]
    if kind == "labels" and labels:
        return labels[0], kind
    if not numbers and len(labels) == 1:
        return labels[0], kind or "labels"
    if len(numbers) > 1:
        numbers = [s for s in numbers if "prob" in s.name.lower()] or numbers
    if len(numbers) != 1:
        raise InputError(
            f"the graph has the outputs {listed(s.name for s in slots)}; say which is the answer: "
            "wrap(..., output='...')"
        )
    return numbers[0], kind or _kind_of(numbers[0], bool(labels))


def _kind_of(slot: Slot, has_label: bool) -> str:
    if has_label:
        return "probabilities"
    if slot.row is None:
        raise InputError(f"output {slot.name!r} has no fixed width; say what it answers: wrap(..., kind=...)")
    return "values" if slot.row == 1 else "probabilities"


def _output_slots(proto: Any) -> list[Slot]:
    """The outputs; shapes that the file leaves out are inferred where that is possible."""
    import onnx

    if any(not v.type.tensor_type.HasField("shape") for v in proto.graph.output):
        proto = onnx.shape_inference.infer_shapes(proto)
    return [_slot(v) for v in proto.graph.output]


def classes_in(proto: Any, width: int | None) -> list[str]:
    """Names of the classes that the graph's own nodes hold, else 0, 1, ... where the width is known."""
    from onnx import numpy_helper

    constants = {i.name: i for i in proto.graph.initializer}
    for node in reversed(proto.graph.node):
        for attribute in node.attribute:
            if attribute.name == "classlabels_strings" and attribute.strings:
                return [s.decode() for s in attribute.strings]
            if attribute.name in ("classlabels_int64s", "classlabels_ints") and attribute.ints:
                return [str(i) for i in attribute.ints]
        if node.op_type == "ArrayFeatureExtractor" and node.input[0] in constants:
            found = numpy_helper.to_array(constants[node.input[0]]).ravel().tolist()
            if width is None or len(found) == width:
                return [v.decode() if isinstance(v, bytes) else str(v) for v in found]
    return [str(i) for i in range(width or 0)] if width != 1 else ["0", "1"]


def squash(proto: Any, slot: Slot) -> tuple[Any, Slot]:
    """The graph with a softmax after the answer, or a sigmoid where it is one number a row."""
    from onnx import helper

    name = f"{slot.name}/probabilities"
    one = slot.row == 1
    attributes = {} if one else {"axis": -1}
    node = helper.make_node("Sigmoid" if one else "Softmax", [slot.name], [name], **attributes)
    proto.graph.node.append(node)
    proto.graph.output.append(helper.make_tensor_value_info(name, slot.element, None))
    return proto, Slot(name, slot.element, slot.shape)
