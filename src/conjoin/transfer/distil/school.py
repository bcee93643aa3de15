"""How a learner is taught, and how it learns alone: students with names, and learners of the user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.contracts import Card, Learner, Member
from conjoin.errors import InputError, listed
from conjoin.members.portable import portable
from conjoin.train import features
from conjoin.train.budget import Clock
from conjoin.train.learners import OutOfTimeError
from conjoin.train.measure import cost_of
from conjoin.train.truth import Truth
from conjoin.transfer.distil.asking import width_of
from conjoin.transfer.distil.data import FOLDS, fold_of
from conjoin.transfer.distil.lesson import ENDLESS, How, Lesson
from conjoin.transfer.distil.students import Desk, at_temperature, learn, student_of, taught_settings
from conjoin.transfer.distil.targets import Rows, as_output, softened, weighted

if TYPE_CHECKING:
    from conjoin.members.portable import Portable
    from conjoin.outputs import Array, Output
    from conjoin.transfer.distil.students import Student

ALONE = 0.3
"""The share of the time left that the student alone may take."""
FEW = 20
"""Rounds of a booster for which no time was left."""
MANY = 3
"""Where so many rows were made for each row of the table, some of these are held out, and there is no second
fit: the teacher knows the table's own rows by heart, so they would stop a student too early."""


def task_of(card: Card) -> str:
    """What a student of such a teacher learns: binary, multiclass, regression or quantile."""
    if card.levels:
        return "quantile"
    return {0: "regression", 2: "binary"}.get(len(card.classes), "multiclass")


class School(ABC):
    """How a learner is taught, and how it learns alone."""

    @abstractmethod
    def alone(self) -> Member[Any]:
        """From the truth alone."""

    @abstractmethod
    def taught(self) -> Member[Any]:
        """From the lesson."""


