"""The network of `fusion.network` (several multilayer perceptrons in one), a model for each fold."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from conjoin.outputs import Array, Json
from conjoin.train.budget import Clock
from conjoin.train.learners.base import Fitted, OutOfTimeError, Settings, pooled
from conjoin.train.problem import Problem

COMMON = 3_000
"""Up to so many rows all folds take the same number of steps: held-out parts are so small that stopping each
where its own loss is least would make the out-of-fold answers look better than they are."""


def fit(
    problem: Problem, settings: Settings, *, seed: int, clock: Clock, record: Mapping[str, Any] | None
) -> Fitted:
    """Networks of all folds, each stopped early on its held-out rows; answers are averaged.

    On small tables they are then trained once more, all to the median number of steps.
    """
    from conjoin.graph.average import Average

    if record is None and clock.over():
        raise OutOfTimeError("no time was left to begin")
    if record is None:
        begin = time.monotonic()
        found = _folds(problem, settings, seed, clock, [None] * len(problem.splits))
        enough = clock.left() > 1.3 * (time.monotonic() - begin)
        if len(problem) <= COMMON and enough:
            found = _folds(problem, settings, seed, clock, _common([f.steps for f in found]))
    else:
        found = _folds(problem, settings, seed, Clock.endless(), record["steps"])
    parts = [
        _answers(f.weights, problem.dense[held]) for f, (_, held) in zip(found, problem.splits, strict=True)
    ]
    steps: list[Json] = [[f.steps.planned, f.steps.kept] for f in found]
    return Fitted(Average.of([f.weights for f in found]), pooled(problem, parts), {"steps": steps})


def _common(steps: Sequence[Any]) -> list[list[int]]:
    """The same share of the planned steps for every fold: the median of their shares."""
    share = float(np.median([s.kept / max(1, s.planned) for s in steps]))
    return [[s.planned, max(1, round(share * s.planned))] for s in steps]


def _folds(
    problem: Problem, settings: Settings, seed: int, clock: Clock, steps: Sequence[Any]
) -> Sequence[Any]:
    """Fit all folds. They run two or more at a time, so each gets its share of the time."""
    waves = -(-len(problem.splits) // problem.engine.count)
    share = clock.left() / waves
    dense = problem.dense

    def one(task: tuple[int, tuple[Array, Array], Any]) -> Any:
        fold, split, repeat = task
        part = clock.within(share)
        return _fold(problem, dense, split, settings, seed=seed + fold, clock=part, repeat=repeat)

    tasks = [(f, s, r) for f, (s, r) in enumerate(zip(problem.splits, steps, strict=True))]
    return list(problem.engine.map(one, tasks))


def _fold(
    problem: Problem,
    dense: Array,
    split: tuple[Array, Array],
    settings: Settings,
    *,
    seed: int,
    clock: Clock,
    repeat: Any,
) -> Any:
    from conjoin.fusion.network import Recipe, Steps, fit_network

    rows, held = split
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["model"].items()}
    kind = {"regression": "values", "quantile": "quantiles"}.get(problem.task, "classes")
    y = problem.y if problem.truth.classes else problem.y * problem.scale + problem.shift
    check = None if repeat is not None else (dense[held], y[held], problem.weight(held))
    return fit_network(
        dense[rows],
        y[rows],
        task=kind,  # type: ignore[arg-type]  # one of the three names
        n_outputs=problem.width,
        seed=seed,
        recipe=Recipe(**given),
        levels=problem.truth.levels,
        weights=problem.weight(rows),
        validation=check,
        steps=None if repeat is None else Steps(*repeat),
        deadline=clock.deadline if repeat is None and math.isfinite(clock.deadline) else None,
        stop=clock.stopped.is_set if repeat is None else None,
    )


def _answers(weights: Any, dense: Array) -> Array:
    found = np.asarray(weights.forward(dense), dtype=np.float64)
    return found.reshape(len(dense), -1)


def seconds(problem: Problem, settings: Settings) -> float:
    """CPU seconds of all folds: multiplications of all layers, forth and back."""
    n, e = len(problem), problem.dense.shape[1]
    model = settings["model"]
    hidden = model.get("hidden", (192, 128))
    members = model.get("members", 4)
    epochs = model.get("epochs") or (30 if n > 5_000 else 60)
    wide = min(6 * e, 400) * hidden[0] + members * sum(a * b for a, b in pairwise(hidden))
    return float(
        0.25 * len(problem.splits) * epochs * n * (6.0 * wide / 1.5e10 + members * sum(hidden) * 4e-9)
    )


def memory(problem: Problem, settings: Settings) -> float:
    """Bytes: the rows and their expansion in chunks, of the folds that run at once."""
    n, e = len(problem), problem.dense.shape[1]
    return float(2 * problem.engine.count * 4.0 * n * e + 5e7)
