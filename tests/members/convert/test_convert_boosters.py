"""LightGBM, XGBoost and CatBoost against their own predict, on rows with all that may go wrong."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

from conjoin.errors import NotExportableError
from conjoin.graph.trees import Trees
from conjoin.members.convert import catboost_trees, convert, lightgbm_trees, xgboost_trees

from .worlds import agree, answers, rows, strange, truths

RNG = np.random.default_rng(0)
X = rows(RNG)
ODD = strange(RNG, X)
Y = truths(RNG, X)
SHARES = ("binary", "classes")


@cache
def lightgbm(objective: str, target: str, categories: tuple[int, ...] = (), **extra: object):
    import lightgbm as lgb

    given = {"objective": objective, "verbose": -1, "num_threads": 1, "num_leaves": 12, **extra}
    if target == "classes":
        given["num_class"] = 3
    group = [N_GROUP] * (len(X) // N_GROUP) if objective == "lambdarank" else None
    data = lgb.Dataset(X, Y[target], categorical_feature=list(categories), group=group, params=dict(extra))
    return lgb.train(given, data, 12)


N_GROUP = 50
OBJECTIVES = [
    ("binary", "binary"),
    ("cross_entropy", "binary"),
    ("multiclass", "classes"),
    ("regression", "far"),
    ("quantile", "value"),
    ("poisson", "positive"),
    ("lambdarank", "binary"),
]
EXTRAS = {
    "plain": {},
    "zero is missing": {"zero_as_missing": True},
    "nothing is missing": {"use_missing": False},
    "forest": {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    "dart": {"boosting": "dart"},
    "steep": {"sigmoid": 1.7},
}


READINGS = [(o, t, "plain") for o, t in OBJECTIVES] + [
    ("multiclass", "classes", e) for e in list(EXTRAS)[1:5]
]


@pytest.mark.parametrize("categories", [(), (4, 5)], ids=["numbers", "categories"])
@pytest.mark.parametrize(("objective", "target", "extra"), [*READINGS, ("binary", "binary", "steep")])
def test_lightgbm(objective: str, target: str, categories: tuple[int, ...], extra: str) -> None:
    booster = lightgbm(objective, target, categories, **EXTRAS[extra])
    shares = objective in ("binary", "cross_entropy", "multiclass")
    agree(lightgbm_trees(booster), booster.predict(ODD, num_threads=1), ODD, shares=shares)
    agree(lightgbm_trees(booster, rounds=5), booster.predict(ODD, num_iteration=5), ODD, shares=shares)


def test_lightgbm_takes_the_branch_of_float64_rows() -> None:
    booster = lightgbm("regression", "value")
    text = booster.dump_model()["tree_info"]
    cuts = [t["tree_structure"]["threshold"] for t in text]
    x = np.nan_to_num(ODD.astype(np.float64), posinf=1e300, neginf=-1e300)
    for f, t in ((t["tree_structure"]["split_feature"], c) for t, c in zip(text, cuts, strict=True)):
        x[:, f] = np.where(RNG.random(len(x)) < 0.5, np.nextafter(t, RNG.choice([-np.inf, np.inf])), x[:, f])
    agree(convert(booster), booster.predict(x, num_threads=1), x, shares=False)


def test_lightgbm_estimators_and_early_stopping() -> None:
    import lightgbm as lgb

    stop = lgb.early_stopping(2, verbose=False)
    given = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 7, "eta": 0.5}
    learn = lgb.Dataset(X[:300], Y["binary"][:300])
    held = learn.create_valid(X[300:], Y["binary"][300:])
    booster = lgb.train(given, learn, 60, valid_sets=[held], callbacks=[stop])
    assert booster.num_trees() < 60
    agree(convert(booster), booster.predict(ODD), ODD, shares=True)
    model = lgb.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(X, Y["classes"])
    agree(convert(model), model.predict_proba(ODD), ODD, shares=True)
    regressor = lgb.LGBMRegressor(n_estimators=5, n_jobs=1, verbose=-1).fit(X, Y["value"])
    agree(convert(regressor), regressor.predict(ODD), ODD, shares=False)


def test_lightgbm_that_has_no_form() -> None:
    with pytest.raises(NotExportableError, match="linear_tree"):
        lightgbm_trees(lightgbm("regression", "value", linear_tree=True))
    with pytest.raises(NotExportableError, match="multiclassova"):
        lightgbm_trees(lightgbm("multiclassova", "classes"))
    with pytest.raises(NotExportableError, match="sqrt"):
        lightgbm_trees(lightgbm("regression", "positive", reg_sqrt=True))


def test_mean_of_folds_is_the_mean_of_raw_scores() -> None:
    folds = [
        lightgbm("regression", "value", (4, 5), seed=s, bagging_fraction=0.7, bagging_freq=1)
        for s in (1, 2, 3)
    ]
    parts = [lightgbm_trees(b, scale=2.0, shift=10.0) for b in folds]
    expected = np.mean([b.predict(ODD) for b in folds], axis=0) * 2 + 10
    agree(Trees.mean(parts), expected, ODD, shares=False)
    again = Trees.unpack(*Trees.mean(parts).pack(), {})
    agree(again, expected, ODD, shares=False)


@cache
def xgboost(objective: str, target: str, categories: bool = False, **extra: object):
    import xgboost as xgb

    given = {"objective": objective, "nthread": 1, "max_depth": 4, **extra}
    if target == "classes":
        given["num_class"] = 3
    if objective == "reg:quantileerror":
        given["quantile_alpha"] = np.array([0.1, 0.5, 0.9])
    data = matrix(X, categories, Y[target])
    if objective.startswith("rank"):
        data.set_group([N_GROUP] * (len(X) // N_GROUP))
    return xgb.train(given, data, 12)


def matrix(x: np.ndarray, categories: bool, y: np.ndarray | None = None):
    import xgboost as xgb

    types = ["q"] * 4 + ["c", "c"] if categories else None
    return xgb.DMatrix(x, y, feature_types=types, enable_categorical=categories)


def finite(categories: bool) -> np.ndarray:
    """XGBoost refuses infinities, and codes that are no codes."""
    x = np.where(np.isinf(ODD), np.float32(3), ODD)
    if categories:
        codes = x[:, 4:]
        x[:, 4:] = np.where((codes < 0) | (codes != np.round(codes)) | (codes > 1e6), np.nan, codes)
    return x


XGBOOST = [
    ("binary:logistic", "binary"),
    ("binary:logitraw", "binary"),
    ("multi:softprob", "classes"),
    ("reg:squarederror", "far"),
    ("reg:absoluteerror", "value"),
    ("reg:quantileerror", "value"),
    ("count:poisson", "positive"),
    ("reg:gamma", "positive"),
    ("reg:tweedie", "positive"),
    ("rank:ndcg", "binary"),
]


@pytest.mark.parametrize("categories", [False, True], ids=["numbers", "categories"])
@pytest.mark.parametrize(("objective", "target"), XGBOOST)
def test_xgboost(objective: str, target: str, categories: bool) -> None:
    booster = xgboost(objective, target, categories)
    x = finite(categories)
    shares = objective in ("binary:logistic", "multi:softprob")
    for part, native in (
        (xgboost_trees(booster), booster.predict(matrix(x, categories))),
        (xgboost_trees(booster, rounds=5), booster.predict(matrix(x, categories), iteration_range=(0, 5))),
    ):
        agree(part, np.sort(native, axis=1) if "quantile" in objective else native, x, shares=shares)


@pytest.mark.parametrize(
    "extra", [{"booster": "dart", "rate_drop": 0.3}, {"num_parallel_tree": 3, "subsample": 0.5}], ids=str
)
def test_xgboost_dart_and_forests(extra: dict) -> None:
    booster = xgboost("multi:softprob", "classes", **extra)
    agree(xgboost_trees(booster), booster.predict(matrix(finite(False), False)), finite(False), shares=True)
    agree(
        xgboost_trees(booster, rounds=4),
        booster.predict(matrix(finite(False), False), iteration_range=(0, 4)),
        finite(False),
        shares=True,
    )


def test_xgboost_ties() -> None:
    booster = xgboost("reg:squarederror", "value")
    x = finite(False)
    for line in booster.get_dump(dump_format="json"):
        root = json.loads(line)
        f = int(root["split"][1:])
        x[:, f] = np.where(RNG.random(len(x)) < 0.5, np.float32(root["split_condition"]), x[:, f])
    agree(xgboost_trees(booster), booster.predict(matrix(x, False)), x, shares=False)


def test_xgboost_estimators() -> None:
    import xgboost as xgb

    x = finite(False)
    model = xgb.XGBClassifier(n_estimators=60, max_depth=3, n_jobs=1, early_stopping_rounds=2)
    model.fit(X[:300], Y["classes"][:300], eval_set=[(X[300:], Y["classes"][300:])], verbose=False)
    assert model.best_iteration < 59
    agree(convert(model), model.predict_proba(x), x, shares=True)
    forest = xgb.XGBRFRegressor(n_estimators=6, max_depth=3, n_jobs=1).fit(X, Y["value"])
    agree(convert(forest), forest.predict(x), x, shares=False)


def test_xgboost_that_has_no_form() -> None:
    import xgboost as xgb

    with pytest.raises(NotExportableError, match="gblinear"):
        xgboost_trees(xgb.train({"booster": "gblinear"}, matrix(np.nan_to_num(X), False, Y["value"]), 2))
    with pytest.raises(NotExportableError, match="hinge"):
        xgboost_trees(xgboost("binary:hinge", "binary"))
    zero = xgb.XGBRegressor(n_estimators=2, missing=0.0, n_jobs=1).fit(np.nan_to_num(X), Y["value"])
    with pytest.raises(NotExportableError, match="missing=0"):
        convert(zero)


def catboost(loss: str, target: str, **extra: object):
    import catboost as cb

    given = {"loss_function": loss, "iterations": 12, "depth": 4, "thread_count": 1, "verbose": False}
    return cb.CatBoost({**given, "allow_writing_files": False, **extra}).fit(X, Y[target])


CATBOOST = [
    ("Logloss", "binary", "Probability"),
    ("CrossEntropy", "binary", "Probability"),
    ("MultiClass", "classes", "Probability"),
    ("RMSE", "far", "RawFormulaVal"),
    ("MultiQuantile:alpha=0.1,0.5,0.9", "value", "RawFormulaVal"),
    ("Quantile:alpha=0.2", "value", "RawFormulaVal"),
    ("Poisson", "positive", "Exponent"),
]


@pytest.mark.parametrize(("loss", "target", "answer"), CATBOOST)
def test_catboost(loss: str, target: str, answer: str) -> None:
    _catboost(catboost(loss, target), answer, sort="MultiQ" in loss)


@pytest.mark.parametrize(
    "extra", [{"grow_policy": "Lossguide"}, {"grow_policy": "Depthwise"}, {"nan_mode": "Max"}], ids=str
)
def test_catboost_grown_otherwise(extra: dict) -> None:
    for loss, target, answer in CATBOOST[2:4]:
        _catboost(catboost(loss, target, **extra), answer)


def _catboost(model, answer: str, *, sort: bool = False) -> None:
    x = np.where(np.isnan(ODD) & (np.arange(6) == 3), np.float32(7), ODD)  # no NaN where none was learnt
    for rounds in (None, 5):
        native = model.predict(x, prediction_type=answer, ntree_end=rounds or 0, thread_count=1)
        part = catboost_trees(model, rounds=rounds)
        agree(part, np.sort(native, axis=1) if sort else native, x, shares=answer == "Probability")


def test_catboost_estimators_and_ties() -> None:
    import catboost as cb

    quiet = {"iterations": 8, "depth": 3, "thread_count": 1, "verbose": False, "allow_writing_files": False}
    model = cb.CatBoostClassifier(**quiet).fit(X, Y["binary"])
    x = np.nan_to_num(X)
    for f, borders in model.get_borders().items():
        if len(borders):
            x[:, f] = np.where(
                RNG.random(len(x)) < 0.5, RNG.choice(np.array(borders, np.float32), len(x)), x[:, f]
            )
    agree(convert(model), model.predict_proba(x), x, shares=True)


def test_catboost_that_has_no_form() -> None:
    import catboost as cb

    quiet = {"iterations": 2, "depth": 2, "thread_count": 1, "verbose": False, "allow_writing_files": False}
    frame = [[float(a), f"c{int(b)}"] for a, b in np.nan_to_num(X[:, [0, 5]])]
    with pytest.raises(NotExportableError, match="categorical_features"):
        convert(cb.CatBoostRegressor(cat_features=[1], **quiet).fit(frame, Y["value"]))
    with pytest.raises(NotExportableError, match="RMSEWithUncertainty"):
        convert(catboost("RMSEWithUncertainty", "value"))


def test_constant_target_gives_trees_without_splits() -> None:
    import lightgbm as lgb

    booster = lgb.train({"verbose": -1, "num_threads": 1}, lgb.Dataset(X, np.full(len(X), 3.5)), 3)
    np.testing.assert_allclose(answers(lightgbm_trees(booster), ODD, shares=False), 3.5)
