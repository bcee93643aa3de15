"""ConjoinClassifier and ConjoinRegressor. This file needs scikit-learn: it is imported when one is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    _check_y,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from conjoin.estimator.fitting import Data, fit_given, fit_own
from conjoin.members.wrapped import class_names
from conjoin.outputs import Labels, Probabilities, Values
from conjoin.tables import batch_of

if TYPE_CHECKING:
    from conjoin.outputs import Array, Output


class ConjoinClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of scikit-learn that fits a conjoin ensemble.

    X is an array (n, d) of numbers, NaN missing, or a dataframe of any library, also with text, categories
    and dates; y (n,) holds the classes.

    Parameters
    ----------
    estimators : None, or a list of (name, classifier with predict_proba). None lets `conjoin.fit` choose
        and train models.
    fuser : for given estimators: a fuser of `conjoin.fusion` (the default is the mean), or one of its
        `fit_*`: then the estimators are fitted `folds` times and it learns from their answers to rows
        left out.
    time_limit : seconds that a fit may take; without estimators.
    preset : "fast", "balanced" or "best"; without estimators.
    members : names of learners of `conjoin.fit`, instead of those of the preset; without estimators.
    metric : the score that counts, log-loss by default; without estimators.
    folds : how many, at least 2; None lets conjoin choose.
    seed : of everything random.
    threads : how many; 0 for all processors.

    Attributes
    ----------
    ensemble_ : the `conjoin.Ensemble`, which can be saved, exported and inspected.
    classes_ : (K,) the classes, sorted.
    n_features_in_ : the number of columns of X.
    feature_names_in_ : their names, where X was a dataframe.
    """

    def __init__(
        self,
        *,
        estimators: Sequence[tuple[str, Any]] | None = None,
        fuser: Callable[..., Any] | None = None,
        time_limit: float = 60.0,
        preset: str = "balanced",
        members: Sequence[str] | None = None,
        metric: Any = None,
        folds: int | None = None,
        seed: int = 0,
        threads: int = 0,
    ) -> None:
        self.estimators = estimators
        self.fuser = fuser
        self.time_limit = time_limit
        self.preset = preset
        self.members = members
        self.metric = metric
        self.folds = folds
        self.seed = seed
        self.threads = threads

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to X (n, d) and classes y (n,). Raises ValueError where there is only one class."""
        X, y = _inputs(self, X, y)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only, {self.classes_[0]!r}: there is nothing to learn")
        names = np.array(class_names(self.classes_.tolist()), dtype=object)
        codes = np.searchsorted(self.classes_, y)
        data = _weighted(X, y, Labels(codes, tuple(names)), sample_weight)
        if len(np.unique(cast(Labels, data.truth).codes)) < 2:
            raise ValueError(
                "y has one class only in the rows whose weight is not 0: there is nothing to learn"
            )
        self.ensemble_ = _fit(self, data)
        return self

    def predict_proba(self, X: Any) -> Array:
        """(n, K) probabilities, in the order of `classes_`."""
        answer = cast(Probabilities, _answer(self, X))
        return answer.align(class_names(self.classes_.tolist())).values

    def predict(self, X: Any) -> Array:
        """(n,) the most probable class."""
        best = self.predict_proba(X).argmax(axis=1)
        return cast("Array", self.classes_[best])

    def __sklearn_tags__(self) -> Any:
        """NaN is missing, where all given estimators take it."""
        return _tags(self, super().__sklearn_tags__())


class ConjoinRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regressor of scikit-learn that fits a conjoin ensemble.

    X is an array (n, d) of numbers, NaN missing, or a dataframe of any library, also with text, categories
    and dates; y (n,) holds numbers.

    Parameters
    ----------
    estimators : None, or a list of (name, regressor). None lets `conjoin.fit` choose and train models.
    fuser : for given estimators: a fuser of `conjoin.fusion` (the default is the mean), or one of its
        `fit_*`: then the estimators are fitted `folds` times and it learns from their answers to rows
        left out.
    time_limit : seconds that a fit may take; without estimators.
    preset : "fast", "balanced" or "best"; without estimators.
    members : names of learners of `conjoin.fit`, instead of those of the preset; without estimators.
    metric : the score that counts, RMSE by default; without estimators.
    folds : how many, at least 2; None lets conjoin choose.
    seed : of everything random.
    threads : how many; 0 for all processors.

    Attributes
    ----------
    ensemble_ : the `conjoin.Ensemble`, which can be saved, exported and inspected.
    n_features_in_ : the number of columns of X.
    feature_names_in_ : their names, where X was a dataframe.
    """

    def __init__(
        self,
        *,
        estimators: Sequence[tuple[str, Any]] | None = None,
        fuser: Callable[..., Any] | None = None,
        time_limit: float = 60.0,
        preset: str = "balanced",
        members: Sequence[str] | None = None,
        metric: Any = None,
        folds: int | None = None,
        seed: int = 0,
        threads: int = 0,
    ) -> None:
        self.estimators = estimators
        self.fuser = fuser
        self.time_limit = time_limit
        self.preset = preset
        self.members = members
        self.metric = metric
        self.folds = folds
        self.seed = seed
        self.threads = threads

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to X (n, d) and numbers y (n,); sample_weight (n,)."""
        X, y = _inputs(self, X, y, numbers=True)
        self.ensemble_ = _fit(self, _weighted(X, y, Values(y.astype(np.float64)), sample_weight))
        return self

    def predict(self, X: Any) -> Array:
        """(n,) numbers."""
        return np.asarray(cast(Values, _answer(self, X)).values, dtype=np.float64)

    def __sklearn_tags__(self) -> Any:
        """NaN is missing, where all given estimators take it."""
        return _tags(self, super().__sklearn_tags__())


def _inputs(estimator: Any, X: Any, y: Any, *, numbers: bool = False) -> tuple[Any, Array]:
    """X and y, checked as scikit-learn checks; a dataframe stays what it is."""
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    X = _checked(estimator, X, reset=True)
    y = _check_y(y, y_numeric=numbers, estimator=estimator)
    check_consistent_length(X, y)
    if len(y) < 2:
        raise ValueError(f"Found n_samples = {len(y)}: at least 2 rows are needed to learn from")
    return X, cast("Array", column_or_1d(y))


def _checked(estimator: Any, X: Any, *, reset: bool) -> Any:
    if nw.dependencies.is_into_dataframe(X):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        return X
    missing = get_tags(estimator).input_tags.allow_nan
    return validate_data(estimator, X, reset=reset, ensure_all_finite="allow-nan" if missing else True)


def _weighted(X: Any, y: Array, truth: Output, sample_weight: Any) -> Data:
    """The rows that count: those of weight 0 are left out."""
    if sample_weight is None:
        return Data(X, y, truth, None)
    weights = np.asarray(
        _check_sample_weight(sample_weight, X if isinstance(X, np.ndarray) else y, dtype=np.float64)
    )
    if (weights < 0).any():
        raise ValueError("sample_weight must not be negative")
    kept = np.flatnonzero(weights)
    return Data(X, y, truth, weights) if len(kept) == len(y) else Data(X, y, truth, weights).take(kept)


def _fit(estimator: Any, data: Data) -> Any:
    if estimator.estimators is not None:
        return fit_given(
            estimator.estimators, estimator.fuser, data, folds=estimator.folds or 5, seed=estimator.seed
        )
    return fit_own(
        data,
        time_limit=estimator.time_limit,
        preset=estimator.preset,
        members=estimator.members,
        metric=estimator.metric,
        folds=estimator.folds,
        seed=estimator.seed,
        threads=estimator.threads,
    )


def _answer(estimator: Any, X: Any) -> Output:
    check_is_fitted(estimator)
    X = _checked(estimator, X, reset=False)
    return cast("Output", estimator.ensemble_.predict(batch_of(X)))


def _tags(estimator: Any, tags: Any) -> Any:
    given = [e for _, e in estimator.estimators or ()]
    tags.input_tags.allow_nan = all(get_tags(e).input_tags.allow_nan for e in given)
    return tags
