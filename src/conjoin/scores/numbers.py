"""Scores of values and of quantiles. e is answer - truth; w are the rows' weights, they sum to 1."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from conjoin.errors import TruthError
from conjoin.outputs import Array
from conjoin.scores.score import Case


def mse_rows(case: Case) -> Array:
    """e^2, mean over the H targets."""
    return np.asarray(((case.answer - case.truth) ** 2).mean(axis=1))


def mae_rows(case: Case) -> Array:
    """|e|, mean over the H targets."""
    return np.asarray(np.abs(case.answer - case.truth).mean(axis=1))


def mape_rows(case: Case) -> Array:
    """|e| / max(|y|, 2.2e-16), a share and not a percentage."""
    least = np.finfo(np.float64).eps
    return np.asarray((np.abs(case.answer - case.truth) / np.maximum(np.abs(case.truth), least)).mean(axis=1))


def smape_rows(case: Case) -> Array:
    """2 |e| / (|y| + |answer|), 0 where both are 0."""
    both = np.abs(case.answer) + np.abs(case.truth)
    ratio = np.divide(2 * np.abs(case.answer - case.truth), both, out=np.zeros_like(both), where=both > 0)
    return np.asarray(ratio.mean(axis=1))


def r2_rows(case: Case) -> Array:
    """e^2 / variance of the truth; 0 / 0 is 0. Their mean is 1 - R2."""
    centre = (case.weights[:, None] * case.truth).sum(axis=0)
    spread = (case.weights[:, None] * (case.truth - centre) ** 2).sum(axis=0)
    squares = (case.answer - case.truth) ** 2
    safe = np.where(spread > 0, spread, 1.0)
    return np.asarray(np.where(spread > 0, squares / safe, (squares > 0) * 1.0).mean(axis=1))


def squared_log_rows(case: Case) -> Array:
    """(log(1 + answer) - log(1 + y))^2; negative answers count as 0. Raises TruthError on y <= -1."""
    if len(case.truth) and float(case.truth.min()) <= -1:
        raise TruthError(f"rmsle needs a truth above -1; the least is {case.truth.min():g}")
    logs = np.log1p(np.maximum(case.answer, 0.0)) - np.log1p(case.truth)
    return np.asarray((logs**2).mean(axis=1))


def medae(case: Case) -> float:
    """Weighted median of |e|: the least value with at least half of the weight at or below it."""
    size = mae_rows(case)
    order = np.argsort(size, kind="stable")
    size, mass = size[order], np.cumsum(case.weights[order])
    at = int(np.searchsorted(mass, 0.5 - 1e-12))
    if abs(mass[at] - 0.5) <= 1e-12 and at + 1 < len(size):
        return float((size[at] + size[at + 1]) / 2)
    return float(size[at])


def pinball_rows(case: Case) -> Array:
    """max(q (y - v), (q - 1) (y - v)), mean over the levels q (Koenker and Bassett 1978)."""
    q = np.array(case.levels)
    e = case.truth - case.answer
    return np.asarray(np.maximum(q * e, (q - 1) * e).mean(axis=1))


def crps_rows(case: Case) -> Array:
    """Twice the pinball loss: the continuous ranked probability score, integrated over the given levels."""
    return 2 * pinball_rows(case)


def winkler_rows(case: Case) -> Array:
    """Interval score of the outermost pair of levels (Winkler 1972): width + 2/alpha x the miss."""
    low, high = case.answer[:, 0], case.answer[:, -1]
    alpha = 1 - (case.levels[-1] - case.levels[0])
    y = case.truth[:, 0]
    return np.asarray(high - low + 2 / alpha * (np.maximum(low - y, 0) + np.maximum(y - high, 0)))


def coverage_rows(case: Case) -> Array:
    """nominal - [low <= y <= high], with the sign of its mean: their mean is the error of the coverage."""
    y = case.truth[:, 0]
    inside = (case.answer[:, 0] <= y) & (y <= case.answer[:, -1])
    gap = (case.levels[-1] - case.levels[0]) - inside
    return np.asarray(np.sign((case.weights * gap).sum()) * gap)


def mean_of(rows: Callable[[Case], Array]) -> Callable[[Case], float]:
    """The weighted mean of these rows."""
    return lambda case: float((case.weights * rows(case)).sum())


def one_minus_mean_of(rows: Callable[[Case], Array]) -> Callable[[Case], float]:
    """1 - the weighted mean of these rows."""
    return lambda case: 1.0 - float((case.weights * rows(case)).sum())


def root_mean_of(rows: Callable[[Case], Array]) -> Callable[[Case], float]:
    """The root of the weighted mean of these rows."""
    return lambda case: math.sqrt(float((case.weights * rows(case)).sum()))


def root_rows_of(rows: Callable[[Case], Array]) -> Callable[[Case], Array]:
    """Root mean, linearised: r + (row - r^2) / (2 r); their mean is r."""

    def linear(case: Case) -> Array:
        found = rows(case)
        mean = float((case.weights * found).sum())
        root = math.sqrt(mean)
        return np.full(len(found), root) if root == 0 else np.asarray(root + (found - mean) / (2 * root))

    return linear
