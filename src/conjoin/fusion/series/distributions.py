"""Fitting pools of distributions: CRPS-optimal weights, the beta transform, the spread.

All take (outputs, truth, *, weights, score, seed) and give a `DistributionPool`, or the best single member
(`Single`) where that has less loss on the same rows. At most `MOST` numbers are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.linear import fit_linear_pool
from conjoin.fusion.problems import ValueProblem, value_problem
from conjoin.fusion.series.quantile import DistributionPool, mixed, mixture_at
from conjoin.fusion.simplex import least_quadratic
from conjoin.fusion.single import guarded
from conjoin.fusion.threads import one_thread
from conjoin.scores.beta import beta_quantile

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.scores import Score

MOST = 2_000_000
"""Quantiles that a fit looks at; of more rows every second, third ... is taken."""
GRID = 24
"""Points by which a distribution is replaced where distances between two are needed."""


def fit_quantile_averaging(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
) -> Any:
    """Vincentization with the weights of least pinball loss: `fit_linear_pool` of quantiles.

    Weights of their own for each level (CRPS learning, Berrisch and Ziel 2023) are those of
    `fit_class_weights`. Raises OutputsError and TruthError.
    """
    _problem(outputs, truth, weights)
    return fit_linear_pool(outputs, truth, weights=weights, score=score, seed=seed)


def fit_distribution_pool(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
) -> Any:
    """The linear pool of distributions with the least continuous ranked probability score.

    CRPS(sum w F) = sum_m w_m E|X_m - y| - 1/2 sum_mk w_m w_k E|X_m - X_k|, a convex quadratic over the
    simplex (Thorey et al. 2017); each distribution is replaced by 24 points of equal mass. seed has no
    influence. Raises OutputsError and TruthError.
    """
    rows = _problem(outputs, truth, weights)
    with one_thread():
        pool = _record(rows, crps_weights(rows))
    return guarded(pool, outputs, truth, score, weights)


def fit_beta_transformed_pool(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
) -> Any:
    """`fit_distribution_pool`, recalibrated by a beta distribution (Ranjan and Gneiting 2010).

    alpha and beta have the greatest likelihood of the truth's probability integral transforms
    u_i = sum_m w_m F_m(y_i), drawn to 1 by ten rows' worth; 1 and 1 stay where these have less pinball loss.
    Raises OutputsError and TruthError.
    """
    rows = _problem(outputs, truth, weights)
    with one_thread():
        w = crps_weights(rows)
        u = np.clip(mixture_at(rows.stack, w, rows.target[:, 0]), 1e-6, 1 - 1e-6)
        n = 1.0 / float((rows.shares**2).sum())
        sides = [(n * float(rows.shares @ np.log(v)) - 10) / (n + 10) for v in (u, 1 - u)]
        a, b = likeliest_beta(*sides)
        wanted = np.array([beta_quantile(q, a, b) for q in rows.stack.levels])
        better = _pinball(rows, mixed(rows.stack, w, wanted)) < _pinball(
            rows, mixed(rows.stack, w, np.array(rows.stack.levels))
        )
        pool = _record(rows, w, alpha=a if better else 1.0, beta=b if better else 1.0)
    return guarded(pool, outputs, truth, score, weights)


def fit_spread_adjusted_pool(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
) -> Any:
    """`fit_distribution_pool` with the members' spread that has the least pinball loss, between 1/5 and 3.

    Raises OutputsError and TruthError.
    """
    rows = _problem(outputs, truth, weights)
    with one_thread():
        w, levels = crps_weights(rows), np.array(rows.stack.levels)
        some = rows.thinned_to(MOST // 10)
        found = math.exp(
            _least(
                lambda log: _pinball(some, mixed(some.stack, w, levels, spread=math.exp(log))),
                math.log(0.2),
                math.log(3.0),
            )
        )
        pool = _record(rows, w, spread=found)
    return guarded(pool, outputs, truth, score, weights)


def _problem(outputs: Mapping[str, Any], truth: Any, weights: Any) -> ValueProblem:
    rows = value_problem(outputs, truth, weights)
    if rows.stack.kind != "quantiles" or not rows.stack.levels:
        raise OutputsError(f"pools of distributions need quantiles with levels, not {rows.stack.kind}")
    return rows.thinned_to(MOST)


def _record(
    rows: ValueProblem, w: Array, *, spread: float = 1.0, alpha: float = 1.0, beta: float = 1.0
) -> DistributionPool:
    named = dict(zip(rows.stack.names, w.tolist(), strict=True))
    return DistributionPool(named, rows.stack.levels, spread, alpha, beta)


def _pinball(rows: ValueProblem, values: Array) -> float:
    e, q = rows.target - values, np.array(rows.stack.levels)
    return float(rows.shares @ np.maximum(q * e, (q - 1) * e).mean(axis=1))


def crps_weights(rows: ValueProblem) -> Array:
    """(M,) weights on the simplex with the least mean CRPS of the mixture."""
    members = len(rows.stack.names)
    rows = rows.thinned_to(max(1, MOST // (GRID * members)) * rows.stack.width)
    points, y = _points(rows), rows.target[:, 0]
    c = np.array([rows.shares @ np.abs(p - y[:, None]).mean(axis=1) for p in points])
    D = np.zeros((members, members))
    for m in range(members):
        for k in range(m, members):
            D[m, k] = D[k, m] = float(rows.shares @ between(points[m], points[k]))
    scale = max(float(c.max()), float(D.max()), 1e-300)
    H = 10 * D.max() / scale - D / scale  # a constant changes nothing on the simplex, and H is definite
    w = least_quadratic(H + 1e-9 * np.eye(members), c / scale, total=1.0)
    return np.asarray(w / w.sum())


def _points(rows: ValueProblem) -> Array:
    """(M, n, GRID): the members' quantiles at levels in the middle of GRID equal parts, rising."""
    levels = (np.arange(GRID) + 0.5) / GRID
    one = [mixed(rows.stack.only([name]), np.ones(1), levels) for name in rows.stack.names]
    return np.array(one)


