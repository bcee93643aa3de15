"""The training loop for torch modules, on Lightning Fabric: minimise a loss over minibatches.

The generators of torch are seeded by (seed, step) and the order of rows by (seed, epoch), so a training that
was stopped goes on to the same bytes, and no state of a generator needs to be kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from conjoin.errors import FileError, InputError, listed, need
from conjoin.train.progress import Event, Progress, silent
from conjoin.transfer import saved
from conjoin.transfer.training import (
    PRECISIONS,
    Group,
    Settings,
    checked_groups,
    copied,
    fabric_on,
    optimiser_of,
    tensors_by_name,
)

Loss = Callable[[Any, Mapping[str, Any], Any], Any]
"""(module, tensors of the minibatch by name, their row numbers (b,) int64 on the CPU) -> a scalar tensor."""
Validate = Callable[[Any], float]
"""The module in evaluation mode, without gradients -> a number, lower is better."""
Stopped = Literal["epochs", "patience", "time"]

SAVE_SECONDS = 30.0
"""A checkpoint is written after every epoch, and within long ones this often."""
TELL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch did. number: from 1. loss: mean over its rows. score: of the validation. rate: of the
    first group at its end. seconds: on the clock, since the training began or went on.
    """

    number: int
    steps: int
    loss: float
    score: float | None
    rate: float
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A training that is done. module: a new one, with the best weights, on the CPU, in the modes of the
    given one. best: number of the epoch that is kept. stopped: by what. steps: of the optimiser.
    """

    module: Any
    history: tuple[Epoch, ...]
    best: int
    score: float | None
    stopped: Stopped
    steps: int
    seconds: float
    device: str
    precision: str


@dataclass(slots=True)
class _State:
    """Where a training is. loss_sum, rows: of the epoch that is running."""

    step: int = 0
    loss_sum: float = 0.0
    rows: int = 0
    history: list[Epoch] = field(default_factory=list)
    best: dict[str, Any] | None = None
    best_epoch: int = 0
    best_score: float = math.inf
    stopped: Stopped | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """What does not change while it trains."""

    module: Any
    optimiser: Any
    wrapped: Any
    fabric: Any
    loss: Loss
    data: Mapping[str, Any]
    count: int
    groups: tuple[Group, ...]
    settings: Settings
    validate: Validate | None
    folder: Path | None
    report: Progress
    begin: float
    first: int

    @property
    def per_epoch(self) -> int:
        return -(-self.count // self.settings.batch_size)

    @property
    def total(self) -> int:
        return self.per_epoch * self.settings.epochs


def train(
    module: Any,
    loss: Loss,
    data: Mapping[str, Any],
    *,
    settings: Settings | None = None,
    groups: Sequence[Group] | None = None,
    validate: Validate | None = None,
    checkpoints: str | Path | None = None,
    resume: bool = False,
    report: Progress = silent,
) -> Trained:
    """Minimise a loss over the rows of `data` by changing a copy of a module; the given one stays as it is.

    loss: (module, minibatch, rows) -> a scalar tensor, the mean over the minibatch; layers that belong to the
    loss alone (a projection of features, say) are put beside the network in one module. It draws, where it
    does, from torch's own generator. data: name -> array or tensor (n, ...). groups: parameters by name with
    their rates; those in no group are frozen, and so are the running statistics of their norms; None trains
    all that ask for a gradient. validate: module -> a number, lower is better; the weights of the best epoch
    are kept. checkpoints: a folder for the state of the training (safetensors), `resume` goes on with it.
    report: told after every epoch.

    Same seed, same bytes, on one machine with one number of threads; a GPU is as repeatable as torch is
    there. Generators that the caller uses are left as they were. A minibatch of one row uses the running
    statistics of batch norms.

    Raises InputError where the loss is not a finite number (it names the step), MissingExtraError, FileError.
    """
    torch = need("torch")
    settings = settings or Settings()
    own = copied(module)
    tensors, count = tensors_by_name(data)
    chosen = checked_groups(own, groups, settings)
    fabric = fabric_on(settings)
    flags = {n: p.requires_grad for n, p in own.named_parameters()}
    modes = {n: m.training for n, m in own.named_modules()}
    optimiser = optimiser_of(own, chosen, settings)
    _, wrapped = fabric.setup(own, optimiser)
    folder = None if checkpoints is None else Path(checkpoints)
    state = _State()
    if resume and folder is not None and (folder / saved.STATE).is_file():
        state = _resumed(folder, own, optimiser, settings, chosen, count)
    run = _Run(
        own, optimiser, wrapped, fabric, loss, tensors, count, chosen, settings, validate, folder, report,
        time.monotonic(), state.step,
    )  # fmt: skip
    cuda = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        _epochs(run, state)
    if state.best is not None:
        saved.put(own, state.best)
    return _finished(run, state, flags, modes)


def _epochs(run: _Run, state: _State) -> None:
    """Epoch after epoch until one of the limits is reached."""
    while state.stopped is None:
        epoch = len(state.history)
        _modes(run, epoch)
        with _told(run, state):
            whole = _steps(run, state, epoch)
        if not whole:  # what it goes on with is the middle of the epoch
            _save(run, state)
            state.stopped = "time"
        if state.rows:
            _end_epoch(run, state, epoch)
        if whole:
            if state.stopped is None and len(state.history) >= run.settings.epochs:
                state.stopped = "epochs"
            _save(run, state)


def _steps(run: _Run, state: _State, epoch: int) -> bool:
    """The steps of an epoch that are left; False where the time was over before its end."""
    torch = need("torch")
    size = run.settings.batch_size
    order = np.random.default_rng([run.settings.seed, epoch, 1]).permutation(run.count)
    last_saved = last_told = time.monotonic()
    for k in range(state.step - epoch * run.per_epoch, run.per_epoch):
        now = time.monotonic()
        limit = run.settings.time_limit
        if limit is not None and now - run.begin > limit and state.step > 0:
            return False
        if now - last_saved > SAVE_SECONDS:
            _save(run, state)
            last_saved = time.monotonic()
        if now - last_told > TELL_SECONDS:
            run.report(_event(run, state, f"epoch {epoch + 1}, step {k} of {run.per_epoch}"))
            last_told = now
        rows = torch.from_numpy(order[k * size : (k + 1) * size])
        value = _step(run, state, rows, epoch)
        state.loss_sum += value * len(rows)
        state.rows += len(rows)
        state.step += 1
    return True


def _step(run: _Run, state: _State, rows: Any, epoch: int) -> float:
    torch = need("torch")
    torch.manual_seed(_seed(run.settings.seed, state.step))
    batch = {n: t[rows].to(run.fabric.device, non_blocking=True) for n, t in run.data.items()}
    share = _share(state.step, run.total, run.settings)
    for target in run.optimiser.param_groups:
        target["lr"] = target["full_rate"] * share
    run.optimiser.zero_grad(set_to_none=True)
    with _one_row(run.module, len(rows)), run.fabric.autocast():
        value = run.loss(run.module, batch, rows)
    number = _number(value, state.step, epoch, run.settings)
    run.fabric.backward(value)
    if run.settings.clip is not None:
        try:
            run.fabric.clip_gradients(run.module, run.wrapped, max_norm=run.settings.clip)
        except RuntimeError as error:
            if "non-finite" not in str(error):
                raise
            raise InputError(
                _diverged("the gradient is not finite", state.step, epoch, run.settings)
            ) from error
    run.wrapped.step()
    return number


def _number(value: Any, step: int, epoch: int, settings: Settings) -> float:
    torch = need("torch")
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise InputError(f"the loss must be a scalar tensor, not {got}")
    if not value.requires_grad:
        raise InputError("the loss does not depend on a parameter that is trained; thaw the layers it uses")
    number = float(value.detach())
    if not math.isfinite(number):
        raise InputError(_diverged(f"the loss is {number}", step, epoch, settings))
    return number


def _diverged(what: str, step: int, epoch: int, settings: Settings) -> str:
    return (
        f"{what} at step {step + 1} (epoch {epoch + 1}): lower the rate, which is {settings.rate:g}, "
        "or clip the gradient; look also for numbers in the data that are far too large"
    )


def _end_epoch(run: _Run, state: _State, epoch: int) -> None:
    """Validate, keep the best weights, write history; says when patience is at its end."""
    score = None if run.validate is None else _validated(run)
    value = math.nan if score is None or math.isnan(score) else score
    loss = state.loss_sum / state.rows
    rate = run.optimiser.param_groups[0]["lr"]
    seconds = time.monotonic() - run.begin
    state.history.append(Epoch(epoch + 1, state.step - epoch * run.per_epoch, loss, score, rate, seconds))
    state.loss_sum, state.rows = 0.0, 0
    if run.validate is None:
        state.best_epoch = epoch + 1
    elif value < state.best_score or state.best is None:
        state.best_score = value if not math.isnan(value) else math.inf
        state.best_epoch = epoch + 1
        state.best = {n: t.detach().cpu().clone() for n, t in saved.tensors_of(run.module).items()}
    patience = run.settings.patience
    waiting = max((g.begin for g in run.groups), default=0) > epoch
    if run.validate is not None and patience is not None and not waiting and state.stopped is None:
        since = max(state.best_epoch, max(g.begin for g in run.groups))
        if epoch + 1 - since >= patience:
            state.stopped = "patience"
    shown = f"epoch {epoch + 1}: loss {loss:.4g}" + ("" if score is None else f", validation {score:.4g}")
    run.report(_event(run, state, shown))


def _validated(run: _Run) -> float:
    torch = need("torch")
    before = {n: m.training for n, m in run.module.named_modules()}
    run.module.eval()
    assert run.validate is not None
    with torch.no_grad(), run.fabric.autocast():
        score = float(run.validate(run.module))
    for name, one in run.module.named_modules():
        one.training = before[name]
    return score


def _event(run: _Run, state: _State, message: str) -> Event:
    """What is told: epochs done and in all, the validation, and the seconds that are likely to be left."""
    done = state.step - run.first
    spent = time.monotonic() - run.begin
    left = spent / done * (run.total - state.step) if done else None
    limit = run.settings.time_limit
    if limit is not None:
        left = max(0.0, limit - spent) if left is None else max(0.0, min(left, limit - spent))
    score = state.history[-1].score if state.history else None
    best = state.best_score if math.isfinite(state.best_score) else None
    epochs = run.settings.epochs
    return Event("train", message, None, score, best, len(state.history), epochs, left)


@contextmanager
def _told(run: _Run, state: _State) -> Iterator[None]:
    """Running out of memory is told in words."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" not in str(error) and "not enough memory" not in str(error):
            raise
        size = run.settings.batch_size
        raise InputError(
            f"the memory is used up at step {state.step + 1} with {size} rows in a step; "
            "use a smaller batch_size"
        ) from error


