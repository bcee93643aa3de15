"""Networks of conjoin's own: the torch module answers as they do, and comes back as a member."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conjoin.errors import InputError
from conjoin.outputs import Labels, Values

torch = pytest.importorskip("torch", reason="fine-tuning needs conjoin[torch]")
pytest.importorskip("lightning_fabric", reason="fine-tuning needs conjoin[torch]")
pytest.importorskip("sklearn", reason="members are trained with conjoin[train]")

import conjoin  # noqa: E402
from conjoin.transfer.finetune.networks import finetune_member, module_of, network_in  # noqa: E402


def table(rows: int = 240, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    kind = np.array(["rot", "grün", None], dtype=object)[rng.integers(0, 3, rows)]
    wert = 100 * x[:, 0] + 3000 + 50 * (kind == "rot")
    return {
        "Länge x": x[:, 0],
        "y": np.where(rng.random(rows) < 0.1, np.nan, x[:, 1]),
        "art": kind,
        "wert": wert,
    }


@pytest.fixture(scope="module")
def classes() -> Any:
    batch = table()
    batch["ziel"] = np.where(batch["Länge x"] > 0, "ja", "nein").astype(object)
    del batch["wert"]
    return conjoin.fit(
        batch, target="ziel", members=["network"], preset="fast", time_limit=4, seed=0, threads=1
    )


@pytest.fixture(scope="module")
def numbers() -> Any:
    return conjoin.fit(
        table(), target="wert", members=["network"], preset="fast", time_limit=4, seed=0, threads=1
    )


def test_the_module_answers_as_the_member(classes: Any, numbers: Any) -> None:
    batch = table(seed=1)
    for ensemble, truth in ((classes, None), (numbers, Values(batch["wert"]))):
        member = network_in(ensemble)
        names = member.card.classes
        y = Labels(np.arange(240) % 2, names) if truth is None else truth
        done = finetune_member(ensemble, batch, y, epochs=1, rate=1e-9, validation=0)
        before, after = member.predict(batch).values, done.member.predict(batch).values
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
        assert done.head.name == "layers.2"


def test_it_learns_new_classes_and_is_saved(classes: Any, tmp_path: Path) -> None:
    batch = table(seed=2)
    names = np.select([batch["Länge x"] > 0.5, batch["Länge x"] > -0.5], ["ja", "vielleicht"], default="nein")
    truth = Labels.of(names.tolist())
    done = finetune_member(classes, batch, truth, epochs=30, rate=3e-3, patience=None)
    assert (done.head.before, done.head.after, done.head.carried) == (2, 3, ("ja", "nein"))
    assert done.scores["accuracy"].value > 0.75
    assert [u.layer for u in done.layers] == ["layers.0", "layers.1", "layers.2"]
    conjoin.save(done.member, tmp_path / "neu.conjoin")
    again = conjoin.load(tmp_path / "neu.conjoin")
    np.testing.assert_allclose(again.predict(batch).values, done.member.predict(batch).values, atol=1e-6)
    assert again.card.provenance["fine_tuned"]["epochs"] == 30
    part = finetune_member(classes, batch, truth, epochs=1, freeze=-1)
    assert [u.rate is None for u in part.layers] == [True, True, False]


def test_from_classes_to_numbers(classes: Any) -> None:
    batch = table(seed=2)
    done = finetune_member(classes, batch, Values(batch["wert"]), epochs=40, rate=3e-3, patience=None)
    assert done.kind == "values"
    assert done.scores["rmse"].value < 0.6 * batch["wert"].std()


def test_members_without_a_network() -> None:
    other = conjoin.wrap(lambda batch: batch["x"], classes=["a", "b"], name="summe")
    with pytest.raises(InputError, match="'summe' holds no network"):
        finetune_member(other, table(), Labels.of(["a", "b"] * 120))


def test_a_name_that_is_not_there(classes: Any) -> None:
    with pytest.raises(InputError, match="no network 'netwrok'"):
        network_in(classes, "netwrok")


def test_module_of_is_the_mean_of_its_networks(classes: Any) -> None:
    member = network_in(classes)
    parts = getattr(member.model, "parts", (member.model,))
    names = member.card.classes
    module, carried = module_of(parts, names, names, width=2, shift=np.zeros(2), scale=np.ones(2), seed=0)
    x = np.random.default_rng(0).normal(size=(7, parts[0].n_features)).astype(np.float32)
    wanted = np.mean([p.forward(x) for p in parts], axis=0)
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.tensor(x)).exp().numpy(), wanted, atol=1e-5)
    assert carried == names
