"""`conjoin finetune`: bundles and modules in, bundles out; what is wrong is told in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="fine-tuning needs conjoin[torch]")
pytest.importorskip("lightning_fabric", reason="fine-tuning needs conjoin[torch]")
pytest.importorskip("peft", reason="adapters need conjoin[torch]")
pytest.importorskip("onnxscript", reason="export needs conjoin[torch]")

import conjoin  # noqa: E402
from conjoin.tables import write_table  # noqa: E402
from conjoin.transfer import saved  # noqa: E402

CODE = """
import torch

def klein(ausgänge=4):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 16), torch.nn.ReLU(), torch.nn.Linear(16, 8), torch.nn.ReLU(),
        torch.nn.Linear(8, ausgänge),
    )

def bilder():
    nn = torch.nn
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))

def kaputt():
    raise RuntimeError("boom")

def zahl():
    return 3

nichts = None
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "mein netz.py").write_text(CODE, encoding="utf-8")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    kind = np.select([x[:, 0] > 0.4, x[:, 0] < -0.4], ["hoch", "tief"], default="mitte").astype(object)
    columns: dict[str, Any] = {"a": x[:, 0], "b c": x[:, 1], "ü": x[:, 2], "art": kind}
    write_table(columns, tmp_path / "daten.csv")
    np.savez(tmp_path / "bilder.npz", x=rng.normal(size=(60, 1, 4, 4)), y=np.arange(60) % 3)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", 1000 * x[:, 0] + 5)
    return tmp_path


def module(place: Path, name: str = "klein") -> str:
    return f"{place / 'mein netz.py'}:{name}"


