"""Isotonic regression by pooling adjacent violators."""

from __future__ import annotations

import numpy as np

from conjoin.outputs import Array


def rising(y: Array, weights: Array) -> Array:
    """The numbers (n,) that never fall and have the least sum of weights x (number - y)^2; weights > 0.

    Pool adjacent violators (Ayer et al. 1955), one pass with a stack of blocks: O(n).

    >>> rising(np.array([1.0, 3.0, 2.0]), np.ones(3))
    array([1. , 2.5, 2.5])
    """
    means: list[float] = []
    masses: list[float] = []
    sizes: list[int] = []
    for mean, mass in zip(y.tolist(), weights.tolist(), strict=True):
        size = 1
        while means and means[-1] >= mean:
            before, total = masses.pop(), mass
            total += before
            mean += (means.pop() - mean) * (before / total)
            mass, size = total, size + sizes.pop()
        means.append(mean)
        masses.append(mass)
        sizes.append(size)
    return np.asarray(np.repeat(np.array(means, dtype=np.float64), sizes))
