"""Fusion of ranks: what counts is where an item stands, not its score.

    fuser(outputs, /, *, weights=None, batch=None, depth=None, ...) -> Ranking

outputs: member name -> Ranking, all with n rows. rank: 1 for the best item of a list. weights: one a member,
1 each by default. depth: keep that many items a row. Items of equal scores stay in the order in which the
lists, members by name, have them. All raise OutputsError where outputs, weights or options do not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.ranking.pool import Pool, pool
from conjoin.fusion.ranking.sums import combined
from conjoin.fusion.stack import Weights
from conjoin.kernels import ranking as kernels
from conjoin.outputs import Ranking

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array


def rrf(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    k: float = 60,
    depth: int | None = None,
) -> Ranking:
    """Reciprocal rank fusion: sum_m w_m / (k + rank) (Cormack, Clarke and Büttcher 2009).

    >>> a, b = Ranking(["x", "y"], [2.0, 1.0], [0, 2]), Ranking(["y"], [9.0], [0, 1])
    >>> rrf({"a": a, "b": b}).ids.tolist()
    ['y', 'x']
    """
    _above("k", k, -1)
    laid = pool(outputs, weights)
    return laid.ranking(by_points(laid, 1 / (k + _ranks(laid))), depth)


def rbc(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    phi: float = 0.8,
    depth: int | None = None,
) -> Ranking:
    """Rank-biased centroid: sum_m w_m (1 - phi) phi^(rank - 1) (Bailey, Moffat, Scholer and Thomas 2017)."""
    _above("phi", phi, 0)
    if phi >= 1:
        raise OutputsError(f"phi must be below 1, not {phi}")
    laid = pool(outputs, weights)
    return laid.ranking(by_points(laid, (1 - phi) * phi ** (_ranks(laid) - 1)), depth)


def isr(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    depth: int | None = None,
) -> Ranking:
    """Inverse square rank: number of lists with the item, times sum_m w_m / rank^2 (Mourão et al. 2014)."""
    laid = pool(outputs, weights)
    return laid.ranking(combined(laid, kernels.MNZ, _inverse_squares(laid), power=1.0), depth)


def log_isr(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    depth: int | None = None,
) -> Ranking:
    """log(number of lists that have the item) times sum_m w_m / rank^2 (Mourão et al. 2014).

    An item of one list alone scores 0, however high it stands there.
    """
    laid = pool(outputs, weights)
    return laid.ranking(combined(laid, kernels.LOG, _inverse_squares(laid)), depth)


def logn_isr(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    sigma: float = 0.01,
    depth: int | None = None,
) -> Ranking:
    """log(number of lists that have the item + sigma) times sum_m w_m / rank^2 (Mourão et al. 2014)."""
    if not 0 <= sigma <= 1:
        raise OutputsError(f"sigma must be in 0 to 1, not {sigma}")
    laid = pool(outputs, weights)
    return laid.ranking(combined(laid, kernels.LOG, _inverse_squares(laid), power=sigma), depth)


def borda(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    depth: int | None = None,
) -> Ranking:
    """Borda count: sum_m w_m points; of C candidates of the row the first has C points, the next C - 1.

    The candidates that a list lacks share the points that are left: (C - items + 1) / 2 each. A list that
    is empty gives all of them the same (Aslam and Montague 2001).
    """
    laid = pool(outputs, weights)
    width = np.broadcast_to(np.diff(laid.starts), laid.lengths.shape)
    points = (laid.spread(width) - laid.positions()).astype(np.float64)
    fills = (width - laid.lengths + 1) / 2
    return laid.ranking(combined(laid, kernels.SUM, points, fills), depth)


def condorcet(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    depth: int | None = None,
) -> Ranking:
    """Condorcet fusion: items sorted by the weighted majority of the lists (Montague and Aslam 2002).

    A list votes for the item that it ranks higher, and for one that it has against one that it lacks. The
    items start in Borda's order and are merge-sorted by the votes; ties and cycles keep that order. An item
    that beats all others comes first. The score is the number of items from it to the end.
    """
    laid = pool(outputs, weights)
    width = np.broadcast_to(np.diff(laid.starts), laid.lengths.shape)
    ranks = laid.positions().astype(np.float64)
    points = combined(laid, kernels.SUM, laid.spread(width) - ranks, (width - laid.lengths + 1) / 2)
    table = laid.table(ranks, np.full(laid.lengths.shape, np.inf))
    best = kernels.sorted_positions(points, laid.starts)
    kernels.majority(table, laid.weights, laid.starts, best)
    scores = np.empty(len(best))
    scores[best] = np.repeat(laid.starts[1:], np.diff(laid.starts)) - np.arange(len(best))
    return laid.ranking(scores, depth)


def by_points(laid: Pool, points: Array) -> Array:
    """(C,): sum_m w_m points[position], points (L,) for the longest list or (M, L)."""
    table = np.broadcast_to(points, (len(laid.names), points.shape[-1])) * laid.weights[:, None]
    out = np.zeros(len(laid.firsts))
    kernels.add_points(np.ascontiguousarray(table), laid.begins, laid.ends, laid.slots, out)
    return out


def _ranks(laid: Pool) -> Array:
    return np.arange(1.0, (int(laid.lengths.max()) if laid.lengths.size else 0) + 1)


def _inverse_squares(laid: Pool) -> Array:
    return 1 / (laid.positions() + 1.0) ** 2


def _above(name: str, value: Any, low: float) -> None:
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else np.nan
    if not (np.isfinite(number) and number > low):
        raise OutputsError(f"{name} must be a finite number above {low}, not {value!r}")
