"""NumPy archives of probabilities, values and quantiles."""

import numpy as np
import pytest

from conjoin.errors import FileError, InputError
from conjoin.formats.arrays import read_arrays, write_arrays
from conjoin.outputs import Labels, Values


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_several_systems_in_one_file_with_the_truth(tmp_path):
    probs = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [np.nan, np.nan]]])
    path = save(
        tmp_path / "a.npz", probs=probs, names=["bár 1", "b"], classes=["no", "yes"], y=np.array([0, 1])
    )
    found = read_arrays("probabilities", {"a": path}, None)
    assert list(found.outputs) == ["bár 1", "b"]
    assert found.outputs["b"].answered.tolist() == [True, False]
    assert found.truth.names().tolist() == ["no", "yes"]


def test_one_system_a_file_and_a_truth_of_its_own(tmp_path):
    a = save(tmp_path / "a.npz", values=np.array([1.0, 2.0]))
    b = save(tmp_path / "b.npz", predictions=np.array([1.5, np.nan]))
    y = save(tmp_path / "y.npz", y=np.array([1.0, np.nan]))
    found = read_arrays("values", {"a": a, "b": b}, y)
    assert isinstance(found.truth, Values)
    assert found.truth.answered.tolist() == [True, False]
    write_arrays(found.outputs["b"], found, tmp_path / "out.npz")
    again = read_arrays("values", {"out": tmp_path / "out.npz"}, None)
    np.testing.assert_array_equal(again.outputs["out"].values, [1.5, np.nan])


def test_class_names_win_over_codes(tmp_path):
    probs = np.full((3, 2), 0.5)
    named = save(tmp_path / "a.npz", probs=probs, classes=["1", "0"], y=np.array([1, 0, 1]))
    truth = read_arrays("probabilities", {"a": named}, None).truth
    assert isinstance(truth, Labels)
    assert truth.names().tolist() == ["1", "0", "1"]
    coded = save(tmp_path / "b.npz", probs=probs, classes=["x", "y"], y=np.array([1, 0, -1]))
    assert read_arrays("probabilities", {"b": coded}, None).truth.names().tolist() == ["y", "x", None]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"p": np.ones((2, 2))}, "no array called"),
        ({"probs": np.ones(2)}, "shape"),
        ({"probs": np.ones((2, 2, 2)), "names": ["a"]}, "2 systems need"),
        ({"probs": np.ones((2, 2)), "classes": ["a"]}, "2 columns but 1 classes"),
        ({"probs": np.ones((2, 2)), "classes": ["a", "b"], "y": np.array([0, 7])}, "codes of y"),
        ({"probs": np.ones((2, 2)), "y": np.array([0])}, "numbers of rows differ"),
    ],
)
def test_bad_archives_are_told_with_their_name(tmp_path, arrays, message):
    path = save(tmp_path / "bad one.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read_arrays("probabilities", {"bad": path}, None)


def test_objects_and_other_files_are_refused(tmp_path):
    pickled = tmp_path / "p.npz"
    np.savez(pickled, probs=np.array([{"a": 1}], dtype=object))
    text = tmp_path / "t.npz"
    text.write_text("nothing")
    for path in (pickled, text, tmp_path / "absent.npz"):
        with pytest.raises(FileError, match=path.name):
            read_arrays("probabilities", {"a": path}, None)
