"""Fine-tuning: heads, frozen layers, rates, adapters, truths of each kind, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conjoin.contracts import Column
from conjoin.errors import ColumnError, InputError, TruthError
from conjoin.outputs import Embeddings, Labels, Probabilities, Texts, Values

torch = pytest.importorskip("torch", reason="fine-tuning needs conjoin[torch]")
pytest.importorskip("lightning_fabric", reason="fine-tuning needs conjoin[torch]")
pytest.importorskip("peft", reason="adapters need conjoin[torch]")

from conjoin.transfer.finetune import FineTuned, Lora, finetune  # noqa: E402

CLASSES = ("katze", "ein Hund", "鳥")


def network(outputs: int = 3) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(),
        torch.nn.Linear(16, 12), torch.nn.ReLU(), torch.nn.Linear(12, outputs),
    )  # fmt: skip


class Images(torch.nn.Module):
    """Convolutions, a norm, a head that is a 1 x 1 convolution, a mean over the picture."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(1, 6, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(6)
        self.second = torch.nn.Conv2d(6, 8, 3, padding=1)
        self.last = torch.nn.Conv2d(8, classes, 1)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.norm(self.first(x)))
        return self.last(torch.relu(self.second(x))).mean(dim=(2, 3))


def table(rows: int = 90, seed: int = 0) -> tuple[dict[str, Any], Any]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, rows)
    x = rng.normal(size=(rows, 4)) + 2 * np.eye(3, 4)[codes]
    return {f"spalte {k}": x[:, k] for k in range(4)}, Labels(codes, CLASSES)


def tuned(module: Any = None, **options: Any) -> FineTuned:
    batch, truth = table()
    return finetune(module or network(), batch, truth, **{"epochs": 3, "device": "cpu", **options})


def differ(done: FineTuned, before: Any) -> set[str]:
    old = before.state_dict()
    return {n for n, t in done.module.state_dict().items() if n in old and not torch.equal(t, old[n])}


def test_a_module_learns_and_becomes_a_member() -> None:
    module = network()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    batch, truth = table()
    done = finetune(module, batch, truth, epochs=40, rate=1e-2, patience=40)
    assert all(torch.equal(before[n], t) for n, t in module.state_dict().items())
    assert done.scores["accuracy"].value > 0.8
    assert done.scores["log_loss"].low < done.scores["log_loss"].value < done.scores["log_loss"].high
    assert done.member.card.classes == CLASSES
    assert [c.name for c in done.member.card.columns] == list(batch)
    answer = done.member.predict(batch)
    assert (answer.labels().codes == truth.codes).mean() > 0.8
    assert not done.module.training
    assert (done.trained, done.frozen) == (sum(p.numel() for p in module.parameters()), 0)


def test_it_is_saved_and_exported_through_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="export needs conjoin[torch]")
    import conjoin

    done = tuned(network(7))
    batch, _ = table()
    conjoin.save(done.member, tmp_path / "b.conjoin")
    again = conjoin.load(tmp_path / "b.conjoin")
    assert again.card.classes == CLASSES
    np.testing.assert_allclose(again.predict(batch).values, done.member.predict(batch).values, atol=1e-5)


def test_same_seed_same_bytes_and_resume(tmp_path: Path) -> None:
    first, second = tuned(network(7)), tuned(network(7))
    assert not differ(first, second.module)
    half = {"checkpoints": tmp_path / "c", "time_limit": 1e-9}
    assert tuned(network(7), **half).stopped == "time"
    again = tuned(network(7), checkpoints=tmp_path / "c", resume=True)
    assert not differ(again, first.module)
    assert again.history[-1].loss == first.history[-1].loss


def test_a_new_head_carries_rows_of_classes_that_stay() -> None:
    module = network(4)
    done = tuned(module, classes=["鳥", "fish", "katze", "cow"], freeze=-1, rate=1e-9, epochs=1)
    assert (done.head.name, done.head.replaced, done.head.before, done.head.after) == ("5", True, 4, 3)
    assert done.head.carried == ("katze", "鳥")
    for new, old in ((0, 2), (2, 0)):
        torch.testing.assert_close(done.module[5].weight[new], module[5].weight[old], atol=1e-6, rtol=0)
        torch.testing.assert_close(done.module[5].bias[new], module[5].bias[old], atol=1e-6, rtol=0)


