"""RegMean: the weights of a linear layer that answer, in the least squares, as each model does on its own
inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError, listed

if TYPE_CHECKING:
    from conjoin.outputs import Array


def regmean(
    tensors: Sequence[Array],
    grams: Sequence[Array],
    *,
    weights: Sequence[float] | None = None,
    alpha: float = 0.9,
) -> Array:
    """(sum_i w_i W_i G_i) (sum_i w_i G_i)^-1, off-diagonals of each G_i times alpha (Jin et al. 2022, arXiv
    2212.09849).

    tensors: W_i (out, in) of one linear layer, T of them. grams: G_i = X_i^T X_i (in, in), X_i (rows, in):
    the layer's inputs in model i. A bias is the weight of an input that is always 1: a last column of W_i and
    of X_i. weights: (T,), 1 by default. alpha: 1 is the least-squares solution on all rows together; less
    trusts the covariances less, 0 not at all.

    Where no model has seen an input direction, the answer is the weighted mean. (out, in) float64.
    Raises InputError where shapes do not fit, a Gram matrix is not finite, or weights are negative or all 0.

    >>> regmean([np.ones((1, 2)), np.zeros((1, 2))], [np.diag([3.0, 0.0]), np.diag([1.0, 1.0])], alpha=1)
    array([[0.75, 0.  ]])
    """
    shares = shares_of(len(tensors), weights)
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha of RegMean must lie in 0 to 1, not {alpha}")
    matrices = [np.asarray(t, np.float64) for t in tensors]
    wanted = {(m.shape, (*m.shape[1:], *m.shape[1:])) for m in matrices}
    found = {(m.shape, np.shape(g)) for m, g in zip(matrices, grams, strict=True)}
    if found != wanted or len(found) != 1 or matrices[0].ndim != 2:
        raise InputError(f"weights and Gram matrices do not fit: {listed(sorted(found))}")
    mean = sum(((s * m) for s, m in zip(shares, matrices, strict=True)), np.zeros_like(matrices[0]))
    moments, gap = np.zeros(np.shape(grams[0])), np.zeros_like(mean)
    for share, matrix, gram in zip(shares, matrices, grams, strict=True):
        g = alpha * np.asarray(gram, np.float64)
        np.fill_diagonal(g, np.diagonal(gram))
        if not np.isfinite(g).all():
            raise InputError("a Gram matrix holds NaN or infinite numbers")
        moments += share * g
        gap += share * (matrix - mean) @ g
    return mean + solved(moments, gap, 0.0)


def solved(moments: Array, gap: Array, ridge: float) -> Array:
    """gap (moments + ridge)^-1 for symmetric positive moments (n, n), gap (m, n); directions in which the
    moments are 0 stay 0.
    """
    if not len(moments):
        return gap
    if ridge > float(np.trace(moments)) * len(moments) * float(np.finfo(moments.dtype).eps):
        held = moments + ridge * np.eye(len(moments), dtype=moments.dtype)
        return np.asarray(np.linalg.solve(held, gap.T).T)  # far cheaper than eigenvectors
    values, vectors = np.linalg.eigh(moments)
    limit = max(float(values[-1]), 0.0) * len(values) * float(np.finfo(values.dtype).eps)
    inverse = np.zeros_like(values)
    np.divide(1, values + ridge, out=inverse, where=values > limit)
    return np.asarray(((gap @ vectors) * inverse) @ vectors.T)


def shares_of(count: int, weights: Sequence[float] | None) -> Array:
    """Weights that sum to 1, (count,). Raises InputError.

    >>> shares_of(2, [3, 1]).tolist()
    [0.75, 0.25]
    """
    if not count:
        raise InputError("there is no model to merge")
    given = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if given.shape != (count,):
        raise InputError(f"{given.size} weights for {count} models")
    if not np.isfinite(given).all() or (given < 0).any() or given.sum() == 0:
        raise InputError(f"weights must be finite, not negative and not all 0, not {listed(given.tolist())}")
    return np.asarray(given / given.sum())
