"""Linear heads: scores = x W + b, logistic or ridge regression with a penalty that folds choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from conjoin.fusion.descent import descend
from conjoin.fusion.modalities.task import Target

if TYPE_CHECKING:
    from conjoin.outputs import Array

PENALTIES = (3.0, 30.0, 300.0)
"""Times 1 / (2 n) the squared weights of standardised inputs: what is tried."""
_SCALE_OF_NUMBERS = 0.3  # the same for squared error, whose slope is steeper


def fit_head(x: Array, target: Target, penalty: float, start: Array | None = None) -> Array:
    """(d + 1, width): the weights with the least penalised loss, the last row is b, which has no penalty."""
    n, d = x.shape
    share = target.mass / target.mass.sum()
    if not target.classes:
        root = np.sqrt(share)[:, None]
        A = np.concatenate([x, np.ones((n, 1))], axis=1) * root
        H = A.T @ A
        H[np.arange(d), np.arange(d)] += _SCALE_OF_NUMBERS * penalty / n
        H[d, d] += 1e-12
        return np.asarray(np.linalg.solve(H, A.T @ (target.y * root)))
    ridge = np.full((d + 1, 1), penalty / n)
    ridge[-1] = 1e-9

    def loss(flat: Array) -> tuple[float, Array]:
        W = flat.reshape(d + 1, target.width)
        scores = x @ W[:-1] + W[-1]
        slope = target.slope(scores) * share[:, None]
        value = float(share @ target.losses(scores)) + 0.5 * float((ridge * W**2).sum())
        g = np.concatenate([x.T @ slope, slope.sum(axis=0, keepdims=True)]) + ridge * W
        return value, g.ravel()

    first = np.zeros((d + 1) * target.width) if start is None else start.ravel()
    found = descend(loss, first, memory=10, steps=100, slope=1e-5, fall=1e-7)
    return found.reshape(d + 1, target.width)


def scores_of(x: Array, W: Array) -> Array:
    """(n, width) of inputs (n, d)."""
    return np.asarray(x @ W[:-1] + W[-1])


def held_out(
    fit: Callable[[Array, float], Callable[[Array], Array]],
    target: Target,
    folds: Array,
    penalties: Sequence[float],
) -> tuple[float, Array]:
    """The penalty with the least held-out loss, and its held-out scores (n, width).

    fit: from places of rows and a penalty to a function from places of rows to scores.
    """
    best: tuple[float, float, Array] | None = None
    for penalty in penalties:
        scores = np.zeros((len(target.at), target.width))
        for k in range(int(folds.max()) + 1):
            inside, outside = np.flatnonzero(folds != k), np.flatnonzero(folds == k)
            if len(inside):
                scores[outside] = fit(inside, penalty)(outside)
        loss = float(np.average(target.losses(scores), weights=target.mass))
        if best is None or loss < best[0]:
            best = (loss, penalty, scores)
    assert best is not None
    return best[1], best[2]


def out_of_fold(
    x: Array, target: Target, folds: Array, penalties: Sequence[float] = PENALTIES
) -> tuple[Array, Array]:
    """A head fitted to all these rows with the penalty that held-out folds chose; and held-out scores."""

    def fit(inside: Array, penalty: float) -> Callable[[Array], Array]:
        W = fit_head(x[inside], target.rows(inside), penalty)
        return lambda outside: scores_of(x[outside], W)

    penalty, scores = held_out(fit, target, folds, penalties)
    return fit_head(x, target, penalty), scores
