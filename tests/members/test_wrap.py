import subprocess
import sys

import numpy as np
import pytest

from conjoin.errors import ColumnError, InputError, MemberError, NotExportableError
from conjoin.graph.builder import Graph
from conjoin.members import ADAPTERS, wrap
from conjoin.outputs import Labels, Probabilities, Texts, Values

BATCH = {"x": np.array([0.1, 0.5, 0.9]), "name": np.array(["a", None, "c"], dtype=object)}


def test_recognising_imports_no_library():
    code = (
        "import sys, conjoin.members\n"
        "conjoin.members.wrap(lambda b: b['x'], kind='values')\n"
        f"print([m for m in {sorted(ADAPTERS)} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_function_of_probabilities():
    member = wrap(lambda b: np.stack([1 - b["x"], b["x"]], axis=1), classes=["no", "yes"], name="f")
    assert member.card.name == "f"
    assert member.card.kind == "probabilities"
    answer = member.predict(BATCH)
    assert isinstance(answer, Probabilities)
    assert answer.classes == ("no", "yes")
    assert answer.values[2, 1] == 0.9


def test_one_probability_of_two_classes_becomes_two():
    answer = wrap(lambda b: b["x"], classes=["no", "yes"]).predict(BATCH)
    assert np.allclose(answer.values, [[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])


@pytest.mark.parametrize(
    ("kind", "function", "expected"),
    [
        ("values", lambda b: b["x"], Values([0.1, 0.5, 0.9])),
        ("values", lambda b: b["x"][:, None], Values([0.1, 0.5, 0.9])),
        ("labels", lambda b: b["name"], Labels([0, -1, 1], ["a", "c"])),
        ("texts", lambda b: Texts(["u", "v", "w"]), Texts(["u", "v", "w"])),
    ],
)
def test_function_of_other_kinds(kind, function, expected):
    answer = wrap(function, kind=kind).predict(BATCH)
    assert answer.pack()[1] == expected.pack()[1]
    for name, array in expected.pack()[0].items():
        assert np.array_equal(answer.pack()[0][name], array, equal_nan=array.dtype.kind == "f")


def test_quantiles_need_levels():
    both = lambda b: np.stack([b["x"], b["x"] + 1], axis=1)  # noqa: E731
    with pytest.raises(InputError, match="levels"):
        wrap(both, kind="quantiles")
    answer = wrap(both, kind="quantiles", levels=[0.1, 0.9]).predict(BATCH)
    assert answer.levels == (0.1, 0.9)


def test_no_rows_are_answered_without_asking():
    member = wrap(lambda b: 1 / 0, classes=["no", "yes"])
    assert member.predict({"x": np.zeros(0)}).values.shape == (0, 2)


def test_kind_or_classes_must_be_given():
    with pytest.raises(InputError, match=r"classes=\['no', 'yes'\]"):
        wrap(lambda b: b["x"])
    with pytest.raises(InputError, match="names of their columns"):
        wrap(lambda b: b["x"], kind="probabilities")
    with pytest.raises(InputError, match="'sums' is not one of probabilities"):
        wrap(lambda b: b["x"], kind="sums")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda b: b["x"][:2], "answered 2 rows for a batch of 3 rows"),
        (lambda b: np.array([[0.5, 0.5], [np.nan, 1], [1, 0]]), "not finite: row 1"),
        (lambda b: np.array([[0.5, 0.5], [1, 0], [1.5, -0.5]]), r"outside 0 to 1: row 2 is \[1.5, -0.5\]"),
        (lambda b: np.array([[0.5, 0.4], [1, 0], [1, 0]]), "do not sum to 1: row 0"),
        (lambda b: np.ones((3, 3)) / 3, "3 columns but 2 classes"),
        (lambda b: Values(b["x"]), "answered values; its card says probabilities"),
        (lambda b: Probabilities(np.ones((3, 2)) / 2, ["yes", "no"]), "answered the classes yes, no"),
        (lambda b: 1 / 0, "raised ZeroDivisionError"),
        (lambda b: [["a", "b"]] * 3, "could not convert|must be numbers"),
    ],
)
def test_nonsense_names_member_and_row(answer, message):
    member = wrap(answer, classes=["no", "yes"], name="odd one")
    with pytest.raises(MemberError, match=message) as caught:
        member.predict(BATCH)
    assert "odd one" in str(caught.value)


def test_rows_that_a_member_skipped_are_no_nonsense():
    skipped = Probabilities([[np.nan, np.nan], [0.5, 0.5], [1, 0]], ["n", "y"], np.array([False, True, True]))
    assert wrap(lambda b: skipped, classes=["n", "y"]).predict(BATCH).answered.sum() == 2


def test_column_errors_pass_through():
    def reads(batch):
        raise ColumnError("column 'z' is missing")

    with pytest.raises(ColumnError, match="'z' is missing"):
        wrap(reads, kind="values").predict(BATCH)


def test_a_dataframe_will_do(people):
    answer = wrap(lambda b: b["income"], kind="values").predict(people.frame)
    assert np.array_equal(answer.values, people.frame["income"])


def test_what_is_not_a_model():
    with pytest.raises(InputError, match=r"builtins\.int is not recognised; known are sklearn"):
        wrap(3)
    with pytest.raises(InputError, match="is a class; wrap a fitted object"):
        wrap(dict)
    with pytest.raises(InputError, match="takes no such option"):
        wrap(lambda b: b["x"], kind="values", softmax=True)


def test_a_member_stays_what_it_is():
    member = wrap(lambda b: b["x"], kind="values")
    assert wrap(member) is member
    with pytest.raises(InputError, match="member already"):
        wrap(member, name="other")


def test_functions_have_no_onnx_form():
    with pytest.raises(NotExportableError, match="'f' has no ONNX form"):
        wrap(lambda b: b["x"], kind="values", name="f").emit(Graph())


def test_an_entry_point_brings_an_adapter(monkeypatch):
    import importlib.metadata

    class Point:
        name = "zoo"

        def load(self):
            return lambda model, given: wrap(lambda b: b["x"] * model.times, kind="values", name="zoo")

    class Model:
        times = 3
        __module__ = "zoo.models"

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Point()])
    assert wrap(Model()).predict(BATCH).values[1] == 1.5
