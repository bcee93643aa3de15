"""Checks ONNX models that somebody else made, before a session sees them.

Refused: operators outside the standard domains, data in other files, nesting without end. What runs after
that is onnxruntime's own operators over the file's own bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from conjoin.errors import BundleError, listed

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
"""Operator domains that a model may use, beside functions that it defines itself."""
_EXTERNAL = 1  # TensorProto.EXTERNAL
_NESTING = 32


def check_model(raw: bytes, name: str) -> Any:
    """The ModelProto of these bytes. Raises BundleError where it is damaged or reaches outside itself."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.ModelProto.FromString(raw)
    except DecodeError as error:
        raise BundleError(f"{name!r} is not an ONNX model: it is truncated or altered") from error
    if not model.graph.output:
        raise BundleError(f"{name!r} is not an ONNX model: it has no graph with outputs")
    own = {(f.domain, f.name) for f in model.functions}
    graphs = _graphs(model, name)
    nodes = [n for holder in (*graphs, *model.functions) for n in holder.node]
    for node in nodes:
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
            raise BundleError(
                f"{name!r}: operator {node.op_type[:80]!r} is of domain {node.domain[:80]!r}; "
                f"known domains are {listed(repr(d) for d in DOMAINS)}"
            )
    for tensor in _tensors(graphs, nodes):
        if tensor.data_location == _EXTERNAL or tensor.external_data:
            raise BundleError(
                f"{name!r}: tensor {tensor.name[:80]!r} lies in another file; a model must hold its own "
                "data: save it again without external data"
            )
    return model


def _graphs(model: Any, name: str) -> list[Any]:
    """Every graph of the model: the main one, those of training, those inside nodes of any of them."""
    level = [model.graph, *(g for t in model.training_info for g in (t.initialization, t.algorithm))]
    level += [g for f in model.functions for g in _inside(f.node)]
    found: list[Any] = []
    for _ in range(_NESTING):
        found += level
        level = [g for graph in level for g in _inside(graph.node)]
        if not level:
            return found
    raise BundleError(f"{name!r}: graphs lie in one another deeper than {_NESTING}")


def _inside(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def _tensors(graphs: Iterable[Any], nodes: Iterable[Any]) -> Iterator[Any]:
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
