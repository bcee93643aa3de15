"""Fitting the features of columns of categories: codes, cross-fitted target statistics, frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from conjoin.contracts import Column
from conjoin.graph.encoder import Category

if TYPE_CHECKING:
    from conjoin.outputs import Array

SEVERAL = 32
"""Up to so many levels a column is a code 0, 1, ...; beyond, target statistics and frequency."""
CROWD = 100
"""A code with so many rows per level is ordered by the target. With fewer, the order would tell of single
rows' truth (with 80 rows per level the out-of-fold log-loss on credit_g was 0.013 too good): it is by
frequency then, and target statistics, which are cross-fitted, stand beside it."""
RARE = 5
"""Levels of such a column that have fewer rows are pooled."""
MOST_LEVELS = 20_000
"""At most so many levels of a column are remembered, the most frequent ones."""
_FLOOR = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The truth as statistics need it.

    values: (n, s) float64: indicators of classes, or standardised numbers. known: (n,) bool. folds: (n,) int
    from 0. names: s names. logits: how a mean becomes a feature: "log-odds" (one class), "log" (several), or
    "mean" (numbers).
    """

    values: Array
    known: Array
    folds: Array
    names: tuple[str, ...]
    scale: str


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A fitted column, and what its features are for the training rows where that is not what the table says.

    own: feature number -> (n,) float32 values of the training rows (statistics of the other folds).
    """

    category: Category
    own: dict[int, Array]


def fit_category(column: Column, values: Array, target: Target) -> Fitted | None:
    """Fit one column; None where nothing in it can tell rows apart.

    values: (n,) object array of str, "" where missing.
    """
    levels, codes = _levels(values)
    counts = np.bincount(codes, minlength=len(levels))
    if len(levels) < 2:
        return None
    if len(levels) <= SEVERAL:
        return _small(column, levels, _pool(counts, RARE), codes, target)
    return _large(column, levels, _pool(counts, 2), codes, target)


def _levels(values: Array) -> tuple[list[str], Array]:
    """The distinct values, sorted, and the place of each row's value among them."""
    given = values.tolist()
    levels = sorted(set(given))
    at = {v: k for k, v in enumerate(levels)}
    return levels, np.fromiter(map(at.__getitem__, given), np.int64, len(given))


def _pool(counts: Array, least: int) -> Array:
    """(L,) group of each level: frequent ones alone, most frequent first, all rare ones together at last."""
    order = np.lexsort((np.arange(len(counts)), -counts))
    alone = min(int((counts >= least).sum()), MOST_LEVELS)
    if alone == len(counts) - 1:
        alone = len(counts)
    groups = np.full(len(counts), alone, dtype=np.int64)
    groups[order[:alone]] = np.arange(alone)
    return groups


def _small(column: Column, levels: list[str], groups: Array, codes: Array, target: Target) -> Fitted | None:
    of_row = groups[codes]
    size = int(groups.max()) + 1
    if size < 2:
        return None
    statistics = _Statistics.of(of_row, size, target)
    name = column.name
    if target.known.sum() >= CROWD * size:
        rank = np.empty(size, dtype=np.int64)
        rank[np.argsort(_order(statistics), kind="stable")] = np.arange(size)
        unseen = rank[np.abs(_order(statistics)).argmin()] if groups.max() == len(levels) - 1 else rank[-1]
        table = np.append(rank, unseen)[:, None].astype(np.float32)
        return Fitted(Category(column, tuple(levels), groups, table, (name,), size), {})
    unseen = size - 1
    code = np.append(np.arange(size), unseen)[:, None]
    table = np.hstack([code, statistics.table()]).astype(np.float32)
    names = (name, *(f"{name}:{t}" for t in target.names))
    own = {1 + k: v for k, v in enumerate(statistics.own(of_row).T)}
    return Fitted(Category(column, tuple(levels), groups, table, names, size), own)


