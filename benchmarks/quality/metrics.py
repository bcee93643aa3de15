"""Measures on the test part, and the standard error of the difference between two systems.

Answers are aligned by class *name*: every system orders its classes in its own way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Names = NDArray[np.str_]

SMALLEST_PROBABILITY = 1e-15


@dataclass(frozen=True)
class Difference:
    """How much larger the first system's loss is (negative: the first is better), with its standard error."""

    value: float
    error: float


def class_losses(values: Floats, classes: Names, truth: Names) -> Floats:
    """Natural log-loss of each row; `values` is (n, K), `classes` (K,) and `truth` (n,) are names.

    Probabilities are clipped at 1e-15 and renormalised. A true class unknown to the system gets 1e-15.
    """
    clipped = np.clip(values.astype(np.float64), SMALLEST_PROBABILITY, 1.0)
    clipped /= clipped.sum(axis=1, keepdims=True)
    column = {name: index for index, name in enumerate(classes.tolist())}
    chosen = np.array([column.get(name, -1) for name in truth.tolist()])
    picked = np.where(chosen >= 0, clipped[np.arange(len(truth)), chosen], SMALLEST_PROBABILITY)
    return np.asarray(-np.log(picked), dtype=np.float64)


def squared_errors(values: Floats, truth: Floats) -> Floats:
    """Squared error of each row; both are (n,)."""
    return np.asarray((values.astype(np.float64) - truth) ** 2, dtype=np.float64)


def accuracy(values: Floats, classes: Names, truth: Names) -> float:
    """Share of rows whose most probable class is the true one."""
    return float(np.mean(classes[np.argmax(values, axis=1)] == truth))


def roc_auc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks, ties counted half; NaN when only one class is there."""
    order = np.argsort(scores, kind="stable")
    _, inverse, counts = np.unique(scores[order], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = np.empty(len(scores))
    ranks[order] = (ends - (counts - 1) / 2)[inverse]
    hits = int(positive.sum())
    misses = len(positive) - hits
    if hits == 0 or misses == 0:
        return math.nan
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def loss(per_row: Floats, *, classifies: bool) -> float:
    """One number of the row losses: the mean log-loss, or the root of the mean squared error."""
    mean = float(np.mean(per_row))
    return mean if classifies else math.sqrt(mean)


def loss_error(per_row: Floats, *, classifies: bool) -> float:
    """Standard error of `loss` over rows; for RMSE by the delta method."""
    scale = 1.0 if classifies else 1.0 / (2.0 * max(loss(per_row, classifies=False), 1e-300))
    return _standard_error(per_row * scale)


def difference(ours: Floats, theirs: Floats, *, classifies: bool) -> Difference:
    """Paired difference of two systems' losses on the same rows.

    For RMSE the delta method linearises each root at its own mean: d sqrt(m) = dm / (2 sqrt(m)).
    """
    value = loss(ours, classifies=classifies) - loss(theirs, classifies=classifies)
    if classifies:
        return Difference(value, _standard_error(ours - theirs))
    scaled = [part / (2.0 * max(loss(part, classifies=False), 1e-300)) for part in (ours, theirs)]
    return Difference(value, _standard_error(scaled[0] - scaled[1]))


def _standard_error(per_row: Floats) -> float:
    if len(per_row) < 2:
        return math.nan
    return float(np.std(per_row, ddof=1) / math.sqrt(len(per_row)))
