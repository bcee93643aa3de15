"""Trees and forests of scikit-learn as `Trees`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from conjoin.errors import NotExportableError
from conjoin.graph.trees import Link, Nodes, Trees
from conjoin.outputs import Array


def forest_trees(forest: Any, *, classes: int | None = None, scale: float = 1.0, shift: float = 0.0) -> Trees:
    """A fitted random forest or extra trees of scikit-learn.

    classes: how many there are where the forest was fitted on codes 0 to classes - 1, of which it may have
    seen only some; None takes the forest's own classes, 0 is a regressor. scale, shift: the last step of
    values. Raises NotExportableError for several classification targets at once.
    """
    from sklearn.base import is_classifier

    return _averaged(
        [e.tree_ for e in forest.estimators_],
        int(forest.n_features_in_),
        forest.classes_ if is_classifier(forest) else None,
        classes=classes,
    ).rescaled(scale=scale, shift=shift)


def single_tree(tree: Any) -> Trees:
    """A fitted decision tree of scikit-learn. Raises NotExportableError as `forest_trees` does."""
    from sklearn.base import is_classifier

    return _averaged([tree.tree_], int(tree.n_features_in_), tree.classes_ if is_classifier(tree) else None)


def _averaged(grown: Sequence[Any], d: int, known: Any, *, classes: int | None = None) -> Trees:
    """The mean of trees. known: the classes that they know, None for a regressor."""
    if isinstance(known, list):
        raise NotExportableError("forests that classify several targets at once have no ONNX form here")
    shares = np.full(len(grown), 1.0 / len(grown))
    if known is None:
        value = np.concatenate([t.value[:, :, 0] for t in grown])
        nodes = _nodes(grown, value)
        return Trees.of(nodes, n_features=d, link="values", base=np.zeros(value.shape[1]), weight=shares)
    value = np.concatenate([t.value[:, 0, :] for t in grown])
    value = value / value.sum(axis=1, keepdims=True)
    seen = np.arange(len(known)) if classes is None else known.astype(np.int64)
    width = len(known) if classes is None else classes
    full = np.zeros((len(value), width))
    full[:, seen] = value
    link: Link = "complement" if width == 2 else "shares"
    nodes = _nodes(grown, full[:, 1:] if width == 2 else full)
    return Trees.of(nodes, n_features=d, link=link, base=np.zeros(1 if width == 2 else width), weight=shares)


def gradient_boosting_trees(model: Any) -> Trees:
    """A fitted GradientBoostingClassifier or GradientBoostingRegressor of scikit-learn."""
    from sklearn.base import is_classifier

    grown = [e.tree_ for row in model.estimators_ for e in row]
    classifier = is_classifier(model)
    outputs = model.estimators_.shape[1]
    if classifier and model.loss != "log_loss":
        raise NotExportableError(f"gradient boosting with loss={model.loss!r} has no ONNX form here")
    link: Link = ("sigmoid" if outputs == 1 else "softmax") if classifier else "values"
    probe = np.zeros((1, model.n_features_in_), dtype=np.float32)
    start = np.asarray(model._raw_predict_init(probe), dtype=np.float64)[0]
    other = np.asarray(model._raw_predict_init(probe + 1), dtype=np.float64)[0]
    if not np.array_equal(start, other):
        raise NotExportableError("gradient boosting that starts from another model has no ONNX form here")
    return Trees.of(
        _nodes(grown, np.concatenate([t.value[:, 0, 0] for t in grown])),
        n_features=int(model.n_features_in_),
        link=link,
        base=start,
        target=np.arange(len(grown)) % outputs,
        weight=np.full(len(grown), float(model.learning_rate)),
    )


def _nodes(trees: Sequence[Any], value: Array) -> Nodes:
    lengths = np.array([t.node_count for t in trees], dtype=np.int64)
    roots = np.cumsum(lengths) - lengths
    offset = np.repeat(roots, lengths)
    left, right = (
        np.concatenate([getattr(t, f"children_{side}") for t in trees]).astype(np.int64)
        for side in ("left", "right")
    )
    return Nodes(
        np.where(left < 0, -1, left + offset),
        np.where(right < 0, -1, right + offset),
        roots,
        np.concatenate([t.feature for t in trees]),
        np.concatenate([t.threshold for t in trees]),
        np.concatenate([t.missing_go_to_left for t in trees]) > 0,
        value,
    )
