"""The students that have names: learners of `conjoin.fit`, fitted as one model, and one decision tree."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.engine import Local
from conjoin.errors import InputError, listed, nearest
from conjoin.fusion.network_weights import NetworkWeights
from conjoin.graph.linear import Linear
from conjoin.graph.trees import Trees
from conjoin.scores import SCORES
from conjoin.train.budget import Clock
from conjoin.train.learners import LEARNERS, Fitted, Learner
from conjoin.train.portfolio import PORTFOLIO
from conjoin.train.prepare import DEFAULT_SCORES
from conjoin.train.problem import Problem, standard
from conjoin.train.truth import Truth
from conjoin.transfer.distil import tree

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.transfer.distil.targets import Rows

TREES = 4_000
"""Trees that a taught booster has at most; every class and every quantile level has trees of its own."""
ROUNDS = (60, 500)
"""Fewest and most rounds of a taught booster."""
SLACK = 0.0005
"""A taught booster stops where rounds gain less than this share of the loss that it began with. Curves of
development rows (abalone, phoneme, telco): it keeps 80 to 300 of 500 rounds, and loses 0.02 of the share."""


@dataclass(frozen=True, slots=True)
class Student:
    """A learner that can be taught.

    learner: of the table of learners. entry: its name in the portfolio, "" for `settings` alone. taught:
    hyperparameters where a teacher's answers are learned: they have little noise, so rows need not be drawn
    and steps may be greater. scored: the model has scores that can be multiplied by a temperature.
    """

    learner: Learner
    entry: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    taught: Mapping[str, Any] = field(default_factory=dict)
    scored: bool = True


STUDENTS: dict[str, Student] = {
    "lightgbm": Student(LEARNERS["lightgbm"], "lightgbm", taught={
        "learning_rate": 0.1, "bagging_freq": 0, "bagging_fraction": 1.0, "feature_fraction": 0.8,
        "lambda_l2": 0.1, "min_data_in_leaf": 5, "num_leaves": 127,
    }),
    "xgboost": Student(LEARNERS["xgboost"], "xgboost", taught={
        "eta": 0.1, "subsample": 1.0, "colsample_bytree": 0.8, "lambda": 0.5, "min_child_weight": 0.1,
    }),
    "catboost": Student(LEARNERS["catboost"], "catboost", taught={
        "learning_rate": 0.2, "l2_leaf_reg": 0.5, "rsm": 0.8, "boosting_type": "Plain",
    }),
    "extra_trees": Student(LEARNERS["extra_trees"], "extra_trees", scored=False),
    "random_forest": Student(LEARNERS["random_forest"], "random_forest", scored=False),
    "linear": Student(LEARNERS["linear"], "linear"),
    "mlp": Student(LEARNERS["network"], "network", taught={"dropout": 0.0, "weight_decay": 0.005}),
    "tree": Student(
        Learner(tree.fit, tree.seconds, tree.memory, module="sklearn", tasks=tree.TASKS), scored=False
    ),
}  # fmt: skip
"""The students by name. Neighbours are none of them: they store rows and take no weights."""


def student_of(name: str, task: str, rows: int, classes: int) -> Student:
    """The student of this name with its settings for such a table.

    Raises InputError on an unknown name, and on a student that cannot express the teacher's answers.
    """
    if name not in STUDENTS:
        raise InputError(f"no student {name!r}{nearest(name, STUDENTS)}; there are {listed(STUDENTS)}")
    student = STUDENTS[name]
    if task not in student.learner.tasks:
        able = [n for n, s in STUDENTS.items() if task in s.learner.tasks]
        raise InputError(
            f"a student {name!r} cannot learn {_spoken(task)}; it learns "
            f"{listed(_spoken(t) for t in student.learner.tasks)}. Students that can: {listed(able)}"
        )
    return replace(student, settings=_settings(student, task, rows, classes))


def _spoken(task: str) -> str:
    names = {"binary": "two classes", "multiclass": "several classes", "regression": "numbers"}
    return names.get(task, "quantiles")


def _settings(student: Student, task: str, rows: int, classes: int) -> dict[str, Any]:
    """Of the portfolio's entries for the learner: the first for such a table, else the first of all."""
    if not student.entry:
        return {"model": {}}
    mine = [e for e in PORTFOLIO if e.name == student.entry]

    def distance(k: int) -> tuple[bool, bool, bool, int]:
        e = mine[k]
        fits = not classes or e.classes[0] <= classes <= e.classes[1]
        return (not fits, task not in e.tasks, not e.rows[0] <= rows <= e.rows[1], k)

    return dict(mine[min(range(len(mine)), key=distance)].settings)


