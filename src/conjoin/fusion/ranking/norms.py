"""Normalisations of scores: the numbers of one list made comparable with those of another.

Each is worked out over one list, that is one member's candidates for one query, relation and head, or user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

from conjoin.errors import OutputsError, listed, nearest
from conjoin.fusion.ranking.pool import Pool
from conjoin.fusion.ranking.pool import pool as merged
from conjoin.outputs import Ranking

if TYPE_CHECKING:
    from conjoin.outputs import Array

LEAST = 1e-9
"""The least denominator: a list of equal scores becomes zeros, not NaN."""


def normalised(pool: Pool, norm: str | None, *, lows: Mapping[str, float] | None = None) -> Array:
    """(T,): the scores of all entries under a normalisation of `NORMS`; None leaves them.

    lows: by member the least score that it can give, for "theoretical_min". Raises OutputsError.
    """
    if norm is None or norm == "none":
        return pool.scores
    if norm not in NORMS:
        raise OutputsError(f"no normalisation {norm!r}{nearest(str(norm), NORMS)}; there are {listed(NORMS)}")
    if norm == "theoretical_min":
        return _theoretical_min(pool, lows)
    return NORMS[norm](pool)


def normalise(output: Ranking, norm: str, *, low: float | None = None) -> Ranking:
    """The same lists, sorted, with scores under a normalisation of `NORMS`. low: for "theoretical_min".

    >>> normalise(Ranking(["a", "b", "c"], [3.0, 2.0, 1.0], [0, 3]), "min_max").scores.tolist()
    [1.0, 0.5, 0.0]
    """
    laid = merged({"": output})
    values = normalised(laid, norm, lows=None if low is None else {"": low})
    return Ranking(laid.ids, values, np.append(laid.begins[0], len(laid.ids)), laid.spoken[0])


def absent(pool: Pool, values: Array, norm: str | None, rule: str = "none") -> Array:
    """(M, n): what an item counts that a list lacks: NaN for nothing.

    rule: "none"; "least": the least value of that list. Under the norm "borda" it is Borda's half share of
    the points that are left. A list that is not answered counts nothing.
    """
    if rule not in ("none", "least"):
        raise OutputsError(f"absent must be 'none' or 'least', not {rule!r}")
    if norm == "borda":
        width = np.maximum(np.diff(pool.starts), 1)
        return cast("Array", 0.5 - (pool.lengths - 1) / (2 * width))
    if rule == "none":
        return np.full(pool.lengths.shape, np.nan)
    return np.where(pool.lengths > 0, _each(pool, values, np.minimum, np.nan), np.nan)


def _each(pool: Pool, values: Array, reduce: np.ufunc, empty: float) -> Array:
    """(M, n): a reduction over each list."""
    lengths = pool.lengths.ravel()
    out = np.full(len(lengths), empty)
    some = lengths > 0
    if some.any():
        out[some] = reduce.reduceat(values, pool.begins.ravel()[some])
    return out.reshape(pool.lengths.shape)


def _min_max(pool: Pool) -> Array:
    scores = pool.scores
    low, high = _each(pool, scores, np.minimum, 0.0), _each(pool, scores, np.maximum, 0.0)
    span = np.maximum(high - low, LEAST)
    return cast("Array", (scores - pool.spread(low)) / pool.spread(span))


def _max(pool: Pool) -> Array:
    scores = pool.scores
    high = np.maximum(_each(pool, scores, np.maximum, 0.0), LEAST)
    return cast("Array", scores / pool.spread(high))


def _sum(pool: Pool) -> Array:
    scores = pool.scores
    low = _each(pool, scores, np.minimum, 0.0)
    total = _each(pool, scores, np.add, 0.0) - low * pool.lengths
    return cast("Array", (scores - pool.spread(low)) / pool.spread(np.maximum(total, LEAST)))


def _zscore(pool: Pool) -> Array:
    scores = pool.scores
    count = np.maximum(pool.lengths, 1)
    centred = scores - pool.spread(_each(pool, scores, np.add, 0.0) / count)
    spread = np.sqrt(_each(pool, centred**2, np.add, 0.0) / count)
    return cast("Array", centred / pool.spread(np.maximum(spread, LEAST)))


def _three_sigma(pool: Pool) -> Array:
    return cast("Array", np.clip(0.5 + _zscore(pool) / 6, 0.0, 1.0))


def _rank(pool: Pool) -> Array:
    return cast("Array", 1 - pool.positions() / pool.spread(np.maximum(pool.lengths, 1)))


def _borda(pool: Pool) -> Array:
    width = np.broadcast_to(np.maximum(np.diff(pool.starts), 1), pool.lengths.shape)
    return cast("Array", 1 - pool.positions() / pool.spread(width))


def _softmax(pool: Pool) -> Array:
    scores = pool.scores
    raised = np.exp(scores - pool.spread(_each(pool, scores, np.maximum, 0.0)))
    return cast("Array", raised / pool.spread(np.maximum(_each(pool, raised, np.add, 1.0), LEAST)))


def _log_softmax(pool: Pool) -> Array:
    scores = pool.scores
    low = scores - pool.spread(_each(pool, scores, np.maximum, 0.0))
    return cast("Array", low - pool.spread(np.log(_each(pool, np.exp(low), np.add, 1.0))))


def _sigmoid(pool: Pool) -> Array:
    return cast("Array", 0.5 * (1 + np.tanh(pool.scores / 2)))


def _theoretical_min(pool: Pool, lows: Mapping[str, float] | None) -> Array:
    """(s - low of the member) / (highest of the list - low)."""
    scores = pool.scores
    if lows is None:
        lows = dict.fromkeys(pool.names, 0.0)
    unknown = [n for n in pool.names if n not in lows]
    if unknown:
        raise OutputsError(f"no least score for {listed(unknown)}; lows has {listed(lows)}")
    low = np.repeat(np.array([float(lows[n]) for n in pool.names])[:, None], pool.lengths.shape[1], axis=1)
    span = np.maximum(_each(pool, scores, np.maximum, 0.0) - low, LEAST)
    return cast("Array", (scores - pool.spread(low)) / pool.spread(span))


NORMS: dict[str, Callable[[Pool], Array]] = {
    "min_max": _min_max,
    "max": _max,
    "sum": _sum,
    "zscore": _zscore,
    "rank": _rank,
    "borda": _borda,
    "theoretical_min": lambda pool: _theoretical_min(pool, None),
    "three_sigma": _three_sigma,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "sigmoid": _sigmoid,
}
"""Normalisations by name, of a list of scores s:

min_max (s - min) / (max - min); max s / max; sum (s - min) / sum of (s - min); zscore (s - mean) / standard
deviation; rank 1 - (rank - 1) / items; borda 1 - (rank - 1) / candidates of the row; theoretical_min
(s - low) / (max - low), low given by member (Bruch, Gai and Ingber 2023, TM2C2); three_sigma z-score with
mean at 1/2 and three deviations at 0 and 1, cut there; softmax e^s / sum of e^s, for logits; log_softmax its
logarithm; sigmoid 1 / (1 + e^-s).
"""
