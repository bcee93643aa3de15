"""Folds over rows for fitting fusers: stratified by class, whole groups together, seeded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.problems import ClassProblem, ValueProblem
from conjoin.outputs import Array


def fold_numbers(n: int, folds: int, seed: int, *, strata: Array | None = None, groups: Any = None) -> Array:
    """(n,) int: the fold of each row, 0 to folds - 1.

    strata: (n,) int codes to spread evenly. groups: (n,) of anything; rows of a group share a fold, and then
    strata are not looked at. Raises OutputsError where there are fewer groups than folds.
    """
    rng = np.random.default_rng(seed)
    if groups is not None:
        return _group_folds(groups, folds, rng)
    order = rng.permutation(n)
    if strata is not None:
        order = order[np.argsort(strata[order], kind="stable")]
    out = np.empty(n, dtype=np.int64)
    out[order] = np.arange(n) % folds
    return out


def _group_folds(groups: Any, folds: int, rng: np.random.Generator) -> Array:
    _, inverse, counts = np.unique(np.asarray(groups).astype(str), return_inverse=True, return_counts=True)
    if len(counts) < folds:
        raise OutputsError(f"{len(counts)} groups cannot be spread over {folds} folds; give fewer folds")
    shuffled = rng.permutation(len(counts))
    fold_of, size = np.empty(len(counts), dtype=np.int64), np.zeros(folds)
    for g in shuffled[np.argsort(-counts[shuffled], kind="stable")]:
        fold_of[g] = int(size.argmin())
        size[fold_of[g]] += counts[g]
    return np.asarray(fold_of[inverse])


def folds_of(rows: ClassProblem | ValueProblem, folds: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """Row numbers to fit to and to test on, for each fold; fewer folds where there are fewer rows."""
    n = len(rows.shares)
    strata = rows.codes if isinstance(rows, ClassProblem) else None
    count = max(2, min(folds, n))
    number = fold_numbers(n, count, seed, strata=strata)
    for k in range(count):
        inside = number == k
        if inside.any() and not inside.all():
            yield np.flatnonzero(~inside), np.flatnonzero(inside)
