"""`finetune`: a trained module learns a new task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.contracts import Column
from conjoin.errors import ColumnError, InputError, OutputsError, listed, need
from conjoin.members import wrap
from conjoin.members.answers import as_batch, rows_of
from conjoin.members.torch import module_input
from conjoin.scores import Estimate
from conjoin.train.progress import Progress, silent
from conjoin.transfer.finetune import adapters, heads, layers
from conjoin.transfer.finetune.adapters import Adapter, Lora
from conjoin.transfer.finetune.heads import Head
from conjoin.transfer.finetune.layers import Use
from conjoin.transfer.finetune.task import Task, estimates, held_out, task_of
from conjoin.transfer.loop import Epoch, Stopped, train
from conjoin.transfer.training import Group, Precision, Settings, copied

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Member
    from conjoin.outputs import Array, Output

PROBE = 4
"""Rows that a module is shown to learn the order of its layers and the shape of its answer."""


@dataclass(frozen=True, slots=True, eq=False)
class FineTuned:
    """A fine-tuning that is done.

    module: a new one, in evaluation mode. member: the same as a member, with classes and columns; it can be
    saved and exported. kind, classes: of what it answers. layers: what was done with each, first to last.
    trained, frozen: numbers in parameters that learned, and that did not. head: what was done with it.
    scores: of the held-out rows, with 95 % intervals; these rows also chose the epoch, so they flatter a
    little. best: number of the epoch that was kept. notes: what a reader should know.
    """

    module: Any = field(repr=False)
    member: Member[Any]
    kind: str
    classes: tuple[str, ...]
    layers: tuple[Use, ...]
    trained: int
    frozen: int
    head: Head
    scores: Mapping[str, Estimate]
    history: tuple[Epoch, ...]
    best: int
    stopped: Stopped
    adapter: Adapter | None
    seconds: float
    device: str
    precision: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """A module that is ready for its task. scaled: it answers in units of the truth's spread."""

    module: Any
    head: Head
    scaled: bool
    order: tuple[str, ...]