@dataclass(frozen=True, eq=False)
class Named(School):
    """A student of the table `STUDENTS`."""

    lesson: Lesson
    how: How

    @cached_property
    def student(self) -> Student:
        """The learner with its settings for this table."""
        card = self.lesson.card
        return student_of(str(self.how.learner), task_of(card), self.lesson.count, len(card.classes))

    @cached_property
    def desk(self) -> Desk:
        """All rows as features."""
        lesson, fitted = self.lesson, self.lesson.fitted
        x = fitted.x
        if lesson.made:
            rows = {k: v[len(x) :] for k, v in lesson.batch.items()}
            x = np.concatenate([x, features.encode(fitted.encoder, rows, threads=self.how.threads or None)])
        views: list[Array] = []

        def dense() -> Array:
            if not views:
                views.append(fitted.dense(x))
            return views[0]

        card = lesson.card
        truth = Truth(
            cast(Any, task_of(card)), np.arange(len(x)), np.zeros(len(x)), "", card.classes, card.levels
        )
        return Desk(truth, x, dense, self.how.threads)

    def alone(self) -> Member[Any]:
        """One model of the truth; its size is chosen by cross-validation."""
        lesson, how = self.lesson, self.how
        truth = lesson.truth
        rows = _hard_rows(truth)
        fold = np.full(len(truth), -1)
        known = np.isfinite(truth).all(axis=1)
        fold[known] = fold_of(lesson.data.labels_of(truth[known]), FOLDS, seed=how.seed)
        clock = how.clock.within(ALONE * how.clock.left())
        settings = dict(self.student.settings)
        found, hurried = self._learned(settings, rows, fold, clock, None)
        return self._member(found, "alone", hurried=hurried)

    def taught(self) -> Member[Any]:
        """One model of the lesson; its size is chosen on rows held out of it."""
        lesson, how = self.lesson, self.how
        target = softened(lesson.target, how.temperature)
        truth = lesson.truth if lesson.card.levels else None
        rows = weighted(target, lesson.card, truth=truth, hard=how.hard)
        many = lesson.made >= MANY * lesson.count
        known = np.asarray(np.isfinite(target).all(axis=1))
        fold, copies = self._some_made() if many else self._held_out(known)
        settings = taught_settings(self.student, width_of(lesson.card))
        aside = None if many else copies
        found, hurried = self._learned(settings, rows, fold, how.clock, aside, again=not many)
        return self._member(at_temperature(found, how.temperature), "distilled", hurried=hurried)

    def _some_made(self) -> tuple[Array, Array]:
        """(N,) fold of each row: 0 in some of those that were made; nothing was made of these."""
        lesson = self.lesson
        total = len(lesson.target)
        fold = np.full(total, -1)
        drawn = np.random.default_rng(self.how.seed).permutation(lesson.made)
        fold[total - lesson.made + drawn[: min(2_000, max(1, lesson.made // 20))]] = 0
        return fold, np.zeros(total, dtype=bool)

    def _held_out(self, known: Array) -> tuple[Array, Array]:
        """(N,) fold of each row: 0 in a sixth of those not made; (N,) which were made of these."""
        lesson = self.lesson
        fold = np.full(len(known), -1)
        real = np.flatnonzero(known & (lesson.origin == np.arange(len(known))))
        label = lesson.data.labels_of(lesson.target[real])
        part = fold_of(label, min(6, len(real)), seed=self.how.seed)
        fold[real[part == 0]] = 0
        aside = (fold[lesson.origin] == 0) & (fold != 0)
        return fold, aside

    def _learned(
        self,
        settings: Mapping[str, Any],
        rows: Rows,
        fold: Array,
        clock: Clock,
        aside: Array | None,
        *,
        again: bool = True,
    ) -> tuple[Any, bool]:
        """The model, and whether it was hurried: where no time was left, a booster gets a few rounds."""
        given: dict[str, Any] = {"seed": self.how.seed, "aside": aside}
        try:
            found = learn(self.student, settings, self.desk, rows, fold, clock=clock, again=again, **given)
            return found.model, False
        except OutOfTimeError as error:
            if "rounds" not in settings:
                raise InputError(f"{error}: raise the time limit, or take a quicker student") from error
        few = {**settings, "rounds": FEW, "patience": FEW, "step": 10}
        clock = Clock.seconds(ENDLESS)
        return learn(self.student, few, self.desk, rows, fold, clock=clock, again=False, **given).model, True

    def _member(self, model: Any, role: str, *, hurried: bool) -> Portable:
        lesson, how, fitted = self.lesson, self.how, self.lesson.fitted
        dense = self.student.learner.dense
        x = self.desk.dense() if dense else self.desk.x
        kind = "probabilities" if lesson.card.classes else lesson.card.kind
        card = Card(
            how.name,
            kind,
            classes=lesson.card.classes,
            levels=lesson.card.levels,
            cost=cost_of(model, x[: lesson.count], probabilities=bool(lesson.card.classes)),
            provenance={"learner": str(how.learner), "student": role, "seed": how.seed, "hurried": hurried},
        )
        return portable(card, fitted.encoder, model, view=fitted.view if dense else None)


def _hard_rows(truth: Array) -> Rows:
    """A row for each row with a truth."""
    at = np.flatnonzero(np.isfinite(truth).all(axis=1))
    y = truth[at, 0] if truth.shape[1] == 1 else truth[at].argmax(axis=1)
    return Rows(at, y, np.ones(len(at)))


@dataclass(frozen=True, eq=False)
class Own(School):
    """A learner of the user's own."""

    lesson: Lesson
    how: How
    learner: Learner[Any]

    def alone(self) -> Member[Any]:
        """What the learner makes of the truth."""
        truth = self.lesson.data.truth
        at = np.flatnonzero(np.isfinite(truth).all(axis=1))
        return self._fit(at, self.lesson.data.labels_of(truth[at]))

    def taught(self) -> Member[Any]:
        """What the learner makes of the mixed targets."""
        target = softened(self.lesson.target, self.how.temperature)
        at = np.flatnonzero(np.isfinite(target).all(axis=1))
        return self._fit(at, as_output(target[at], self.lesson.card))

    def _fit(self, rows: Array, truth: Output) -> Member[Any]:
        batch = {k: v[rows] for k, v in self.lesson.batch.items()}
        member = self.learner.fit(batch, truth, seed=self.how.seed)
        _check_student(member.card, self.lesson.card)
        return member


def _check_student(card: Card, teacher: Card) -> None:
    """Raises InputError where a student cannot express what its teacher answers."""
    wanted = "probabilities" if teacher.kind == "labels" else teacher.kind
    if card.kind not in (wanted, teacher.kind):
        raise InputError(
            f"the student {card.name!r} answers {card.kind}, the teacher {teacher.name!r} answers {wanted}: "
            "take a learner of that kind"
        )
    lost = [c for c in teacher.classes if c not in card.classes]
    if lost:
        raise InputError(
            f"the student {card.name!r} cannot express the classes {listed(lost)} of its teacher; it knows "
            f"{listed(card.classes)}"
        )
