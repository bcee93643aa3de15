import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import check_estimator
from threadpoolctl import threadpool_limits

import conjoin
from conjoin import fusion
from conjoin.errors import InputError
from conjoin.estimator import as_estimator

CLASSIFIERS = [("line", LogisticRegression(max_iter=300)), ("bayes", GaussianNB())]
REGRESSORS = [("line", Ridge()), ("tree", DecisionTreeRegressor(max_depth=4))]
OWN = {"members": ("linear",), "folds": 2, "time_limit": 20.0, "threads": 1}
DEALT = "rows are dealt to folds, so one row of weight 2 is not two rows"
WEIGHTS = {"check_sample_weight_equivalence_on_dense_data": DEALT}
X = np.random.default_rng(0).normal(size=(90, 3))
Y = np.where(X[:, 0] + 0.3 * X[:, 1] > 0, "yes", "no")


@pytest.mark.parametrize(
    ("task", "parameters", "failing"),
    [
        ("classification", {"estimators": CLASSIFIERS, "fuser": fusion.log_pool}, {}),
        ("classification", {"estimators": CLASSIFIERS, "fuser": fusion.fit_linear_pool, "folds": 2}, WEIGHTS),
        ("regression", {"estimators": REGRESSORS}, {}),
        ("regression", {"estimators": REGRESSORS, "fuser": fusion.fit_nnls, "folds": 2}, WEIGHTS),
        ("classification", OWN, WEIGHTS),
        ("regression", OWN, WEIGHTS),
    ],
    ids=["given", "given and fitted", "given numbers", "given and fitted numbers", "own", "own numbers"],
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_check(task, parameters, failing):
    with threadpool_limits(1):
        done = check_estimator(as_estimator(task, **parameters), expected_failed_checks=failing, on_skip=None)
    kinds = {r["status"] for r in done}
    assert len(done) > 50
    assert kinds <= {"passed", "skipped", "xfail"}
    assert {r["check_name"] for r in done if r["status"] == "xfail"} == set(failing)


def test_in_cross_validation_pipeline_and_search():
    pair = as_estimator(estimators=CLASSIFIERS, fuser=fusion.mean)
    assert cross_val_score(make_pipeline(StandardScaler(), pair), X, Y, cv=3).mean() > 0.9
    search = GridSearchCV(pair, {"fuser": [fusion.mean, fusion.log_pool]}, cv=2).fit(X, Y)
    assert search.best_estimator_.ensemble_.fitted


def test_it_is_the_same_as_the_ensemble():
    pair = as_estimator(estimators=CLASSIFIERS, fuser=fusion.log_pool).fit(X, Y)
    members = {n: conjoin.wrap(clone(e).fit(X, Y)) for n, e in CLASSIFIERS}
    expected = conjoin.Ensemble(members, fusion.log_pool).predict(X)
    assert np.allclose(pair.predict_proba(X), expected.values)
    assert pair.predict(X).tolist() == [expected.classes[k] for k in expected.values.argmax(axis=1)]


def test_a_fuser_learns_from_rows_left_out():
    tree = DecisionTreeClassifier(random_state=0)
    noisy = np.where(np.random.default_rng(1).random(90) < 0.25, Y[::-1], Y)
    pair = as_estimator(
        estimators=[("tree", tree), ("line", LogisticRegression())], fuser=fusion.fit_linear_pool
    )
    weights = pair.fit(X, noisy).ensemble_.fuser.weights
    assert tree.fit(X, noisy).score(X, noisy) == 1.0
    assert weights["line"] > 0.6


@pytest.mark.parametrize("library", [pd, pl], ids=["pandas", "polars"])
def test_dataframes_with_text(library):
    city = np.where(X[:, 2] > 0, "rome", "oslo")
    frame = library.DataFrame({"u": X[:, 0], "city": city})
    y = np.where((X[:, 0] > 0) & (city == "rome"), 7, 3)
    fitted = as_estimator("classification", **OWN).fit(frame, y)
    assert fitted.feature_names_in_.tolist() == ["u", "city"]
    assert fitted.classes_.tolist() == [3, 7]
    assert fitted.score(frame, y) > 0.8
    assert set(fitted.predict(frame)) <= {3, 7}
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[["city", "u"]])


def test_what_was_fitted_can_be_saved(tmp_path):
    fitted = as_estimator("regression", **OWN).fit(X, X[:, 0] * 3 + 1)
    conjoin.save(fitted.ensemble_, tmp_path / "kept.conjoin")
    again = conjoin.load(tmp_path / "kept.conjoin")
    assert np.array_equal(again.predict(X).values, fitted.predict(X))


def test_weights_of_zero_are_rows_left_out():
    weights = (np.arange(90) % 3 > 0).astype(float)
    kept = weights > 0
    a = as_estimator(**OWN).fit(X, Y, sample_weight=weights)
    b = as_estimator(**OWN).fit(X[kept], Y[kept], sample_weight=weights[kept])
    assert np.array_equal(a.predict_proba(X), b.predict_proba(X))


def test_missing_numbers_only_where_the_estimators_take_them():
    gaps = np.where(np.random.default_rng(2).random(X.shape) < 0.1, np.nan, X)
    assert as_estimator(**OWN).fit(gaps, Y).predict(gaps).shape == (90,)
    assert as_estimator(estimators=[("t", DecisionTreeClassifier())]).fit(gaps, Y).score(gaps, Y) > 0.9
    with pytest.raises(ValueError, match="contains NaN"):
        as_estimator(estimators=CLASSIFIERS).fit(gaps, Y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"estimators": []}, "at least one; given were"),
        ({"estimators": [*CLASSIFIERS, CLASSIFIERS[0]]}, "different names"),
    ],
)
def test_estimators_need_names(parameters, message):
    with pytest.raises(InputError, match=message):
        as_estimator(**parameters).fit(X, Y)


def test_other_tasks():
    with pytest.raises(InputError, match="'ranking' is not one of classification, regression"):
        as_estimator("ranking")
