"""Fitted scikit-learn estimators and pipelines as members."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.contracts import Column, ColumnType
from conjoin.errors import InputError, listed
from conjoin.members import columns as read
from conjoin.members.exports import EstimatorForm
from conjoin.members.wrapped import Given, Wrapped

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array


def estimator_member(estimator: Any, given: Given) -> Wrapped:
    """A member around a fitted classifier or regressor, or a pipeline or search that ends in one.

    Fitted on a dataframe, it gets its columns by name; fitted on an array, the columns x0, x1, ... or all
    columns of numbers in order. A classifier answers probabilities, or labels where it has no probabilities.
    """
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    name = type(estimator).__name__
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise InputError(f"this {name} is not fitted; call its fit(X, y) before wrapping it") from error
    kind, method = _method(estimator, given)
    found = _classes(estimator) if kind in ("probabilities", "labels") else ()
    columns, reader = reader_of(estimator, given)
    card = given.card(name, kind, columns=columns, classes=given.class_names(found))
    answer = partial(_answer, method, reader, tuple(found), card.classes if kind == "labels" else ())
    return Wrapped(card, answer, EstimatorForm(estimator, card, reader).emit)


def reader_of(estimator: Any, given: Given) -> tuple[tuple[Column, ...], Callable[[Batch], Any]]:
    """The columns that a fitted estimator reads, and what makes of a batch what it was fitted on."""
    named = getattr(estimator, "feature_names_in_", None)
    columns = given.column_list()
    if named is not None:
        names = [str(n) for n in named]
        if columns and sorted(c.name for c in columns) != sorted(names):
            raise InputError(
                f"the model was fitted on the columns {listed(names)}; "
                f"given were {listed(c.name for c in columns)}"
            )
        types = dict(column_types(estimator, names)) | {c.name: c.type for c in columns}
        return tuple(Column(n, types.get(n, "number")) for n in names), partial(read.frame, names=names)
    count = getattr(estimator, "n_features_in_", None)
    if columns and count is not None and len(columns) != count:
        raise InputError(f"{len(columns)} columns were given; the model was fitted on {count}")
    if not columns and count is None:
        raise InputError("the model does not say how many columns it reads: wrap(..., columns=[...])")
    if not columns:
        return read.numbered(int(cast(int, count))), partial(read.by_position, count=int(cast(int, count)))
    names = [c.name for c in columns]
    plain = all(c.type in ("number", "boolean") for c in columns)
    return columns, partial(read.matrix if plain else read.objects, names=names)


def _method(estimator: Any, given: Given) -> tuple[str, Callable[[Any], Any]]:
    from sklearn.base import is_classifier, is_regressor

    if not is_classifier(estimator) and not is_regressor(estimator):
        raise InputError(
            f"{type(estimator).__name__} is neither a classifier nor a regressor; wrap a function instead: "
            "wrap(lambda batch: ..., kind=...)"
        )
    if not is_classifier(estimator):
        return given.kind or "values", estimator.predict
    proba = getattr(estimator, "predict_proba", None)  # there only where the estimator can
    kind = given.kind or ("labels" if proba is None else "probabilities")
    if kind == "probabilities" and proba is None:
        raise InputError(f"{type(estimator).__name__} has no predict_proba; it can answer kind='labels'")
    return kind, cast("Callable[[Any], Any]", proba if kind == "probabilities" else estimator.predict)


def _classes(estimator: Any) -> Sequence[object]:
    classes = estimator.classes_
    if isinstance(classes, list):
        raise InputError(f"this {type(estimator).__name__} answers several targets; wrap one for each")
    return cast("Sequence[object]", classes.tolist())


def _answer(
    method: Callable[[Any], Any],
    reader: Callable[[Batch], Any],
    found: tuple[object, ...],
    names: tuple[str, ...],
    batch: Batch,
) -> Array:
    raw = np.asarray(method(reader(batch)))
    if not names:
        return raw
    table = dict(zip(found, names, strict=True))
    return np.array([table[v] for v in raw.tolist()], dtype=object)


def column_types(step: Any, names: Sequence[str]) -> Iterator[tuple[str, ColumnType]]:
    """The columns that the fitted steps of an estimator read as categories or text; the others are numbers.

    scikit-learn does not record the types of its input, but encoders know their categories.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection._search import BaseSearchCV
    from sklearn.pipeline import FeatureUnion, Pipeline

    if isinstance(step, Pipeline):
        for part in step:
            yield from column_types(part, names)
            if not isinstance(part, SimpleImputer):  # what comes later sees other columns
                return
    elif isinstance(step, BaseSearchCV):
        yield from column_types(step.best_estimator_, names)
    elif isinstance(step, FeatureUnion):
        for _, part in step.transformer_list:
            yield from column_types(part, names)
    elif isinstance(step, ColumnTransformer):
        for _, part, selected in step.transformers_:
            yield from column_types(part, _selected(selected, names))
    elif isinstance(step, CountVectorizer | HashingVectorizer):
        yield from ((n, "text") for n in names)
    elif getattr(step, "is_categorical_", None) is not None:  # histogram gradient boosting
        encoder = step._preprocessor.named_transformers_["encoder"]
        yield from column_types(encoder, [n for n, k in zip(names, step.is_categorical_, strict=True) if k])
    else:
        for name, known in zip(names, getattr(step, "categories_", ()), strict=False):
            if np.asarray(known).dtype.kind in "OUT":
                yield name, "category"


def _selected(selected: Any, names: Sequence[str]) -> list[str]:
    if isinstance(selected, str):
        return [selected]
    if isinstance(selected, slice) and isinstance(selected.start or selected.stop, str):
        at = {n: i for i, n in enumerate(names)}
        stop = None if selected.stop is None else at[selected.stop] + 1  # a slice of names holds its end
        selected = slice(at.get(selected.start), stop)
    if not isinstance(selected, slice):
        selected = list(selected)
        if selected and isinstance(selected[0], str):
            return list(map(str, selected))
    return [str(names[i]) for i in np.atleast_1d(np.arange(len(names))[selected])]
