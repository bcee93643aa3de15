"""Conditional log-linear models: p_k proportional to exp(sum_f theta_f F_f[k] + b_k), fitted by Newton steps.

Log pool, stacking and gate are models of this form, with other features F.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conjoin.fusion.simplex import least_quadratic
from conjoin.outputs import Array

_CHUNK = 1 << 19


@dataclass(frozen=True, slots=True)
class Fit:
    """theta (f,), intercepts (K,), the mean log-loss without penalty, Newton steps taken."""

    theta: Array
    intercepts: Array
    loss: float
    steps: int


@dataclass(frozen=True, slots=True)
class Features:
    """Features relative to the true class: Z (f, n, K - 1) over the other classes, whose codes are others."""

    Z: Array
    others: Array
    codes: Array
    shares: Array
    width: int


def relative(F: Array, codes: Array, shares: Array) -> Features:
    """Features F (f, n, K) minus those of the true class, without the true class itself."""
    n, width = F.shape[1:]
    others = np.arange(width - 1)[None] + (np.arange(width - 1)[None] >= codes[:, None])
    if width == 2:
        sign = np.where(codes == 0, 1.0, -1.0)
        Z = ((F[:, :, 1] - F[:, :, 0]) * sign)[:, :, None]
    else:
        rows = np.arange(n)
        Z = F[:, rows[:, None], others] - F[:, rows, codes][:, :, None]
    return Features(Z, others, codes, shares, width)


def fit(
    features: Features,
    *,
    centre: Array,
    penalty: Array,
    signed: bool,
    intercept_penalty: float | None = None,
    start: Array | None = None,
    steps: int = 50,
) -> Fit:
    """The theta with the least mean log-loss + 1/2 sum penalty (theta - centre)^2; theta >= 0 unless signed.

    centre, penalty: (f,). intercept_penalty: 1/2 of it times sum b^2 is added; None has no intercepts.
    Convex, so that the optimum does not depend on the start.
    """
    theta = (centre if start is None else start).astype(np.float64)
    b = np.zeros(features.width)
    now, p = _loss(features, theta, b)
    cost = now + _cost(theta, b, centre, penalty, intercept_penalty)
    taken = 0
    while taken < steps and features.width > 1:
        taken += 1
        dt, db = _step(features, p, theta, b, centre, penalty, signed, intercept_penalty)
        size, found = 1.0, False
        while size > 1e-7 and not found:
            tried, tried_b = theta + size * dt, b + size * db
            then, p_then = _loss(features, tried, tried_b)
            new = then + _cost(tried, tried_b, centre, penalty, intercept_penalty)
            found = new < cost
            size /= 2
        if not found:
            break
        fell, theta, b, now, cost, p = cost - new, tried, tried_b, then, new, p_then
        if fell < 1e-10 * max(1.0, abs(cost)):
            break
    return Fit(theta, b, now, taken)


def loss_at(features: Features, theta: Array) -> float:
    """The mean log-loss of these weights, without intercepts."""
    return _loss(features, theta, np.zeros(features.width))[0]


def curvature(features: Features, theta: Array) -> Array:
    """(f, f): the second derivative of the mean log-loss, without penalty, at these weights."""
    _, p = _loss(features, theta, np.zeros(features.width))
    return _derivatives(features, p)[1]


def _cost(theta: Array, b: Array, centre: Array, penalty: Array, intercept_penalty: float | None) -> float:
    return float((penalty * (theta - centre) ** 2).sum() + (intercept_penalty or 0.0) * (b**2).sum()) / 2


def _loss(features: Features, theta: Array, b: Array) -> tuple[float, Array]:
    """The mean log-loss, and the probabilities (n, K - 1) of the other classes."""
    f, n, rest = features.Z.shape
    z = (theta @ features.Z.reshape(f, -1)).reshape(n, rest)
    if b.any():
        z += b[features.others] - b[features.codes][:, None]
    if not rest:
        return 0.0, z
    top = np.maximum(z.max(axis=1), 0.0)
    e = np.exp(z - top[:, None])
    total = e.sum(axis=1) + np.exp(-top)
    return float(features.shares @ (top + np.log(total))), e / total[:, None]


def _step(
    features: Features,
    p: Array,
    theta: Array,
    b: Array,
    centre: Array,
    penalty: Array,
    signed: bool,
    intercept_penalty: float | None,
) -> tuple[Array, Array]:
    """The Newton step of theta and b; theta + step stays >= 0 unless signed."""
    g, H, pull = _derivatives(features, p)
    g = g + penalty * (theta - centre)
    H[np.diag_indices_from(H)] += penalty + 1e-10 * (np.trace(H) / len(g) + 1e-12)
    back, offset = np.zeros((features.width, len(g))), np.zeros(features.width)
    if intercept_penalty is not None:
        gb, Hb, Hwb = _intercepts(features, p, pull)
        gb = gb + intercept_penalty * b
        Hb[np.diag_indices_from(Hb)] += max(intercept_penalty, 1e-9)
        both = np.linalg.solve(Hb, np.concatenate([Hwb.T, gb[:, None]], axis=1))
        back, offset = both[:, :-1], both[:, -1]
        H = H - Hwb @ back
        g = g - Hwb @ offset
    step = -np.linalg.solve(H, g) if signed else least_quadratic(H, g - H @ theta, theta) - theta
    return step, -(offset + back @ step)


def _derivatives(features: Features, p: Array) -> tuple[Array, Array, Array]:
    """Gradient (f,), Hessian (f, f), and sum_k p_k Z_k of each row, times its share (f, n)."""
    f, n, rest = features.Z.shape
    H, pull = np.zeros((f, f)), np.empty((f, n))
    step = max(1, _CHUNK // max(1, f * rest))
    for a in range(0, n, step):
        Z = features.Z[:, a : a + step]
        W = Z * (p[a : a + step] * features.shares[a : a + step, None])
        pull[:, a : a + step] = W.sum(axis=2)
        H += W.reshape(f, -1) @ Z.reshape(f, -1).T
    H -= (pull / features.shares) @ pull.T
    return pull.sum(axis=1), H, pull


def _intercepts(features: Features, p: Array, pull: Array) -> tuple[Array, Array, Array]:
    """Gradient (K,) and Hessian (K, K) of the intercepts, and the mixed part (f, K)."""
    n, width = len(features.codes), features.width
    full = np.zeros((n, width))
    np.put_along_axis(full, features.others, p, axis=1)
    slope, q = full.copy(), full
    slope[np.arange(n), features.codes] = -p.sum(axis=1)
    q[np.arange(n), features.codes] = 1 - p.sum(axis=1)
    scaled = q * features.shares[:, None]
    Hb = np.diag(scaled.sum(axis=0)) - scaled.T @ q
    weighted, where = p * features.shares[:, None], features.others.reshape(-1)
    mixed = np.array([np.bincount(where, (Z * weighted).reshape(-1), width) for Z in features.Z])
    return (slope * features.shares[:, None]).sum(axis=0), Hb, mixed - pull @ q