def finetune(
    module: Any,
    batch: Batch,
    truth: Output,
    *,
    freeze: int | str | Sequence[str] = (),
    thaw: int | None = None,
    rates: float | Mapping[str, float] | None = None,
    adapter: str | Lora | None = None,
    head: str | None = None,
    classes: Sequence[str] | None = None,
    columns: str | Sequence[str] | None = None,
    validation: float | tuple[Batch, Output] = 0.2,
    weights: Any = None,
    class_weights: Mapping[str, float] | None = None,
    balance: bool = False,
    epochs: int = 30,
    batch_size: int = 32,
    rate: float = 1e-3,
    decay: float = 0.01,
    clip: float | None = 1.0,
    patience: int | None = 5,
    seed: int = 0,
    device: str | None = None,
    precision: Precision | None = None,
    time_limit: float | None = None,
    checkpoints: str | Path | None = None,
    resume: bool = False,
    report: Progress = silent,
    name: str | None = None,
) -> FineTuned:
    """Train a copy of a torch module further, for the task that the truth tells.

    module: answers logits (n, K), or numbers (n, D), from one float32 tensor: the batch's column of tensors
    (n, ...), or its columns of numbers side by side. truth: Labels or Probabilities (cross-entropy), Values
    or Embeddings (squares); rows without an answer are left out.
    freeze: so many layers from the first one (-1: all but the last), or patterns of names such as "encoder",
    "layer1.*". thaw: gradual unfreezing, a layer more after so many epochs, from the head down. rates: a
    factor below 1 for each layer down, or rates by pattern. adapter: "lora" or a `Lora`: only small matrices
    beside the layers learn, and the head.
    head: the layer that is replaced where the task has another number of outputs, found where not given.
    classes: names of the module's classes as it is; rows of the head of those that stay are carried.
    validation: a share of the rows to hold out (of each class), or other rows with their truth; 0 is none.
    weights: (n,) of the rows. class_weights: by class; balance: rare classes weigh as much as common ones.
    Others: see `Settings`. checkpoints: a folder; resume goes on with it, to the same bytes.

    Raises InputError, TruthError, ColumnError, MissingExtraError, FileError.
    """
    torch = need("torch")
    settings = Settings(
        epochs, batch_size, rate, "adamw", decay, clip, patience=patience, seed=seed, device=device,
        precision=precision, time_limit=time_limit,
    )  # fmt: skip
    lora = adapters.lora_of(adapter)
    batch = as_batch(batch)
    named = _columns(batch, columns)
    x = _finite(module_input(batch, named), batch, named)
    task = task_of(truth, rows_of(batch), weights=weights, class_weights=class_weights, balance=balance)
    notes = []
    if len(task) < len(x):
        notes.append(f"{len(x) - len(task)} rows without a truth were left out")
    x = x[task.kept]
    held = _held(task, x, named, validation, seed)
    if held.task is None:
        notes.append("no rows are held out: nothing tells when to stop, and there is no score")
    own = copied(module).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fit = _fitted(own, x, task, head, classes)
        blocks = layers.layers_of(fit.module, fit.order)
        tuned, groups, uses, targets = _grouped(
            fit, blocks, freeze=freeze, thaw=thaw, rates=rates, rate=rate, lora=lora
        )
    data, loss = _data(task, x, held.learn), _loss(task, scaled=fit.scaled)
    done = train(
        tuned, loss, data, settings=settings, groups=groups, checkpoints=checkpoints, resume=resume,
        validate=_validation(held, loss, batch_size), report=report,
    )  # fmt: skip
    names = {n for g in groups if g.begin < len(done.history) for n in g.names}
    late = [u.layer for u in uses if u.rate is not None and u.begin >= len(done.history)]
    if late:
        notes.append(f"the training ended before {listed(late)} thawed")
    sizes = {n: p.numel() for n, p in done.module.named_parameters()}
    learned = sum(sizes[n] for n in names)
    kept = None if lora is None else adapters.adapter_of(done.module, lora, targets, fit.head.name)
    final = done.module if lora is None else adapters.take_out(done.module, merge=lora.merge)
    if fit.scaled and fit.head.name is not None:
        heads.scale(final, fit.head.name, task.shift, task.scale, back=True)
    final.eval()
    title = name or type(module).__name__
    softmax: dict[str, Any] = {"softmax": True} if task.classes else {}
    member = wrap(final, name=title, kind=task.kind, classes=task.classes or None, columns=named, **softmax)
    return FineTuned(
        final, member, task.kind, task.classes, uses, learned, sum(sizes.values()) - learned, fit.head,
        _scores(member, held), done.history, done.best, done.stopped, kept, done.seconds, done.device,
        done.precision, tuple(notes),
    )  # fmt: skip


def _columns(batch: Batch, wanted: str | Sequence[str] | None) -> tuple[Column, ...]:
    """The columns that the module reads, with their types."""
    if rows_of(batch) == 0:
        raise InputError("the batch has no rows, so there is nothing to learn from")
    lengths = {n: len(a) for n, a in batch.items()}
    if len(set(lengths.values())) > 1:
        told = listed(f"{n} has {k}" for n, k in lengths.items())
        raise ColumnError(f"the columns have different numbers of rows: {told}")
    names = list(batch) if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)
    missing = [n for n in names if n not in batch]
    if missing:
        raise ColumnError(f"column {missing[0]!r} is missing; the batch has {listed(batch)}")
    tensors = [n for n in names if batch[n].ndim > 1]
    if len(tensors) == 1 and wanted is None:
        names = tensors
    if len(tensors) > 1 or (tensors and len(names) > 1):
        raise ColumnError(
            f"the module takes one tensor, and the batch has {listed(names)}; say which: columns=[...]"
        )
    if tensors:
        return (Column(tensors[0], "tensor", tuple(batch[tensors[0]].shape[1:])),)
    numeric = names if wanted is not None else [n for n in names if batch[n].dtype.kind in "fiub"]
    if not numeric:
        raise ColumnError(f"the batch has no columns of numbers; it has {listed(batch)}")
    return tuple(Column(n, "number") for n in numeric)


