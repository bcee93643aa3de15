"""Modality dropout: rows again without some of their modalities, so that fusion learns to cope."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from conjoin.outputs import Array

DROP = 0.5
"""The share of the weight that rows with modalities taken away have."""
_ALL_PATTERNS = 4  # with more modalities than this the patterns are drawn


def dropped(there: Array, seed: int, copies: int | None = None) -> tuple[Array, Array, Array]:
    """Rows and who is left in them: places (N,), present (N, M), weights (N,) that sum to n.

    there: (n, M). The first n are the rows as they are. copies: how many more of each; by default every
    pattern of up to 4 modalities, else 6 drawn ones. Copies that leave nobody, or take nobody away, are out.
    """
    n, M = there.shape
    at, present, weights = [np.arange(n)], [there], [np.ones(n)]
    if M > 1 and n:
        rng = np.random.default_rng(seed)
        if copies is None and M <= _ALL_PATTERNS:
            patterns = [
                np.array(p) for p in itertools.product((True, False), repeat=M) if any(p) and not all(p)
            ]
            masks = [np.broadcast_to(p, there.shape) for p in patterns]
        else:
            masks = [rng.random(there.shape) > rng.random((n, 1)) for _ in range(copies or 6)]
        for mask in masks:
            left = there & mask
            new = np.flatnonzero(left.any(axis=1) & (left != there).any(axis=1))
            at.append(new)
            present.append(left[new])
            weights.append(np.full(len(new), 1.0))
        extra = sum(len(a) for a in at[1:])
        if extra:
            weights = [(1 - DROP) * w if i == 0 else w * DROP * n / extra for i, w in enumerate(weights)]
    return np.concatenate(at), np.concatenate(present), np.concatenate(weights)
