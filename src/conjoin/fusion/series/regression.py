"""Weighted quantile regression, exact: a primal-dual interior point method (Portnoy and Koenker 1997)."""

from __future__ import annotations

import numpy as np

from conjoin.errors import OutputsError
from conjoin.outputs import Array

MOST = 2_000_000
"""Numbers that fits with these regressions look at; of more rows every second, third ... is taken."""
_BACK = 0.9995
"""How far of the way to the boundary a step goes."""


def quantile_regression(
    X: Array, y: Array, levels: Array, shares: Array, *, tolerance: float = 1e-8, steps: int = 100
) -> Array:
    """The b (p,) with the least sum_i s_i max(q_i e_i, (q_i - 1) e_i), e = y - X b.

    X (n, p), y (n,), levels (n,) in (0, 1), one for each row, shares (n,) not negative. The dual is
    max y'a over X'a = X'(1 - q), 0 <= a <= 1, with rows scaled by s_i; Newton steps on both with a corrector
    (Mehrotra 1992), until the gap is `tolerance` of the loss. Columns that depend on others get what a ridge
    of 1e-13 gives them.
    """
    keep = shares > 0
    if not keep.any() or X.shape[1] == 0:
        return np.zeros(X.shape[1])
    centre = np.abs(X[keep]).max(axis=0)
    size, height = np.where(centre > 0, centre, 1.0), float(np.abs(y[keep]).max()) or 1.0
    mass = shares[keep] / shares.max()
    A, c = X[keep] / size * mass[:, None], y[keep] / height * mass
    if not (np.isfinite(A).all() and np.isfinite(c).all()):
        raise OutputsError("quantile regression needs finite numbers")
    return np.asarray(_interior(A, c, levels[keep], tolerance, steps) * height / size)


def _interior(A: Array, c: Array, q: Array, tolerance: float, steps: int) -> Array:
    n = len(c)
    a = 1.0 - q  # a feasible point of the dual
    b = _solve(A, np.ones(n), A.T @ c)
    r = c - A @ b
    floor = 1e-3 * max(float(np.abs(r).mean()), 1e-8)
    up, down = np.maximum(r, 0.0) + floor, np.maximum(-r, 0.0) + floor
    for _ in range(steps):
        rest = 1.0 - a
        gap = float(up @ rest + down @ a)
        primal = c - A @ b - up + down
        loss = float(np.maximum(q * (c - A @ b), (q - 1) * (c - A @ b)).sum())
        if gap <= tolerance * max(loss, 1e-12 * n) and float(np.abs(primal).max()) <= 1e-10:
            break
        db, da, du, dd = _towards(A, a, rest, up, down, primal, 0.0, 0.0, 0.0)
        sa, sb = _room(a, rest, da), min(_bound(up, du), _bound(down, dd))
        if min(sa, sb) < 1:
            then = float((up + sb * du) @ (rest - sa * da) + (down + sb * dd) @ (a + sa * da))
            mu = gap * (then / gap) ** 2 * (then / gap) / (2 * n)
            db, da, du, dd = _towards(A, a, rest, up, down, primal, mu, du * -da, dd * da)
            sa, sb = _room(a, rest, da), min(_bound(up, du), _bound(down, dd))
        a, b = a + sa * da, b + sb * db
        up, down = up + sb * du, down + sb * dd
        a = np.clip(a, 1e-300, 1 - 1e-16)
    return b


def _towards(
    A: Array,
    a: Array,
    rest: Array,
    up: Array,
    down: Array,
    primal: Array,
    mu: float,
    pu: Array | float,
    pd: Array | float,
) -> tuple[Array, Array, Array, Array]:
    """A Newton step for X'a fixed, c - X b = up - down, up * (1 - a) = mu, down * a = mu."""
    weight = 1.0 / (up / rest + down / a)
    ru = (mu - pu) / rest - up
    rd = (mu - pd) / a - down
    residual = primal - ru + rd
    db = _solve(A, weight, A.T @ (weight * residual))
    da = weight * (residual - A @ db)
    return db, da, ru + up / rest * da, rd - down / a * da


def _solve(A: Array, weight: Array, right: Array) -> Array:
    """Normal equations, each column scaled; columns that depend on others get a ridge of 1e-13."""
    H = (A * weight[:, None]).T @ A
    size = np.sqrt(np.maximum(np.diag(H), 1e-300))
    H /= size * size[:, None]
    H[np.diag_indices_from(H)] += 1e-13
    return np.asarray(np.linalg.solve(H, right / size) / size)


def _bound(x: Array, dx: Array) -> float:
    """The largest step up to 1 that keeps x + step dx above 0."""
    falling = dx < 0
    most = float((-x[falling] / dx[falling]).min()) if falling.any() else np.inf
    return min(_BACK * most, 1.0)


def _room(a: Array, rest: Array, da: Array) -> float:
    return min(_bound(a, da), _bound(rest, -da))