def test_a_head_that_fits_is_kept() -> None:
    module = network(3)
    done = tuned(module, rate=1e-9, epochs=1)
    assert not done.head.replaced
    torch.testing.assert_close(done.module[5].weight, module[5].weight, atol=1e-6, rtol=0)
    assert tuned(module, classes=CLASSES[::-1]).head.replaced


def test_a_head_of_one_by_one_convolutions_on_images() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 1, 6, 6)).astype(np.float32)
    truth = Labels.of(["a" if v > 0 else "b" for v in x.mean(axis=(1, 2, 3))])
    done = finetune(Images(5), {"bild": x}, truth, epochs=2)
    assert (done.head.name, done.head.after) == ("last", 2)
    assert done.member.card.columns == (Column("bild", "tensor", (1, 6, 6)),)
    assert [u.layer for u in done.layers] == ["first", "second", "last"]  # the norm goes with the first


@pytest.mark.parametrize(
    ("freeze", "still"),
    [
        (1, {"0.", "1."}),
        (-1, {"0.", "1.", "3."}),
        ("0", {"0."}),
        (["[01]", "3.bias"], {"0.", "1.", "3.bias"}),
    ],
)
def test_frozen_layers_stay_as_they_are(freeze: Any, still: set[str]) -> None:
    module = network()
    changed = differ(tuned(module, freeze=freeze), module)
    frozen = {n for n in module.state_dict() if n.startswith(tuple(still))}
    assert not changed & frozen
    assert {"5.weight", "5.bias"} <= changed
    counts = tuned(module, freeze=freeze)
    sizes = {n: p.numel() for n, p in module.named_parameters()}
    assert counts.frozen == sum(v for n, v in sizes.items() if n in frozen)


def test_rates_fall_with_depth_or_are_given() -> None:
    assert [u.rate for u in tuned(rates=0.5).layers] == [0.00025, 0.0005, 0.001]
    assert [u.rate for u in tuned(rates={"0": 1e-5, "*": 1e-4}).layers] == [1e-5, 1e-4, 1e-4]
    assert [u.rate for u in tuned(rates=0.5, freeze=1).layers] == [None, 0.0005, 0.001]


def test_layers_thaw_from_the_head_down() -> None:
    module = network()
    done = tuned(module, thaw=2, epochs=3)
    assert [u.begin for u in done.layers] == [4, 2, 0]
    assert done.notes == ("the training ended before 0 thawed",)
    assert done.frozen == 5 * 16 + 2 * 16
    changed = differ(done, module)
    assert "0.weight" not in changed
    assert {"3.weight", "5.weight"} <= changed


def test_adapters_are_merged_into_the_weights() -> None:
    module = network(7)
    done = tuned(module, adapter=Lora(rank=2), epochs=5, rate=1e-2)
    assert [n for n, _ in done.module.named_parameters()] == [n for n, _ in module.named_parameters()]
    assert {"0.weight", "3.weight"} <= differ(done, module)
    assert not differ(done, module) & {"0.bias", "1.weight", "1.running_mean", "3.bias"}
    change = (done.module[3].weight - module[3].weight).detach()
    assert torch.linalg.matrix_rank(change, tol=1e-5) <= 2
    assert done.trained == 2 * (4 + 16) + 2 * (16 + 12) + 12 * 3 + 3
    kept = tuned(module, adapter=Lora(rank=2, merge=False), epochs=5, rate=1e-2)
    batch, _ = table()
    np.testing.assert_allclose(
        kept.member.predict(batch).values, done.member.predict(batch).values, atol=1e-5
    )


