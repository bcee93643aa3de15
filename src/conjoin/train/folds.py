"""Folds: which part of the rows each model is not shown, so that its answers there are honest.

A fold is a number per row; -1 is a row that every model is shown and nobody is scored on.
"""

from __future__ import annotations

import numpy as np

from conjoin.errors import InputError
from conjoin.outputs import Array

ALWAYS = -1
"""The fold of rows that every model learns from (the only row of a class)."""

COUNTS = ((20_000, 6), (300_000, 4))
"""Up to so many rows, so many folds; above the last, two. Even, so that two cores share them evenly."""


def count(rows: int) -> int:
    """How many folds for so many rows.

    >>> [count(n) for n in (4, 500, 5_000, 50_000, 10**6)]
    [4, 6, 6, 4, 2]
    """
    return max(2, min(rows, next((k for most, k in COUNTS if rows <= most), 2)))


def stratified(codes: Array, k: int, *, seed: int) -> Array:
    """(n,) fold of each row, every class spread evenly. The only row of a class gets `ALWAYS`.

    codes: (n,) int class of each row.
    """
    rng = np.random.default_rng(seed)
    folds = np.full(len(codes), ALWAYS, dtype=np.int64)
    start = 0
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        if len(rows) == 1:
            continue
        folds[rng.permutation(rows)] = (start + np.arange(len(rows))) % k
        start = (start + len(rows)) % k
    return _without_gaps(folds)


def spread(values: Array, k: int, *, seed: int) -> Array:
    """(n,) fold of each row for a numeric target: each run of k neighbours in order of value is dealt out."""
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(values)), values))
    blocks = -(-len(values) // k)
    deals = np.argsort(rng.random((blocks, k)), axis=1).ravel()[: len(values)]
    folds = np.empty(len(values), dtype=np.int64)
    folds[order] = deals
    return _without_gaps(folds)


def grouped(groups: Array, k: int, *, seed: int) -> Array:
    """(n,) fold of each row, no group in two folds: the largest group first, each to the lightest fold.

    groups: (n,) of anything that sorts. Raises InputError with fewer than two groups.
    """
    names, at, sizes = np.unique(groups.astype(str), return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise InputError(f"groups: all {len(groups)} rows are of one group; folds need at least two groups")
    rng = np.random.default_rng(seed)
    load = np.zeros(min(k, len(names)))
    fold_of = np.empty(len(names), dtype=np.int64)
    for g in np.lexsort((rng.random(len(names)), -sizes)):
        fold_of[g] = int(load.argmin())
        load[fold_of[g]] += sizes[g]
    return np.asarray(fold_of[at], dtype=np.int64)


def splits(folds: Array) -> tuple[tuple[Array, Array], ...]:
    """For each fold the rows to learn from and the rows to answer, both ascending."""
    return tuple((np.flatnonzero(folds != f), np.flatnonzero(folds == f)) for f in range(folds.max() + 1))


def _without_gaps(folds: Array) -> Array:
    """The same folds, numbered from 0 with none empty."""
    used = np.unique(folds[folds >= 0])
    table = np.full(int(folds.max()) + 2, ALWAYS)
    table[used] = np.arange(len(used))
    return np.asarray(table[folds], dtype=np.int64)
