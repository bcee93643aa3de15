"""Torch modules learn from teachers: from what these answer, and from what their layers say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError, listed, nearest, need
from conjoin.members.torch import module_input
from conjoin.outputs import Labels, Probabilities
from conjoin.train.progress import Progress, silent
from conjoin.transfer.distil.answers import Ask, said, targets
from conjoin.transfer.distil.features import Feature, pupil, watched
from conjoin.transfer.distil.losses import LOGIT_LOSSES
from conjoin.transfer.loop import Settings, Trained, train

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array, Output

Tensor = Any
LEAST_HELD = 10
"""With fewer rows none are held out."""


@dataclass(frozen=True, slots=True, eq=False)
class DistilledModule:
    """module: the student, a new module. generations: the trainings, one unless it was born again."""

    module: Any
    generations: tuple[Trained, ...]


def distil_module(
    teacher: Any,
    student: Any,
    batch: Batch,
    truth: Output | None = None,
    *,
    classes: Sequence[str] = (),
    loss: str | None = None,
    temperature: float | None = None,
    mix: float = 0.9,
    features: Sequence[Feature] = (),
    weights: Mapping[str, float] | None = None,
    born_again: int = 0,
    validation: float = 0.1,
    settings: Settings | None = None,
    checkpoints: str | Path | None = None,
    resume: bool = False,
    report: Progress = silent,
) -> DistilledModule:
    """Train a module to answer as its teachers do: (1 - mix) hard + mix soft + sum of weighted features.

    teacher: a member, a torch module that answers logits, or several by name: their answers become one by the
    logarithmic pool (mean of logits) for classes and the mean for numbers, with `weights`. None, with
    born_again: the module teaches itself. student: a module with logits (n, K), or numbers (n, D); it stays
    as it is. batch: as `wrap` of a module reads it, one column of tensors or columns of numbers. truth: for
    the hard loss, cross-entropy or squares; None leaves the soft loss alone. classes: the student's classes,
    in the order of its outputs; those of the teacher, and then of the truth, unless given. loss: a name of
    `LOGIT_LOSSES`; "kd" for classes and "mse" for numbers unless given; temperature: the loss's own unless
    given. born_again: so many further students, each new, each taught by the one before (Furlanello et al.
    2018, arXiv 1805.04770). validation: share of the rows that training is stopped by.

    Rows that no teacher answered are learned from their truth alone. Raises InputError, OutputsError.
    """
    settings = settings or Settings()
    teachers = _named(teacher)
    if not 0 <= mix <= 1:
        raise InputError(f"mix must lie in 0 to 1, not {mix!r}")
    if not teachers and (truth is None or born_again < 1):
        raise InputError("without a teacher a module needs the truth, and born_again of at least 1")
    ask = Ask(module_input(batch, ()), truth, tuple(classes), weights)
    if len(ask.x) == 0:
        raise InputError("the batch has no rows; there is nothing to learn from")
    if truth is not None and len(truth) != len(ask.x):
        raise InputError(f"the batch has {len(ask.x)} rows and the truth {len(truth)}")
    aims = _Aims(loss, temperature, mix, tuple(features), validation)
    trainings: list[Trained] = []
    for generation in range(born_again + 1):
        one = replace(settings, seed=settings.seed + generation)
        place = None if checkpoints is None else Path(checkpoints) / f"generation-{generation}"
        trainings.append(_taught(aims, ask, teachers, student, batch, one, place, resume, report))
        teachers, aims = {"before": trainings[-1].module}, replace(aims, features=())
    return DistilledModule(trainings[-1].module, tuple(trainings))


@dataclass(frozen=True, slots=True)
class _Aims:
    """What is minimised, as the caller gave it."""

    loss: str | None
    temperature: float | None
    mix: float
    features: tuple[Feature, ...]
    validation: float


@dataclass(frozen=True, slots=True)
class _Responses:
    """The loss of answers. classes: hard targets are codes. options: of the soft loss."""

    name: str
    options: Mapping[str, float]
    mix: float
    classes: bool

    def __call__(self, answer: Tensor, some: Mapping[str, Tensor]) -> Tensor:
        """(1 - mix) hard + mix soft, each over the rows that have it; all of one where there is no other."""
        f = need("torch.nn.functional")
        soft, hard = some.get("soft"), some.get("hard")
        answer = self.shaped(answer.float(), hard if soft is None else soft)
        value = answer.sum() * 0
        if soft is not None and bool((known := some["soft_known"]).any()):
            share = self.mix if hard is not None else 1.0
            told = hard[known] if self.classes and hard is not None else None
            labels = None if told is None or bool((told < 0).any()) else told
            soft_loss = LOGIT_LOSSES[self.name](answer[known], soft[known], labels, **self.options)
            value = value + share * soft_loss
        if hard is not None and bool((known := some["hard_known"]).any()):
            share = 1 - self.mix if soft is not None else 1.0
            miss = f.cross_entropy if self.classes else f.mse_loss
            value = value + share * miss(answer[known], hard[known])
        return value

    def shaped(self, answer: Tensor, like: Tensor) -> Tensor:
        """(n, K) logits, (n, D) numbers. One logit of two classes becomes two. Raises InputError."""
        torch = need("torch")
        answer = answer[:, None] if answer.ndim == 1 else answer
        if self.classes and answer.shape[-1] == 1:
            answer = torch.cat([torch.zeros_like(answer), answer], -1)
        if answer.ndim != 2 or (like.ndim == 2 and answer.shape != like.shape):
            raise InputError(
                f"the student answers {tuple(answer.shape[1:])} numbers for a row, its teacher "
                f"{tuple(like.shape[1:])}; give the student a head of that size"
            )
        return answer


def _named(teacher: Any) -> dict[str, Any]:
    if teacher is None:
        return {}
    if isinstance(teacher, Mapping):
        return {str(n): t for n, t in teacher.items()}
    return {"teacher": teacher}


def _taught(
    aims: _Aims,
    ask: Ask,
    teachers: Mapping[str, Any],
    student: Any,
    batch: Batch,
    settings: Settings,
    checkpoints: Path | None,
    resume: bool,
    report: Progress,
) -> Trained:
    """One generation."""
    answers = said(teachers, batch, ask)
    responses = _responses(aims, isinstance(answers if answers is not None else ask.truth, _CLASSES))
    data = {"x": ask.x, **targets(answers, ask)}
    held = np.random.default_rng([settings.seed, 7]).random(len(ask.x)) < aims.validation
    if held.all() or len(held) < LEAST_HELD:
        held[:] = False
    layers = [f.student for f in aims.features]

    def loss(module: Any, some: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        with watched(module.student, layers) as seen:
            answer = module.student(some["x"])
        value = responses(answer, some)
        for k, feature in enumerate(aims.features):
            value = value + feature.weight * module.feature(k, feature, seen, some["x"], rows)
        return value

    def validate(module: Any) -> float:
        return _validated(module, responses, data, np.flatnonzero(held), settings.batch_size)

    learner = pupil(aims.features, teachers, student, ask.x[~held])
    kept = {n: a[~held] for n, a in data.items()}
    trained = train(
        learner, loss, kept, settings=settings, validate=validate if held.any() else None,
        checkpoints=checkpoints, resume=resume, report=report,
    )  # fmt: skip
    return replace(trained, module=trained.module.student)


_CLASSES = (Probabilities, Labels)


def _responses(aims: _Aims, classes: bool) -> _Responses:
    name = aims.loss or ("kd" if classes else "mse")
    if name not in LOGIT_LOSSES:
        raise InputError(f"no loss {name!r}{nearest(name, LOGIT_LOSSES)}; there are {listed(LOGIT_LOSSES)}")
    if not classes and name != "mse":
        raise InputError(f"the loss {name!r} is of logits of classes; numbers are learned by 'mse'")
    options = {} if aims.temperature is None else {"temperature": aims.temperature}
    if aims.temperature is not None and not aims.temperature > 0:
        raise InputError(f"temperature must be above 0, not {aims.temperature!r}")
    return _Responses(name, options, aims.mix, classes)


def _validated(
    module: Any, responses: _Responses, data: Mapping[str, Array], held: Array, size: int
) -> float:
    """The mean loss of answers over the rows that are held out."""
    torch = need("torch")
    device, total = next(module.parameters()).device, 0.0
    for start in range(0, len(held), size):
        rows = held[start : start + size]
        some = {n: torch.from_numpy(a[rows]).to(device) for n, a in data.items()}
        total += float(responses(module.student(some["x"]), some)) * len(rows)
    return total / len(held)
