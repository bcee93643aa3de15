"""Additive ensembles of decision trees: forests and boosted trees of every library in one compact record.

All nodes of all trees lie in preorder (a node, its left branch, its right branch), so one bit per node, "is a
leaf", says the whole shape. A row takes the left branch where `x <= threshold`, in float32. The other
comparisons come down to this one: `x < t` is `x <= t'` with t' the next float32 below t, and a float64
threshold is rounded down. Sums are made in double, in the graph as in this record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from conjoin.errors import InputError, listed
from conjoin.graph import tree_pack
from conjoin.graph.preorder import preorder, rounded_down, tree_starts
from conjoin.graph.tree_nodes import emit_trees
from conjoin.graph.tree_sets import Sets

if TYPE_CHECKING:
    from conjoin.contracts import Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json

Link = Literal["values", "rising", "exp", "sigmoid", "softmax", "shares", "complement"]
"""What is done with the K sums.

values: `* scale + shift`, double (n, K). rising: the same, each row sorted, for quantiles. exp: exp(sum),
double. sigmoid: one score z to [sigmoid(-z), sigmoid(z)]. softmax: K scores to K probabilities. shares: the
sums are probabilities already. complement: one sum p to [1 - p, p].
"""


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """N nodes (I inner ones, L leaves) of T trees over `n_features` float32 features; K sums.

    leaf: (N,) bool, in preorder. feature: (I,) uint32. threshold: (I,) float32, left where float32(x) <=
    threshold; or float64, left where x <= threshold. missing_left: (I,) bool, where NaN goes.
    codes: (L,) uint32, the row of `values` that a leaf adds. values: (U, W) float32: W = 1 number, for the
    sum that `target` (T,) names, or W = K numbers. weight: (T,) float64, times which a tree's leaves count.
    base: (K,) float64, added to the sums. link: see `Link`. scale, shift: the last step of values.
    zero_missing: 0 counts as missing. sets: M sets of categories, which are further features, numbered from
    n_features on.

    `Trees.of` makes one from the nodes of a library's trees.
    """

    n_features: int
    leaf: Array
    feature: Array
    threshold: Array
    missing_left: Array
    codes: Array
    values: Array
    target: Array
    weight: Array
    base: Array
    link: Link
    scale: float = 1.0
    shift: float = 0.0
    zero_missing: bool = False
    sets: Sets = field(default_factory=Sets.of)

    @property
    def outputs(self) -> int:
        """The number of columns that `emit` makes: K, or 2 for a single probability."""
        return 2 if self.link in ("sigmoid", "complement") else len(self.base)

    @classmethod
    def of(
        cls,
        nodes: Nodes,
        *,
        n_features: int,
        link: Link,
        base: Sequence[float] | Array,
        target: Array | None = None,
        weight: Array | None = None,
        zero_missing: bool = False,
        wide: bool = False,
    ) -> Trees:
        """Trees from nodes in any order. base: (K,). target: (T,), the sum of each tree. weight: (T,).

        wide: keep thresholds in float64, for a model that compares them with float64 rows.
        """
        order = preorder(nodes.left, nodes.right, nodes.roots)
        leaf = nodes.left[order] < 0
        inner, count = order[~leaf], len(nodes.roots)
        weight = np.ones(count) if weight is None else np.asarray(weight, dtype=np.float64)
        target = np.zeros(count, dtype=np.uint16) if target is None else target.astype(np.uint16)
        base = np.array(base, dtype=np.float64)
        value = np.asarray(nodes.value, dtype=np.float64)[order[leaf]]
        value = value if value.ndim == 2 else value[:, None]
        if link in ("values", "rising") and count:
            value, base = _centred(value, base, leaf=leaf, target=target, weight=weight)
        values, codes = _coded(np.ascontiguousarray(value, dtype=np.float32) + np.float32(0))
        return cls(
            n_features=n_features,
            leaf=leaf,
            feature=nodes.feature[inner].astype(np.uint32),
            threshold=rounded_down(nodes.threshold[inner], strict=nodes.strict, wide=wide),
            missing_left=nodes.missing_left[inner].astype(bool),
            codes=codes,
            values=values,
            target=target,
            weight=weight,
            base=base,
            link=link,
            zero_missing=zero_missing,
            sets=nodes.sets,
        )

    @classmethod
    def mean(cls, parts: Sequence[Trees], weights: Sequence[float] | None = None) -> Trees:
        """One ensemble whose sums (scores, probabilities, values) are the weighted mean of those of `parts`.

        weights: one for each part, None for equal ones; they are divided by their sum.
        Raises InputError where the parts differ in features, sums or link.
        """
        shares = np.ones(len(parts)) if weights is None else np.asarray(weights, dtype=np.float64)
        if len(shares) != len(parts) or not len(parts) or not shares.sum() > 0 or (shares < 0).any():
            raise InputError(
                f"{len(parts)} ensembles of trees and weights {listed(shares)}: nothing to average"
            )
        shares = shares / shares.sum()
        first = parts[0]
        if len(parts) == 1:
            return first
        _alike(parts, [(p.link, len(p.base), p.values.shape[1]) for p in parts])
        ratio = np.array([p.scale for p in parts]) / first.scale * shares
        joined = _joined(parts, weight=[p.weight * r for p, r in zip(parts, ratio, strict=True)])
        base = sum(p.base * r for p, r in zip(parts, ratio, strict=True))
        shift = float(sum(p.shift * s for p, s in zip(parts, shares, strict=True)))
        return replace(joined, base=base, shift=shift)

    @classmethod
    def stack(cls, parts: Sequence[Trees]) -> Trees:
        """Quantile models side by side, one ensemble whose link is "rising". Each part has the link "values".

        Raises InputError where it has not, where leaves are vectors, or where the features differ.
        """
        first = parts[0]
        _alike([first, *parts], [("values", 1), *((p.link, p.values.shape[1]) for p in parts)])
        at = np.cumsum([0, *(len(p.base) for p in parts)])
        ratio = [p.scale / first.scale for p in parts]
        joined = _joined(parts, weight=[p.weight * r for p, r in zip(parts, ratio, strict=True)])
        base = np.concatenate(
            [p.base * r + (p.shift - first.shift) / first.scale for p, r in zip(parts, ratio, strict=True)]
        )
        target = np.concatenate([p.target + a for p, a in zip(parts, at, strict=False)]).astype(np.uint16)
        return replace(joined, base=base, target=target, link="rising")

    @property
    def affine(self) -> bool:
        """Whether the sums are values that end with `* scale + shift`."""
        return self.link in ("values", "rising")

    def rescaled(self, *, scale: float, shift: float) -> Trees:
        """The same trees of values with another last step: `sum * scale + shift`."""
        return replace(self, scale=float(scale), shift=float(shift))

    def emit(self, graph: Graph, x: str, /) -> str:
        """Add the nodes over the tensor x (n, n_features), float32 or double, NaN missing.

        Returns probabilities (n, K) float32, or values (n, K) double.
        """
        return emit_trees(self, graph, x)

    def children(self) -> Mapping[str, Storable]:
        """No parts inside."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Bits, small integers and float32: 3 to 5 bytes a node."""
        return tree_pack.pack(self)

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError where the arrays do not make sense."""
        return cls(**tree_pack.unpack(arrays, meta))


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """Nodes of T trees as libraries give them, in any order. All arrays have one entry per node.

    left, right: index of the child among all nodes, -1 for a leaf. roots: (T,). feature, threshold: of inner
    nodes. missing_left: where NaN goes. value: (N,) or (N, W), of leaves. strict: left where x < threshold,
    not <=. sets: `sets` of `Trees`; a split on one has threshold 0.5.
    """

    left: Array
    right: Array
    roots: Array
    feature: Array
    threshold: Array
    missing_left: Array
    value: Array
    strict: bool = False
    sets: Sets = field(default_factory=Sets.of)


def _centred(value: Array, base: Array, *, leaf: Array, target: Array, weight: Array) -> tuple[Array, Array]:
    """Leaves less the mean leaf of their tree, which goes to the base: float32 is then fine enough."""
    count = len(weight)
    tree = np.repeat(np.arange(count), (np.diff(tree_starts(leaf)) + 1) // 2)
    middle = np.stack([np.bincount(tree, v, count) for v in value.T], 1) / np.bincount(tree)[:, None]
    added = middle * weight[:, None]
    if value.shape[1] > 1:
        return value - middle[tree], base + added.sum(0)
    return value - middle[tree], base + np.bincount(target, added[:, 0], len(base))


def _coded(values: Array) -> tuple[Array, Array]:
    """Rows of values and, for each leaf, which it is: distinct rows where that saves much, else all."""
    if len(values):
        whole = np.dtype((np.void, values.itemsize * values.shape[1]))
        rows = (values if values.shape[1] == 1 else values.view(whole))[:, 0]
        distinct, first, codes = np.unique(rows, return_index=True, return_inverse=True)
        if len(distinct) <= len(values) / 2:
            return values[first], codes.astype(np.uint32)
    return values, np.arange(len(values), dtype=np.uint32)


def _alike(parts: Sequence[Trees], kinds: Sequence[tuple[object, ...]]) -> None:
    if len(set(kinds)) > 1:
        raise InputError(f"ensembles of trees of different kinds do not join: {listed(dict.fromkeys(kinds))}")
    if len({(p.n_features, p.zero_missing, p.threshold.dtype) for p in parts}) > 1:
        raise InputError("ensembles of trees over different features do not join")


def _joined(parts: Sequence[Trees], *, weight: Sequence[Array]) -> Trees:
    """All trees of all parts, with these weights; base, scale and shift are those of the first part."""
    d, offset = parts[0].n_features, np.cumsum([0, *(len(p.sets) for p in parts)])
    rows = np.cumsum([0, *(len(p.values) for p in parts)])
    sets, which = Sets.join([p.sets for p in parts]).distinct()
    place = np.concatenate([np.arange(d), d + which])
    moved = [
        place[np.where(p.feature >= d, p.feature + o, p.feature)] for p, o in zip(parts, offset, strict=False)
    ]
    return replace(
        parts[0],
        leaf=np.concatenate([p.leaf for p in parts]),
        feature=np.concatenate(moved).astype(np.uint32),
        threshold=np.concatenate([p.threshold for p in parts]),
        missing_left=np.concatenate([p.missing_left for p in parts]),
        codes=np.concatenate([p.codes + a for p, a in zip(parts, rows, strict=False)]).astype(np.uint32),
        values=np.concatenate([p.values for p in parts]),
        target=np.concatenate([p.target for p in parts]),
        weight=np.concatenate(list(weight)),
        sets=sets,
    )
