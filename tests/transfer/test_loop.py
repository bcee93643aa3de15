"""The training loop: same seed, same bytes; stopped and resumed as if it had never been stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conjoin.errors import FileError, InputError
from conjoin.train.progress import Event

torch = pytest.importorskip("torch", reason="training of torch modules needs conjoin[torch]")
pytest.importorskip("lightning_fabric", reason="training of torch modules needs conjoin[torch]")

from conjoin.transfer import saved  # noqa: E402
from conjoin.transfer.loop import Group, Settings, train  # noqa: E402

QUICK = Settings(epochs=4, batch_size=16, rate=1e-2, device="cpu")


def network(*, norm: bool = False) -> Any:
    torch.manual_seed(0)
    middle = [torch.nn.BatchNorm1d(8)] if norm else []
    return torch.nn.Sequential(
        torch.nn.Linear(3, 8), *middle, torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1)
    )


def data(rows: int = 50) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    return {"x": x, "y": (x @ np.array([[1.0], [-2.0], [0.5]], dtype=np.float32))}


def squared(module: Any, batch: Any, rows: Any) -> Any:
    assert rows.dtype == torch.int64
    assert len(rows) == len(batch["x"])
    return ((module(batch["x"]) - batch["y"]) ** 2).mean()


def same(a: Any, b: Any) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


def test_it_learns_and_leaves_the_module_and_the_generators_as_they_were() -> None:
    module = network(norm=True).eval()
    module[0].bias.requires_grad_(False)
    before = {n: t.clone() for n, t in module.state_dict().items()}
    random = torch.random.get_rng_state()
    done = train(module, squared, data(), settings=Settings(epochs=30, batch_size=16, rate=1e-2))
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(before[n], t) for n, t in module.state_dict().items())
    assert done.history[-1].loss < 0.5 * done.history[0].loss
    assert [e.number for e in done.history] == list(range(1, 31))
    assert done.steps == 30 * 4  # the last part of an epoch has two rows
    assert not any(m.training for m in done.module.modules())
    assert torch.equal(done.module[0].bias, module[0].bias)  # it asked for no gradient
    assert not done.module[0].bias.requires_grad
    assert (done.device, done.precision, done.stopped) == ("cpu", "float32", "epochs")


def test_same_seed_same_bytes() -> None:
    first, second = (train(network(), squared, data(), settings=QUICK) for _ in range(2))
    assert same(first.module, second.module)
    assert [e.loss for e in first.history] == [e.loss for e in second.history]
    other = train(network(), squared, data(), settings=Settings(epochs=4, batch_size=16, rate=1e-2, seed=1))
    assert not same(first.module, other.module)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("stop_at", [2, 4, 7, 15])
def test_a_stopped_training_goes_on_to_the_same_bytes(tmp_path: Path, optimiser: Any, stop_at: int) -> None:
    settings = Settings(epochs=4, batch_size=16, rate=1e-2, optimiser=optimiser)
    validate = lambda module: float(squared(module, check, torch.arange(20)))  # noqa: E731
    check = {n: torch.as_tensor(a) for n, a in data(20).items()}
    whole = train(network(norm=True), squared, data(), settings=settings, validate=validate)

    def interrupted(module: Any, batch: Any, rows: Any) -> Any:
        calls.append(1)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return squared(module, batch, rows)

    calls: list[int] = []
    options: dict[str, Any] = {"settings": settings, "validate": validate, "checkpoints": tmp_path / "c"}
    with pytest.raises(KeyboardInterrupt):
        train(network(norm=True), interrupted, data(), **options)
    again = train(network(norm=True), squared, data(), **options, resume=True)
    assert same(whole.module, again.module)
    assert [(e.loss, e.score) for e in again.history] == [(e.loss, e.score) for e in whole.history]
    finished = train(network(norm=True), squared, data(), **options, resume=True)  # nothing is left to do
    assert same(whole.module, finished.module)
    assert [p.name for p in (tmp_path / "c").iterdir()] == [saved.STATE]


def test_time_stops_it_within_an_epoch_and_it_goes_on(tmp_path: Path) -> None:
    whole = train(network(), squared, data(), settings=QUICK)
    hasty = Settings(epochs=4, batch_size=16, rate=1e-2, device="cpu", time_limit=1e-9)
    first = train(network(), squared, data(), settings=hasty, checkpoints=tmp_path)
    assert (first.stopped, first.steps) == ("time", 1)
    for _ in range(20):
        done = train(network(), squared, data(), settings=QUICK, checkpoints=tmp_path, resume=True)
    assert same(done.module, whole.module)


def test_the_best_weights_are_kept_and_patience_ends() -> None:
    scores = iter([3.0, 1.0, 2.0, 2.5, 2.6, 9.0])
    seen = []

    def validate(module: Any) -> float:
        assert not module.training
        seen.append({n: t.clone() for n, t in module.state_dict().items()})
        return next(scores)

    settings = Settings(epochs=20, batch_size=16, patience=3)
    done = train(network(), squared, data(), settings=settings, validate=validate)
    assert (done.stopped, done.best, done.score, len(done.history)) == ("patience", 2, 1.0, 5)
    assert all(torch.equal(seen[1][n], t) for n, t in done.module.state_dict().items())


def test_groups_freeze_thaw_and_learn_at_their_own_rates() -> None:
    module = network(norm=True)
    head = Group(("4.weight", "4.bias"), 1e-2)
    done = train(module, squared, data(), settings=QUICK, groups=[head])
    for name in ("0.weight", "1.weight", "1.running_mean", "1.running_var"):
        assert torch.equal(done.module.state_dict()[name], module.state_dict()[name]), name
    assert not torch.equal(done.module[4].weight, module[4].weight)
    late = Group(("0.weight",), 1e-3, begin=9)
    done = train(module, squared, data(), settings=QUICK, groups=[head, late])
    assert torch.equal(done.module[0].weight, module[0].weight)
    soon = Group(("0.weight",), 1e-3, begin=3)
    done = train(module, squared, data(), settings=QUICK, groups=[head, soon])
    assert not torch.equal(done.module[0].weight, module[0].weight)


def test_one_row_and_a_last_part_of_one_row_pass_batch_norms() -> None:
    for rows, size in ((1, 16), (17, 16), (3, 1), (5, 100)):
        done = train(network(norm=True), squared, data(rows), settings=Settings(epochs=2, batch_size=size))
        assert done.steps == 2 * -(-rows // size)


def test_bfloat16_where_it_is_asked_for() -> None:
    kept = []

    def loss(module: Any, batch: Any, rows: Any) -> Any:
        answer = module(batch["x"])
        kept.append(answer.dtype)
        return ((answer.float() - batch["y"]) ** 2).mean()

    done = train(network(), loss, data(), settings=Settings(epochs=1, precision="bfloat16", device="cpu"))
    assert set(kept) == {torch.bfloat16}
    assert done.module[0].weight.dtype == torch.float32


def test_progress_is_told_after_every_epoch() -> None:
    events: list[Event] = []
    train(network(), squared, data(), settings=QUICK, validate=lambda m: 1.0, report=events.append)
    assert [(e.done, e.total, e.loss) for e in events] == [(k, 4, 1.0) for k in (1, 2, 3, 4)]
    assert all(e.seconds_left is not None for e in events)


def test_a_loss_that_is_not_finite_names_the_step() -> None:
    def loss(module: Any, batch: Any, rows: Any) -> Any:
        calls.append(1)
        return squared(module, batch, rows) * (float("nan") if len(calls) == 6 else 1.0)

    calls: list[int] = []
    with pytest.raises(InputError, match=r"nan at step 6 \(epoch 2\): lower the rate"):
        train(network(), loss, data(), settings=QUICK)
    wild = Settings(epochs=50, rate=1e30, clip=None, optimiser="sgd")
    with pytest.raises(InputError, match="lower the rate, which is 1e"):
        train(network(), squared, data(), settings=wild)


def test_a_gradient_that_is_not_finite() -> None:
    def loss(module: Any, batch: Any, rows: Any) -> Any:
        return torch.sqrt((module(batch["x"]) * 0).abs().sum())

    with pytest.raises(InputError, match="the gradient is not finite at step 1"):
        train(network(), loss, data(), settings=QUICK)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number from 1"),
        ({"batch_size": True}, "batch_size"),
        ({"rate": 0.0}, "rate must be above 0"),
        ({"rate": float("nan")}, "rate must be above 0"),
        ({"warmup": 2.0}, "warmup must lie in 0 to 1"),
        ({"decay": -1.0}, "decay must be 0 or more"),
        ({"optimiser": "adam"}, "'adamw' or 'sgd'"),
        ({"precision": "float16"}, "precision must be one of float32, bfloat16"),
        ({"device": "tpu9"}, "there is no device 'tpu9' here"),
        ({"device": "cuda:77"}, "there is no device 'cuda:77'"),
    ],
)
def test_settings_that_make_no_sense(changed: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(network(), squared, data(), settings=Settings(**changed))


def test_what_cannot_be_trained() -> None:
    settings = QUICK
    with pytest.raises(InputError, match="no parameters"):
        train(torch.nn.ReLU(), squared, data(), settings=settings)
    with pytest.raises(InputError, match=r"torch\.nn\.Module"):
        train("network", squared, data(), settings=settings)
    with pytest.raises(InputError, match=r"no parameter '0\.wieght'; did you mean '0\.weight'"):
        train(network(), squared, data(), settings=settings, groups=[Group(("0.wieght",), 1e-3)])
    with pytest.raises(InputError, match="in two groups"):
        train(network(), squared, data(), settings=settings, groups=[Group(("0.bias",), 1e-3)] * 2)
    with pytest.raises(InputError, match="every layer is frozen"):
        train(network(), squared, data(), settings=settings, groups=[])
    with pytest.raises(InputError, match="no rows"):
        train(network(), squared, data(0), settings=settings)
    with pytest.raises(InputError, match="different numbers of rows"):
        train(network(), squared, {**data(), "z": np.zeros(3)}, settings=settings)
    with pytest.raises(InputError, match="scalar"):
        train(network(), lambda m, b, r: m(b["x"]), data(), settings=settings)
    with pytest.raises(InputError, match="does not depend on a parameter"):
        train(network(), lambda m, b, r: b["x"].mean(), data(), settings=settings)
    lazy = torch.nn.Sequential(torch.nn.LazyLinear(1))
    with pytest.raises(InputError, match="has no shape yet"):
        train(lazy, squared, data(), settings=settings)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    train(network(), squared, data(), settings=QUICK, checkpoints=tmp_path)
    changed = Settings(epochs=4, batch_size=16, rate=0.5, device="cpu")
    with pytest.raises(InputError, match=r"another one \(rate was 0.01, is 0.5"):
        train(network(), squared, data(), settings=changed, checkpoints=tmp_path, resume=True)
    with pytest.raises(InputError, match="rows was 50, is 49"):
        train(network(), squared, data(49), settings=QUICK, checkpoints=tmp_path, resume=True)
    with pytest.raises(FileError, match="another module"):
        train(network(norm=True), squared, data(), settings=QUICK, checkpoints=tmp_path, resume=True)
    tensors, metadata = saved.read_tensors(tmp_path / saved.STATE)
    for counters in ("[]", "{}", "{", '{"settings": 3}'):
        saved.write_tensors(tmp_path / saved.STATE, tensors, {**metadata, "counters": counters})
        with pytest.raises(FileError, match="damaged"):
            train(network(), squared, data(), settings=QUICK, checkpoints=tmp_path, resume=True)
    (tmp_path / saved.STATE).write_bytes(b"\x80\x02pickle")
    with pytest.raises(FileError, match="pickle"):
        train(network(), squared, data(), settings=QUICK, checkpoints=tmp_path, resume=True)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        train(network(), squared, data(), settings=QUICK, checkpoints=tmp_path / "file")
