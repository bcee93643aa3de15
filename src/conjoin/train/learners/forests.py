"""Forests of scikit-learn: extra trees and random forest, grown a few trees at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from conjoin.errors import need
from conjoin.outputs import Array
from conjoin.train.budget import Clock
from conjoin.train.learners.base import Fitted, OutOfTimeError, Settings, in_units, pooled
from conjoin.train.problem import Problem

PARTS = 4
"""The forest on all rows is grown in so many parts, which fit side by side."""
TASKS = ("binary", "multiclass", "regression")
NAMES = {
    ("extra", True): "ExtraTreesClassifier",
    ("extra", False): "ExtraTreesRegressor",
    ("random", True): "RandomForestClassifier",
    ("random", False): "RandomForestRegressor",
}


def fit_extra(
    problem: Problem, settings: Settings, *, seed: int, clock: Clock, record: Mapping[str, Any] | None
) -> Fitted:
    """Extra trees: thresholds are drawn at random."""
    return _fit("extra", problem, settings, seed=seed, clock=clock, record=record)


def fit_random(
    problem: Problem, settings: Settings, *, seed: int, clock: Clock, record: Mapping[str, Any] | None
) -> Fitted:
    """Random forest: rows are drawn with replacement for each tree."""
    return _fit("random", problem, settings, seed=seed, clock=clock, record=record)


def _fit(
    kind: str,
    problem: Problem,
    settings: Settings,
    *,
    seed: int,
    clock: Clock,
    record: Mapping[str, Any] | None,
) -> Fitted:
    """Forests of all folds for the held-out answers, then one on all rows, which is the model.

    A forest needs no held-out rows to stop; one on all rows is better and smaller than those of the folds.
    Where the clock does not allow it, the model is the folds' forests.
    """
    wanted = settings["trees"] if record is None else int(record["trees"])
    rows = [learn for learn, _ in problem.splits]
    forests = [_new(kind, problem, settings, seed + f) for f in range(len(rows))]
    begin = time.monotonic()
    trees = _grow(
        problem, forests, rows, wanted, settings["step"], clock if record is None else Clock.endless()
    )
    per_tree = (time.monotonic() - begin) / (trees * len(rows))
    held = zip(forests, problem.splits, strict=True)
    answers = pooled(problem, [_held_out(problem, f, s[1]) for f, s in held])
    if record is None:
        final = min(settings["final"], int(clock.left() / (1.4 * per_tree)))
    else:
        final = int(record["final"])
    if final < trees:
        return Fitted(_part(problem, forests), answers, {"trees": trees, "final": 0})
    parts = [_new(kind, problem, settings, seed + 1_000 + f) for f in range(PARTS)]
    everything = [np.arange(len(problem))] * PARTS
    share = -(-final // PARTS)
    _grow(problem, parts, everything, share, share, Clock.endless())
    return Fitted(_part(problem, parts), answers, {"trees": trees, "final": final})


def _part(problem: Problem, forests: Sequence[Any]) -> Any:
    from conjoin.graph.trees import Trees
    from conjoin.members.convert import forest_trees

    classes = len(problem.truth.classes)
    return Trees.mean(
        [forest_trees(f, classes=classes, scale=problem.scale, shift=problem.shift) for f in forests]
    )


def _new(kind: str, problem: Problem, settings: Settings, seed: int) -> Any:
    ensemble = need("sklearn.ensemble")
    make = getattr(ensemble, NAMES[kind, bool(problem.truth.classes)])
    return make(n_estimators=1, n_jobs=1, random_state=seed, warm_start=True, **settings["model"])


def _grow(
    problem: Problem, forests: Sequence[Any], rows: Sequence[Array], wanted: int, step: int, clock: Clock
) -> int:
    """Grow all forests in step to the wanted number of trees, or to what the clock allows."""
    done = 0
    while done < wanted:
        size = min(step if done else min(2, step), wanted - done)
        if clock.over():
            break

        def grow(task: tuple[Any, Array], goal: int = done + size) -> None:
            forest, learn = task
            forest.set_params(n_estimators=goal)
            forest.fit(problem.x[learn], problem.y[learn], sample_weight=problem.weight(learn))

        list(problem.engine.map(grow, zip(forests, rows, strict=True)))
        done += size
    if not done:
        raise OutOfTimeError("not even one tree was possible in the time left")
    return done


def _held_out(problem: Problem, forest: Any, rows: Array) -> Array:
    x = problem.x[rows]
    if not problem.truth.classes:
        return in_units(problem, [forest.predict(x)])
    out = np.zeros((len(rows), problem.width))
    out[:, forest.classes_.astype(int)] = forest.predict_proba(x)
    return out


def seconds(problem: Problem, settings: Settings) -> float:
    """CPU seconds of all folds: sorting the drawn features of every node."""
    n, d = problem.x.shape
    drawn = settings["model"].get("max_features", 1.0)
    used = np.sqrt(d) if drawn == "sqrt" else max(1.0, float(drawn) * d)
    sort = 6e-8 if "bootstrap" in settings["model"] else 2e-8
    bounded = 0.5 if "max_leaf_nodes" in settings["model"] else 1.0
    return float(
        (len(problem.splits) * settings["trees"] + settings["final"])
        * (bounded * sort * n * np.log2(n + 2) * used + 1e-3)
    )


def memory(problem: Problem, settings: Settings) -> float:
    """Bytes of the grown trees and of copies of the rows."""
    n, d = problem.x.shape
    leaves = min(n, settings["model"].get("max_leaf_nodes") or n)
    nodes = 2.0 * leaves * (64 + 8 * problem.width) * settings["trees"]
    return float(len(problem.splits) * nodes + 8.0 * n * d)