def test_a_saved_adapter_is_read_by_peft(tmp_path: Path) -> None:
    import peft

    done = tuned(network(7), adapter=Lora(rank=2, targets=("3",)), epochs=5, rate=1e-2)
    assert done.adapter is not None
    place = done.adapter.save(tmp_path / "adapter")
    assert sorted(p.name for p in place.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # peft remarks on a module without a configuration
        again = peft.PeftModel.from_pretrained(network(3), str(place)).eval()
    batch, _truth = table()
    x = torch.tensor(np.stack(list(batch.values()), axis=1), dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(again(x), done.module(x), atol=1e-5, rtol=1e-5)


def test_layers_named_for_adapters() -> None:
    done = tuned(adapter=Lora(rank=1, targets=("3",)))
    assert [u.rate for u in done.layers] == [None, 0.001, 0.001]
    assert tuned(adapter="lora", freeze=1).layers[0].rate is None
    with pytest.raises(InputError, match=r"no layer 'encoder' can get an adapter.*0, 3"):
        tuned(adapter=Lora(targets=("encoder",)))
    with pytest.raises(InputError, match="besides the head"):
        tuned(torch.nn.Sequential(torch.nn.Linear(4, 3)), adapter="lora")
    with pytest.raises(InputError, match=r"None, 'lora' or a Lora"):
        tuned(adapter="dora")
    with pytest.raises(InputError, match="rank"):
        Lora(rank=0)


def test_numbers_are_learned_in_their_own_units() -> None:
    batch, _ = table(200)
    y = 2e5 + 5e4 * batch["spalte 0"]
    done = finetune(network(1), batch, Values(y), epochs=60, rate=1e-2, patience=None)
    assert done.kind == "values"
    assert done.scores["rmse"].value < 0.2 * y.std()
    assert abs(done.member.predict(batch).values - y).mean() < 0.2 * y.std()
    further = finetune(done.module, batch, Values(y), epochs=1, rate=1e-6, validation=0, freeze="1")
    assert not further.head.replaced
    np.testing.assert_allclose(
        further.member.predict(batch).values, done.member.predict(batch).values, rtol=1e-3
    )
    two = finetune(network(1), batch, Values(np.stack([y, -y], axis=1)), epochs=2)
    assert two.member.predict(batch).values.shape == (200, 2)


def test_a_head_without_bias_learns_numbers_too() -> None:
    batch, _ = table()
    module = torch.nn.Sequential(torch.nn.Linear(4, 1, bias=False))
    done = finetune(module, batch, Values(3 * batch["spalte 0"]), epochs=200, rate=0.05, patience=None)
    assert done.scores["rmse"].value < 1.0


def test_embeddings_and_soft_labels() -> None:
    batch, truth = table()
    rng = np.random.default_rng(0)
    done = finetune(network(), batch, Embeddings(rng.normal(size=(90, 5))), epochs=2)
    assert done.member.card.kind == "embeddings"
    assert done.member.predict(batch).values.shape == (90, 5)
    assert set(done.scores) == {"rmse"}
    soft = Probabilities(0.8 * truth.one_hot() + 0.2 / 3, CLASSES)
    done = finetune(network(), batch, soft, epochs=30, rate=1e-2)
    assert done.scores["accuracy"].value > 0.7


def test_rare_classes_weigh_as_much() -> None:
    rng = np.random.default_rng(0)
    codes = (np.arange(200) % 20 == 0).astype(int)
    batch = {"x": rng.normal(size=200) + codes, "y": rng.normal(size=200)}
    module = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    truth = Labels(codes, ("no", "yes"))
    options: dict[str, Any] = {"epochs": 30, "rate": 1e-2, "validation": 0}
    plain = finetune(module, batch, truth, **options).member.predict(batch).values[:, 1].mean()
    fair = finetune(module, batch, truth, balance=True, **options).member.predict(batch).values[:, 1].mean()
    by_hand = finetune(module, batch, truth, class_weights={"yes": 19.0}, **options)
    assert plain < 0.15 < 0.3 < fair
    np.testing.assert_allclose(by_hand.member.predict(batch).values[:, 1].mean(), fair, atol=0.02)
    with pytest.raises(InputError, match=r"class_weights names jes; the classes are no, yes"):
        finetune(module, batch, truth, class_weights={"jes": 2.0})
    with pytest.raises(InputError, match="not both"):
        finetune(module, batch, truth, class_weights={"yes": 2.0}, balance=True)
    silent = finetune(module, batch, truth, weights=codes.astype(float) + 1e-9, **options)
    assert silent.member.predict(batch).values[:, 1].mean() > 0.9


def test_rows_without_truth_are_left_out_and_other_rows_validate() -> None:
    batch, truth = table()
    partly = Labels(np.where(np.arange(90) < 30, -1, truth.codes), CLASSES)
    done = finetune(network(), batch, partly, epochs=1)
    assert done.notes == ("30 rows without a truth were left out",)
    other = table(40, seed=1)
    done = finetune(network(), batch, truth, epochs=1, validation=other)
    assert done.history[0].steps == 3  # all 90 rows are learned from
    assert len(done.scores) == 2
    none = finetune(network(), batch, truth, epochs=1, validation=0)
    assert (none.scores, none.history[0].score) == ({}, None)
    with pytest.raises(InputError, match="the validation's truth"):
        finetune(network(), batch, truth, validation=(batch, Values(np.zeros(90))))
    with pytest.raises(InputError, match="40 rows and 90 truths"):
        finetune(network(), batch, truth, validation=(other[0], truth))


def test_precision_and_progress() -> None:
    events: list[Any] = []
    done = tuned(precision="bfloat16", report=events.append)
    assert (done.precision, done.device) == ("bfloat16", "cpu")
    assert [e.done for e in events] == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": "enkoder"}, "freeze: no layer is called 'enkoder'"),
        ({"freeze": "3.wieght"}, r"did you mean '3\.weight'"),
        ({"freeze": 9}, "freeze=9: the module has 3 layers"),
        ({"freeze": ["*"], "head": "3", "adapter": None}, "is not the last layer"),
        ({"rates": {"backbone": 1e-3}}, "rates: no layer is called 'backbone'"),
        ({"rates": {"0": 0.0}}, "rates: the rate of '0' must be above 0"),
        ({"rates": 2.0}, r"must lie in \(0, 1\]"),
        ({"thaw": 0}, "thaw must be a number of epochs"),
        ({"head": "fc"}, "head: the module has no layer 'fc'"),
        ({"head": "2"}, "head: '2' is a ReLU"),
        ({"classes": ["a", "b"]}, "the module has 7 outputs and 2 classes were given"),
        ({"validation": 1.5}, "validation must be a share"),
        ({"weights": np.zeros(90)}, "weights must be 90 finite numbers"),
        ({"weights": np.ones(3)}, "weights must be 90 finite numbers"),
        ({"epochs": 0}, "epochs must be"),
        ({"columns": ["spalte 9"]}, "'spalte 9' is missing"),
    ],
)
def test_options_that_make_no_sense(options: Any, message: str) -> None:
    with pytest.raises((InputError, ColumnError), match=message):
        tuned(network(7), **options)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (Labels(np.zeros(90, dtype=int), ("a", "b")), "one class only, 'a'"),
        (Labels(np.arange(90) % 2, ("a", "b", "c")), "class 'c' never occurs"),
        (Labels(np.full(90, -1), ("a", "b")), "0 of 90 rows have a truth"),
        (Values(np.ones(90)), "the same number in every row"),
        (Values(np.full(90, np.inf)), "infinities"),
        (Texts(["a"] * 90), "not texts"),
        (["a"] * 90, r"Labels\.of"),
    ],
)
def test_truths_that_cannot_be_learned(truth: Any, message: str) -> None:
    batch, _ = table()
    with pytest.raises(TruthError, match=message):
        finetune(network(), batch, truth)


