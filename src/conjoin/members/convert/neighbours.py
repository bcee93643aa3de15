"""Nearest neighbours of scikit-learn as `Nearest`."""

from __future__ import annotations

from typing import Any

import numpy as np

from conjoin.errors import NotExportableError
from conjoin.graph.nearest import Nearest


def nearest_neighbours(model: Any) -> Nearest:
    """A fitted KNeighborsClassifier or KNeighborsRegressor with Euclidean distances.

    Raises NotExportableError for other distances, weights of the user's own, sparse rows or several targets.
    """
    from sklearn.base import is_classifier

    if model.effective_metric_ != "euclidean" or model.weights not in ("uniform", "distance"):
        raise NotExportableError(
            f"nearest neighbours with metric {model.effective_metric_!r} and weights {model.weights!r} have "
            "no ONNX form here; Euclidean distance with uniform or distance weights has one"
        )
    rows = model._fit_X
    if not isinstance(rows, np.ndarray):
        raise NotExportableError("nearest neighbours over sparse rows have no ONNX form here")
    narrow = rows.astype(np.float32)
    if np.array_equal(narrow, rows):
        rows = narrow
    inverse = model.weights == "distance"
    k = int(model.n_neighbors)
    if not is_classifier(model):
        table = np.asarray(model._y, dtype=np.float64).reshape(len(rows), -1)
        return Nearest(rows, np.arange(len(rows)), table, k, inverse, False)
    if model.outputs_2d_:
        raise NotExportableError("nearest neighbours that classify several targets have no ONNX form here")
    return Nearest(rows, np.asarray(model._y, dtype=np.int64), np.eye(len(model.classes_)), k, inverse, True)
