import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from sklearn.tree import DecisionTreeClassifier

from conjoin.errors import ColumnError, InputError
from conjoin.members import wrap


@pytest.fixture(scope="module")
def pipeline(people):
    before = make_column_transformer(
        (SimpleImputer(), ["age", "income"]), (OneHotEncoder(handle_unknown="ignore"), ["city"])
    )
    return make_pipeline(before, RandomForestClassifier(10, random_state=0)).fit(people.frame, people.y)


def test_pipeline_gets_its_columns_by_name(people, pipeline):
    member = wrap(pipeline)
    assert [(c.name, c.type) for c in member.card.columns] == [
        ("age", "number"),
        ("income", "number"),
        ("city", "category"),
    ]
    assert member.card.classes == ("no", "yes")
    other = {"more": np.ones(200)} | dict(reversed(list(people.batch.items())))
    assert np.array_equal(member.predict(other).values, pipeline.predict_proba(people.frame))


def test_missing_column_is_named(people, pipeline):
    batch = {"age": people.batch["age"], "incme": people.batch["income"], "city": people.batch["city"]}
    with pytest.raises(ColumnError, match=r"'income' missing.*did you mean 'incme'"):
        wrap(pipeline).predict(batch)


def test_unseen_category_and_other_types(pipeline):
    batch = {
        "age": np.array(["31", None], dtype=object),
        "income": np.array([1, 2]),
        "city": np.array(["lima", None], dtype=object),
    }
    assert wrap(pipeline).predict(batch).values.shape == (2, 2)


def test_array_model_by_number_or_position(people):
    model = LinearRegression().fit(people.numbers.to_numpy(), people.value)
    member = wrap(model)
    assert [c.name for c in member.card.columns] == ["x0", "x1"]
    expected = model.predict(people.numbers.to_numpy())
    x = people.numbers.to_numpy()
    assert np.array_equal(member.predict(people.filled).values, expected)
    assert np.array_equal(member.predict({"x1": x[:, 1], "id": x[:, 0], "x0": x[:, 0]}).values, expected)
    assert np.array_equal(member.predict({"all": x}).values, expected)
    assert np.array_equal(member.predict(x).values, expected)
    with pytest.raises(ColumnError, match=r"2 columns; the batch has 3 columns of numbers \(a, b, c\)"):
        member.predict(dict.fromkeys("abc", x[:, 0]))


def test_columns_of_an_array_model_can_be_named(people):
    model = LinearRegression().fit(people.numbers.to_numpy(), people.value)
    member = wrap(model, columns=["age", "income"])
    swapped = dict(reversed(list(people.filled.items())))
    assert np.array_equal(member.predict(swapped).values, model.predict(people.numbers.to_numpy()))
    with pytest.raises(InputError, match="3 columns were given; the model was fitted on 2"):
        wrap(model, columns=["a", "b", "c"])


def test_text_that_is_no_number(people):
    member = wrap(LinearRegression().fit(people.numbers.to_numpy(), people.value), columns=["age", "city"])
    with pytest.raises(ColumnError, match="'city' must hold numbers; it has"):
        member.predict(people.batch)


def test_classes_are_named_and_can_be_renamed(people):
    codes = (people.y == "yes").astype(float)
    model = LogisticRegression().fit(people.numbers, codes)
    assert wrap(model).card.classes == ("0", "1")
    member = wrap(model, classes=["no", "yes"], name="line")
    assert member.card.name == "line"
    assert member.predict(people.filled).classes == ("no", "yes")
    with pytest.raises(InputError, match="3 classes were given"):
        wrap(model, classes=["a", "b", "c"])


def test_without_probabilities_it_answers_labels(people):
    model = RidgeClassifier().fit(people.numbers, people.y)
    member = wrap(model)
    assert member.card.kind == "labels"
    assert list(member.predict(people.filled).names()) == list(model.predict(people.numbers))
    with pytest.raises(InputError, match="has no predict_proba"):
        wrap(model, kind="probabilities")


def test_labels_can_be_asked_for(people):
    model = DecisionTreeClassifier(max_depth=2).fit(people.numbers, (people.y == "yes").astype(int))
    member = wrap(model, kind="labels", classes=["no", "yes"])
    expected = np.where(model.predict(people.numbers) == 1, "yes", "no")
    assert list(member.predict(people.filled).names()) == list(expected)


def test_a_search_is_its_best_estimator(people):
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    search = GridSearchCV(
        make_pipeline(
            make_column_transformer((encoder, ["city"])),
            DecisionTreeClassifier(random_state=0),
        ),
        {"decisiontreeclassifier__max_depth": [1, 2]},
        cv=2,
    ).fit(people.frame[["city"]], people.y)
    member = wrap(search)
    assert member.card.columns[0].type == "category"
    assert np.array_equal(member.predict(people.batch).values, search.predict_proba(people.frame[["city"]]))


def test_categories_of_a_dataframe(people):
    frame = people.frame.assign(city=people.frame["city"].astype("category"))
    model = HistGradientBoostingClassifier(max_iter=5).fit(frame, people.y)
    member = wrap(model)
    assert [c.type for c in member.card.columns] == ["number", "number", "category"]
    assert np.array_equal(member.predict(people.batch).values, model.predict_proba(frame))


def test_text_column(people):
    frame = people.frame.assign(note=np.where(people.y == "yes", "good and old", "bad"))
    model = make_pipeline(make_column_transformer((TfidfVectorizer(), "note")), LogisticRegression())
    member = wrap(model.fit(frame[["note"]], people.y))
    assert member.card.columns[0].type == "text"
    answer = member.predict({"note": np.array(["good", "bad"], dtype=object)})
    assert [answer.classes[k] for k in answer.values.argmax(axis=1)] == ["yes", "no"]


def test_several_numbers_a_row(people):
    both = np.stack([people.value, -people.value], axis=1)
    member = wrap(LinearRegression().fit(people.numbers, both))
    assert member.predict(people.filled).values.shape == (200, 2)


def test_refused():
    x = np.zeros((4, 2))
    x[2:] = 1
    with pytest.raises(InputError, match="LogisticRegression is not fitted"):
        wrap(LogisticRegression())
    with pytest.raises(InputError, match="neither a classifier nor a regressor"):
        wrap(KMeans(2, n_init=1).fit(x))
    several = DecisionTreeClassifier().fit(x, np.array([[0, 1], [0, 1], [1, 0], [1, 0]]))
    with pytest.raises(InputError, match="several targets"):
        wrap(several)
