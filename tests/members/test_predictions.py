import numpy as np
import pandas as pd
import pytest

from conjoin.errors import BundleError, ColumnError, InputError, MemberError
from conjoin.members import wrap
from conjoin.members.predictions import Predictions
from conjoin.outputs import Labels, Probabilities, Quantiles, Values

THREE = Probabilities([[0.1, 0.9], [0.5, 0.5], [1, 0]], ["no", "yes"])


def test_by_key_with_unknown_rows():
    member = wrap(THREE, key="id", keys=[7, 8, 9], name="elsewhere")
    assert member.card.name == "elsewhere"
    answer = member.predict({"id": np.array([9, 5, 7])})
    assert answer.answered.tolist() == [True, False, True]
    assert answer.values[[0, 2]].tolist() == [[1, 0], [0.1, 0.9]]
    assert np.isnan(answer.values[1]).all()
    text = member.predict({"id": np.array(["9", "7"], dtype=object)})
    assert text.values.tolist() == [[1, 0], [0.1, 0.9]]


def test_by_position():
    member = wrap(THREE)
    assert member.predict({"whatever": np.zeros(3)}).values is THREE.values
    assert not member.card.rowwise
    with pytest.raises(ColumnError, match="for 3 rows in their order; the batch has 2 rows"):
        member.predict({"whatever": np.zeros(2)})


def test_labels_and_values():
    labels = wrap(Labels.of(["a", None, "b"]), key="id", keys=[1, 2, 3])
    assert list(labels.predict({"id": np.array([3, 4, 2])}).names()) == ["b", None, None]
    values = wrap(np.array([1, 2, 3]), key="id", keys=["x", "y", "z"])
    answer = values.predict({"id": np.array(["z", "?"], dtype=object)})
    assert answer.answered.tolist() == [True, False]
    assert answer.values[0] == 3


@pytest.mark.parametrize(
    ("columns", "given", "expected"),
    [
        ({"no": [0.1], "yes": [0.9]}, {}, Probabilities([[0.1, 0.9]], ["no", "yes"])),
        ({"p[no]": [0.1], "p[yes]": [0.9]}, {}, Probabilities([[0.1, 0.9]], ["no", "yes"])),
        ({"yes": [0.9], "no": [0.1]}, {"classes": ["no", "yes"]}, Probabilities([[0.1, 0.9]], ["no", "yes"])),
        ({"p": [0.9]}, {"classes": ["no", "yes"]}, Probabilities([[0.1, 0.9]], ["no", "yes"])),
        ({"label": ["yes"], "no": [0.1], "yes": [0.9]}, {}, Probabilities([[0.1, 0.9]], ["no", "yes"])),
        ({"y": [3.5]}, {}, Values([3.5])),
        ({"q[0.1]": [1.0], "q[0.9]": [2.0]}, {}, Quantiles([[1.0, 2.0]], [0.1, 0.9])),
        ({"a": [1.0], "b": [2.0]}, {"levels": [0.1, 0.9]}, Quantiles([[1.0, 2.0]], [0.1, 0.9])),
        ({"label": ["yes"]}, {}, Labels.of(["yes"])),
    ],
)
def test_content_of_a_file(columns, given, expected):
    batch = {n: np.array(v, dtype=object if isinstance(v[0], str) else None) for n, v in columns.items()}
    answer = wrap({"id": np.array([4]), **batch}, key="id", **given).predict({"id": np.array([4])})
    assert answer.pack()[1] == expected.pack()[1]
    for name, array in expected.arrays().items():
        assert np.allclose(answer.arrays()[name].astype(float), array.astype(float))


def test_a_file(tmp_path):
    (tmp_path / "p.csv").write_text("id,label,no,yes\n4,yes,0.25,0.75\n5,no,1,0\n")
    member = wrap(tmp_path / "p.csv", key="id")
    assert member.predict({"id": np.array([5, 4])}).values.tolist() == [[1, 0], [0.25, 0.75]]
    assert member.card.classes == ("no", "yes")


def test_a_dataframe():
    frame = pd.DataFrame({"id": [4, 5], "no": [0.25, 1], "yes": [0.75, 0]})
    assert wrap(frame, key="id").predict({"id": np.array([5])}).values.tolist() == [[1, 0]]


def test_rows_without_numbers_are_unanswered():
    member = wrap({"no": np.array([np.nan, 0.5]), "yes": np.array([np.nan, 0.5])})
    assert member.predict({"x": np.zeros(2)}).answered.tolist() == [False, True]


def test_pack_and_unpack():
    member = wrap(THREE, key="id", keys=["é", "b", ""])
    again = Predictions.unpack(*member.pack(), {})
    batch = {"id": np.array(["é", "zz"], dtype=object)}
    assert again.card == member.card
    assert again.predict(batch).values[0].tolist() == [0.1, 0.9]
    assert again.predict(batch).answered.tolist() == [True, False]
    assert all(a.dtype != object for a in member.pack()[0].values())
    arrays, meta = member.pack()
    with pytest.raises(BundleError, match="do not make sense"):
        Predictions.unpack({k: v for k, v in arrays.items() if k != "values"}, meta, {})


@pytest.mark.parametrize(
    ("made", "options", "error", "message"),
    [
        (THREE, {"key": "id", "keys": [1, 2, 2]}, InputError, "must name each row once; doubled: 2"),
        (THREE, {"key": "id", "keys": [1, 2]}, InputError, "2 keys were given for 3 predictions"),
        (THREE, {"key": "id"}, InputError, "needs both"),
        (THREE, {"classes": ["a", "b", "c"]}, InputError, "3 classes were given"),
        ({"id": np.arange(3), "a": np.arange(3)}, {"key": "row"}, ColumnError, "'row' missing"),
        ({"id": np.arange(3)}, {"key": "id"}, InputError, "no columns besides their key"),
        (
            {"name": np.array(["x"], dtype=object), "a": np.ones(1), "b": np.zeros(1)},
            {},
            ColumnError,
            r"'name' is not; is it the key \(key='name'\)",
        ),
        (np.array([[0.5, 0.6]]), {"classes": ["a", "b"]}, MemberError, "do not sum to 1"),
    ],
)
def test_refused(made, options, error, message):
    with pytest.raises(error, match=message):
        wrap(made, **options)
