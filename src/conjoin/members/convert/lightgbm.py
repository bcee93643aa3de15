"""LightGBM models as `Trees`, read from their text form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from conjoin.errors import NotExportableError
from conjoin.graph.tree_sets import Sets
from conjoin.graph.trees import Link, Nodes, Trees
from conjoin.outputs import Array

LINKS: dict[str, Link] = {
    "binary": "sigmoid",
    "cross_entropy": "sigmoid",
    "multiclass": "softmax",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
    **dict.fromkeys(
        ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", ""),
        "values",
    ),
}
"""Objective -> link; "" is an objective of the user's own."""
CATEGORICAL, DEFAULT_LEFT = 1, 2
"""Bits of a node's decision type; the two bits above them say what is missing."""
NOTHING, ZERO, NAN = 0, 1, 2
FIELDS = ("split_feature", "threshold", "decision_type", "left_child", "right_child")


def lightgbm_trees(
    booster: Any, *, rounds: int | None = None, scale: float = 1.0, shift: float = 0.0, wide: bool = False
) -> Trees:
    """The first `rounds` rounds of a `lightgbm.Booster` (None: up to its best) as trees over its features.

    scale, shift: the last step of values. wide: for rows in float64. Raises NotExportableError for linear
    trees and objectives whose answers are no sum of trees.
    """
    head, *blocks = booster.model_to_string(num_iteration=rounds).split("\nTree=")
    header = _lines(head)
    trees = [_lines(b.partition("\n\n")[0]) for b in blocks]
    objective, _, options = header.get("objective", "").partition(" ")
    link = LINKS.get(objective)
    if link is None or "sqrt" in options.split():
        raise NotExportableError(f"LightGBM objective {header['objective']!r} has no ONNX form here")
    if any(t.get("is_linear") == "1" for t in trees):
        raise NotExportableError("LightGBM models with linear_tree=True have no ONNX form here")
    outputs = int(header["num_tree_per_iteration"])
    sigmoid = dict(o.split(":") for o in options.split() if ":" in o).get("sigmoid", "1")
    steepness = float(sigmoid) if link == "sigmoid" else 1.0
    share = len(trees) // outputs if "average_output" in header else 1
    features = int(header["max_feature_idx"]) + 1
    nodes, zero_missing = _nodes(trees, features)
    made = Trees.of(
        nodes,
        n_features=features,
        link=link,
        base=np.zeros(outputs),
        target=np.arange(len(trees)) % outputs,
        weight=np.full(len(trees), steepness / max(share, 1)),
        zero_missing=zero_missing,
        wide=wide,
    )
    return made.rescaled(scale=scale, shift=shift) if made.affine else made


def _lines(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.split("\n"))
    return {key: value for key, _, value in pairs}


def _numbers(trees: Sequence[Mapping[str, str]], field: str) -> Array:
    """One field of all trees in a row."""
    return np.array(" ".join(t.get(field, "") for t in trees).split(), dtype=np.float64)


def _nodes(trees: Sequence[Mapping[str, str]], features: int) -> tuple[Nodes, bool]:
    """All nodes: the inner ones of a tree, then its leaves; and whether zero counts as missing."""
    leaves = np.array([int(t["num_leaves"]) for t in trees], dtype=np.int64)
    ends = np.cumsum(2 * leaves - 1)
    roots = ends - (2 * leaves - 1)
    tree = np.repeat(np.arange(len(trees)), leaves - 1)  # of each inner node
    inner = roots[tree] + _ranks(leaves - 1)
    first_leaf = roots + leaves - 1
    feature, threshold, decision, *children = (_numbers(trees, f) for f in FIELDS)
    left, right = (
        np.where(child >= 0, roots[tree] + child, first_leaf[tree] - 1 - child).astype(np.int64)
        for child in children
    )
    kind = decision.astype(np.int64)
    numeric, missing = (kind & CATEGORICAL) == 0, kind >> 2
    zero = bool((missing[numeric] == ZERO).any())
    if zero and (missing[numeric] == NOTHING).any():
        raise NotExportableError("this LightGBM model takes zero as missing in some trees alone")
    goes_left = np.where(missing == NOTHING, threshold >= 0, (kind & DEFAULT_LEFT) > 0) & numeric
    sets, which = _sets(trees, feature, threshold, ~numeric, tree)
    count = int(leaves.sum() + (leaves - 1).sum())

    def spread(values: Array, rest: float) -> Array:
        out = np.full(count, rest, dtype=values.dtype)
        out[inner] = values
        return out

    value = np.zeros(count)
    value[np.repeat(first_leaf, leaves) + _ranks(leaves)] = _numbers(trees, "leaf_value")
    nodes = Nodes(
        left=spread(left, -1),
        right=spread(right, -1),
        roots=roots,
        feature=spread(np.where(numeric, feature, features + which).astype(np.int64), 0),
        threshold=spread(np.where(numeric, threshold, 0.5), 0),
        missing_left=spread(goes_left, False),
        value=value,
        sets=sets,
    )
    return nodes, zero


def _ranks(lengths: Array) -> Array:
    """0, 1, ... within each of several stretches."""
    total = int(lengths.sum())
    return cast("Array", np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths))


def _sets(
    trees: Sequence[Mapping[str, str]], feature: Array, threshold: Array, categorical: Array, tree: Array
) -> tuple[Sets, Array]:
    """The distinct sets of categories, and for each inner node which of them it has (else 0)."""
    which = np.zeros(len(feature), dtype=np.int64)
    found: dict[tuple[int, bytes], int] = {}
    bounds: dict[int, tuple[Array, Array]] = {}
    for i in np.flatnonzero(categorical).tolist():
        t = int(tree[i])
        if t not in bounds:
            bounds[t] = (
                _numbers([trees[t]], "cat_boundaries").astype(np.int64),
                _numbers([trees[t]], "cat_threshold").astype("<u4"),
            )
        cuts, words = bounds[t]
        a, b = cuts[int(threshold[i])], cuts[int(threshold[i]) + 1]
        which[i] = found.setdefault((int(feature[i]), words[a:b].tobytes().rstrip(b"\0")), len(found))
    members = [np.flatnonzero(np.unpackbits(np.frombuffer(w, np.uint8), bitorder="little")) for _, w in found]
    return Sets.of([f for f, _ in found], members), which


def lightgbm_estimator(model: Any) -> Trees:
    """A fitted estimator of LightGBM's scikit-learn interface."""
    return lightgbm_trees(model.booster_, wide=True)
