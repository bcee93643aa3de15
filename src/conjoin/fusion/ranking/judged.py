"""`Judged`: the candidates of a pool held against a truth, and the values of a measure under many weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import OutputsError, TruthError, listed
from conjoin.fusion.ranking.pool import Pool, pool
from conjoin.kernels import ranking as kernels
from conjoin.scores.ranking import MEASURES, Measure, Relevant, parsed, relevant_ids, relevant_of
from conjoin.scores.score import checked_weights

if TYPE_CHECKING:
    from conjoin.outputs import Array

DEFAULT = "ndcg@10"


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A pool and its truth.

    found: the relevant items. wanted: (R,) the candidate of each, -1 where no list has it. weights: (n,) of
    rows, 0 where the truth is silent. measure, cutoff: what is to be high.
    """

    pool: Pool
    found: Relevant
    wanted: Array
    weights: Array
    measure: Measure
    cutoff: float

    @property
    def mass(self) -> Array:
        """(n,): weights of rows that sum to 1."""
        return cast("Array", self.weights / self.weights.sum())

    @property
    def hits(self) -> Array:
        """(T,): whether each entry of a list is relevant."""
        relevant = np.zeros(len(self.pool.firsts), dtype=bool)
        relevant[self.wanted[self.wanted >= 0]] = True
        return cast("Array", relevant[self.pool.slots])

    def rows(self, table: Array, weights: Array) -> Array:
        """(W, n): the measure of each row for candidates scored by table (C, M) @ weights (W, M)."""
        ranks = np.empty((len(weights), len(self.wanted)))
        table, weights = np.ascontiguousarray(table), np.ascontiguousarray(weights)
        kernels.ranks_under(table, weights, self.pool.starts, self.wanted, self.found.cuts, ranks)
        lengths = np.diff(self.pool.starts)
        return np.array([self.measure(self.found, r, self.cutoff, lengths) for r in ranks])

    def values(self, table: Array, weights: Array) -> Array:
        """(W,): the mean of the measure over rows."""
        return cast("Array", self.rows(table, weights) @ self.mass)


def judged(outputs: Mapping[str, Any], truth: Any, weights: Any = None, score: Any = None) -> Judged:
    """Lay outputs and truth together. score: a score of `scores.ranking`, nDCG@10 by default.

    Raises OutputsError where they do not fit or the score is none of these, TruthError where no row counts.
    """
    laid = pool(outputs)
    found = relevant_of(truth)
    rows = len(laid.answered)
    if len(truth) != rows:
        raise TruthError(f"the members answered {rows} rows, the truth has {len(truth)}")
    name = DEFAULT if score is None else str(score.name)
    told = parsed(name)
    if told is None:
        raise OutputsError(f"rankings are fitted to one of {listed(MEASURES)}, not to {name!r}")
    mass = checked_weights(weights, rows) * truth.answered
    if not mass.sum() > 0 or not len(found.row):
        raise TruthError("the truth has no relevant item in any row that counts: nothing can be learned")
    ids = relevant_ids(truth)
    if len(laid.ids) and (ids.dtype.kind in "iu") != (laid.ids.dtype.kind in "iu"):
        raise OutputsError("items of the members and of the truth must be alike: all numbers or all strings")
    keys, sought = kernels.keys_of([laid.candidates, ids])
    wanted = kernels.first_of(keys, laid.starts, sought, found.cuts)
    return Judged(laid, found, wanted, mass, MEASURES[told[0]], told[1])
