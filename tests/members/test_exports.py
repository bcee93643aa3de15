"""Wrapped members in a graph: it answers as the library does, on every row."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from conjoin.errors import NotExportableError
from conjoin.graph.builder import Graph
from conjoin.members import wrap
from conjoin.members.compiled import export_model
from conjoin.members.onnx import onnx_form

catboost = pytest.importorskip("catboost")
lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")


def agree(member, batch, tolerance=1e-5):
    stored = onnx_form(member)
    assert stored.card.name == member.card.name
    assert stored.card.classes == member.card.classes
    a, b = member.predict(batch), stored.predict(batch)
    scale = max(1.0, float(np.abs(a.values).max()))
    assert np.abs(a.values - b.values).max() <= tolerance * scale
    assert [i.name for i in export_model(member).graph.input] == [c.name for c in stored.card.columns]


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        ExtraTreesClassifier(5, random_state=0),
        GradientBoostingClassifier(n_estimators=5),
        HistGradientBoostingClassifier(max_iter=5),
        KNeighborsClassifier(3),
        GaussianNB(),
        StackingClassifier([("l", LogisticRegression()), ("b", GaussianNB())], cv=2),
        make_pipeline(StandardScaler(), LogisticRegression()),
        lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1),
        catboost.CatBoostClassifier(iterations=5, verbose=0, allow_writing_files=False, thread_count=1),
    ],
    ids=lambda m: type(m).__name__,
)
@pytest.mark.parametrize("framed", [True, False])
def test_classifiers(people, model, framed):
    x = people.numbers if framed else people.numbers.to_numpy()
    agree(wrap(clone(model).fit(x, people.y)), people.filled if framed else people.numbers.to_numpy())


@pytest.mark.parametrize(
    "model",
    [
        Ridge(),
        RandomForestRegressor(5, random_state=0),
        HistGradientBoostingRegressor(max_iter=5),
        make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(4,), max_iter=3000, random_state=0)),
        make_pipeline(SimpleImputer(), lightgbm.LGBMRegressor(n_estimators=5, verbose=-1, n_jobs=1)),
        xgboost.XGBRegressor(n_estimators=5, n_jobs=1),
    ],
    ids=lambda m: type(m).__name__,
)
def test_regressors(people, model):
    agree(wrap(model.fit(people.numbers, people.value), columns=None), people.filled)


@pytest.mark.parametrize(
    "last",
    [
        LogisticRegression(),
        HistGradientBoostingClassifier(max_iter=5),
        lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1),
    ],
    ids=lambda m: type(m).__name__,
)
def test_pipeline_of_numbers_and_categories(people, last):
    before = make_column_transformer(
        (SimpleImputer(), ["age", "income"]),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["city"]),
    )
    frame = people.frame.assign(city=people.frame["city"].fillna("rome"))
    member = wrap(make_pipeline(before, last).fit(frame, people.y))
    batch = {**people.batch, "city": frame["city"].to_numpy(dtype=object)}
    agree(member, batch)
    unseen = {n: a[:3] for n, a in batch.items()} | {"city": np.array(["lima", "oslo", "bern"], dtype=object)}
    agree(member, unseen)


def test_boosters_with_categories(people):
    frame = people.frame.assign(city=people.frame["city"].astype("category"))
    codes = (people.y == "yes").astype(int)
    leaves = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1, min_child_samples=5)
    agree(wrap(leaves.fit(frame, people.y)), people.batch)
    extreme = xgboost.XGBClassifier(n_estimators=5, enable_categorical=True, n_jobs=1)
    agree(wrap(extreme.fit(frame, codes)), people.batch)


def test_lightgbm_with_categories_that_are_numbers():
    frame = pd.DataFrame({"k": pd.Categorical(np.arange(200) % 3 * 10)})
    model = lightgbm.LGBMRegressor(n_estimators=3, verbose=-1, n_jobs=1).fit(frame, np.arange(200) % 3)
    agree(wrap(model), {"k": np.array([0.0, 10.0, 20.0])})


def test_stopped_boosters(people):
    codes = (people.y == "yes").astype(int)
    extreme = xgboost.XGBClassifier(n_estimators=30, early_stopping_rounds=2, n_jobs=1)
    extreme.fit(people.numbers, codes, eval_set=[(people.numbers, 1 - codes)], verbose=0)
    agree(wrap(extreme), people.filled)


def test_quantiles(people):
    x = people.numbers
    spread = catboost.CatBoostRegressor(
        iterations=5,
        verbose=0,
        allow_writing_files=False,
        thread_count=1,
        loss_function="MultiQuantile:alpha=0.1,0.9",
    )
    agree(wrap(spread.fit(x, people.value)), people.filled)


def test_what_has_no_form(people):
    frame = people.frame.assign(city=people.frame["city"].fillna(""))
    model = catboost.CatBoostClassifier(
        iterations=2, verbose=0, allow_writing_files=False, thread_count=1, cat_features=["city"]
    )
    with pytest.raises(NotExportableError, match="CatBoost"):
        wrap(model.fit(frame, people.y)).emit(Graph())
    with pytest.raises(NotExportableError, match="answers labels"):
        wrap(RidgeClassifier().fit(people.numbers, people.y)).emit(Graph())
