"""The ONNX form of `Trees`: a few TreeEnsemble nodes (ai.onnx.ml 5) in double.

One node for all trees would run through the whole memory of the ensemble for each row. Nodes of at most
`NODES` tree nodes stay in the processor's cache while a batch goes through them: 2 to 3 times faster for
large forests, at half a microsecond per ONNX node for a single row. Double costs no time here, and makes the
sum of thousands of trees exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.graph.preorder import right_children, tree_starts
from conjoin.graph.tree_sets import BYTES, emit_sets, row_indices

if TYPE_CHECKING:
    from conjoin.graph.builder import Graph
    from conjoin.graph.trees import Trees
    from conjoin.outputs import Array

NODES = 32_768
"""Tree nodes in one ONNX node, about 1 MB."""
SETS = 4_096
"""Splits on sets of categories in one ONNX node: each is a column that must be made first."""
WIDTH = 4_096
"""Numbers per row that looking up vector leaves may make at once."""
FLOAT, INT64, DOUBLE = 1, 7, 11
TINY = float(np.float32(1e-35))
"""What LightGBM takes for zero."""


def emit_trees(trees: Trees, graph: Graph, x: str) -> str:
    """Add the nodes of an ensemble over x (n, n_features); returns probabilities or values."""
    sums, base = _sums(trees, graph, x)
    if sums is None:
        rows = graph.op("Shape", x, start=0, end=1)
        shape = graph.op("Concat", rows, graph.const([len(base)], np.int64), axis=0)
        sums = graph.op("Expand", graph.const(np.zeros((1, 1))), shape)
    return _linked(trees, graph, sums, base)


def _linked(trees: Trees, graph: Graph, sums: str, base: Array) -> str:
    """The link over double sums; base is not yet in them, scale is."""
    if trees.affine:
        values = graph.op("Add", sums, graph.const(base[None] * trees.scale + trees.shift))
        if trees.link == "values":
            return values
        every = graph.const([len(base)], np.int64)
        return graph.ops("TopK", values, every, count=2, axis=1, largest=0, sorted=1)[0]
    if trees.link == "complement":
        both = graph.op("Mul", sums, graph.const([[-1.0, 1.0]]))
        return graph.cast(graph.op("Add", both, graph.const([[1.0 - base[0], base[0]]])), FLOAT)
    if trees.link == "sigmoid":  # as a softmax of [0, z], because onnxruntime's Sigmoid is 0 below -37
        both = graph.op("Mul", sums, graph.const([[0.0, 1.0]]))
        z = graph.op("Add", both, graph.const([[0.0, base[0]]]))
        return graph.cast(graph.op("Softmax", z, axis=1), FLOAT)
    z = graph.op("Add", sums, graph.const(base[None]))
    if trees.link == "exp":
        return graph.op("Exp", z)
    return graph.cast(graph.op("Softmax", z, axis=1) if trees.link == "softmax" else z, FLOAT)


def _sums(trees: Trees, graph: Graph, x: str) -> tuple[str | None, Array]:
    """The sums (n, K) in double, None where there is no inner node; and base with trees of one leaf in it."""
    starts = tree_starts(trees.leaf)
    size = np.diff(starts)
    leaves = np.concatenate([[0], np.cumsum(trees.leaf)])
    base = trees.base.copy()
    vector = trees.values.shape[1] > 1
    alone = np.flatnonzero(size == 1)
    gain = trees.values[trees.codes[leaves[starts[alone]]]].astype(np.float64) * trees.weight[alone, None]
    if vector:
        base += gain.sum(0)
    else:
        np.add.at(base, trees.target[alone], gain[:, 0])
    by_lookup = vector and bool(((trees.values != 0).sum(1) > 1).any())
    narrow = trees.threshold.dtype == np.float32
    x = graph.cast(graph.cast(x, FLOAT) if narrow else x, DOUBLE)  # onnxruntime drops casts to the same type
    graph.limit_rows(max(256, BYTES // (8 * max(1, trees.n_features))))
    rows = row_indices(trees.sets, graph, x)
    if trees.zero_missing:
        zero = graph.op("LessOrEqual", graph.op("Abs", x), graph.const(TINY))
        x = graph.op("Where", zero, graph.const(np.nan, np.float64), x)
    parts = []
    for a, b in _groups(trees, starts, by_lookup):
        group = _Group(trees, starts, leaves, np.arange(a, b)[size[a:b] > 1])
        features = group.features(graph, x, rows)
        parts.append(group.lookup(graph, features) if by_lookup else group.direct(graph, features))
    if not parts:
        return None, base
    return (parts[0] if len(parts) == 1 else graph.op("Sum", *parts)), base


def _groups(trees: Trees, starts: Array, by_lookup: bool) -> list[tuple[int, int]]:
    """Stretches of trees [a, b) for one node each; for the lookup, of equal weight."""
    size = np.diff(starts)
    most = max(1, WIDTH // trees.values.shape[1]) if by_lookup else len(size)
    on_sets = np.zeros(len(trees.leaf) + 1, dtype=np.int64)
    on_sets[1:][~trees.leaf] = trees.feature >= trees.n_features
    splits = np.diff(np.cumsum(on_sets)[starts])
    cuts, start, nodes, sets = [], -1, 0, 0
    for t in np.flatnonzero(size > 1).tolist():
        full = nodes + size[t] > NODES or sets + splits[t] > SETS or t - start >= most
        if start < 0 or full or (by_lookup and trees.weight[t] != trees.weight[start]):
            cuts.append(t)
            start, nodes, sets = t, 0, 0
        nodes += int(size[t])
        sets += int(splits[t])
    return list(itertools.pairwise([*cuts, len(size)]))


def _placed(trees: Trees, feature: Array) -> tuple[Array, Array]:
    """The sets that splits use, ordered by feature, and the column of each split where they follow x."""
    d = trees.n_features
    used = np.unique(feature[feature >= d]) - d
    order = used[np.argsort(trees.sets.feature[used], kind="stable")]
    place = np.arange(d + len(trees.sets))
    place[d + order] = d + np.arange(len(order))
    return order, place[feature]


class _Group:
    """Some trees of an ensemble as one node."""

    def __init__(self, trees: Trees, starts: Array, leaves: Array, chosen: Array) -> None:
        self.trees, self.chosen = trees, chosen
        size = np.diff(starts)[chosen]
        self.roots = np.concatenate([[0], np.cumsum(size)[:-1]])
        nodes = np.repeat(starts[chosen] - self.roots, size) + np.arange(size.sum())
        self.leaf = trees.leaf[nodes]
        self.tree = np.repeat(np.arange(len(chosen)), (size + 1) // 2)  # of each leaf
        self.codes = trees.codes[leaves[nodes[self.leaf]]]
        inner = (nodes - leaves[nodes])[~self.leaf]
        self.order, self.feature = _placed(trees, trees.feature[inner].astype(np.int64))
        self.threshold = trees.threshold[inner]
        self.missing_left = trees.missing_left[inner]

    def features(self, graph: Graph, x: str, rows: Mapping[int, tuple[str, int]]) -> str:
        """x with a column for each set of categories that these trees split on."""
        if not len(self.order):
            return x
        return graph.concat([x, emit_sets(self.trees.sets, self.order, graph, rows)])

    def direct(self, graph: Graph, x: str) -> str:
        """Leaves add one number each."""
        scale = self.trees.scale if self.trees.affine else 1.0
        rows = self.trees.values[self.codes]
        column = np.abs(rows).argmax(1) if rows.shape[1] > 1 else np.zeros(len(rows), dtype=np.int64)
        added = np.take_along_axis(rows, column[:, None], 1)[:, 0] * self.trees.weight[self.chosen][self.tree]
        target = column if rows.shape[1] > 1 else self.trees.target[self.chosen][self.tree]
        return self._node(graph, x, added * scale, target, len(self.trees.base))

    def lookup(self, graph: Graph, x: str) -> str:
        """Each tree tells its leaf's code; the codes' rows are gathered and summed."""
        values = self.trees.affine
        codes = graph.cast(self._node(graph, x, self.codes, self.tree, len(self.chosen)), INT64)
        table = graph.const(self.trees.values, np.float64 if values else np.float32)
        rows = graph.op("Gather", table, codes, axis=0)
        total = graph.op("ReduceSum", rows, graph.const([1], np.int64), keepdims=0)
        share = self.trees.weight[self.chosen[0]] * (self.trees.scale if values else 1.0)
        return graph.op("Mul", total if values else graph.cast(total, DOUBLE), graph.const(share))

    def _node(self, graph: Graph, x: str, added: Array, target: Array, targets: int) -> str:
        leaf = self.leaf
        inner = np.flatnonzero(~leaf)
        right = right_children(leaf)
        rank = np.where(leaf, np.cumsum(leaf), np.cumsum(~leaf)) - 1
        return graph.op(
            "TreeEnsemble",
            x,
            domain="ai.onnx.ml",
            nodes_featureids=_ints(self.feature),
            nodes_splits=self.threshold.astype(np.float64),
            nodes_modes=np.zeros(len(inner), dtype=np.uint8),
            nodes_truenodeids=_ints(rank[inner + 1]),
            nodes_falsenodeids=_ints(rank[right]),
            nodes_trueleafs=_ints(leaf[inner + 1]),
            nodes_falseleafs=_ints(leaf[right]),
            nodes_missing_value_tracks_true=_ints(self.missing_left) if self.missing_left.any() else None,
            tree_roots=_ints(rank[self.roots]),
            leaf_targetids=_ints(target),
            leaf_weights=np.asarray(added, dtype=np.float64),
            n_targets=targets,
            post_transform=0,
            aggregate_function=1,
        )


def _ints(array: Any) -> list[int]:
    return cast("list[int]", np.asarray(array, dtype=np.int64).tolist())
