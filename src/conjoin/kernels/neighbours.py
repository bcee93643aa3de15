"""The least numbers of each row of a matrix of distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from conjoin.kernels.jit import jit

Array = np.ndarray[Any, Any]


@jit
def least(distances: Array, slack: float, at: Array, kept: Array) -> None:
    """Columns of the k least numbers of each row, least first; what differs by up to slack ties, by column.

    distances: (n, S) float64, S >= k. at: (n, k) int64 and kept: (n, k) float64, both filled.
    """
    n, total = distances.shape
    k = at.shape[1]
    for i in range(n):
        filled = 0
        worst = np.inf
        for j in range(total):
            d = distances[i, j]
            if filled == k and not d < worst - slack:
                continue
            place = filled if filled < k else k - 1
            while place > 0 and kept[i, place - 1] > d + slack:
                kept[i, place] = kept[i, place - 1]
                at[i, place] = at[i, place - 1]
                place -= 1
            kept[i, place] = d
            at[i, place] = j
            if filled < k:
                filled += 1
            worst = kept[i, filled - 1]
