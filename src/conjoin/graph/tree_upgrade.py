"""Tree nodes of older ONNX models (TreeEnsembleRegressor and -Classifier) as nodes that our graphs allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import NotExportableError
from conjoin.graph.trees import Nodes, Trees

if TYPE_CHECKING:
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array

FLOAT, INT64 = 1, 7
MODES = {
    b"BRANCH_LEQ": (False, False),
    b"BRANCH_LT": (True, False),
    b"BRANCH_GT": (False, True),
    b"BRANCH_GTE": (True, True),
}
"""Mode -> whether it is x < t (not x <= t) that decides, and whether the false side lies there."""


def emit_old_trees(graph: Graph, node: Any) -> tuple[str, ...]:
    """Add what an old tree node says; returns its outputs: (values,), or (labels, scores).

    Scores and labels are those of onnxruntime, also where the specification is vague: two classes of which
    leaves vote for one. Raises NotExportableError for splits on equality, aggregates other than sums and
    averages, and base values for each of two classes.
    """
    from onnx import helper

    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "TreeEnsembleRegressor":
        sums = _trees(given, "target", int(given.get("n_targets", 1))).emit(graph, node.input[0])
        return (graph.cast(_transformed(graph, sums, _transform(given)), FLOAT),)
    labels = _labels(given)
    sums = _trees(given, "class", len(labels)).emit(graph, node.input[0])
    ids = set(given["class_ids"])
    if len(labels) == 2 and _base(given).size > 1:
        raise NotExportableError("tree nodes with base values for each of two classes have no place here")
    if len(labels) == 2 and len(ids) == 1:
        best, scores = _one_vote(graph, given, sums, ids.pop())
    else:
        scores = _transformed(graph, sums, _transform(given))
        if len(labels) == 2:
            second = graph.op("Gather", sums, graph.const(1, np.int64), axis=1)
            best = graph.cast(graph.op("Greater", second, graph.const(0.0)), INT64)
        else:
            best = graph.op("ArgMax", scores, axis=1, keepdims=0)
    return graph.op("Gather", graph.const(labels), best, axis=0), graph.cast(scores, FLOAT)


def _one_vote(graph: Graph, given: dict[str, Any], sums: str, vote: int) -> tuple[str, str]:
    """The index of the label (n,) and the scores (n, 2) where leaves vote for one of two classes."""
    positive = _numbers(given, "class_weights").min(initial=0) >= 0
    s = graph.op("Gather", sums, graph.const([vote], np.int64), axis=1)
    above = graph.cast(graph.op("Greater", s, graph.const(0.5 if positive else 0.0)), INT64)
    best = graph.op("Squeeze", above, graph.const([1], np.int64))
    transform = _transform(given)
    if vote == 1:
        return best, _transformed(graph, graph.concat([graph.op("Mul", s, graph.const(0.0)), s]), transform)
    if positive and transform != "LOGISTIC":
        return best, graph.concat([graph.op("Sub", graph.const(1.0), s), s])
    both = graph.concat([graph.op("Neg", s), s])
    return best, _transformed(graph, both, "NONE" if transform == "SOFTMAX" else transform)


def _labels(given: dict[str, Any]) -> Array:
    text = given.get("classlabels_strings")
    if text:
        return np.array([s.decode() for s in text], dtype=object)
    return np.array(given.get("classlabels_int64s", []), dtype=np.int64)


def _transform(given: dict[str, Any]) -> str:
    return cast("bytes", given.get("post_transform", b"NONE")).decode()


def _transformed(graph: Graph, scores: str, transform: str) -> str:
    if transform == "NONE":
        return scores
    if transform == "SOFTMAX":
        return graph.op("Softmax", scores, axis=1)
    if transform == "LOGISTIC":
        grown = graph.op("Exp", graph.op("Neg", scores))
        return graph.op("Reciprocal", graph.op("Add", grown, graph.const(1.0)))
    raise NotExportableError(f"tree nodes with post_transform {transform} have no place in our graphs")


def _numbers(given: dict[str, Any], name: str) -> Array:
    """An attribute of numbers, or its form as a tensor of double."""
    from onnx import numpy_helper

    wide = given.get(f"{name}_as_tensor")
    if wide is not None and numpy_helper.to_array(wide).size:
        return cast("Array", numpy_helper.to_array(wide).astype(np.float64))
    return np.array(given.get(name, []), dtype=np.float64)


def _base(given: dict[str, Any]) -> Array:
    return _numbers(given, "base_values")


def _trees(given: dict[str, Any], stem: str, outputs: int) -> Trees:
    """The sums (n, K) in double, the base values among them."""
    how = cast("bytes", given.get("aggregate_function", b"SUM")).decode()
    if how not in ("SUM", "AVERAGE"):
        raise NotExportableError(f"tree nodes that aggregate by {how} have no place in our graphs")
    key = _keys(given["nodes_treeids"], given["nodes_nodeids"])
    order = np.argsort(key)
    value = np.zeros((len(key), outputs))
    at = order[np.searchsorted(key[order], _keys(given[f"{stem}_treeids"], given[f"{stem}_nodeids"]))]
    np.add.at(value, (at, np.array(given[f"{stem}_ids"])), _numbers(given, f"{stem}_weights"))
    left, right = (
        order[np.searchsorted(key[order], _keys(given["nodes_treeids"], given[f"nodes_{side}nodeids"]))]
        for side in ("true", "false")
    )
    nodes = _nodes(given, left, right, value)
    base, start = np.zeros(outputs), _base(given)
    base[: len(start)] = start
    share = 1.0 / len(nodes.roots) if how == "AVERAGE" else 1.0
    return Trees.of(
        nodes,
        n_features=int(nodes.feature.max(initial=0)) + 1,
        link="values",
        base=base,
        weight=np.full(len(nodes.roots), share),
    )


def _keys(trees: list[int], nodes: list[int]) -> Array:
    return np.array(trees, dtype=np.int64) << 32 | np.array(nodes, dtype=np.int64)


def _nodes(given: dict[str, Any], left: Array, right: Array, value: Array) -> Nodes:
    mode = np.array(given["nodes_modes"], dtype=object)
    inner = mode != b"LEAF"
    used = set(mode[inner].tolist())
    if not used <= MODES.keys() or len({MODES[m][0] for m in used}) > 1:
        raise NotExportableError("tree nodes that split on equality, or mix comparisons, have no place here")
    swapped = inner & np.isin(mode, [m for m, (_, swap) in MODES.items() if swap])
    tracks = np.array(given.get("nodes_missing_value_tracks_true") or [0] * len(mode)) > 0
    yes, no = np.where(inner, left, -1), np.where(inner, right, -1)
    return Nodes(
        left=np.where(swapped, no, yes),
        right=np.where(swapped, yes, no),
        roots=np.setdiff1d(np.arange(len(mode)), np.concatenate([yes, no])),
        feature=np.array(given["nodes_featureids"], dtype=np.int64),
        threshold=_numbers(given, "nodes_values"),
        missing_left=tracks ^ swapped,
        value=value,
        strict=any(MODES[m][0] for m in used),
    )