def _finite(x: Array, batch: Batch, columns: Sequence[Column]) -> Array:
    """Raises InputError where an input is no finite number: a network cannot read it."""
    bad = ~np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    if bad.any():
        names = [c.name for c in columns if not np.isfinite(np.asarray(batch[c.name], np.float64)).all()]
        raise InputError(
            f"column {listed(map(repr, names))} is missing or not finite in {int(bad.sum())} rows (first: "
            f"row {int(np.argmax(bad))}), and a network cannot read that; fill it in or leave these rows out"
        )
    return x


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """Rows to learn from, and rows to validate on with their inputs; `task` is None where there are none."""

    learn: Array
    task: Task | None
    x: Array
    batch: Batch
    rows: Array


def _held(
    task: Task, x: Array, columns: tuple[Column, ...], validation: float | tuple[Batch, Output], seed: int
) -> _Held:
    everything = np.arange(len(task))
    if isinstance(validation, int | float):
        learn, rows = held_out(task, float(validation), seed)
        return _Held(learn, task if len(rows) else None, x, _as_columns(x, columns), rows)
    batch = as_batch(validation[0])
    given = validation[1]
    if len(given) != rows_of(batch):
        raise InputError(f"the validation has {rows_of(batch)} rows and {len(given)} truths")
    if task.classes:
        try:
            given = given.align(task.classes)  # type: ignore[attr-defined]
        except (OutputsError, AttributeError) as error:
            raise InputError(f"the validation's truth does not fit: {error}") from error
    other = _other_task(given, task)
    inputs = _finite(module_input(batch, columns), batch, columns)[other.kept]
    return _Held(everything, other, inputs, _as_columns(inputs, columns), np.arange(len(inputs)))


def _other_task(given: Any, task: Task) -> Task:
    """The task of validation rows: the same classes, though some may not occur, and the same units."""
    if given.kind not in {"probabilities": ("labels", "probabilities")}.get(task.kind, (task.kind,)):
        raise InputError(f"the validation's truth is {given.kind}; that of the rows to learn is {task.kind}")
    if task.classes:
        hard = given.labels() if given.kind == "probabilities" else given
        kept = np.flatnonzero(hard.answered & (hard.codes >= 0))
        target = given.take(kept).values if given.kind == "probabilities" else hard.codes[kept]
        return replace(task, target=target, kept=kept, weights=np.ones(len(kept)), truth=hard.take(kept))
    own = task_of(given, len(given), class_weights=None, balance=False)
    return replace(own, shift=task.shift, scale=task.scale)


def _as_columns(x: Array, columns: tuple[Column, ...]) -> Batch:
    if columns[0].type == "tensor":
        return {columns[0].name: x}
    return {c.name: x[:, k] for k, c in enumerate(columns)}


def _fitted(own: Any, x: Array, task: Task, head: str | None, classes: Sequence[str] | None) -> _Fit:
    """The module with as many outputs as the task needs. Raises InputError."""
    torch = need("torch")
    if not any(True for _ in own.parameters()):
        raise InputError(f"the {type(own).__name__} has no parameters, so there is nothing to train")
    example = torch.from_numpy(np.ascontiguousarray(x[:PROBE]))
    answer, order, answers = layers.order_of(own, example)
    given = _width(answer, len(example), task)
    name = heads.find(own, order, head)
    old = tuple(str(c) for c in classes) if classes is not None else None
    found = heads.renew(own, name, task.width, old=old, new=task.classes, given=given)
    if found.replaced:
        answer, order, answers = layers.order_of(own, example)
        if _width(answer, len(example), task) != task.width:
            raise InputError(
                f"after a new head {name!r} with {task.width} outputs the module still answers shape "
                f"{tuple(answer.shape)}; name the layer whose outputs are the answer: head='...'"
            )
    scaled = False
    if not task.classes and found.name is not None and heads.is_last(answer, answers, found.name):
        scaled = own.get_submodule(found.name).bias is not None
        if scaled and not found.replaced:
            heads.scale(own, found.name, task.shift, task.scale, back=False)
    return _Fit(own, found, scaled, tuple(order))


