"""XGBoost models as `Trees`, read from their JSON form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from conjoin.errors import NotExportableError
from conjoin.graph.tree_sets import Sets
from conjoin.graph.trees import Link, Nodes, Trees
from conjoin.outputs import Array


def _logit(p: Array) -> Array:
    return np.log(p) - np.log1p(-p)


def _same(p: Array) -> Array:
    return p


OBJECTIVES: dict[str, tuple[Link, Callable[[Array], Array]]] = {
    "binary:logistic": ("sigmoid", _logit),
    "binary:logitraw": ("values", _same),
    "multi:softprob": ("softmax", _same),
    "multi:softmax": ("softmax", _same),
    "count:poisson": ("exp", np.log),
    "reg:gamma": ("exp", np.log),
    "reg:tweedie": ("exp", np.log),
    "reg:squarederror": ("values", _same),
    "reg:absoluteerror": ("values", _same),
    "reg:pseudohubererror": ("values", _same),
    "reg:squaredlogerror": ("values", _same),
    "reg:quantileerror": ("values", _same),
    "rank:pairwise": ("values", _same),
    "rank:ndcg": ("values", _same),
    "rank:map": ("values", _same),
}
"""Objective -> link, and what makes of the stored base score a raw score."""


def xgboost_trees(
    booster: Any, *, rounds: int | None = None, scale: float = 1.0, shift: float = 0.0
) -> Trees:
    """The first `rounds` rounds of an `xgboost.Booster` (None: all) as trees over its features.

    scale, shift: the last step of values. Several quantiles give the link "rising", so they do not cross.
    Raises NotExportableError for linear boosters, vector leaves and objectives that are no sum of trees.
    """
    learner = json.loads(booster.save_raw("json"))["learner"]
    objective = learner["objective"]["name"]
    if objective not in OBJECTIVES:
        raise NotExportableError(f"XGBoost objective {objective!r} has no ONNX form here")
    link, raw = OBJECTIVES[objective]
    model, weight = _model(learner["gradient_booster"])
    parameters = learner["learner_model_param"]
    outputs = max(int(parameters["num_class"]), int(parameters.get("num_target", 1)), 1)
    count = len(model["trees"]) if rounds is None else int(model["iteration_indptr"][rounds])
    features = int(parameters["num_feature"])
    made = Trees.of(
        _nodes(model["trees"][:count], features),
        n_features=features,
        link="rising" if objective == "reg:quantileerror" and outputs > 1 else link,
        base=np.broadcast_to(raw(_base_score(parameters["base_score"])), outputs),
        target=np.array(model["tree_info"][:count], dtype=np.int64),
        weight=weight[:count],
    )
    return made.rescaled(scale=scale, shift=shift) if made.affine else made


def _model(booster: Mapping[str, Any]) -> tuple[Mapping[str, Any], Array]:
    """The part that holds the trees, and the weight of each tree."""
    if booster["name"] == "dart":
        model = booster["gbtree"]["model"]
        return model, np.array(booster["weight_drop"], dtype=np.float64)
    if booster["name"] != "gbtree":
        raise NotExportableError(f"XGBoost booster {booster['name']!r} has no ONNX form here; gbtree has one")
    return booster["model"], np.ones(len(booster["model"]["trees"]))


def _base_score(text: str) -> Array:
    found = json.loads(text)
    return np.atleast_1d(np.asarray(found, dtype=np.float32)).astype(np.float64)


def _nodes(trees: Sequence[Mapping[str, Any]], features: int) -> Nodes:
    if any(int(t["tree_param"].get("size_leaf_vector", 1)) > 1 for t in trees):
        raise NotExportableError(
            "XGBoost trees with vector leaves (multi_output_tree) have no ONNX form here"
        )
    lengths = np.array([len(t["left_children"]) for t in trees], dtype=np.int64)
    roots = np.cumsum(lengths) - lengths
    offset = np.repeat(roots, lengths)

    def joined(name: str, dtype: Any) -> Array:
        return np.concatenate([np.zeros(0, dtype), *(np.array(t[name], dtype=dtype) for t in trees)])

    left, right = joined("left_children", np.int64), joined("right_children", np.int64)
    leaf = left < 0
    condition = joined("split_conditions", np.float32).astype(np.float64)
    feature = joined("split_indices", np.int64)
    default = joined("default_left", np.int64) > 0
    categorical = np.flatnonzero(joined("split_type", np.int64) == 1)
    threshold = condition.copy()
    sets = _sets(trees, roots, feature, default, categorical)
    feature[categorical], threshold[categorical] = features + sets[1], 0.75  # strict: 0 < 0.75 < 1
    return Nodes(
        np.where(leaf, -1, left + offset),
        np.where(leaf, -1, right + offset),
        roots,
        feature,
        threshold,
        default,
        condition,
        strict=True,
        sets=sets[0],
    )


def _sets(
    trees: Sequence[Mapping[str, Any]], roots: Array, feature: Array, default: Array, nodes: Array
) -> tuple[Sets, Array]:
    """The distinct sets of categories that go left, and which of them each categorical node has.

    XGBoost stores those that go right; whatever it does not know goes left.
    """
    right = {}
    for t, root in zip(trees, roots.tolist(), strict=True):
        for node, a, n in zip(
            t["categories_nodes"], t["categories_segments"], t["categories_sizes"], strict=True
        ):
            right[root + node] = tuple(sorted(t["categories"][a : a + n]))
    found: dict[tuple[int, bool, tuple[int, ...]], int] = {}
    which = [
        found.setdefault((int(feature[i]), bool(default[i]), right[i]), len(found)) for i in nodes.tolist()
    ]
    size = [max(away, default=-1) + 1 for *_, away in found]
    members = [np.setdiff1d(np.arange(s), away) for s, (*_, away) in zip(size, found, strict=True)]
    missing = [d for _, d, _ in found]
    sets = Sets.of([f for f, *_ in found], members, size=size, rest=[True] * len(found), missing=missing)
    return sets, np.array(which, dtype=np.int64)


def xgboost_estimator(model: Any) -> Trees:
    """A fitted estimator of XGBoost's scikit-learn interface, cut where early stopping says.

    Raises NotExportableError where another number than NaN stands for missing values.
    """
    missing = model.missing
    if missing is not None and not np.isnan(missing):
        raise NotExportableError(f"XGBoost models with missing={missing!r} have no ONNX form here; use NaN")
    booster = model.get_booster()
    best = booster.attributes().get("best_iteration")
    return xgboost_trees(booster, rounds=None if best is None else int(best) + 1)
