"""Histogram gradient boosting of scikit-learn as `Trees`."""

from __future__ import annotations

from typing import Any

import numpy as np

from conjoin.errors import NotExportableError
from conjoin.graph.tree_sets import Sets
from conjoin.graph.trees import Link, Nodes, Trees
from conjoin.outputs import Array

REGRESSION: dict[str, Link] = {
    "squared_error": "values",
    "absolute_error": "values",
    "quantile": "values",
    "poisson": "exp",
    "gamma": "exp",
}


def histogram_trees(model: Any) -> Trees:
    """A fitted HistGradientBoostingClassifier or HistGradientBoostingRegressor.

    Raises NotExportableError where its categories are not whole numbers from 0 on.
    """
    from sklearn.base import is_classifier

    rounds = model._predictors
    outputs = len(rounds[0])
    if is_classifier(model):
        link: Link = "sigmoid" if outputs == 1 else "softmax"
    else:
        link = REGRESSION[model.loss]
    trees = [predictor for row in rounds for predictor in row]
    categories = _categories(model)
    order = _order(model)
    lengths = np.array([len(t.nodes) for t in trees], dtype=np.int64)
    roots = np.cumsum(lengths) - lengths
    nodes = np.concatenate([t.nodes for t in trees])
    offset = np.repeat(roots, lengths)
    leaf = nodes["is_leaf"] > 0
    left, right = (np.where(leaf, -1, nodes[s].astype(np.int64) + offset) for s in ("left", "right"))
    feature = order[nodes["feature_idx"]]
    split = np.flatnonzero(~leaf & (nodes["is_categorical"] > 0))
    tree = np.repeat(np.arange(len(trees)), lengths)
    bits = [trees[tree[i]].raw_left_cat_bitsets[nodes["bitset_idx"][i]] for i in split.tolist()]
    missing_left = nodes["missing_go_to_left"] > 0
    sets, which = _sets(feature[split], bits, missing_left[split], categories)
    threshold = nodes["num_threshold"].copy()
    feature[split], threshold[split] = model.n_features_in_ + which, 0.5
    missing_left[split] = False
    return Trees.of(
        Nodes(left, right, roots, feature, threshold, missing_left, nodes["value"], sets=sets),
        n_features=int(model.n_features_in_),
        link=link,
        base=np.asarray(model._baseline_prediction, dtype=np.float64).reshape(outputs),
        target=np.arange(len(trees)) % outputs,
        wide=True,
    )


def _order(model: Any) -> Array:
    """The model's own order of features: categories first."""
    d = int(model.n_features_in_)
    if model.is_categorical_ is None:
        return np.arange(d)
    return np.argsort(~np.asarray(model.is_categorical_), kind="stable")


def _categories(model: Any) -> dict[int, Array]:
    """For each categorical feature the numbers that it knows, in the order of their codes."""
    if model.is_categorical_ is None:
        return {}
    known = model._preprocessor.named_transformers_["encoder"].categories_
    found = {}
    for f, values in zip(np.flatnonzero(model.is_categorical_).tolist(), known, strict=True):
        try:
            numbers = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError):
            numbers = np.array([-1.0])
        numbers = numbers[~np.isnan(numbers)]
        if ((numbers < 0) | (numbers != np.floor(numbers)) | (numbers >= 1 << 24)).any():
            raise NotExportableError(
                f"feature {f} holds categories that are not whole numbers from 0 on; encode them as such"
            )
        found[f] = numbers.astype(np.int64)
    return found


def _sets(
    feature: Array, bits: list[Array], missing_left: Array, categories: dict[int, Array]
) -> tuple[Sets, Array]:
    """The distinct sets of categories that go left, and which of them each categorical node has.

    What the model does not know goes where missing values go.
    """
    found: dict[tuple[int, bool, bytes], int] = {}
    keys = zip(
        feature.tolist(), missing_left.tolist(), (b.astype("<u4").tobytes() for b in bits), strict=True
    )
    which = np.array([found.setdefault(key, len(found)) for key in keys], dtype=np.int64)
    members, sizes = [], []
    for f, missing, words in found:
        known = categories[f]
        left = np.unpackbits(np.frombuffer(words, np.uint8), bitorder="little")[: len(known)] > 0
        size = int(known.max(initial=-1)) + 1
        strange = np.setdiff1d(np.arange(size), known) if missing else known[:0]
        members.append(np.concatenate([known[left], strange]))
        sizes.append(size)
    missing_too = [m for _, m, _ in found]
    return Sets.of([f for f, *_ in found], members, size=sizes, rest=missing_too, missing=missing_too), which
