"""The lesson: rows of the table, rows that are made, and what the teacher says of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.contracts import Batch, Card, Column, Learner, Member
from conjoin.scores import Score
from conjoin.tables import columns_of
from conjoin.train import features
from conjoin.train.budget import Clock
from conjoin.train.measure import run_part
from conjoin.train.prepare import codes_alone
from conjoin.train.progress import Event, Progress
from conjoin.transfer.distil.asking import Asked, ask
from conjoin.transfer.distil.augment import augmented
from conjoin.transfer.distil.data import FOLDS, Data, fold_of
from conjoin.transfer.distil.targets import mixed

if TYPE_CHECKING:
    from conjoin.graph.dense import DenseView
    from conjoin.graph.encoder import Encoder
    from conjoin.outputs import Array

ASKING = 0.35
"""The share of the time that the teacher may take."""
ENDLESS = 1e7
"""Seconds that stand for no time limit."""


@dataclass(frozen=True, slots=True, eq=False)
class How:
    """How to go about it: `distil` documents the fields."""

    learner: str | Learner[Any]
    temperature: float
    hard: float
    augment: str
    factor: float
    most_rows: int
    metric: str | Score | None
    threads: int
    seed: int
    name: str
    progress: Progress
    clock: Clock
    begin: float
    cpu: float

    def tell(self, message: str, stage: Any = "train") -> None:
        """An event without numbers."""
        left = self.clock.left()
        self.progress(Event(stage, message, seconds_left=left if left < ENDLESS / 2 else None))


@dataclass(frozen=True, eq=False)
class Lesson:
    """All rows that a student may see, and what it is to answer.

    batch: the table's rows that are not held out, then those without truth, then those made. count: of the
    table's own. target: (N, width), NaN where the teacher did not answer and there is no truth. origin: (N,)
    the row that each was made of, itself where it was not. failed: rows that the teacher did not answer.
    """

    card: Card
    data: Data
    batch: Batch
    count: int
    target: Array
    origin: Array
    made: int
    failed: int
    fitted: Features
    notes: tuple[str, ...]

    @property
    def truth(self) -> Array:
        """(N, 1 or K) of the rows with a truth, NaN for all others."""
        known = self.data.truth
        rest = np.full((len(self.target) - len(known), known.shape[1]), np.nan)
        return np.concatenate([known, rest])


@dataclass(frozen=True, eq=False)
class Features:
    """The student's encoder, fitted on rows that were not made, and those rows through it."""

    encoder: Encoder
    x: Array
    columns: tuple[Column, ...]

    @cached_property
    def view(self) -> DenseView:
        """The dense view."""
        return features.fit_dense_view(self.encoder, self.x)

    def dense(self, x: Array) -> Array:
        """(n, e) of features (n, d)."""
        return run_part(self.view, x, probabilities=True)


def lesson_of(teacher: Member[Any], data: Data, how: How) -> Lesson:
    """Ask the teacher for the rows that are there, make more as time allows, ask for these."""
    own, more = data.rows, len(next(iter(data.unlabelled.values()), ()))
    how.tell(f"asking the teacher for {own + more:,} rows", "encode")
    begin = time.monotonic()
    over = how.clock.within(ASKING * how.clock.left()).over
    asked = [data.asked() or ask(teacher, data.batch, over=over)]
    real = dict(data.batch)
    if more:
        asked.append(ask(teacher, data.unlabelled, over=over))
        real = {k: np.concatenate([v, data.unlabelled[k]]) for k, v in real.items()}
    pace = (time.monotonic() - begin) / max(1, sum(a.reached for a in asked))
    numbers = [_spread(a, n) for a, n in zip(asked, (own, more), strict=False)]
    fitted = _fit_features(teacher.card, data, real, np.concatenate(numbers), how)
    size, notes = _size(own + more, pace, how)
    made, origin = augmented(real, lambda: fitted.dense(fitted.x), how.augment, size, seed=how.seed)
    if len(origin):
        how.tell(f"asking the teacher for {len(origin):,} rows that were made", "encode")
        asked.append(ask(teacher, made, over=over))
        kept = asked[-1].rows
        made, origin = {k: v[kept] for k, v in made.items()}, origin[kept]
        numbers.append(asked[-1].numbers)
        real = {k: np.concatenate([v, made[k]]) for k, v in real.items()}
    failed = sum(a.failed for a in asked)
    if failed:
        notes += (
            f"the teacher did not answer {failed:,} rows: {next(a.failure for a in asked if a.failure)}",
        )
    answers = np.concatenate(numbers)
    lesson = Lesson(
        *(teacher.card, data, real, own, answers, np.concatenate([np.arange(own + more), origin])),
        *(len(origin), failed, fitted, (*data.notes, *notes)),
    )
    return replace(lesson, target=mixed(answers, lesson.truth, how.hard))


def _spread(asked: Asked, n: int) -> Array:
    """(n, width) with NaN in rows without an answer."""
    out = np.full((n, asked.numbers.shape[1]), np.nan)
    out[asked.rows] = asked.numbers
    return out


def _size(rows: int, pace: float, how: How) -> tuple[int, tuple[str, ...]]:
    """How many rows to make: as many as were asked for, if the teacher can answer them in its time."""
    if how.augment == "none":
        return 0, ()
    wanted = max(0, min(int(how.factor * rows), how.most_rows - rows))
    allowed = int(ASKING * how.clock.left() / max(pace, 1e-9))
    if allowed >= wanted:
        return wanted, ()
    return allowed, (f"{allowed:,} rows were made instead of {wanted:,}, so that the time limit is kept",)


def _fit_features(card: Card, data: Data, real: Batch, answers: Array, how: How) -> Features:
    """The student's own encoder: its statistics come from the truth where there is one, else the teacher."""
    known = data.columns or columns_of(real)
    rest = np.full((len(answers) - data.rows, data.truth.shape[1]), np.nan)
    truth = np.concatenate([data.truth, rest])
    number = truth[:, 0] if truth.shape[1] == 1 else truth
    taught = answers[:, answers.shape[1] // 2] if not card.classes else answers
    label = data.labels_of(
        np.where(np.isnan(number), taught, number) if number.ndim == taught.ndim else number
    )
    fold = fold_of(label, FOLDS, seed=how.seed)
    found = features.fit_encoder(real, known, label, folds=fold, seed=how.seed, threads=how.threads or None)
    found = codes_alone(found)
    return Features(found.encoder, np.ascontiguousarray(found.X), known)