def between(a: Array, b: Array) -> Array:
    """(n,): E|X - X'| for X, X' drawn from the rising points a and b (n, P) of a row.

    With the points of both in order: the area between and beside the two distribution functions,
    integral of F (1 - G) + G (1 - F).
    """
    count = a.shape[1]
    both = np.concatenate([a, b], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    x = np.take_along_axis(both, order, axis=1)
    F = np.cumsum(order < count, axis=1)[:, :-1] / count
    G = np.cumsum(order >= count, axis=1)[:, :-1] / b.shape[1]
    return np.asarray((np.diff(x, axis=1) * (F * (1 - G) + G * (1 - F))).sum(axis=1))


def likeliest_beta(log_u: float, log_rest: float) -> tuple[float, float]:
    """The parameters of the beta distribution with these means of log u and log(1 - u): Newton steps.

    Within 1/20 and 20, since a fit to few rows can run away.

    >>> a, b = likeliest_beta(-1.0, -1.0)
    >>> round(a, 6), round(b, 6)
    (1.0, 1.0)
    """
    a = b = 1.0
    for _ in range(100):
        both, more = digamma(a + b), trigamma(a + b)
        ga, gb = digamma(a) - both - log_u, digamma(b) - both - log_rest
        ha, hb = trigamma(a) - more, trigamma(b) - more
        det = ha * hb - more * more
        da, db = -(hb * ga + more * gb) / det, -(more * ga + ha * gb) / det
        size = min(1.0, 0.5 * a / max(abs(da), 1e-300), 0.5 * b / max(abs(db), 1e-300))
        a, b = (min(max(v, 0.05), 20.0) for v in (a + size * da, b + size * db))
        if max(abs(size * da), abs(size * db)) < 1e-12:
            break
    return a, b


def digamma(x: float) -> float:
    """The derivative of log Gamma, for x > 0.

    >>> round(digamma(1.0), 12)
    -0.577215664902
    """
    out = 0.0
    while x < 10:
        out -= 1 / x
        x += 1
    z = 1 / (x * x)
    series = z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z * (1 / 240 - z / 132))))
    return out + math.log(x) - 0.5 / x - series


def trigamma(x: float) -> float:
    """The second derivative of log Gamma, for x > 0.

    >>> round(trigamma(1.0), 12)
    1.644934066848
    """
    out = 0.0
    while x < 10:
        out += 1 / (x * x)
        x += 1
    z = 1 / (x * x)
    return out + 1 / x + z / 2 + z / x * (1 / 6 - z * (1 / 30 - z * (1 / 42 - z * (1 / 30 - z * 5 / 66))))


def _least(loss: Callable[[float], float], low: float, high: float) -> float:
    """The x with the least loss of one valley: golden section, 30 steps."""
    part = (math.sqrt(5) - 1) / 2
    a, b = high - part * (high - low), low + part * (high - low)
    fa, fb = loss(a), loss(b)
    for _ in range(28):
        if fa <= fb:
            high, b, fb = b, a, fa
            a = high - part * (high - low)
            fa = loss(a)
        else:
            low, a, fa = a, b, fb
            b = low + part * (high - low)
            fb = loss(b)
    return a if fa <= fb else b
