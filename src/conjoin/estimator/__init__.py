"""conjoin as estimators of scikit-learn: they work in its pipelines, searches and cross-validation."""

from __future__ import annotations

import importlib
from typing import Any

from conjoin.errors import InputError, listed, need

_CLASSES = {"classification": "ConjoinClassifier", "regression": "ConjoinRegressor"}


def as_estimator(task: str = "classification", /, **parameters: Any) -> Any:
    """An estimator of scikit-learn that fits a conjoin ensemble: a ConjoinClassifier or a ConjoinRegressor.

    task: "classification" or "regression". parameters: see the two classes. With `estimators` it fuses the
    estimators that are given, by `fuser`; without, it calls `conjoin.fit`.

    Raises InputError on another task, MissingExtraError without scikit-learn.

    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from conjoin import fusion
    >>> pair = [("line", LogisticRegression()), ("bayes", GaussianNB())]
    >>> both = as_estimator("classification", estimators=pair, fuser=fusion.log_pool)
    >>> both.fit([[0.0], [1.0], [2.0], [3.0]], ["no", "no", "yes", "yes"]).predict([[2.5]])
    array(['yes'], dtype='<U3')
    """
    if task not in _CLASSES:
        raise InputError(f"task {task!r} is not one of {listed(_CLASSES)}")
    need("sklearn")
    return __getattr__(_CLASSES[task])(**parameters)


def __getattr__(name: str) -> Any:
    """The classes, which need scikit-learn, when they are first used."""
    if name not in _CLASSES.values():
        raise AttributeError(f"module 'conjoin.estimator' has no attribute {name!r}")
    return getattr(importlib.import_module("conjoin.estimator.classes"), name)


__all__ = ["as_estimator"]