def taught_settings(student: Student, width: int) -> dict[str, Any]:
    """Its settings where it learns a teacher's answers, which have `width` columns."""
    settings = {**student.settings, "model": {**student.settings.get("model", {}), **student.taught}}
    if "rounds" in settings:
        least, most = ROUNDS
        each = 1 if width <= 2 else width
        settings |= {
            "rounds": max(least, min(most, TREES // each)),
            "patience": 50,
            "step": 10,
            "slack": SLACK,
        }
    return settings


@dataclass(frozen=True, eq=False)
class Desk:
    """What a student sees: features x (n, d) and dense features (n, e) of all rows, real and made.

    truth: the task with classes or levels. threads: for folds.
    """

    truth: Truth
    x: Array
    dense: Callable[[], Array]
    threads: int

    def problem(self, rows: Rows, fold: Array) -> Problem:
        """A problem of weighted rows. fold: (m,) of each of them."""
        equal = bool((rows.weight == rows.weight[0]).all())
        weights = None if equal else rows.weight * (len(rows.weight) / rows.weight.sum())
        y, shift, scale = (rows.y, 0.0, 1.0) if self.truth.classes else standard(rows.y, weights)
        return Problem(
            truth=replace(self.truth, rows=np.arange(len(rows.y)), y=rows.y),
            x=np.ascontiguousarray(self.x[rows.index]),
            y=y,
            fold=fold,
            weights=weights,
            score=SCORES[DEFAULT_SCORES[self.truth.task]],
            engine=Local(self.threads),
            make_dense=lambda: np.ascontiguousarray(self.dense()[rows.index]),
            shift=shift,
            scale=scale,
        )


def learn(
    student: Student,
    settings: Mapping[str, Any],
    desk: Desk,
    rows: Rows,
    fold: Array,
    *,
    seed: int,
    clock: Clock,
    aside: Array | None = None,
    again: bool = True,
) -> Fitted:
    """One model of these rows: first with rows held out, to find when to stop, then again on all of them.

    fold: (n,) of the desk's rows: in which a row is held out, -1 never. aside: (n,) rows that are left out of
    the first fit, because they were made of held-out ones. Where there is no time for the second fit, the
    first is kept. Raises OutOfTimeError.
    """
    begin = time.monotonic()
    part = rows if aside is None else rows.of(~aside)
    problem = desk.problem(part, fold[part.index])
    time_of_first = clock.within((0.5 if again else 0.9) * clock.left())
    first = student.learner.fit(problem, settings, seed=seed, clock=time_of_first, record=None)
    if not again or not student.entry:
        return first
    taken = (time.monotonic() - begin) * (1.3 / max(1, len(problem.splits) - 1))
    if clock.left() < taken:
        return first
    return student.learner.fit(
        _whole(desk, rows), settings, seed=seed, clock=clock, record=_single(first.record)
    )


def _whole(desk: Desk, rows: Rows) -> Problem:
    """All rows to learn from. A learner always holds something out: here a copy of the last row."""
    copied = type(rows)(*(np.append(a, a[-1:]) for a in (rows.index, rows.y, rows.weight)))
    fold = np.full(len(copied.y), -1)
    fold[-1] = 0
    return desk.problem(copied, fold)


def _single(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a fit with several folds, for one."""
    steps = record.get("steps")
    if steps is None:
        return dict(record)
    middle = sorted(steps, key=lambda s: s[1] / max(1, s[0]))[len(steps) // 2]
    return {"steps": [middle]}


def at_temperature(model: Any, temperature: float) -> Any:
    """The model with its scores multiplied by the temperature. Raises InputError where it has none."""
    if temperature == 1:
        return model
    if isinstance(model, Trees) and model.link in ("sigmoid", "softmax"):
        return replace(model, weight=model.weight * temperature, base=model.base * temperature)
    if isinstance(model, Linear) and model.link in ("sigmoid", "softmax"):
        kind = model.coefficients.dtype
        slopes, intercept = (np.asarray(a * temperature, kind) for a in (model.coefficients, model.intercept))
        return replace(model, coefficients=slopes, intercept=intercept)
    if isinstance(model, NetworkWeights) and model.task == "classes":
        kind = model.head.dtype
        head, bias = (np.asarray(a * temperature, dtype=kind) for a in (model.head, model.head_bias))
        return replace(model, head=head, head_bias=bias)
    raise InputError("this student has no scores, so it learns at temperature 1 only")
