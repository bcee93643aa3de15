"""Checkpoints of PyTorch are read as torch reads them, without running anything; hostile ones are refused."""

import importlib.util
import json
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from conjoin.errors import FileError
from conjoin.transfer.checkpoints import open_checkpoint, pickled
from conjoin.transfer.checkpoints.pickled import NAMES, read_pickled
from conjoin.transfer.merge import merge_recipe

SCRIPT = Path(__file__).parents[3] / "attacks" / "pickles.py"
SPEC = importlib.util.spec_from_file_location("attack_pickles", SCRIPT)
attack = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(attack)


@pytest.mark.parametrize("name", attack.HOSTILE)
def test_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pickled, "MOST_STEPS", 90_000)  # 2 million take seconds
    make, told = attack.HOSTILE[name]
    (tmp_path / "pytorch_model.bin").write_bytes(make())
    start = time.process_time()
    with pytest.raises(FileError, match=told) as caught:
        open_checkpoint(tmp_path)
    assert time.process_time() - start < 8
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
    assert not (tmp_path / "owned").exists()


def test_the_sound_archive_of_the_attacks_is_read(tmp_path):
    (tmp_path / "a.bin").write_bytes(attack.sound())
    assert open_checkpoint(tmp_path / "a.bin").array("w").tolist() == [0, 0, 0, 0]


def test_nothing_is_imported_or_called(tmp_path, monkeypatch):
    """No unpickler runs: pickle's own machinery may fail as it likes."""
    (tmp_path / "a.bin").write_bytes(attack.sound())

    def never(*_, **__):
        raise AssertionError

    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    assert list(read_pickled(tmp_path / "a.bin")) == ["w"]
    assert all(n.split()[0] in {"collections", "torch", "torch._utils", "torch.storage"} for n in NAMES)


@pytest.mark.parametrize("end", [".pkl", ".ckpt", ".pickle", ".safetensors"])
def test_by_another_name_it_is_refused(tmp_path, end):
    path = tmp_path / f"model{end}"
    path.write_bytes(attack.sound())
    with pytest.raises(FileError, match="pickle of PyTorch, whatever its name"):
        open_checkpoint(path)


def test_as_torch_writes_it(tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    kinds = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")
    state = {k: torch.randn(3, 5).mul(50).to(getattr(torch, k)) for k in kinds}
    state |= {"flags": torch.tensor([True, False]), "one": torch.tensor(3.5), "none": torch.zeros(0, 4)}
    state["float8"] = torch.randn(4, 4).to(torch.float8_e4m3fn)
    state["turned"] = torch.randn(6, 4).t()
    state["part"] = torch.arange(40.0).reshape(8, 5)[2:4]
    state["stepped"] = torch.arange(40.0)[3::4]
    state["channels"] = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    state["parameter"] = torch.nn.Parameter(torch.randn(3))
    state["ä b"] = state["one"]
    for name in ("pytorch_model.bin", "model.pt"):
        torch.save(state, tmp_path / name)
    for found in (open_checkpoint(tmp_path), open_checkpoint(tmp_path / "model.pt")):
        assert list(found) == list(state)
        for name, value in state.items():
            plain = value.detach().contiguous()
            bits = (
                {2: torch.int16, 1: torch.uint8}.get(plain.element_size())
                if plain.is_floating_point()
                else None
            )
            wanted = (plain.view(bits) if bits else plain).numpy()
            array = found.array(name)
            assert array.shape == tuple(value.shape)
            assert np.ascontiguousarray(array).tobytes() == wanted.tobytes(), name


def test_modules_shards_and_files_of_training_runs(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    torch.save({"epoch": 3, "state_dict": module.state_dict()}, tmp_path / "run.pt")
    assert list(open_checkpoint(tmp_path / "run.pt")) == list(module.state_dict())
    names = {}
    for number, (name, value) in enumerate(module.state_dict().items()):
        torch.save({name: value}, tmp_path / f"pytorch_model-{number}.bin")
        names[name] = f"pytorch_model-{number}.bin"
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
    assert list(open_checkpoint(tmp_path)) == list(module.state_dict())
    (tmp_path / "pytorch_model-1.bin").unlink()
    with pytest.raises(FileError, match=r"not there: pytorch_model-1\.bin"):
        open_checkpoint(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_other_things_of_torch_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(2, 2)
    torch.save(module, tmp_path / "module.pt")
    with pytest.raises(FileError, match=r"torch\.nn\.modules\.linear\.Linear"):
        open_checkpoint(tmp_path / "module.pt")
    torch.save(module.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(FileError, match=r"before PyTorch 1\.6"):
        open_checkpoint(tmp_path / "old.pt")
    torch.jit.script(module).save(str(tmp_path / "program.pt"))
    with pytest.raises(FileError, match="TorchScript"):
        open_checkpoint(tmp_path / "program.pt")
    torch.save({"w": torch.zeros(3).to_sparse()}, tmp_path / "sparse.pt")
    with pytest.raises(FileError, match="_rebuild_sparse_tensor"):
        open_checkpoint(tmp_path / "sparse.pt")


def test_safetensors_come_first(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"broken")
    from conjoin.transfer.checkpoints import write_header

    (tmp_path / "model.safetensors").write_bytes(write_header([("a", "F32", (1,))], {}) + bytes(4))
    assert list(open_checkpoint(tmp_path)) == ["a"]


def test_in_a_recipe(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pytorch_model.bin").write_bytes(
            attack.archive(attack.tensor(), {"0": np.full(4, ord(name), np.float32).tobytes()})
        )
    (tmp_path / "r.yml").write_text(
        "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: a}, {model: b}]\n"
    )
    merge_recipe(tmp_path / "r.yml", tmp_path / "out")
    assert open_checkpoint(tmp_path / "out").array("w").tolist() == [97.5] * 4
    assert os.listdir(tmp_path / "out").count("model.safetensors") == 1
