import numpy as np
import pandas as pd
import pytest

from conjoin.errors import ColumnError, InputError
from conjoin.members import wrap

catboost = pytest.importorskip("catboost")
lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")

CAT = {"iterations": 5, "verbose": 0, "allow_writing_files": False, "thread_count": 1}


@pytest.fixture(scope="module")
def categories(people):
    return people.frame.assign(city=people.frame["city"].astype("category"))


@pytest.fixture(scope="module")
def codes(people):
    return (people.y == "yes").astype(int)


@pytest.fixture(scope="module")
def leaves(categories, people):
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1, min_child_samples=5)
    return model.fit(categories, people.y)


def test_lightgbm_with_categories(people, categories, leaves):
    member = wrap(leaves)
    assert member.card.classes == ("no", "yes")
    assert [c.type for c in member.card.columns] == ["number", "number", "category"]
    assert np.allclose(member.predict(people.batch).values, leaves.predict_proba(categories))


def test_lightgbm_booster_from_its_file(people, categories, leaves):
    booster = lightgbm.Booster(model_str=leaves.booster_.model_to_string())
    assert wrap(booster).card.classes == ("0", "1")
    member = wrap(booster, classes=["no", "yes"])
    assert np.allclose(member.predict(people.batch).values, leaves.predict_proba(categories))


def test_lightgbm_unseen_category_is_missing(leaves):
    batch = {"age": np.full(2, 40.0), "income": np.zeros(2), "city": np.array(["lima", None], dtype=object)}
    values = wrap(leaves).predict(batch).values
    assert np.array_equal(values[0], values[1])


def test_lightgbm_several_classes(people):
    y = np.clip(people.frame["income"].round(), -1, 1).astype(int)
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(people.numbers, y)
    member = wrap(model)
    assert member.card.classes == ("-1", "0", "1")
    assert np.allclose(member.predict(people.filled).values, model.predict_proba(people.numbers))


def test_lightgbm_regressor_on_an_array(people):
    x = people.numbers.to_numpy()
    model = lightgbm.LGBMRegressor(n_estimators=5, verbose=-1, n_jobs=1).fit(x, people.value)
    member = wrap(model)
    assert [c.name for c in member.card.columns] == ["x0", "x1"]
    assert np.allclose(member.predict(people.filled).values, model.booster_.predict(x))
    with pytest.raises(ColumnError, match="array of 2 columns"):
        member.predict({"a": x[:, 0]})


def test_lightgbm_names_with_spaces(people):
    frame = people.numbers.rename(columns={"age": "age in years"})
    model = lightgbm.LGBMRegressor(n_estimators=2, verbose=-1, n_jobs=1).fit(frame, people.value)
    batch = {"age in years": frame["age in years"].to_numpy(), "income": frame["income"].to_numpy()}
    assert np.allclose(wrap(model).predict(batch).values, model.predict(frame))


def test_xgboost_with_categories(people, categories, codes):
    model = xgboost.XGBClassifier(n_estimators=5, enable_categorical=True, n_jobs=1).fit(categories, codes)
    member = wrap(model, classes=["no", "yes"])
    assert member.card.columns[2].type == "category"
    assert np.allclose(member.predict(people.batch).values, model.predict_proba(categories))
    assert np.allclose(
        wrap(model.get_booster()).predict(people.batch).values, model.predict_proba(categories)
    )


def test_xgboost_stops_where_it_stopped(people, codes):
    model = xgboost.XGBClassifier(n_estimators=30, early_stopping_rounds=2, n_jobs=1)
    model.fit(people.numbers, codes, eval_set=[(people.numbers, 1 - codes)], verbose=0)
    assert model.best_iteration < 29
    assert np.allclose(wrap(model).predict(people.filled).values, model.predict_proba(people.numbers))


def test_xgboost_regressor_and_missing(people):
    model = xgboost.XGBRegressor(n_estimators=5, n_jobs=1).fit(people.frame[["age", "income"]], people.value)
    assert np.allclose(
        wrap(model).predict(people.batch).values, model.predict(people.frame[["age", "income"]])
    )


def test_xgboost_that_answers_no_probabilities(people, codes):
    data = xgboost.DMatrix(people.numbers, label=codes)
    booster = xgboost.train({"objective": "binary:hinge", "nthread": 1}, data, 2)
    with pytest.raises(InputError, match="binary:hinge answers no probabilities"):
        wrap(booster)
    assert wrap(booster, kind="values").predict(people.filled).values.max() == 1


def test_catboost_with_categories(people):
    frame = people.frame.assign(city=people.frame["city"].fillna(""))
    model = catboost.CatBoostClassifier(**CAT, cat_features=["city"]).fit(frame, people.y)
    member = wrap(model)
    assert member.card.classes == ("no", "yes")
    assert np.allclose(member.predict(people.batch).values, model.predict_proba(frame))


def test_catboost_from_its_file(people, tmp_path):
    model = catboost.CatBoostClassifier(**CAT).fit(people.numbers, people.y)
    model.save_model(str(tmp_path / "m.cbm"))
    again = catboost.CatBoost().load_model(str(tmp_path / "m.cbm"))
    assert np.allclose(wrap(again).predict(people.filled).values, model.predict_proba(people.numbers))


def test_catboost_numbers_and_quantiles(people):
    x = people.numbers.to_numpy()
    model = catboost.CatBoostRegressor(**CAT).fit(x, people.value)
    assert np.allclose(wrap(model).predict(people.filled).values, model.predict(x))
    spread = catboost.CatBoostRegressor(**CAT, loss_function="MultiQuantile:alpha=0.1,0.9").fit(
        x, people.value
    )
    member = wrap(spread)
    assert member.card.levels == (0.1, 0.9)
    assert np.allclose(member.predict(people.filled).values, spread.predict(x))


@pytest.mark.parametrize(
    "model", [lightgbm.LGBMRegressor(), xgboost.XGBRegressor(), catboost.CatBoostRegressor()], ids=str
)
def test_not_fitted(model):
    with pytest.raises(InputError, match="is not fitted"):
        wrap(model)


@pytest.mark.parametrize("kind", ["labels", "embeddings"])
def test_kinds_that_boosters_do_not_answer(people, kind):
    model = lightgbm.LGBMRegressor(n_estimators=1, verbose=-1, n_jobs=1).fit(people.numbers, people.value)
    with pytest.raises(InputError, match=f"not {kind}"):
        wrap(model, kind=kind)


def test_category_numbers(people):
    frame = pd.DataFrame({"k": pd.Categorical(np.arange(200) % 3 * 10)})
    model = lightgbm.LGBMRegressor(n_estimators=3, verbose=-1, n_jobs=1).fit(frame, np.arange(200) % 3)
    batch = {"k": np.array([0.0, 10.0, 20.0])}
    expected = model.predict(frame.iloc[:3])
    assert np.allclose(wrap(model).predict(batch).values, expected)
