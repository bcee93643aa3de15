"""Models of LightGBM, XGBoost and CatBoost as members: their own classes and their scikit-learn ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.contracts import Column
from conjoin.errors import InputError
from conjoin.members import columns as read
from conjoin.members.exports import EstimatorForm, xgboost_codes
from conjoin.members.wrapped import Given, Wrapped

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What a booster reads: names, or only a count; text -> code for its columns of categories."""

    columns: tuple[Column, ...]
    by_name: bool
    codes: Mapping[str, Mapping[object, int]]

    def matrix(self, batch: Batch) -> Array:
        """(n, d) float64, categories as codes, NaN where missing or never seen."""
        if not self.by_name:
            return read.by_position(batch, len(self.columns))
        names = [c.name for c in self.columns]
        found = batch if all(n in batch for n in names) else _respelled(batch)
        read.require(found, names)
        known = {n: _coded(found[n], table) for n, table in self.codes.items()}
        return read.matrix({n: known.get(n, found[n]) for n in names}, names)


def _respelled(batch: Batch) -> Batch:
    """The batch, its columns also under the names that LightGBM makes of them: _ for white space."""
    return {"_".join(n.split()): a for n, a in batch.items()} | dict(batch)


def _coded(array: Array, table: Mapping[object, int]) -> Array:
    return np.array([table.get(v, np.nan) for v in array.tolist()], dtype=np.float64)


def lightgbm_member(model: Any, given: Given) -> Wrapped:
    """A member around a `lightgbm.Booster`, or a fitted LGBMClassifier, LGBMRegressor or LGBMRanker."""
    import lightgbm

    plain = isinstance(model, lightgbm.Booster)
    if not plain and not model.__sklearn_is_fitted__():
        raise InputError(f"this {type(model).__name__} is not fitted; call its fit(X, y) before wrapping it")
    booster = model if plain else model.booster_
    # the label of one tree's dump is the cheapest place where the objective stands
    head = booster.dump_model(num_iteration=1)
    objective = str(head.get("objective", "")).split(" ")[0]
    several = objective in ("multiclass", "multiclassova", "binary", "cross_entropy")
    kind = _kind(given, "probabilities" if several else "values")
    count = max(2, int(head["num_class"]))
    found: Sequence[object] = range(count) if plain else getattr(model, "classes_", ())
    inputs = _lightgbm_inputs(booster, given)
    card = given.card(
        type(model).__name__,
        kind,
        columns=inputs.columns,
        classes=given.class_names(list(found)) if kind == "probabilities" else (),
    )
    form = EstimatorForm(model, card, codes=inputs.codes)
    return Wrapped(card, partial(_lightgbm_answer, booster, inputs), form.emit)


def _lightgbm_answer(booster: Any, inputs: _Inputs, batch: Batch) -> Array:
    return cast("Array", booster.predict(inputs.matrix(batch)))


def _lightgbm_inputs(booster: Any, given: Given) -> _Inputs:
    names = booster.feature_name()
    columns = _columns(names, given, unnamed=names == [f"Column_{i}" for i in range(len(names))])
    tables = booster.pandas_categorical or []
    params = booster.params
    at = params.get("categorical_column", params.get("categorical_feature", [])) if tables else []
    at = [int(i) for i in (at.split(",") if isinstance(at, str) else at)]
    if len(at) != len(tables):
        raise InputError(
            "this LightGBM model was fitted with both category columns and other categorical features, so "
            "its file does not say which is which; wrap a function that calls its predict"
        )
    codes = {
        columns[i].name: {v: code for code, v in enumerate(values)}
        for i, values in zip(at, tables, strict=True)
    }
    typed = tuple(Column(c.name, "category") if c.name in codes else c for c in columns)
    return _Inputs(typed, _is_named(names, given, "Column_"), codes)


def _kind(given: Given, found: str) -> str:
    kind = "quantiles" if given.kind is None and given.levels is not None else given.kind or found
    if kind not in ("probabilities", "values", "quantiles"):
        raise InputError(f"boosted trees answer probabilities, values or quantiles, not {kind}")
    return kind


def _columns(names: Sequence[str], given: Given, *, unnamed: bool) -> tuple[Column, ...]:
    columns = given.column_list()
    if columns and len(columns) != len(names):
        raise InputError(f"{len(columns)} columns were given; the model was fitted on {len(names)}")
    if columns:
        return columns
    return read.numbered(len(names)) if unnamed else tuple(Column(str(n), "number") for n in names)


def _is_named(names: Sequence[str], given: Given, stem: str) -> bool:
    return given.columns is not None or list(names) != [f"{stem}{i}" for i in range(len(names))]


