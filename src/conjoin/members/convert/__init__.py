"""Fitted models of other libraries as parts of a graph.

A model is recognised by its library and the name of its class, so no library is imported here. Trees, linear
models and nearest neighbours have forms of our own; what else scikit-learn has goes through skl2onnx.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import BundleError, NotExportableError
from conjoin.members.columns import numbered
from conjoin.members.convert.catboost import catboost_trees
from conjoin.members.convert.foreign import Chain, ColumnsPart, OnnxModel, columns_forms, matrix_forms
from conjoin.members.convert.forests import forest_trees, gradient_boosting_trees, single_tree
from conjoin.members.convert.histograms import histogram_trees
from conjoin.members.convert.lightgbm import lightgbm_estimator, lightgbm_trees
from conjoin.members.convert.linear import (
    discriminant_analysis,
    linear_regression,
    log_linear_regression,
    logistic_regression,
    sgd_classifier,
)
from conjoin.members.convert.neighbours import nearest_neighbours
from conjoin.members.convert.probes import probe_batch, verified
from conjoin.members.convert.xgboost import xgboost_estimator, xgboost_trees

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Column
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array

__all__ = [
    "CONVERTERS",
    "catboost_trees",
    "convert",
    "convert_columns",
    "forest_trees",
    "known",
    "lightgbm_trees",
    "xgboost_trees",
]

Converter = Callable[[Any], Any]

CONVERTERS: dict[str, dict[str, Converter]] = {
    "sklearn": {
        **dict.fromkeys(
            ("RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier",
             "ExtraTreesRegressor"),
            forest_trees,
        ),
        **dict.fromkeys(
            ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor"),
            single_tree,
        ),
        "GradientBoostingClassifier": gradient_boosting_trees,
        "GradientBoostingRegressor": gradient_boosting_trees,
        "HistGradientBoostingClassifier": histogram_trees,
        "HistGradientBoostingRegressor": histogram_trees,
        **dict.fromkeys(
            ("LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "LassoLars", "LassoLarsCV",
             "LassoLarsIC", "Lars", "LarsCV", "ElasticNet", "ElasticNetCV", "MultiTaskLasso",
             "MultiTaskElasticNet", "BayesianRidge", "ARDRegression", "HuberRegressor", "SGDRegressor",
             "TheilSenRegressor", "QuantileRegressor", "OrthogonalMatchingPursuit",
             "OrthogonalMatchingPursuitCV", "PassiveAggressiveRegressor", "LinearSVR"),
            linear_regression,
        ),
        **dict.fromkeys(("PoissonRegressor", "GammaRegressor", "TweedieRegressor"), log_linear_regression),
        "LogisticRegression": logistic_regression,
        "LogisticRegressionCV": logistic_regression,
        "LinearDiscriminantAnalysis": discriminant_analysis,
        "SGDClassifier": sgd_classifier,
        "KNeighborsClassifier": nearest_neighbours,
        "KNeighborsRegressor": nearest_neighbours,
    },
    "lightgbm": {
        "Booster": lambda booster: lightgbm_trees(booster, wide=True),
        **dict.fromkeys(("LGBMClassifier", "LGBMRegressor", "LGBMRanker", "LGBMModel"), lightgbm_estimator),
    },
    "xgboost": {
        "Booster": xgboost_trees,
        **dict.fromkeys(
            ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBModel", "XGBRFClassifier", "XGBRFRegressor"),
            xgboost_estimator,
        ),
    },
    "catboost": dict.fromkeys(
        ("CatBoost", "CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker"), catboost_trees
    ),
}  # fmt: skip
"""Library -> class -> what makes a part of it."""


def known(estimator: Any) -> Converter | None:
    """The converter of this very class, None where there is none."""
    kind = type(estimator)
    return CONVERTERS.get(kind.__module__.partition(".")[0], {}).get(kind.__name__)


def convert(estimator: Any, *, probe: Array | None = None) -> Any:
    """A fitted model of scikit-learn, LightGBM, XGBoost or CatBoost as a part: `emit(graph, x)`.

    x (n, d) is a matrix of the model's features, float32 or double, NaN missing. A classifier's part answers
    probabilities float32 (n, K) in the order of its classes; a regressor's values double (n, K). probe: rows
    (n, d) on which what skl2onnx makes is held against the model; None makes some up.
    Raises NotExportableError where the model has no ONNX form, or only one that answers otherwise.
    """
    estimator = _inner(estimator)
    converter = known(estimator)
    if converter is not None:
        return converter(estimator)
    _only_sklearn(estimator)
    d = int(estimator.n_features_in_)
    columns = numbered(d)
    batch = probe_batch(estimator, columns)
    rows = np.stack([batch[c.name] for c in columns], axis=1) if probe is None else np.asarray(probe, float)
    feeds = {c.name: rows[:, j : j + 1] for j, c in enumerate(columns)}
    forms = partial(matrix_forms, d=d)

    def emit(part: Any, graph: Graph) -> str:
        return cast(str, part.emit(graph, graph.concat([graph.column(c) for c in columns])))

    return _first_that_holds(_candidates(estimator, forms), emit, _native(estimator, rows), feeds, estimator)


def convert_columns(
    estimator: Any, columns: Sequence[Column], *, frame: Callable[[Batch], Any], probe: Batch | None = None
) -> ColumnsPart:
    """A fitted scikit-learn model or pipeline over named columns, text among them, as a part: `emit(graph)`.

    frame: what the model was fitted on, made of a batch (a dataframe, say). probe: rows on which the part is
    held against the model; None makes some up from the categories that its encoders know.
    Raises NotExportableError as `convert` does.
    """
    from conjoin.tables import conform

    estimator = _inner(estimator)
    _only_sklearn(estimator)
    batch = probe_batch(estimator, columns) if probe is None else probe
    feeds = conform(batch, tuple(columns))
    parts = [
        ColumnsPart(tuple(columns), part)
        for part in _candidates(estimator, partial(columns_forms, columns=columns))
    ]

    def emit(part: Any, graph: Graph) -> str:
        return cast(str, part.emit(graph))

    return cast(
        ColumnsPart, _first_that_holds(parts, emit, _native(estimator, frame(batch)), feeds, estimator)
    )


def _inner(estimator: Any) -> Any:
    """The estimator that answers: what a search found, the only step of a pipeline."""
    if type(estimator).__module__.partition(".")[0] != "sklearn":
        return estimator
    if type(estimator).__name__.endswith("SearchCV"):
        return _inner(estimator.best_estimator_)
    if type(estimator).__name__ == "Pipeline" and len(estimator.steps) == 1:
        return _inner(estimator.steps[0][1])
    return estimator


def _only_sklearn(estimator: Any) -> None:
    if type(estimator).__module__.partition(".")[0] != "sklearn":
        raise NotExportableError(
            f"{type(estimator).__module__}.{type(estimator).__name__} has no ONNX form here; known are the "
            f"models of {', '.join(CONVERTERS)}"
        )


def _candidates(estimator: Any, forms: Callable[..., Sequence[OnnxModel]]) -> Sequence[OnnxModel | Chain]:
    """Parts that might do, most exact first."""
    from sklearn.base import is_classifier, is_regressor

    if type(estimator).__name__ == "Pipeline" and known(estimator.steps[-1][1]) is not None:
        then = convert(estimator.steps[-1][1])
        return [Chain(first, then) for first in forms(estimator[:-1], kind="features")]
    if is_classifier(estimator) and "predict_proba" not in dir(estimator):
        raise NotExportableError(f"{type(estimator).__name__} answers no probabilities")
    if not is_classifier(estimator) and not is_regressor(estimator):
        raise NotExportableError(f"{type(estimator).__name__} is neither a classifier nor a regressor")
    return forms(estimator, kind="probabilities" if is_classifier(estimator) else "values")


def _native(estimator: Any, rows: Any) -> Array:
    """What the model answers on probe rows. Raises NotExportableError where it refuses them."""
    from sklearn.base import is_classifier

    try:
        return np.asarray(
            estimator.predict_proba(rows) if is_classifier(estimator) else estimator.predict(rows)
        )
    except Exception as error:  # whatever the model raises on rows that it does not like
        raise NotExportableError(
            f"the ONNX form of {type(estimator).__name__} could not be checked, because it refuses the probe "
            f"rows ({type(error).__name__}: {str(error)[:200]})"
        ) from error


def _first_that_holds(
    parts: Sequence[Any], emit: Callable[[Any, Graph], str], native: Array, feeds: Batch, estimator: Any
) -> Any:
    """The first part that answers as the model does. Raises what the last one was refused for."""
    from sklearn.base import is_classifier

    refused: NotExportableError | None = None
    for part in parts:
        try:
            verified(
                partial(emit, part),
                native,
                feeds,
                name=type(estimator).__name__,
                shares=is_classifier(estimator),
            )
        except (NotExportableError, BundleError) as error:
            refused = NotExportableError(str(error))
        else:
            return part
    raise refused or NotExportableError(f"{type(estimator).__name__} has no ONNX form here")
