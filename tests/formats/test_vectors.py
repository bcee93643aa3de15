"""Embeddings from and into NumPy and safetensors files."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conjoin.errors import FileError, InputError, OutputsError
from conjoin.formats import format_of
from conjoin.fusion.embeddings import concat, similarity
from conjoin.outputs import Labels, Values

FORMAT = format_of("embeddings")
RNG = np.random.default_rng(0)


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def pairs(rows, width):
    return {k: RNG.normal(size=(rows, width)).astype(np.float16) for k in ("emb1", "emb2")}


def test_pairs_with_gold_in_the_file_are_matched_by_index(tmp_path):
    a, b = pairs(3, 4), pairs(2, 5)
    save(tmp_path / "a.npz", **a, gold=np.array([1.0, 2, 3], np.float32), index=[0, 2, 4])
    save(tmp_path / "b.npz", **b, index=[4, 0])
    found = FORMAT.read({"a": tmp_path / "a.npz", "b": tmp_path / "b.npz"}, None)
    assert found.rows.tolist() == [0, 2, 4]
    assert found.truth.values.tolist() == [1, 2, 3]
    assert found.outputs["b"].answered.tolist() == [True, False, True]
    np.testing.assert_array_equal(found.outputs["b"].values[2], [b["emb1"][0], b["emb2"][0]])
    FORMAT.write(concat(found.outputs), found, tmp_path / "o.npz")
    again = FORMAT.read({"o": tmp_path / "o.npz"}, None)
    assert again.rows.tolist() == [0, 2, 4]
    assert again.outputs["o"].values.shape == (3, 2, 9)


def test_a_table_of_the_truth(tmp_path):
    save(tmp_path / "a.npz", **pairs(2, 4), index=[7, 9])
    (tmp_path / "t.tsv").write_text('index\tgold\tsentence1\n9\t1.5\tsay "hello\n7\t\t"x\n11\t2\ty\n')
    found = FORMAT.read({"a": tmp_path / "a.npz"}, tmp_path / "t.tsv")
    assert found.rows.tolist() == [7, 9, 11]
    assert found.truth.answered.tolist() == [False, True, True]
    (tmp_path / "t.csv").write_text('id,truth\n7,"1"\n9,zwei\n')
    with pytest.raises(InputError, match=r"t\.csv, line 3: truth must be a number, not 'zwei'"):
        FORMAT.read({"a": tmp_path / "a.npz"}, tmp_path / "t.csv")
    (tmp_path / "u.csv").write_text("id,truth\n7\n")
    with pytest.raises(InputError, match=r"u\.csv, line 2: 1 cells under 2"):
        FORMAT.read({"a": tmp_path / "a.npz"}, tmp_path / "u.csv")


def test_rows_without_names_go_by_order(tmp_path):
    np.save(tmp_path / "a.npy", RNG.normal(size=(3, 4)))
    values = RNG.normal(size=(3, 6)).astype(np.float32)
    values[1] = np.nan
    save_file({"embeddings": values}, str(tmp_path / "b.safetensors"))
    np.save(tmp_path / "t.npy", np.array([1.0, 0, 1]))
    files = {"a": tmp_path / "a.npy", "ß": tmp_path / "b.safetensors"}
    found = FORMAT.read(files, tmp_path / "t.npy")
    assert found.rows.tolist() == [1, 2, 3]
    assert found.outputs["ß"].answered.tolist() == [True, False, True]
    assert found.truth.values.tolist() == [1, 0, 1]
    FORMAT.write(concat(found.outputs), found, tmp_path / "o.safetensors")
    assert load_file(tmp_path / "o.safetensors")["embeddings"].shape == (3, 10)
    FORMAT.write(concat(found.outputs), found, tmp_path / "o.npy")
    assert np.load(tmp_path / "o.npy").shape == (3, 10)
    np.save(tmp_path / "c.npy", RNG.normal(size=(2, 4)))
    with pytest.raises(InputError, match="numbers of rows differ"):
        FORMAT.read({"a": tmp_path / "a.npy", "c": tmp_path / "c.npy"}, None)


def test_similarities_are_written_as_a_table(tmp_path):
    save(tmp_path / "a.npz", **pairs(2, 4), index=["x 1", "ÿ"])
    found = FORMAT.read({"a": tmp_path / "a.npz"}, None)
    fused = similarity(found.outputs)
    FORMAT.write(Values(fused.values, [True, False]), found, tmp_path / "o.tsv")
    lines = (tmp_path / "o.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "index\tsimilarity"
    assert float(lines[1].split("\t")[1]) == fused.values[0]
    assert lines[2] == "ÿ\t"
    FORMAT.write(fused, found, tmp_path / "o.npz")
    with np.load(tmp_path / "o.npz") as again:
        np.testing.assert_array_equal(again["similarity"], fused.values)
    for name in ("o.npz", "o.tsv"):
        again = FORMAT.read({"o": tmp_path / name}, None)
        assert again.truth is None
        assert again.rows.tolist() == ["x 1", "ÿ"]
        assert isinstance(again.outputs["o"], Values)
        assert again.outputs["o"].values[0] == fused.values[0]
    both = FORMAT.read({"a": tmp_path / "a.npz"}, tmp_path / "o.tsv")
    assert both.truth.answered.tolist() == [True, False]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((2, 2))}, "no array called"),
        ({"emb": np.ones(2)}, "must be numbers of shape"),
        ({"emb": np.array([["a"]])}, "must be numbers of shape"),
        ({"emb1": np.ones((2, 2)), "emb2": np.ones((2, 3))}, "one shape"),
        ({"emb": np.ones((2, 2)), "index": [1, 1]}, "names rows twice: 1"),
        ({"emb": np.ones((2, 2)), "index": [1]}, "must name 2 rows"),
        ({"emb": np.ones((2, 2)), "answered": [True]}, "`answered` must"),
        ({"emb": np.ones((2, 2)), "gold": np.ones((2, 2))}, "gold must be numbers of shape"),
    ],
)
def test_bad_archives_are_told_with_their_name(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message) as told:
        FORMAT.read({"a": save(tmp_path / "bad one.npz", **arrays)}, None)
    assert "bad one.npz" in str(told.value)


def test_other_files_are_refused(tmp_path):
    for name in ("t.npz", "t.npy", "t.safetensors"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(FileError, match=name):
            FORMAT.read({"a": tmp_path / name}, None)
        with pytest.raises(FileError, match="there is no file"):
            FORMAT.read({"a": tmp_path / f"absent {name}"}, None)
    with pytest.raises(InputError, match="not a file of vectors"):
        FORMAT.read({"a": tmp_path / "t.txt"}, None)
    found = FORMAT.read({"a": save(tmp_path / "a.npz", emb=np.ones((2, 2)))}, None)
    with pytest.raises(InputError, match="are written to"):
        FORMAT.write(found.outputs["a"], found, tmp_path / "o.csv")
    with pytest.raises(OutputsError, match="not embeddings"):
        FORMAT.write(Labels.of(["a"]), found, tmp_path / "o.npz")
    with pytest.raises(InputError, match="no truth called"):
        FORMAT.read({"a": tmp_path / "a.npz"}, tmp_path / "a.npz")