@contextmanager
def _one_row(module: Any, rows: int) -> Iterator[None]:
    """Batch norms cannot take the variance of one row; they use what they have."""
    changed = [m for m in module.modules() if rows == 1 and _is_batch_norm(m) and m.training]
    for one in changed:
        one.eval()
    try:
        yield
    finally:
        for one in changed:
            one.train()


def _is_batch_norm(module: Any) -> bool:
    torch = need("torch")
    return isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.running_mean is not None


def _modes(run: _Run, epoch: int) -> None:
    """Thaw what begins with this epoch; the statistics of frozen batch norms do not move."""
    trained = {n for g in run.groups if g.begin <= epoch for n in g.names}
    for name, parameter in run.module.named_parameters():
        parameter.requires_grad_(name in trained)
    run.module.train()
    for name, one in run.module.named_modules():
        if not _is_batch_norm(one):
            continue
        names = [f"{name}.{n}" if name else n for n, _ in one.named_parameters(recurse=False)]
        around = name.rpartition(".")[0]
        alive = trained.intersection(names) if names else [n for n in trained if n.startswith(around)]
        if not alive:
            one.eval()


def _share(step: int, total: int, settings: Settings) -> float:
    """Of the full rate: a rise over the first steps, then a cosine to `floor`."""
    rising = math.ceil(settings.warmup * total)
    if step < rising:
        return (step + 1) / (rising + 1)
    part = (step - rising) / max(1, total - rising)
    return settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * part))


