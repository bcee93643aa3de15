"""CatBoost models as `Trees`, read from their JSON form."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.errors import NotExportableError
from conjoin.graph.trees import Link, Nodes, Trees
from conjoin.outputs import Array

LINKS: dict[str, Link] = {
    "Logloss": "sigmoid",
    "CrossEntropy": "sigmoid",
    "MultiClass": "softmax",
    "MultiQuantile": "rising",
    "Poisson": "exp",
    "Tweedie": "exp",
    **dict.fromkeys(
        ("RMSE", "MAE", "Quantile", "LogLinQuantile", "Expectile", "Lq", "Huber", "MAPE", "MultiRMSE",
         "YetiRank", "PairLogit", "QueryRMSE"),
        "values",
    ),
}  # fmt: skip
"""Loss function -> link."""


def catboost_trees(model: Any, *, rounds: int | None = None, scale: float = 1.0, shift: float = 0.0) -> Trees:
    """The first `rounds` trees of a CatBoost model (None: all), which must have features of numbers alone.

    scale, shift: the last step of values. Several quantiles give the link "rising", so they do not cross.
    Raises NotExportableError for features of categories, text or embeddings, and losses without a link here.
    """
    document = _json(model)
    loss = str(document["model_info"]["params"]["loss_function"]["type"])
    if loss not in LINKS:
        raise NotExportableError(f"CatBoost loss function {loss!r} has no ONNX form here")
    floats = document["features_info"].get("float_features", [])
    others = [k for k in document["features_info"] if k != "float_features" and document["features_info"][k]]
    if others:
        raise NotExportableError(f"CatBoost models with {' and '.join(others)} have no ONNX form here")
    missing_right = [f["nan_value_treatment"] == "AsTrue" for f in floats]
    flat = [int(f["flat_feature_index"]) for f in floats]
    times, bias = document["scale_and_bias"]
    if "oblivious_trees" in document:
        trees = [_oblivious(t, len(bias)) for t in document["oblivious_trees"][:rounds]]
    else:
        trees = [_grown(t) for t in document["trees"][:rounds]]
    nodes = _nodes(trees, np.array(flat, dtype=np.int64), np.array(missing_right, dtype=bool), len(bias))
    made = Trees.of(
        nodes,
        n_features=max(flat, default=-1) + 1,
        link=LINKS[loss],
        base=np.array(bias, dtype=np.float64),
        weight=np.full(len(trees), float(times)),
    )
    return made.rescaled(scale=scale, shift=shift) if made.affine else made


def _json(model: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.json")
        model.save_model(str(path), format="json")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


_Tree = tuple[list[int], list[int], list[int], list[float], list[Any]]
"""left, right (-1 in a leaf), float feature, border, value, by node."""


def _split(split: Mapping[str, Any]) -> tuple[int, float]:
    if split["split_type"] != "FloatFeature":
        raise NotExportableError(f"CatBoost splits of type {split['split_type']} have no ONNX form here")
    return int(split["float_feature_index"]), float(split["border"])


def _oblivious(tree: Mapping[str, Any], outputs: int) -> _Tree:
    """A tree with one split per level; bit i of a leaf's index says that the row is beyond split i."""
    splits = [_split(s) for s in tree["splits"] or []]
    values = np.reshape(tree["leaf_values"], (-1, outputs))
    depth = len(splits)
    inner = 2**depth - 1
    level = np.floor(np.log2(np.arange(1, inner + 1))).astype(int).tolist()
    path = np.arange(2**depth)  # from the root: the last split first, so the path is the leaf's index
    feature = [splits[depth - 1 - d][0] for d in level] + [0] * len(path)
    border = [splits[depth - 1 - d][1] for d in level] + [0.0] * len(path)
    left = [2 * i + 1 for i in range(inner)] + [-1] * len(path)
    right = [2 * i + 2 for i in range(inner)] + [-1] * len(path)
    none = [np.zeros(outputs)] * inner
    return left, right, feature, border, [*none, *values[path]]


def _grown(tree: Mapping[str, Any]) -> _Tree:
    """A tree of nested nodes."""
    left: list[int] = []
    right: list[int] = []
    feature: list[int] = []
    border: list[float] = []
    value: list[Any] = []
    todo: list[tuple[Mapping[str, Any], list[int] | None, int]] = [(tree, None, 0)]
    while todo:
        node, parent, at = todo.pop()
        here = len(left)
        if parent is not None:
            parent[at] = here
        inner = "split" in node
        f, b = _split(node["split"]) if inner else (0, 0.0)
        left.append(-1)
        right.append(-1)
        feature.append(f)
        border.append(b)
        value.append(np.zeros(1) if inner else np.atleast_1d(node["value"]))
        if inner:
            todo += [(node["left"], left, here), (node["right"], right, here)]
    width = max(len(v) for v in value)
    return left, right, feature, border, [v if len(v) == width else np.zeros(width) for v in value]


def _nodes(trees: Sequence[_Tree], flat: Array, missing_right: Array, outputs: int) -> Nodes:
    lengths = np.array([len(t[0]) for t in trees], dtype=np.int64)
    roots = np.cumsum(lengths) - lengths
    offset = np.repeat(roots, lengths)
    left, right, feature, border = (
        np.array([v for t in trees for v in t[i]], dtype=np.float64 if i == 3 else np.int64) for i in range(4)
    )
    value = np.array([v for t in trees for v in t[4]], dtype=np.float64).reshape(len(left), -1)
    return Nodes(
        np.where(left < 0, -1, left + offset),
        np.where(right < 0, -1, right + offset),
        roots,
        flat[feature] if len(flat) else feature,
        border.astype(np.float32),
        ~missing_right[feature] if len(flat) else feature > 0,
        value if outputs > 1 else value[:, :1],
    )
