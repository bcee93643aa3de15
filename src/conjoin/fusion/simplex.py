"""Convex optima over non-negative weights: active sets, Newton steps, certified gaps. Our own solvers.

`least_quadratic`   min 1/2 x'Hx + c'x, x >= 0 (a step of everything else; Lawson and Hanson 1974)
`likeliest_mixture` min -sum_i s_i log(sum_m w_m P_mi) over the simplex, to a certified duality gap
`least_squares_mixture`  min w'Gw over the simplex, G the matrix of products of residuals
`least_pinball_mixture`  min sum_iq max(q e, (q - 1) e) over the simplex, to a certified gap
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conjoin.errors import OutputsError
from conjoin.outputs import Array

SMALLEST = 1e-15
"""Probabilities of the true class are clipped here before the logarithm."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """weights (M,) on the simplex, the loss there, and an upper bound of how far it is above the minimum."""

    weights: Array
    loss: float
    gap: float
    steps: int


def least_quadratic(
    H: Array, c: Array, start: Array | None = None, *, total: float | None = None, steps: int = 1000
) -> Array:
    """The x >= 0 with least 1/2 x'Hx + c'x, and with sum `total` where it is given.

    H (k, k) is positive semi-definite, c (k,). A ridge of 1e-13 of the mean diagonal keeps duplicates
    solvable. Active set: solve for the free entries, go to the boundary where the solution leaves it, free
    the entry with the steepest descent, until none descends. start: x to begin at; it is scaled to the sum.
    """
    k = len(c)
    scale = float(np.trace(H)) / max(k, 1)
    H = H + (1e-13 * scale or 1e-300) * np.eye(k)
    tolerance = 1e-12 * max(float(np.abs(c).max(initial=0.0)), scale, 1e-300)
    x = _start(H, c, start, total)
    free = x > 0
    for _ in range(steps):
        x, level = _settle(H, c, x, free, total)
        free = x > 0
        slope = np.where(free, 0.0, H @ x + c - level)
        best = int(slope.argmin()) if k else 0
        if not k or slope[best] >= -tolerance:
            break
        free[best] = True
    return x


def _start(H: Array, c: Array, start: Array | None, total: float | None) -> Array:
    x = np.zeros(len(c)) if start is None else np.maximum(start, 0.0)
    if total is not None and len(c):
        if start is None:
            x[int((np.diag(H) * total / 2 + c).argmin())] = total
        x *= total / x.sum()
    return x


def _settle(H: Array, c: Array, x: Array, free: Array, total: float | None) -> tuple[Array, float]:
    """Minimise over the free entries; those that would turn negative stop at 0 and are bound.

    Returns x and the slope that all free entries share (0 without a sum).
    """
    while free.any():
        at = np.flatnonzero(free)
        inner = H[np.ix_(at, at)]
        level = 0.0
        if total is None:
            goal = np.linalg.solve(inner, -c[at])
        else:
            both = np.linalg.solve(inner, np.stack([-c[at], np.ones(len(at))], axis=1))
            level = (total - float(both[:, 0].sum())) / float(both[:, 1].sum())
            goal = both[:, 0] + level * both[:, 1]
        if (goal > 0).all():
            x = np.zeros_like(x)
            x[at] = goal
            return x, level
        here = x[at]
        falling = np.flatnonzero(goal <= 0)
        drop = here[falling] - goal[falling]
        ratio = np.divide(here[falling], drop, out=np.zeros_like(drop), where=drop > 0)
        stepped = here + float(ratio.min()) * (goal - here)
        stepped[falling[ratio <= ratio.min() * (1 + 1e-12)]] = 0.0
        x = np.zeros_like(x)
        x[at] = np.maximum(stepped, 0.0)
        free = x > 0
    return np.zeros_like(x), 0.0


def likeliest_mixture(P: Array, shares: Array, *, tolerance: float = 1e-7, steps: int = 200) -> Optimum:
    """Weights on the simplex with the least -sum_i shares_i log(sum_m w_m P_mi).

    P (M, n): the probability that member m gave to the truth of row i. shares (n,): weights of rows, sum 1.
    The gap max_m sum_i shares_i P_mi / (P'w)_i - 1 bounds loss - minimum from above (the dual of the problem;
    Lindsay 1983), and is at most `tolerance` on return unless `steps` Newton steps were not enough.

    A tenth of the rows, then a third, choose the starting weights. On all rows: Newton steps (Kim,
    Carbonetto, Stephens and Anitescu 2018) on the members with weight and those whose derivative is best,
    one pass over all members between them.
    """
    members, n = P.shape
    weights = np.full(members, 1.0 / members)
    taken = 0
    for part in (16, 4):
        if n // part >= 500:
            rows = np.arange(n // part) * part + part // 2
            some = np.ascontiguousarray(P[:, rows])
            share = shares[rows]
            total = float(share.sum())
            if total > 0:
                found = _mixture(some, share / total, weights, max(tolerance, 1e-3 / part), steps)
                weights, taken = found.weights, taken + found.steps
    last = _mixture(P, shares, weights, tolerance, steps)
    return Optimum(last.weights, last.loss, last.gap, last.steps + taken)


def _mixture(P: Array, shares: Array, weights: Array, tolerance: float, steps: int) -> Optimum:
    members = len(weights)
    best = Optimum(weights, np.inf, np.inf, 0)
    if (weights > 0).sum() > 64:  # a wide start costs wide Newton steps: a single member is as good
        weights = np.zeros(members)
        weights[int((np.log(np.maximum(P, SMALLEST)) @ shares).argmax())] = 1.0
    taken = 0
    while True:
        mixed = weights @ P
        slope = P @ (shares / mixed)
        gap = float(slope.max() - slope @ weights)
        loss = -float(shares @ np.log(mixed))
        if loss < best.loss or gap < best.gap:
            best = Optimum(weights, loss, max(gap, 0.0), taken)
        if gap <= tolerance or taken >= steps:
            return best
        active = _active(weights, slope)
        weights, more = _newton(P[active], shares, weights, active, max(tolerance / 4, gap / 20))
        taken += more


def _active(weights: Array, slope: Array) -> Array:
    """Members with weight, and of those that promise most ten, or half as many as there are."""
    some = np.flatnonzero(weights > 0)
    promising = np.flatnonzero((slope > 1.0) & (weights <= 0))
    most = max(10, len(some) // 2)
    if len(promising) > most:
        promising = promising[np.argsort(-slope[promising], kind="stable")[:most]]
    return np.union1d(some, promising)


def _newton(P: Array, shares: Array, weights: Array, active: Array, tolerance: float) -> tuple[Array, int]:
    """Newton steps on the active members alone, until their own gap is small or ten steps are done."""
    x = weights[active]
    mixed = x @ P
    taken = 0
    for taken in range(1, 11):
        slope = P @ (shares / mixed)
        if taken > 1 and slope.max() - slope @ x <= tolerance:
            break
        scaled = P * (np.sqrt(shares) / mixed)
        goal = least_quadratic(scaled @ scaled.T, 1.0 - 2.0 * slope, x)
        total = float(goal.sum())
        if not np.isfinite(total) or total <= 0:
            break
        x, mixed, moved = _search(P, shares, x, goal / total, mixed)
        if not moved:
            break
    full = np.zeros_like(weights)
    full[active] = x / x.sum()
    return full, taken


def _search(P: Array, shares: Array, x: Array, goal: Array, mixed: Array) -> tuple[Array, Array, bool]:
    """Halve the step towards the goal until the loss falls."""
    step, target = 1.0, goal @ P
    before = float(shares @ np.log(mixed))
    while step > 1e-8:
        tried = mixed + step * (target - mixed)
        if tried.min() > 0 and float(shares @ np.log(tried)) >= before:
            return x + step * (goal - x), tried, bool(np.abs(step * (goal - x)).max() > 1e-14)
        step /= 2
    return x, mixed, False


def least_squares_mixture(G: Array) -> Optimum:
    """Weights on the simplex with the least w'Gw; G (M, M) is the mean product of two members' residuals.

    The gap 2 (w'Gw - min_m (Gw)_m) bounds loss - minimum from above (Frank and Wolfe 1956).
    """
    members = len(G)
    scale = float(np.trace(G)) / members
    if not scale > 0:
        return Optimum(np.full(members, 1.0 / members), 0.0, 0.0, 0)
    w = least_quadratic(G / scale, np.zeros(members), total=1.0)
    w = w / w.sum()
    pull = G @ w
    loss = float(w @ pull)
    return Optimum(w, loss, max(2 * (loss - float(pull.min())), 0.0), 1)


def least_pinball_mixture(
    V: Array, truth: Array, levels: Array, shares: Array, *, tolerance: float = 1e-4, steps: int = 100
) -> Optimum:
    """Weights on the simplex with the least pinball loss of averaged quantiles.

    V (M, n, Q) quantiles of the members, truth (n,), levels (Q,), shares (n,) sum 1; the loss is the mean
    over levels. The corner of the loss is rounded over a width that shrinks; Newton steps on the rounded
    loss. Any slopes u in [q - 1, q] give the lower bound sum u y - max_m sum u V_m, so the gap is certified.
    `tolerance` is relative to the loss.
    """
    members, n, q = V.shape
    flat = np.ascontiguousarray((truth[None, :, None] - V).reshape(members, n * q))
    share, tau = np.repeat(shares / q, q), np.tile(levels, n)
    w = best = np.full(members, 1.0 / members)
    least, bound = np.inf, 0.0  # no pinball loss is below 0
    width = float(share @ np.abs(w @ flat)) or 1.0
    taken = 0
    while taken < steps:
        taken += 1
        e = w @ flat
        loss = float(share @ np.maximum(tau * e, (tau - 1) * e))
        if loss < least:
            least, best = loss, w
        slope = np.clip(e / width + (tau - 0.5), tau - 1, tau)
        pull = flat @ (share * slope)
        bound = max(bound, float(pull.min()))
        if least - bound <= tolerance * least:
            break
        w, settled = _pinball_step(flat, share, tau, w, width, pull, slope)
        if settled:
            width *= 0.4
    return Optimum(best, least, least - bound, taken)


def _pinball_step(
    flat: Array, share: Array, tau: Array, w: Array, width: float, pull: Array, slope: Array
) -> tuple[Array, bool]:
    """One Newton step on the rounded loss; settled when it no longer falls much."""
    inside = (slope > tau - 1) & (slope < tau)
    scaled = flat[:, inside] * np.sqrt(share[inside] / width)
    H = scaled @ scaled.T
    H += 1e-9 * (np.trace(H) / len(w) + abs(float(pull.max()))) * np.eye(len(w))
    goal = least_quadratic(H, pull - H @ w, w, total=1.0)

    def rounded(e: Array) -> float:
        s = np.clip(e / width + (tau - 0.5), tau - 1, tau)
        return float(share @ (s * e - width * (s - (tau - 0.5)) ** 2 / 2))

    now, step, e, target = rounded(w @ flat), 1.0, w @ flat, goal @ flat
    while step > 1e-6:
        then = rounded(e + step * (target - e))
        if then < now:
            return w + step * (goal - w), now - then <= 1e-5 * width
        step /= 2
    return w, True


def row_shares(weights: Array | None, n: int) -> Array:
    """Weights of rows scaled to sum 1. Raises OutputsError where all are 0."""
    if weights is None:
        return np.full(n, 1.0 / max(n, 1))
    total = float(weights.sum())
    if not total > 0:
        raise OutputsError("all weights of rows are 0: there is nothing to fit to")
    return np.asarray(weights / total)