def _seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step, 2]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _counters(state: _State, settings: Settings, groups: Sequence[Group], count: int) -> dict[str, Any]:
    kept = {k: v for k, v in asdict(settings).items() if k not in ("time_limit", "device", "precision")}
    return {
        "settings": {**kept, "groups": [[len(g.names), g.rate, g.begin] for g in groups]},
        "rows": count,
        "step": state.step,
        "loss_sum": state.loss_sum,
        "seen": state.rows,
        "history": [asdict(e) for e in state.history],
        "best_epoch": state.best_epoch,
        "best_score": state.best_score if math.isfinite(state.best_score) else None,
        "stopped": state.stopped,
    }


def _save(run: _Run, state: _State) -> None:
    if run.folder is not None:
        counters = _counters(state, run.settings, run.groups, run.count)
        saved.write_state(run.folder, run.module, run.optimiser, state.best, counters)


def _resumed(
    folder: Path, module: Any, optimiser: Any, settings: Settings, groups: Sequence[Group], count: int
) -> _State:
    """The state of a training that was stopped. Raises InputError where it was another training."""
    best, told = saved.read_state(folder, module, optimiser)
    now = _counters(_State(), settings, groups, count)
    try:
        before, wanted = {**told["settings"], "rows": told["rows"]}, {**now["settings"], "rows": count}
        shown = listed(f"{k} was {before.get(k)}, is {v}" for k, v in wanted.items() if before.get(k) != v)
        score = math.inf if told["best_score"] is None else float(told["best_score"])
        history = [Epoch(**e) for e in told["history"]]
        state = _State(
            int(told["step"]), float(told["loss_sum"]), int(told["seen"]), history, best,
            int(told["best_epoch"]), score, told["stopped"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"the training in {str(folder)!r} is damaged: {error!r}") from error
    if shown:
        raise InputError(f"the training in {str(folder)!r} was another one ({shown}); resume it as it was")
    return state


def _finished(run: _Run, state: _State, flags: Mapping[str, bool], modes: Mapping[str, bool]) -> Trained:
    """The record; the module on the CPU in its old modes, without gradients."""
    module = run.module.cpu()
    for name, parameter in module.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(flags[name])
    for name, one in module.named_modules():
        one.training = modes[name]
    assert state.stopped is not None
    score = state.best_score if math.isfinite(state.best_score) else None
    return Trained(
        module, tuple(state.history), state.best_epoch, score, state.stopped, state.step,
        time.monotonic() - run.begin, str(run.fabric.device),
        next(k for k, v in PRECISIONS.items() if v == run.fabric._precision.precision),
    )  # fmt: skip


__all__ = ["Epoch", "Group", "Loss", "Settings", "Trained", "Validate", "train"]
