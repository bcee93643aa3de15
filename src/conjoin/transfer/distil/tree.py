"""One decision tree, for people who want to read what a model does; its size is chosen on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import need
from conjoin.train.learners.base import Fitted, OutOfTimeError, Settings, pooled

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.train.budget import Clock
    from conjoin.train.problem import Problem

TASKS = ("binary", "multiclass", "regression")
LEAVES = (8, 16, 32, 64, 128, 256, 512)
"""Sizes that are tried."""
LEAST = 5
"""Rows of a leaf, at least."""


def fit(
    problem: Problem, settings: Settings, *, seed: int, clock: Clock, record: Mapping[str, Any] | None
) -> Fitted:
    """A tree for each size and fold, then one of the best size on all rows.

    Raises OutOfTimeError where not even the smallest was possible.
    """
    most = int(settings.get("leaves", LEAVES[-1]))
    sizes = [n for n in LEAVES if n <= most] or [most]
    if record is not None:
        sizes = [int(record["leaves"])]
    best: tuple[float, int, Array] | None = None
    for leaves in sizes:
        if best is not None and clock.over():
            break
        if record is None and clock.over():
            raise OutOfTimeError("no time was left to begin")
        answers = _answers(problem, leaves, seed)
        loss = problem.loss(answers)
        if best is None or loss < best[0]:
            best = (loss, leaves, answers)
    if best is None:
        raise OutOfTimeError("no time was left to begin")
    _, leaves, answers = best
    return Fitted(_part(problem, leaves, seed), answers, {"leaves": leaves})


def _answers(problem: Problem, leaves: int, seed: int) -> Array:
    parts = []
    for rows, held in problem.splits:
        grown = _grown(problem, rows, leaves, seed)
        x = problem.x[held]
        if problem.truth.classes:
            out = np.zeros((len(held), problem.width))
            out[:, grown.classes_.astype(int)] = grown.predict_proba(x)
        else:
            out = grown.predict(x)[:, None] * problem.scale + problem.shift
        parts.append(out)
    return pooled(problem, parts)


def _grown(problem: Problem, rows: Array, leaves: int, seed: int) -> Any:
    """A forest of one tree on all rows and columns."""
    names = {True: "RandomForestClassifier", False: "RandomForestRegressor"}
    make = getattr(need("sklearn.ensemble"), names[bool(problem.truth.classes)])
    grown = make(
        n_estimators=1,
        bootstrap=False,
        max_features=1.0,
        max_leaf_nodes=max(2, leaves),
        min_samples_leaf=LEAST,
        random_state=seed,
    )
    return grown.fit(problem.x[rows], problem.y[rows], sample_weight=problem.weight(rows))


def _part(problem: Problem, leaves: int, seed: int) -> Any:
    from conjoin.members.convert import forest_trees

    grown = _grown(problem, np.arange(len(problem)), leaves, seed)
    classes = len(problem.truth.classes)
    return forest_trees(grown, classes=classes, scale=problem.scale, shift=problem.shift)


def seconds(problem: Problem, settings: Settings) -> float:
    """CPU seconds of all sizes and folds."""
    n, d = problem.x.shape
    return float((len(problem.splits) * len(LEAVES) + 1) * 6e-8 * n * np.log2(n + 2) * d)


def memory(problem: Problem, settings: Settings) -> float:
    """Bytes: a copy of the rows and their order."""
    n, d = problem.x.shape
    return float(16.0 * n * d)