def test_rows_that_do_not_fit() -> None:
    batch, truth = table()
    with pytest.raises(InputError, match="the batch has 90 rows and the truth 50"):
        finetune(network(), batch, truth.take(np.arange(50)))
    with pytest.raises(TruthError, match="1 of 1 rows"):
        finetune(network(), {n: a[:1] for n, a in batch.items()}, truth.take([0]))
    with pytest.raises(InputError, match="no rows"):
        finetune(network(), {n: a[:0] for n, a in batch.items()}, truth.take(np.zeros(0, dtype=int)))
    with pytest.raises(ColumnError, match="different numbers of rows"):
        finetune(network(), {**batch, "kurz": np.zeros(3)}, truth)
    with pytest.raises(InputError, match="no columns"):
        finetune(network(), {}, truth)
    holes = {**batch, "spalte 2": np.where(np.arange(90) == 7, np.nan, batch["spalte 2"])}
    with pytest.raises(InputError, match=r"'spalte 2' is missing or not finite in 1 rows \(first: row 7\)"):
        finetune(network(), holes, truth)
    with pytest.raises(InputError, match=r"cannot read rows of shape \(3,\)"):
        finetune(network(), {n: batch[n] for n in list(batch)[:3]}, truth)
    with pytest.raises(ColumnError, match="takes one tensor"):
        finetune(network(), {"a": np.zeros((90, 2)), "b": np.zeros((90, 3))}, truth)


