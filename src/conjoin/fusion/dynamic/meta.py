"""META-DES: a naive Bayes model learns from features of the region whether a member will be right.

Features of a member for a row, each a number from 0 to 1 (Cruz et al. 2015): is it right on each of the k
nearest rows (f1), its probability of their true class (f2), its share of right answers there (f3), is it
right on each of the kp rows to which the members answered most alike (f4), its greatest probability (f5).
Each is cut into tenths, 0 to 10, which count as in multinomial naive Bayes; its log-odds are then linear in
them, so they are summed feature by feature and never laid out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from conjoin.fusion.dynamic.competence import Around

if TYPE_CHECKING:
    from conjoin.outputs import Array

_EDGES = np.linspace(0.1, 1, 10)
FULL = 10.0
"""The tenth of a feature that is 1."""


def tenths(x: Array) -> Array:
    """0 to 10: which tenth a number from 0 to 1 lies in."""
    return np.digitize(x, _EDGES).astype(np.float32)


def features(around: Around, sure: Array, best: Array, alike: Array, k: int, kp: int) -> Iterator[Array]:
    """2 k + kp + 2 arrays (n, M). sure: (N + 1, M) tenths of the probability of the true class of known rows.

    best: (n, M) tenths of the greatest probability. alike: (n, kp) places of known rows. Neighbours that are
    missing count as wrong.
    """
    right = around.known.right
    for j in range(k):
        yield FULL * right[_place(around.at, j)]
    for j in range(k):
        yield sure[_place(around.at, j)]
    total = np.zeros(around.votes.shape)
    for j in range(k):
        total += right[_place(around.at, j)]
    yield tenths(total / k)
    for j in range(kp):
        yield FULL * right[_place(alike, j)]
    yield best


def _place(at: Array, j: int) -> Array:
    return at[:, j] if j < at.shape[1] else np.full(len(at), -1)


def competence(parts: Iterator[Array], weights: Array) -> Array:
    """(n, M) probability to be right; weights: (1 + F,), the prior log-odds, then of features."""
    odds: Array | float = float(weights[0])
    for part, weight in zip(parts, weights[1:], strict=True):
        odds = odds + weight * part.astype(np.float64)
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(odds))))


def learn(parts: Iterator[Array], right: Array, counted: Array) -> Array:
    """(1 + F,) weights of multinomial naive Bayes with add-one smoothing.

    right: (n, M) bool, what is learned. counted: (n, M) bool, which pairs of row and member count.
    """
    yes, no = counted & right, counted & ~right
    sums = np.array([(float(p[yes].sum()), float(p[no].sum())) for p in parts])
    smoothed = sums + 1.0
    logs = np.log(smoothed) - np.log(smoothed.sum(axis=0))
    prior = np.log(max(int(yes.sum()), 1e-3)) - np.log(max(int(no.sum()), 1e-3))
    return np.concatenate([[prior], logs[:, 0] - logs[:, 1]])
