"""What a learner is, and how boosters run their folds in step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from conjoin.errors import ConjoinError
from conjoin.outputs import Array, Json
from conjoin.train.budget import Clock
from conjoin.train.problem import Problem

Settings = Mapping[str, Any]
MOST_TREES = 1_500
"""Trees that a boosted member should not have more of, unless its settings say otherwise."""


class OutOfTimeError(ConjoinError):
    """The clock ran out before a learner had anything usable. The run goes on without it."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """One model, averaged over its folds, with its out-of-fold answers.

    model: a graph part (`emit(graph, x)`). answers: (n, width) float64 in the target's units; rows that no
    fold holds out are NaN. record: what it takes to fit the same again without a clock (rounds, penalties).
    """

    model: Any
    answers: Array
    record: Mapping[str, Json]


class Fit(Protocol):
    """Fits every fold of a problem."""

    def __call__(
        self,
        problem: Problem,
        settings: Settings,
        *,
        seed: int,
        clock: Clock,
        record: Mapping[str, Any] | None,
    ) -> Fitted:
        """With a record the clock is not asked. Raises OutOfTimeError."""


@dataclass(frozen=True, slots=True)
class Learner:
    """A row of the table of learners.

    seconds: CPU seconds that all folds take, a guess from rows, columns and settings. bytes: memory that it
    takes at once. dense: reads the dense view. module: the library it needs.
    """

    fit: Fit
    seconds: Callable[[Problem, Settings], float]
    bytes: Callable[[Problem, Settings], float]
    dense: bool = False
    module: str = "numpy"
    tasks: tuple[str, ...] = ("binary", "multiclass", "regression", "quantile")


class Boosted(Protocol):
    """One fold of a booster in training."""

    def ready(self) -> None:
        """What must be done in each thread before `grow` is called there."""

    def grow(self) -> None:
        """One more round."""

    def answers(self) -> Array:
        """(m, width) answers for the held-out rows, in the target's units."""

    def model(self, rounds: int) -> Any:
        """The graph part of the first so many rounds."""


@dataclass(frozen=True, eq=False)
class Rounds:
    """How far the folds of a booster went: the number of rounds to keep and the held-out answers there."""

    best: int
    answers: Array
    loss: float


def boost(
    problem: Problem,
    opened: Callable[[tuple[Array, Array]], Boosted],
    settings: Settings,
    *,
    clock: Clock,
    record: Mapping[str, Any] | None,
) -> Fitted:
    """Open a booster for each fold, grow them in step, convert and average the best rounds.

    settings: `rounds` at most, `patience` and `step` (see `in_step`).
    """
    from conjoin.graph.trees import Trees

    folds = list(problem.engine.map(opened, problem.splits))
    if record is None:
        done = in_step(problem, folds, settings, clock=clock)
    else:
        rounds = int(record["rounds"])
        list(problem.engine.map(_grow(rounds, Clock.endless()), folds))
        done = Rounds(rounds, pooled(problem, [f.answers() for f in folds]), 0.0)
    kept = bagged(problem, done.best, settings)
    model = Trees.mean([f.model(done.best) for f in folds[:kept]])
    return Fitted(model, done.answers, {"rounds": done.best})


def bagged(problem: Problem, rounds: int, settings: Settings) -> int:
    """How many folds' boosters are averaged: as many as `most_trees` allows, at least two.

    On california_housing the mean of 2, 3 and 6 folds had an RMSE of 46,397, 46,343 and 46,242 dollars: half
    the folds are nearly as good, and cost half the time for each row.
    """
    each = rounds * (1 if problem.task in ("binary", "regression") else problem.width)
    return max(2, min(len(problem.splits), int(settings.get("most_trees", MOST_TREES)) // each))


def in_step(problem: Problem, folds: Sequence[Boosted], settings: Settings, *, clock: Clock) -> Rounds:
    """Grow all folds together and keep the number of rounds whose pooled held-out loss is least.

    One number for all folds, taken from all rows: the held-out answers stay nearly as honest as those of a
    learner that stops nowhere. Every `step` rounds the loss is looked at; after `patience` rounds without a
    better one it ends. `slack`, 0 where absent: a loss counts as better if it is so by this share of the
    first one, squared for numbers, whose losses are roots. Raises OutOfTimeError where not even `step`
    rounds were possible.
    """
    best: Rounds | None = None
    done, step = 0, settings["step"]
    power = 2 if problem.task == "regression" else 1
    slack = 0.0
    while done < settings["rounds"]:
        size = step if done else 1  # the first look comes early, so that there is something to keep
        if min(problem.engine.map(_grow(size, clock), folds)) < size:
            break
        done += size
        answers = pooled(problem, [f.answers() for f in folds])
        loss = problem.loss(answers)
        if best is None:
            slack = settings.get("slack", 0.0) * loss**power
        if best is None or loss**power < best.loss**power - slack:
            best = Rounds(done, answers, loss)
        elif done - best.best >= settings["patience"]:
            break
    if best is None:
        raise OutOfTimeError("not even one round was possible in the time left")
    return best


def _grow(size: int, clock: Clock) -> Callable[[Boosted], int]:
    def grow(fold: Boosted) -> int:
        fold.ready()
        for k in range(size):
            if clock.over():
                return k
            fold.grow()
        return size

    return grow


def pooled(problem: Problem, parts: Sequence[Array]) -> Array:
    """(n, width) answers from those of each fold's held-out rows."""
    out = problem.empty()
    for (_, held), part in zip(problem.splits, parts, strict=True):
        out[held] = part
    return out


def in_units(problem: Problem, found: Sequence[Array]) -> Array:
    """(m, width) answers in the target's units.

    found: for two classes the probability of the second (m,), for more (m, K), for a number the standardised
    value (m,), for quantiles one such for each level; quantiles are sorted, so that they never cross.
    """
    if problem.task == "binary":
        return np.stack([1.0 - found[0], found[0]], axis=1)
    if problem.task == "multiclass":
        return found[0]
    values = np.stack(found, axis=1) * problem.scale + problem.shift
    return np.sort(values, axis=1)