def test_modules_that_do_not_fit() -> None:
    batch, truth = table()

    class Answers(torch.nn.Module):
        def __init__(self, answer: Any) -> None:
            super().__init__()
            self.layer, self.answer = torch.nn.Linear(4, 5), answer

        def forward(self, x: Any) -> Any:
            return self.answer(self.layer(x))

    for answer, message in (
        (lambda y: y[:, :, None], r"answered shape \(4, 5, 1\) for 4 rows"),
        (lambda y: y[:1], r"answered shape \(1, 5\) for 4 rows"),
        (lambda y: (y, y), "answered a tuple"),
        (lambda y: y.softmax(dim=1), "leave out its last softmax"),
        (lambda y: torch.cat([y, y], dim=1), "name the layer whose outputs"),
    ):
        with pytest.raises(InputError, match=message):
            finetune(Answers(answer), batch, truth)
    with pytest.raises(InputError, match="no parameters"):
        finetune(torch.nn.Flatten(), batch, truth)
    with pytest.raises(InputError, match=r"a torch\.nn\.Module is trained"):
        finetune("network", batch, truth)
    with pytest.raises(InputError, match="no Linear or 1 x 1 convolution was found"):
        finetune(torch.nn.Sequential(torch.nn.BatchNorm1d(4)), batch, truth)
    with pytest.raises(InputError, match="lower the rate"):
        tuned(rate=1e30, clip=None)


def test_a_step_may_be_larger_than_the_rows_and_a_single_layer_is_trained() -> None:
    assert tuned(batch_size=10_000).history[0].steps == 1
    batch, truth = table()
    done = finetune(torch.nn.Linear(4, 3), batch, truth, epochs=2)
    assert done.head.name == ""
    with pytest.raises(InputError, match="single layer"):
        finetune(torch.nn.Linear(4, 7), batch, truth)


@pytest.mark.parametrize("options", [{"adapter": Lora(rank=2, dropout=0.1)}, {"thaw": 1}, {"rates": 0.5}])
def test_every_way_is_resumed_to_the_same_bytes(tmp_path: Path, options: Any) -> None:
    whole = tuned(network(7), **options)
    calls: list[int] = []

    def stop(event: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(network(7), checkpoints=tmp_path / "c", report=stop, **options)
    again = tuned(network(7), checkpoints=tmp_path / "c", resume=True, **options)
    assert not differ(again, whole.module)


def test_blocks_of_a_transformer_fall_in_rate_together() -> None:
    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Linear(1, 8)
            layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.encoder = torch.nn.TransformerEncoder(layer, 2)
            self.fc = torch.nn.Linear(8, 5)

        def forward(self, x: Any) -> Any:
            return self.fc(self.encoder(self.embed(x[:, :, None])).mean(dim=1))

    done = tuned(Small(), rates=0.5, epochs=1)
    assert [(u.layer, u.rate) for u in done.layers] == [
        ("embed", 0.000125), ("encoder.layers.0", 0.00025), ("encoder.layers.1", 0.0005), ("fc", 0.001),
    ]  # fmt: skip
    adapted = tuned(Small(), adapter=Lora(rank=1), epochs=1)
    assert adapted.trained < 500
