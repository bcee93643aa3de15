"""Linear and logistic models of scikit-learn as `Linear`, in double."""

from __future__ import annotations

from typing import Any

import numpy as np

from conjoin.errors import NotExportableError
from conjoin.graph.linear import Linear, Link


def linear_regression(model: Any) -> Linear:
    """A fitted regressor with `coef_` and `intercept_`."""
    return _linear(model, "values")


def log_linear_regression(model: Any) -> Linear:
    """A fitted generalised linear regressor whose link is the logarithm."""
    if type(model).__name__ == "TweedieRegressor" and not (
        model.link == "log" or (model.link == "auto" and model.power > 0)
    ):
        return _linear(model, "values")
    return _linear(model, "exp")


def logistic_regression(model: Any) -> Linear:
    """A fitted LogisticRegression or LogisticRegressionCV."""
    several = model.get_params().get("multi_class", "auto")
    if several == "ovr":
        return _linear(model, "sigmoid" if len(model.classes_) == 2 else "rest")
    if len(model.classes_) > 2:
        return _linear(model, "softmax")
    return _linear(model, "sigmoid", times=2.0 if several == "multinomial" else 1.0)


def discriminant_analysis(model: Any) -> Linear:
    """A fitted LinearDiscriminantAnalysis."""
    return _linear(model, "sigmoid" if len(model.classes_) == 2 else "softmax")


def sgd_classifier(model: Any) -> Linear:
    """A fitted SGDClassifier with loss="log_loss". Raises NotExportableError for other losses."""
    if model.loss != "log_loss":
        raise NotExportableError(f"SGDClassifier with loss={model.loss!r} has no ONNX form here")
    return _linear(model, "sigmoid" if len(model.classes_) == 2 else "rest")


def _linear(model: Any, link: Link, *, times: float = 1.0) -> Linear:
    coefficients = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64)).T * times
    intercept = np.zeros(coefficients.shape[1]) + np.asarray(model.intercept_, dtype=np.float64) * times
    return Linear(np.ascontiguousarray(coefficients), intercept, link)
