import numpy as np
import pytest

from conjoin.errors import ColumnError, TruthError
from conjoin.train.truth import split, truth_of


def obj(*values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


@pytest.mark.parametrize(
    ("column", "task", "classes", "original"),
    [
        (obj("b", "a", "b", "a"), "binary", ("a", "b"), "text"),
        (obj("x", "y", "z", "x", "y", "z"), "multiclass", ("x", "y", "z"), "text"),
        (np.array([True, False, True, False]), "binary", ("False", "True"), "boolean"),
        (obj(True, False, None, True, False), "binary", ("False", "True"), "boolean"),
        (np.array([0, 1, 1, 0]), "binary", ("0", "1"), "integer"),
        (np.array([2.0, 1.0, 1.0, 2.0, np.nan]), "binary", ("1", "2"), "number"),
        (np.array([3, 10, 2, 3, 10, 2]), "multiclass", ("2", "3", "10"), "integer"),
    ],
)
def test_what_is_taken_as_classes(column, task, classes, original):
    truth = truth_of(column)
    assert (truth.task, truth.classes, truth.original) == (task, classes, original)
    assert [truth.classes[k] for k in truth.y] == list(truth.output().names())


@pytest.mark.parametrize(
    "column", [np.array([0.5, 1.0, 2.0, 0.5]), np.arange(30), np.array([1, 2, 3]), np.arange(50.0)]
)
def test_what_is_taken_as_numbers(column):
    truth = truth_of(column)
    assert truth.task == "regression"
    assert truth.output().values.tolist() == column.tolist()


def test_few_whole_numbers_are_classes_with_a_note():
    (note,) = truth_of(np.array([1, 2, 3] * 5), target="grade").notes
    assert "'grade' has 3 distinct whole numbers" in note
    assert truth_of(np.array([1, 2, 3] * 5), task="regression").task == "regression"


def test_rows_without_a_target_are_left_out():
    truth = truth_of(obj("a", None, "b", float("nan"), "a", "b", ""))
    assert truth.rows.tolist() == [0, 2, 4, 5]
    assert truth.y.tolist() == [0, 1, 0, 1]
    assert "3 rows have no value" in truth.notes[0]


def test_numbers_as_text_are_numbers_when_asked():
    assert truth_of(obj("1.5", "2", "7"), task="regression").y.tolist() == [1.5, 2.0, 7.0]
    with pytest.raises(TruthError, match="holds text, not numbers"):
        truth_of(obj("1.5", "red", "7"), task="regression")


def test_quantiles():
    truth = truth_of(np.arange(20.0), levels=(0.1, 0.9))
    assert (truth.task, truth.kind, truth.width) == ("quantile", "quantiles", 2)


def test_a_class_of_one_row_is_kept_and_told():
    truth = truth_of(obj("a", "a", "b", "b", "c"))
    assert truth.classes == ("a", "b", "c")
    assert truth.notes == ("classes of one row are learned from but not validated: c",)


@pytest.mark.parametrize(
    ("column", "arguments", "said"),
    [
        (obj(None, None), {}, "missing in every row"),
        (np.array([np.nan, np.nan]), {}, "missing in every row"),
        (obj("a", "a"), {}, "one class only, 'a'"),
        (np.array([3.0, 3.0]), {"task": "regression"}, "the one value 3"),
        (np.array([1.5, np.inf, 2.0]), {}, "infinite in 1 rows"),
        (np.linspace(0, 1, 50), {"task": "classification"}, "is continuous"),
        (np.linspace(0, 1, 50), {"task": "multiclass"}, "use task='regression'"),
        (obj("a", "b", "c", "a", "b", "c"), {"task": "binary"}, "needs two classes"),
        (obj(*map(str, range(40))), {}, "nearly every row"),
        (obj("a", "b"), {"task": "clasification"}, "did you mean 'classification'"),
        (np.arange(9.0), {"task": "quantile"}, "needs levels"),
        (np.arange(9.0), {"levels": (0.9, 0.1)}, "must rise"),
        (obj("a", "b", "a", "b"), {"task": "binary", "levels": (0.5,)}, "quantiles are for numbers"),
        (np.zeros((0,)), {}, "one value for each row"),
        (np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[D]"), {}, "classes or numbers"),
    ],
)
def test_what_cannot_be_learned(column, arguments, said):
    with pytest.raises(TruthError, match=said):
        truth_of(column, **arguments)


def test_no_target_column():
    batch = {"status": np.arange(3), "age": np.arange(3)}
    with pytest.raises(TruthError, match=r"did you mean 'status'\?; the columns are status, age"):
        split(batch, "statsu")
    with pytest.raises(ColumnError, match="only column"):
        split({"status": np.arange(3)}, "status")