def _large(column: Column, levels: list[str], groups: Array, codes: Array, target: Target) -> Fitted | None:
    of_row = groups[codes]
    size = int(groups.max()) + 1
    if size < 2:
        return None
    statistics = _Statistics.of(of_row, size, target)
    members = np.bincount(groups, minlength=size)
    frequency = np.log1p(np.append(np.bincount(of_row, minlength=size) / members, 0.0))
    table = np.hstack([statistics.table(), frequency[:, None]]).astype(np.float32)
    names = (*(f"{column.name}:{t}" for t in target.names), f"{column.name}:frequency")
    own = dict(enumerate(statistics.own(of_row).T))
    kept = members[groups] == 1  # pooled levels need no entry of their own: see below
    pooled = size - 1 if not kept.all() else None
    if pooled is not None:
        table[-1] = table[pooled]
    rows = groups[kept]
    known = tuple(v for v, k in zip(levels, kept, strict=True) if k)
    return Fitted(Category(column, known, rows, table, names, 0), own)


def _order(statistics: _Statistics) -> Array:
    """(G,) a number per level by which to order them: its mean, or with several classes the first principal
    component of its means (Coppersmith, Hong, Hosking 1999), both as deviations from the whole.
    """
    means = statistics.means - statistics.prior
    if means.shape[1] == 1:
        return cast("Array", means[:, 0])
    weighted = means * np.sqrt(statistics.counts)[:, None]
    axis = np.linalg.svd(weighted, full_matrices=False)[2][0]
    axis = axis * np.sign(axis[np.abs(axis).argmax()])
    return cast("Array", means @ axis)


@dataclass(frozen=True, slots=True, eq=False)
class _Statistics:
    """Smoothed means of the target per level: (sum + weight * prior) / (count + weight).

    The weight is the empirical Bayes one: variance within levels over that between them (Micci-Barreca 2001).
    means: (G, s); prior: (s,); counts: (G,); other_means: (F, G, s) the same from the rows outside each fold.
    """

    means: Array
    prior: Array
    counts: Array
    other_means: Array
    target: Target

    @classmethod
    def of(cls, of_row: Array, size: int, target: Target) -> _Statistics:
        folds = int(target.folds.max()) + 1
        cell = (target.folds * size + of_row)[target.known]
        values = target.values[target.known]
        shape = (folds, size)
        counts = np.bincount(cell, minlength=folds * size).reshape(shape).astype(np.float64)
        sums = np.stack(
            [np.bincount(cell, weights=v, minlength=folds * size).reshape(shape) for v in values.T], axis=2
        )
        whole, total = counts.sum(axis=0), sums.sum(axis=0)
        fold, square = target.folds[target.known], (values**2).sum(axis=1)
        squares = np.bincount(fold, weights=square, minlength=folds)
        means, prior = _smoothed(whole, total, squares.sum())
        others = np.empty((folds, size, values.shape[1]))
        for f in range(folds):
            others[f] = _smoothed(whole - counts[f], total - sums[f], squares.sum() - squares[f])[0]
        return cls(means, prior, whole, others, target)

    def table(self) -> Array:
        """(G + 1, s) features per level; the last row is the prior, for levels never seen."""
        return _feature(np.vstack([self.means, self.prior]), self.target.scale)

    def own(self, of_row: Array) -> Array:
        """(n, s) float32 features of the training rows, from the rows outside their folds."""
        return _feature(self.other_means, self.target.scale).astype(np.float32)[self.target.folds, of_row]


def _smoothed(counts: Array, sums: Array, squares: float) -> tuple[Array, Array]:
    """Smoothed means (G, s) and the prior (s,) from counts (G,), sums (G, s) and the sum of squares."""
    prior = sums.sum(axis=0) / max(counts.sum(), 1.0)
    weight = _smoothing(counts, sums, squares)
    return (sums + weight * prior) / (counts + weight)[:, None], prior


def _smoothing(counts: Array, sums: Array, squares: float) -> float:
    some = counts > 0
    n, g = float(counts.sum()), int(some.sum())
    if g < 2 or n <= g:
        return 10.0
    means = sums[some] / counts[some, None]
    grand = sums.sum(axis=0) / n
    between = float((counts[some, None] * (means - grand) ** 2).sum())
    total = squares - n * float((grand**2).sum())
    within = max(total - between, 0.0) / (n - g)
    size = (n - float((counts**2).sum()) / n) / (g - 1)
    spread = (between / (g - 1) - within) / size
    return float(np.clip(within / spread, 1.0, 1000.0)) if spread > 0 else 1000.0


def _feature(means: Array, scale: str) -> Array:
    if scale == "mean":
        return means
    p = np.clip(means, _FLOOR, 1 - _FLOOR)
    return cast("Array", np.log(p / (1 - p)) if scale == "log-odds" else np.log(p))
