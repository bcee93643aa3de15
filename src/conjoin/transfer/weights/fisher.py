"""Fisher merging: each entry is the mean of the models' entries, weighed by how sure each model is of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError
from conjoin.transfer.weights.regmean import shares_of

if TYPE_CHECKING:
    from conjoin.outputs import Array


def fisher(
    tensors: Sequence[Array],
    fishers: Sequence[Array],
    *,
    weights: Sequence[float] | None = None,
    floor: float = 1e-6,
) -> Array:
    """sum_i w_i F_i theta_i / sum_i w_i F_i, entry by entry (Matena and Raffel 2022, arXiv 2111.09832).

    tensors: theta_i, of one shape, T of them. fishers: F_i >= 0 of the same shape, the diagonal of the Fisher
    information: the mean over examples of the squared gradient of log p(y | x, theta_i). weights: (T,), 1 by
    default. floor: entries of less are raised to floor, so that what no model is sure of is averaged.

    Answers float64. Raises InputError where shapes do not fit, or a Fisher is negative or not finite.

    >>> fisher([np.ones(2), np.zeros(2)], [np.array([3.0, 0.0]), np.array([1.0, 0.0])])
    array([0.75, 0.5 ])
    """
    shares = shares_of(len(tensors), weights)
    above, below = 0.0, 0.0
    for share, tensor, given in zip(shares.tolist(), tensors, fishers, strict=True):
        f = np.asarray(given, np.float64)
        if f.shape != np.shape(tensor) or f.shape != np.shape(tensors[0]):
            raise InputError(f"a Fisher of shape {f.shape} is given for weights of shape {np.shape(tensor)}")
        if not np.isfinite(f).all() or (f < 0).any():
            raise InputError("a Fisher holds negative, NaN or infinite numbers")
        f = share * np.maximum(f, floor)
        above, below = above + f * np.asarray(tensor, np.float64), below + f
    return np.asarray(above / below)
