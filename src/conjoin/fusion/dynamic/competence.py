"""How competent each member is for a row, from how it did on the rows nearest to it.

A rule takes an `Around` and gives (n, M) numbers, greater for more competent members. In the formulas c_jm is
1 where member m is right on neighbour j, else 0; a row that a member did not answer counts as wrong where
rules count from the nearest on, and not at all in means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from conjoin.fusion.dynamic.options import Options

if TYPE_CHECKING:
    from conjoin.outputs import Array


@dataclass(frozen=True, eq=False)
class Known:
    """The N rows that a selection was fitted to, and a last row of nothing that place -1 leads to.

    codes: (N + 1,) true classes, -1 last. votes: (N + 1, M) the class that each member gave, -1 for none.
    right: (N + 1, M) uint8, answered: (N + 1, M) uint8.
    """

    codes: Array
    votes: Array

    @cached_property
    def right(self) -> Array:
        """1 where the member gave the true class."""
        return np.asarray((self.votes == self.codes[:, None]) & (self.votes >= 0), dtype=np.uint8)

    @cached_property
    def answered(self) -> Array:
        """1 where the member answered."""
        return (self.votes >= 0).astype(np.uint8)

    @cached_property
    def complete(self) -> bool:
        """Whether every member answered every row."""
        return bool(self.answered[:-1].all())


@dataclass(frozen=True, eq=False)
class Around:
    """n rows and their regions of competence.

    at: (n, k) places among the known rows, nearest first, -1 (at the end) where there are fewer. far: (n, k)
    distances. votes: (n, M) classes that the members give these rows, -1 for none. classes: how many.
    """

    known: Known
    at: Array
    far: Array
    votes: Array
    classes: int
    options: Options

    @cached_property
    def right(self) -> Array:
        """(n, k, M) uint8: the member is right on the neighbour."""
        return np.asarray(self.known.right[self.at])

    @cached_property
    def answered(self) -> Array:
        """(n, k, M) uint8: the member answered the neighbour."""
        return np.asarray(self.known.answered[self.at])

    @cached_property
    def codes(self) -> Array:
        """(n, k) true classes of the neighbours, -1 for none."""
        return np.asarray(self.known.codes[self.at])

    def counts(self, first: int) -> Array:
        """(n, K): how many of the first neighbours are of each class."""
        out = np.zeros((len(self.at), self.classes + 1))
        rows = np.arange(len(self.at))
        for j in range(min(first, self.at.shape[1])):
            out[rows, self.codes[:, j]] += 1
        return out[:, : self.classes]


def count_right(around: Around) -> Array:
    """KNORA-U: sum_j c_jm."""
    return np.asarray(around.right.sum(axis=1, dtype=np.float64))


def share_right(around: Around) -> Array:
    """OLA, DES-P: the mean of c_jm over the neighbours that the member answered."""
    if around.known.complete and bool((around.at >= 0).all()):
        return np.asarray(count_right(around) / max(around.at.shape[1], 1))
    return _ratio(count_right(around), around.answered.sum(axis=1, dtype=np.float64))


def run_right(around: Around) -> Array:
    """KNORA-E, RANK: how many of the nearest neighbours the member gets right before the first error."""
    going = np.ones((len(around.at), around.votes.shape[1]), dtype=np.uint8)
    total = np.zeros(going.shape)
    for j in range(around.at.shape[1]):
        going &= around.right[:, j]
        total += going
    return total


def local_class_share(around: Around) -> Array:
    """LCA: the mean of c_jm over neighbours of the class that the member gives to the row; 0 without any."""
    return _of_class(around, np.ones(around.far.shape))


def weighted_class_share(around: Around) -> Array:
    """MLA: as LCA, neighbours weighted by 1 / distance."""
    return _of_class(around, 1.0 / np.maximum(around.far, 1e-10))


def alike_share(around: Around) -> Array:
    """MCB: the mean of c_jm over neighbours on which the members vote as on the row.

    They do where more than the share similarity_threshold of them give both the same class; where no
    neighbour is alike, all are taken.
    """
    both = around.answered.astype(bool) & (around.votes >= 0)[:, None, :]
    same = (around.known.votes[around.at] == around.votes[:, None, :]) & both
    share = _ratio(same.sum(axis=2, dtype=np.float64), both.sum(axis=2, dtype=np.float64))
    alike = share > around.options.similarity_threshold
    alike[~alike.any(axis=1)] = True
    kept = alike[:, :, None] & around.answered.astype(bool)
    return _ratio((around.right * kept).sum(axis=1, dtype=np.float64), kept.sum(axis=1, dtype=np.float64))


def _of_class(around: Around, weights: Array) -> Array:
    top, total = np.zeros(around.votes.shape), np.zeros(around.votes.shape)
    for j in range(around.at.shape[1]):
        fits = (around.codes[:, j, None] == around.votes) * around.answered[:, j] * weights[:, j, None]
        total += fits
        top += fits * around.right[:, j]
    return _ratio(top, total)


def _ratio(top: Array, total: Array) -> Array:
    return np.asarray(np.divide(top, total, out=np.zeros(top.shape), where=total > 0))


def diversity(around: Around) -> Array:
    """(n, M) of DES-KNN: the sum over the other members of a pair's diversity on the neighbours.

    DF: minus the share of neighbours that both get wrong. Q: the Q-statistic, negated, so that more is more
    diverse. ratio: errors of one over errors of both.
    """
    right = around.right.astype(np.float64)
    k = max(right.shape[1], 1)
    wrong = 1.0 - right
    if around.options.metric == "DF":
        others = wrong.sum(axis=2, keepdims=True) - wrong
        return np.asarray(-(wrong * others).sum(axis=1) / k)
    both = np.matmul(wrong.transpose(0, 2, 1), wrong) / k
    neither = np.matmul(right.transpose(0, 2, 1), right) / k
    one = np.matmul(right.transpose(0, 2, 1), wrong) / k
    other = one.transpose(0, 2, 1)
    if around.options.metric == "Q":
        top, total = neither * both - one * other, neither * both + one * other
        pairs = -_ratio(top, total)
    else:
        pairs = np.where(both > 0, _ratio(one + other, both), 1e9)
    pairs[:, np.arange(pairs.shape[1]), np.arange(pairs.shape[1])] = 0.0
    return np.asarray(pairs.sum(axis=2))


Rule = Callable[[Around], "Array"]
COMPETENCE: dict[str, Rule] = {
    "knora_e": run_right,
    "knora_u": count_right,
    "des_p": share_right,
    "des_knn": share_right,
    "knop": count_right,
    "ola": share_right,
    "lca": local_class_share,
    "mla": weighted_class_share,
    "mcb": alike_share,
    "rank": run_right,
}
"""Rule -> competence; that of meta_des is in `meta.py`."""