def test_a_module_of_the_users_own(command: Any, place: Path) -> None:
    out = place / "aus.conjoin"
    done = command(
        "finetune", module(place), place / "daten.csv", "-t", "art", "-o", out, "--epochs", 40,
        "--rate", 0.01, "--freeze", 1, "--save-weights", place / "w.safetensors",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "new head 4: 4 outputs become 3" in done.out
    assert "accuracy" in done.out
    assert "frozen" in done.out
    member = conjoin.load(out)
    assert member.card.classes == ("hoch", "mitte", "tief")
    assert not list(place.glob(".*"))
    words = ("finetune", module(place), place / "daten.csv", "-t", "art", "-o", out)
    assert command(*words).status == 3  # the place is taken
    again = command(*words, "--force", "--weights", place / "w.safetensors")
    assert again.status == 2
    assert "'4.weight' has the shape (3, 8), not (4, 8)" in again.err


def test_json_adapters_and_rates(command: Any, place: Path) -> None:
    done = command(
        "finetune", module(place), place / "daten.csv", "-t", "art", "-o", place / "a.conjoin",
        "--adapter", "lora", "--rank", 2, "--save-adapter", place / "adapter", "--epochs", 2,
        "--rates", "0=1e-4,*=1e-3", "--json",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert done.json["frozen"] == 4 * 16 + 17 * 8
    assert {u["layer"]: u["rate"] for u in done.json["layers"]} == {"0": 1e-4, "2": 1e-3, "4": 1e-3}
    assert (place / "adapter" / "adapter_model.safetensors").is_file()
    assert done.json["scores"]["log_loss"]["low"] is not None


def test_arrays(command: Any, place: Path) -> None:
    done = command(
        "finetune",
        module(place, "bilder"),
        place / "bilder.npz",
        "-t",
        "y",
        "-o",
        place / "b.conjoin",
        "--epochs",
        1,
    )
    assert done.status == 0, done.err
    assert conjoin.load(place / "b.conjoin").card.columns[0].shape == (1, 4, 4)
    done = command(
        "finetune", module(place), place / "x.npy", "-t", place / "y.npy", "-o", place / "c.conjoin",
        "--json", "--epochs", 60, "--rate", "0.01", "--patience", 0,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert done.json["kind"] == "values"
    assert done.json["scores"]["rmse"]["value"] < 500


def test_time_and_resume(command: Any, place: Path) -> None:
    words = ("finetune", module(place), place / "daten.csv", "-t", "art", "--epochs", 3, "--json")
    whole = command(*words, "-o", place / "ganz.conjoin").json
    first = command(*words, "-o", place / "teil.conjoin", "--time-limit", "1us")
    assert first.json["stopped"] == "time"
    assert "--resume" in first.err
    again = command(*words, "-o", place / "teil.conjoin", "--resume", "--force")
    assert again.json["scores"] == whole["scores"]
    assert not list(place.glob(".*"))


def test_an_interrupt_keeps_what_was_done(command: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from conjoin.transfer import loop

    real, calls = loop._step, []

    def step(*given: Any) -> float:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*given)

    words = ("finetune", module(place), place / "daten.csv", "-t", "art", "--epochs", 3, "--json")
    monkeypatch.setattr(loop, "_step", step)
    done = command(*words, "-o", place / "teil.conjoin")
    assert done.status == 130
    assert "--resume" in done.err
    assert (place / ".teil.conjoin.work" / saved.STATE).is_file()
    monkeypatch.setattr(loop, "_step", real)
    again = command(*words, "-o", place / "teil.conjoin", "--resume")
    whole = command(*words, "-o", place / "ganz.conjoin")
    assert again.json["scores"] == whole.json["scores"]


@pytest.mark.parametrize(
    ("name", "words", "status", "message"),
    [
        ("klien", (), 2, "has no function 'klien'; did you mean 'klein'"),
        ("nichts", (), 2, "has no function 'nichts'"),
        ("kaputt", (), 2, "kaputt raised RuntimeError: boom"),
        ("zahl", (), 2, "answered a int, not a torch.nn.Module"),
        ("klein", ("--freeze", "encoder"), 2, "no layer is called 'encoder'"),
        ("klein", ("--rates", "x=y"), 2, "--rates must be"),
        ("klein", ("--adapter", "lroa"), 2, "did you mean 'lora'"),
        ("klein", ("--save-adapter", "x"), 2, "needs --adapter lora"),
        ("klein", ("--task", "zahlen"), 2, "--task must be classes or numbers"),
        ("klein", ("--head", "9"), 2, "no layer '9'"),
        ("klein", ("--member", "network"), 2, "--member is for bundles"),
        ("klein", ("--weights", "fehlt.safetensors"), 3, "there is no file"),
        ("klein", ("--columns", "a,z"), 2, "'z' is missing"),
        ("klein", ("--rate", "1e30"), 2, "lower the rate"),
    ],
)
def test_what_is_wrong_is_told(
    command: Any, place: Path, name: str, words: Any, status: int, message: str
) -> None:
    base = ("finetune", module(place, name), place / "daten.csv", "-t", "art", "-o", place / "o.conjoin")
    done = command(*base, *words)
    assert done.status == status, done.err
    assert message in done.err
    assert not (place / "o.conjoin").exists()


def test_files_that_are_wrong(command: Any, place: Path) -> None:
    out = place / "o.conjoin"
    (place / "böse.npy").write_bytes(b"\x80\x04pickle")
    np.save(place / "objekte.npy", np.array([{}, None], dtype=object), allow_pickle=True)
    for file, target, message in (
        ("böse.npy", "y.npy", "no plain numpy arrays"),
        ("objekte.npy", "y.npy", "no plain numpy arrays"),
        ("x.npy", "art", "must be another .npy file"),
        ("fehlt.npz", "y", "there is no file"),
        ("bilder.npz", "z", "no column 'z' for the target"),
        ("daten.csv", "Art", "did you mean 'art'"),
    ):
        aim = place / target if target.endswith(".npy") else target
        done = command("finetune", module(place), place / file, "-t", aim, "-o", out)
        assert done.status in (2, 3), done.err
        assert message in done.err
    done = command("finetune", place / "mein netz.py", place / "daten.csv", "-t", "art", "-o", out)
    assert "say which function" in done.err
    done = command("finetune", place / "fehlt.py:klein", place / "daten.csv", "-t", "art", "-o", out)
    assert done.status == 3
    done = command(
        "finetune", place / "fehlt.conjoin", place / "daten.csv", "-t", "art", "-o", out, "--head", "9"
    )
    assert "--head: for a module of your own" in done.err
    assert (
        command("finetune", place / "fehlt.conjoin", place / "daten.csv", "-t", "art", "-o", out).status == 3
    )


def test_a_bundle(command: Any, place: Path) -> None:
    pytest.importorskip("sklearn", reason="a network is trained with conjoin[train]")
    first, second = place / "eins.conjoin", place / "zwei.conjoin"
    fit = ("--members", "network", "--preset", "fast", "--time-limit", 4, "--folds", 2)
    assert command("fit", place / "daten.csv", "-t", "art", "-o", first, *fit).status == 0
    done = command(
        "finetune", first, place / "daten.csv", "-t", "art", "-o", second, "--epochs", 3, "--freeze", 1
    )
    assert done.status == 0, done.err
    assert "layers.0" in done.out
    member = conjoin.load(second)
    assert member.card.classes == ("hoch", "mitte", "tief")
    assert [c.name for c in member.card.columns] == ["a", "b c", "ü"]