def xgboost_member(model: Any, given: Given) -> Wrapped:
    """A member around a `xgboost.Booster`, or a fitted XGBClassifier, XGBRegressor or another of its kind."""
    import xgboost

    plain = isinstance(model, xgboost.Booster)
    if not plain and not model.__sklearn_is_fitted__():
        raise InputError(f"this {type(model).__name__} is not fitted; call its fit(X, y) before wrapping it")
    booster = model if plain else model.get_booster()
    learner = json.loads(booster.save_config())["learner"]
    objective = learner["objective"]["name"]
    if objective in ("multi:softmax", "binary:hinge", "binary:logitraw") and given.kind is None:
        raise InputError(
            f"objective {objective} answers no probabilities; fit with binary:logistic or multi:softprob, or "
            "say what it answers: wrap(model, kind='values')"
        )
    several = objective in ("binary:logistic", "multi:softprob")
    kind = _kind(given, "probabilities" if several else "values")
    count = max(2, int(learner["learner_model_param"]["num_class"]))
    found: Sequence[object] = range(count) if plain else getattr(model, "classes_", ())
    names = booster.feature_names or [f"x{i}" for i in range(booster.num_features())]
    columns = _columns(names, given, unnamed=False)
    types = booster.feature_types or ["float"] * len(names)
    if "c" in types and tuple(map(int, xgboost.__version__.split(".")[:2])) < (3, 1):
        raise InputError("XGBoost before 3.1 does not record the categories of its columns; update it")
    columns = tuple(
        Column(c.name, "category") if t == "c" else c for c, t in zip(columns, types, strict=True)
    )
    card = given.card(
        type(model).__name__,
        kind,
        columns=columns,
        classes=given.class_names(list(found)) if kind == "probabilities" else (),
    )
    by_name = booster.feature_names is not None or given.columns is not None
    last = None if plain else getattr(model, "best_iteration", None)  # there only after early stopping
    answer = partial(_xgboost_answer, booster, _Inputs(columns, by_name, {}), 0 if last is None else last + 1)
    codes = xgboost_codes(booster, [c.name for c in columns]) if "c" in types else {}
    return Wrapped(card, answer, EstimatorForm(model, card, codes=codes).emit)


def _xgboost_answer(booster: Any, inputs: _Inputs, rounds: int, batch: Batch) -> Array:
    import xgboost

    names = booster.feature_names
    categories = [c.name for c in inputs.columns if c.type == "category"]
    if categories:
        data = read.frame(batch, [c.name for c in inputs.columns], categories)
        data.columns = names
        frame = xgboost.DMatrix(data, enable_categorical=True)
    else:
        frame = xgboost.DMatrix(
            inputs.matrix(batch), feature_names=names, feature_types=booster.feature_types
        )
    return cast("Array", booster.predict(frame, iteration_range=(0, rounds)))


def catboost_member(model: Any, given: Given) -> Wrapped:
    """A member around a fitted CatBoost, CatBoostClassifier or CatBoostRegressor."""
    if not model.is_fitted():
        raise InputError(f"this {type(model).__name__} is not fitted; call its fit(X, y) before wrapping it")
    if model.get_embedding_feature_indices():
        raise InputError("CatBoost models with embedding features cannot be wrapped; wrap a function")
    loss = str(model.get_all_params().get("loss_function", ""))
    classes = model.classes_.tolist()
    levels = _catboost_levels(loss)
    kind = _kind(given, "probabilities" if classes else "quantiles" if levels else "values")
    names = list(model.feature_names_)
    unnamed = names == [str(i) for i in range(len(names))]
    columns = _columns(names, given, unnamed=unnamed)
    text = {*model.get_cat_feature_indices(), *model.get_text_feature_indices()}
    columns = tuple(Column(c.name, "category") if i in text else c for i, c in enumerate(columns))
    if kind == "quantiles" and given.levels is None:
        given = replace(given, levels=levels)
    card = given.card(
        type(model).__name__,
        kind,
        columns=columns,
        classes=given.class_names(classes) if kind == "probabilities" else (),
    )
    inputs = _Inputs(columns, not unnamed or given.columns is not None, {})
    answer = partial(_catboost_answer, model, inputs, "Probability" if kind == "probabilities" else None)
    return Wrapped(card, answer, EstimatorForm(model, card).emit)


def _catboost_levels(loss: str) -> tuple[float, ...]:
    name, _, rest = loss.partition(":")
    if name != "MultiQuantile":
        return ()
    return tuple(float(q) for q in rest.removeprefix("alpha=").split(","))


def _catboost_answer(model: Any, inputs: _Inputs, prediction: str | None, batch: Batch) -> Array:
    text = [c.name for c in inputs.columns if c.type == "category"]
    if text:
        names = [c.name for c in inputs.columns]
        read.require(batch, names)
        shown = {n: read.texts(batch[n]) if n in text else read.matrix(batch, [n])[:, 0] for n in names}
        data = read.objects(shown, names)
    else:
        data = inputs.matrix(batch)
    if prediction is None:
        return cast("Array", model.predict(data))
    return cast("Array", model.predict(data, prediction_type=prediction))
