"""Nearest neighbours: the number of them and how much the prior counts are chosen on the held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from conjoin.graph.neighbours import Neighbours, search
from conjoin.outputs import Array
from conjoin.train.budget import Clock
from conjoin.train.learners.base import Fitted, OutOfTimeError, Settings, pooled
from conjoin.train.problem import Problem

TASKS = ("binary", "multiclass", "regression")
COUNTS = (8, 16, 32, 64)
SMOOTH = (0.1, 1.0)


def fit(
    problem: Problem, settings: Settings, *, seed: int, clock: Clock, record: Mapping[str, Any] | None
) -> Fitted:
    """Stores (at most `rows` of) the rows; held-out answers come from the stored rows of the other folds."""
    if record is None and clock.over():
        raise OutOfTimeError("no time was left to begin")
    kept = _kept(problem, settings["stored"], seed)
    whole = _whole(problem)
    tried = _tried(problem, kept) if record is None else [(int(record["k"]), float(record["smooth"]))]
    time = clock if record is None else Clock.endless()

    def near(split: tuple[Array, Array]) -> tuple[Array, Array]:
        if time.over():
            raise OutOfTimeError("the time ran out while neighbours were searched")
        rows = np.intersect1d(kept, split[0], assume_unique=True)
        at, squares = search(whole.rows[rows], whole.rows[split[1]], tried[-1][0])
        return rows[at], squares

    found = list(problem.engine.map(near, problem.splits))
    models = [replace(whole, k=k, smooth=s) for k, s in tried]
    answers = [
        pooled(problem, [m.answer(m.codes[at[:, : m.k]], squares[:, : m.k]) for at, squares in found])
        for m in models
    ]
    best = int(np.argmin([problem.loss(a) for a in answers])) if len(tried) > 1 else 0
    model = _stored(models[best], kept)
    return Fitted(model, answers[best], {"k": model.k, "smooth": model.smooth})


def _kept(problem: Problem, most: int, seed: int) -> Array:
    """The rows that are stored: all, or so many drawn from each class alike."""
    n = len(problem)
    if n <= most:
        return np.arange(n)
    drawn = np.random.default_rng(seed).permutation(n)[:most]
    if problem.truth.classes:
        _, firsts = np.unique(problem.y, return_index=True)
        drawn = np.union1d(drawn, firsts)
    return np.sort(drawn)


def _tried(problem: Problem, kept: Array) -> list[tuple[int, float]]:
    """Pairs of k and smooth, k rising, none more than the rows that every fold has."""
    least = min(int(np.isin(kept, rows).sum()) for rows, _ in problem.splits)
    return [(k, s) for k in sorted({min(k, least) for k in COUNTS}) for s in SMOOTH]


def _whole(problem: Problem) -> Neighbours:
    """All rows stored."""
    weight = np.ones(problem.dense.shape[1], np.float32)
    rows = np.ascontiguousarray(problem.dense * weight)
    if problem.truth.classes:
        table = np.eye(problem.width, dtype=np.float32)
        share = np.bincount(problem.y, weights=problem.weights, minlength=problem.width)
        prior = (share / share.sum()).astype(np.float32)
        return Neighbours(rows, weight, problem.y.astype(np.int32), table, prior, 1, 0.0)
    codes = np.arange(len(problem), dtype=np.int32)
    return Neighbours(
        rows,
        weight,
        codes,
        problem.y[:, None].astype(np.float32),
        np.zeros(1, np.float32),
        1,
        0.0,
        values=True,
        scale=problem.scale,
        shift=problem.shift,
    )


def _stored(whole: Neighbours, kept: Array) -> Neighbours:
    """The same with the rows kept alone."""
    if whole.values:
        codes = np.arange(len(kept), dtype=np.int32)
        return replace(whole, rows=whole.rows[kept], codes=codes, table=whole.table[kept])
    return replace(whole, rows=whole.rows[kept], codes=whole.codes[kept])


def seconds(problem: Problem, settings: Settings) -> float:
    """CPU seconds: one distance for each pair of rows."""
    n, e = problem.dense.shape
    return float(n * min(n, settings["stored"]) * (e * 1.5e-10 + 4e-9))


def memory(problem: Problem, settings: Settings) -> float:
    """Bytes: the stored rows, and distances of a chunk on each thread."""
    n, e = problem.dense.shape
    stored = min(n, settings["stored"])
    return float(8.0 * n * e + problem.engine.count * 512 * stored * 16 + n * COUNTS[-1] * 24)