def _width(answer: Any, rows: int, task: Task) -> int:
    """The number of outputs of a row. Raises InputError where the answer cannot be read as the task's."""
    torch = need("torch")
    if not isinstance(answer, torch.Tensor):
        raise InputError(
            f"the module answered a {type(answer).__name__}, not one tensor; wrap it in one that does"
        )
    shape = tuple(answer.shape)
    if answer.ndim not in (1, 2) or shape[0] != rows:
        raise InputError(
            f"the module answered shape {shape} for {rows} rows; it must be ({rows}, K): one row of "
            f"{'logits' if task.classes else 'numbers'} for each"
        )
    if task.classes and answer.ndim == 2 and shape[1] > 1 and rows > 1:
        sums = answer.sum(dim=1)
        if bool((answer >= 0).all()) and bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-4)):
            raise InputError(
                "the module answers probabilities; leave out its last softmax, logits are needed"
            )
    return 1 if answer.ndim == 1 else shape[1]


def _grouped(
    fit: _Fit, blocks: Sequence[layers.Layer], *, freeze: Any, thaw: int | None, rates: Any, rate: float,
    lora: Lora | None,
) -> tuple[Any, tuple[Group, ...], tuple[Use, ...], tuple[str, ...]]:  # fmt: skip
    """What is trained (with adapters, where asked for), in groups by rate; and what is said of each layer."""
    head = fit.head.name
    keep = frozenset(n for n, _ in fit.module.named_parameters() if head and n.startswith(f"{head}."))
    frozen = layers.frozen_names(fit.module, blocks, freeze, keep)
    groups, uses = layers.plan(fit.module, blocks, frozen=frozen, rates=rates, rate=rate, thaw=thaw)
    if lora is None:
        if not groups:
            raise InputError("every layer is frozen, so there is nothing to train; thaw one")
        return fit.module, groups, uses, ()
    tuned, targets = adapters.put_in(fit.module, lora, head=head, frozen=frozen)
    where = {n: (g.rate, g.begin) for g in groups for n in g.names}
    found: dict[tuple[float, int], list[str]] = {}
    for name, parameter in tuned.named_parameters():
        plain = adapters.plain_name(name)
        if "lora_" in name or plain in keep:
            found.setdefault(where.get(plain, (rate, 0)), []).append(name)
        parameter.requires_grad_(False)
    touched = {
        b.name for b in blocks if any(p in keep or p.rpartition(".")[0] in targets for p in b.parameters)
    }
    uses = tuple(u if u.layer in touched else replace(u, rate=None, begin=0) for u in uses)
    return tuned, tuple(Group(tuple(n), r, b) for (r, b), n in found.items()), uses, targets


def _data(task: Task, x: Array, rows: Array) -> dict[str, Array]:
    target, weights = task.tensors()
    return {"x": np.ascontiguousarray(x[rows]), "target": target[rows], "weights": weights[rows]}


def _loss(task: Task, *, scaled: bool) -> Any:
    def loss(module: Any, batch: Mapping[str, Any], _: Any) -> Any:
        return task.loss(module(batch["x"]), batch["target"], batch["weights"], scaled=scaled)

    return loss


def _validation(held: _Held, loss: Any, batch_size: int) -> Any:
    """The mean loss of the held-out rows, in chunks; None where there are none."""
    if held.task is None:
        return None
    torch = need("torch")
    data = {n: torch.from_numpy(a) for n, a in _data(held.task, held.x, held.rows).items()}
    count, size = len(held.rows), max(batch_size, 256)

    def validate(module: Any) -> float:
        device = next(module.parameters()).device
        total = 0.0
        for start in range(0, count, size):
            chunk = {n: t[start : start + size].to(device) for n, t in data.items()}
            total += float(loss(module, chunk, None)) * len(chunk["x"])
        return total / count

    return validate


def _scores(member: Member[Any], held: _Held) -> dict[str, Estimate]:
    if held.task is None:
        return {}
    answer = member.predict({n: a[held.rows] for n, a in held.batch.items()})
    found = estimates(held.task.kind, answer, held.task.truth.take(held.rows))
    return {n: e for n, e in found.items() if not math.isnan(e.value)}
