"""Headers that lie, and indices that point elsewhere, are refused by name."""

import json
import pickle

import numpy as np
import pytest

from conjoin.errors import FileError
from conjoin.transfer.checkpoints import open_checkpoint, read_header, write_header

TWO = (("a", "F32", (2, 3)), ("b", "BF16", (4,)))


def file_of(path, header, data=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


def entry(shape, start, stop, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def sound(path, names=("a",), value=1.0):
    header = write_header(((n, "F32", (2,)) for n in names), {"format": "pt"})
    path.write_bytes(header + np.full(2 * len(names), value, np.float32).tobytes())
    return path


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(write_header(TWO, {"format": "pt"}) + bytes(32))
    found = read_header(path)
    assert [(e.name, e.dtype, e.shape) for e in found.entries.values()] == list(TWO)
    assert found.metadata == {"format": "pt"}
    assert found.data % 8 == 0


def test_the_reference_reader_agrees(tmp_path):
    from safetensors.numpy import load_file

    path = tmp_path / "x.safetensors"
    a = np.arange(6, dtype=np.float32)
    path.write_bytes(write_header([("ä", "F32", (2, 3))], {}) + a.tobytes())
    np.testing.assert_array_equal(load_file(path)["ä"], a.reshape(2, 3))
    np.testing.assert_array_equal(open_checkpoint(path).array("ä"), a.reshape(2, 3))


@pytest.mark.parametrize("kept", [0, 5, 8, 40])
def test_cut_in_the_header(tmp_path, kept):
    path = sound(tmp_path / "x.safetensors")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FileError, match="cut off"):
        read_header(path)


def test_cut_in_the_data(tmp_path):
    path = sound(tmp_path / "x.safetensors", ("a", "b"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileError, match=r"'b'.*cut off"):
        read_header(path)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({"a": entry([2], 0, 12)}, "does not fill"),
        ({"a": entry([2**62, 2**62, 2**62], 0, 8)}, "does not fill"),
        ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, "'b'.*overlap"),
        ({"a": entry([2], 8, 0)}, "make no sense"),
        ({"a": entry([-2], 0, 8)}, "make no sense"),
        ({"a": entry([True], 0, 4)}, "make no sense"),
        ({"a": entry([2], 0, 8, "F33")}, "'F33' is not known"),
        ({"a": {"dtype": "F32"}}, "are needed"),
        ({"a": 3}, "are needed"),
        ([1, 2], "must be a JSON object"),
        ({"__metadata__": {"format": 3}}, "must hold strings"),
        (b"{not json", "no JSON"),
        (b"[" * 200_000, "no JSON"),
        (b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":3}', "'a' twice"),
    ],
)
def test_lies(tmp_path, header, told):
    with pytest.raises(FileError, match=told):
        read_header(file_of(tmp_path / "x.safetensors", header, bytes(16)))


def test_a_pickle_in_disguise(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(pickle.dumps({"a": [1]}, protocol=2))
    with pytest.raises(FileError, match="pickle"):
        read_header(path)
    path.write_bytes(b"PK\x03\x04" + bytes(50))
    with pytest.raises(FileError, match="pickle"):
        open_checkpoint(path)


def sharded(folder, weight_map):
    sound(folder / "one.safetensors", ("a",), 1)
    sound(folder / "two.safetensors", ("b",), 2)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def test_shards(tmp_path):
    found = open_checkpoint(sharded(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"}))
    assert {n: found.array(n)[0] for n in found} == {"a": 1, "b": 2}


def test_a_shard_that_lacks(tmp_path):
    sharded(tmp_path, {"a": "one.safetensors", "b": "three.safetensors"})
    with pytest.raises(FileError, match=r"not there: three\.safetensors"):
        open_checkpoint(tmp_path)


def test_a_tensor_that_its_shard_lacks(tmp_path):
    sharded(tmp_path, {"a": "one.safetensors", "c": "two.safetensors"})
    with pytest.raises(FileError, match=r"c \(two\.safetensors\)"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["../one.safetensors", "/etc/passwd", "..", "", "sub/one.safetensors"])
def test_an_index_cannot_point_outside(tmp_path, name):
    sharded(tmp_path, {"a": name})
    with pytest.raises(FileError, match="same folder"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', "[" * 100_000])
def test_an_index_that_is_none(tmp_path, text):
    sound(tmp_path / "one.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(FileError, match=r"no index|must name"):
        open_checkpoint(tmp_path)


def test_a_name_in_two_files_without_index(tmp_path):
    sound(tmp_path / "one.safetensors")
    sound(tmp_path / "two.safetensors")
    with pytest.raises(FileError, match=r"one\.safetensors and in two\.safetensors"):
        open_checkpoint(tmp_path)


def test_folders_without_weights(tmp_path):
    with pytest.raises(FileError, match="no safetensors"):
        open_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(FileError, match="no checkpoint of PyTorch"):
        open_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "training.ckpt")
    with pytest.raises(FileError, match=r"no safetensors .*training\.ckpt"):
        open_checkpoint(tmp_path)
    with pytest.raises(FileError, match="there is no checkpoint"):
        open_checkpoint(tmp_path / "absent")


def test_data_that_begin_at_an_odd_byte(tmp_path):
    raw = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    path = file_of(tmp_path / "x.safetensors", raw, np.array([1, 2], np.float32).tobytes())
    assert open_checkpoint(path).array("a").tolist() == [1, 2]


def test_a_tensor_that_is_not_there_names_the_nearest(tmp_path):
    with pytest.raises(FileError, match="did you mean 'layer'"):
        open_checkpoint(sound(tmp_path / "x.safetensors", ("layer",))).array("layr")
