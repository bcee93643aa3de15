"""Fusion of scores: the Comb family, its weighted relatives, and the weighted sum.

Each operator normalises the scores of every list (`norm`, one of `norms.NORMS`; None leaves them), multiplies
them with the member's weight and combines, for each item, those of the lists that have it:

    fuser(outputs, /, *, weights=None, batch=None, norm="min_max", depth=None, ...) -> Ranking

outputs: member name -> Ranking, all with n rows. depth: keep that many items a row. Items of equal scores
stay in the order in which the lists, members by name, have them. All raise OutputsError where outputs,
weights or options do not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.fusion.ranking.norms import absent as absent_values
from conjoin.fusion.ranking.norms import normalised
from conjoin.fusion.ranking.pool import Pool, pool
from conjoin.fusion.stack import Weights
from conjoin.kernels import ranking as kernels
from conjoin.outputs import Ranking

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array


def combined(laid: Pool, rule: int, values: Array, fills: Array | None = None, power: float = 0.0) -> Array:
    """(C,): one score of each candidate, by a rule of `kernels.ranking.combine`."""
    if fills is None:
        fills = np.full(laid.lengths.shape, np.nan)
    out = np.empty(len(laid.firsts))
    places = (laid.begins, laid.ends, laid.slots, laid.starts)
    kernels.combine(rule, float(power), np.asarray(values, np.float64), fills, laid.weights, *places, out)
    return out


def _comb(
    outputs: Mapping[str, Any],
    weights: Weights,
    rule: int,
    norm: str | None,
    depth: int | None,
    power: float = 0.0,
) -> Ranking:
    laid = pool(outputs, weights)
    values = normalised(laid, norm)
    return laid.ranking(combined(laid, rule, values, absent_values(laid, values, norm), power), depth)


def comb_sum(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    norm: str | None = "min_max",
    depth: int | None = None,
) -> Ranking:
    """CombSUM: the sum of an item's weighted scores (Fox and Shaw 1994).

    >>> a, b = Ranking(["x", "y"], [2.0, 1.0], [0, 2]), Ranking(["y", "z"], [9.0, 8.0], [0, 2])
    >>> comb_sum({"a": a, "b": b}, norm=None).ids.tolist()
    ['y', 'z', 'x']
    """
    return _comb(outputs, weights, kernels.SUM, norm, depth)


def comb_mnz(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    norm: str | None = "min_max",
    depth: int | None = None,
) -> Ranking:
    """CombMNZ: the sum of an item's weighted scores times the number of its lists (Fox and Shaw 1994)."""
    return _comb(outputs, weights, kernels.MNZ, norm, depth, 1.0)


def comb_gmnz(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    norm: str | None = "min_max",
    gamma: float = 1.0,
    depth: int | None = None,
) -> Ranking:
    """CombGMNZ: the sum times (number of lists)^gamma: 0 is CombSUM, 1 CombMNZ, -1 CombANZ (Lee 1997)."""
    return _comb(outputs, weights, kernels.MNZ, norm, depth, gamma)


def comb_anz(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    norm: str | None = "min_max",
    depth: int | None = None,
) -> Ranking:
    """CombANZ: the weighted mean of an item's scores over the lists that have it (Fox and Shaw 1994)."""
    return _comb(outputs, weights, kernels.ANZ, norm, depth)


def comb_max(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    norm: str | None = "min_max",
    depth: int | None = None,
) -> Ranking:
    """CombMAX: the highest of an item's weighted scores (Fox and Shaw 1994)."""
    return _comb(outputs, weights, kernels.MAX, norm, depth)


def comb_min(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    norm: str | None = "min_max",
    depth: int | None = None,
) -> Ranking:
    """CombMIN: the lowest of an item's weighted scores (Fox and Shaw 1994)."""
    return _comb(outputs, weights, kernels.MIN, norm, depth)


def comb_med(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    norm: str | None = "min_max",
    depth: int | None = None,
) -> Ranking:
    """CombMED: the median of an item's weighted scores (Fox and Shaw 1994)."""
    return _comb(outputs, weights, kernels.MED, norm, depth)


def wmnz(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    norm: str | None = "min_max",
    depth: int | None = None,
) -> Ranking:
    """WMNZ: the sum of an item's scores times the weights of its lists (Wu and Crestani 2002)."""
    return _comb(outputs, weights, kernels.WMNZ, norm, depth)


def mixed(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    norm: str | None = "min_max",
    depth: int | None = None,
) -> Ranking:
    """Mixed: the sum of an item's weighted scores times sqrt(number of lists) (Wu and Crestani 2002)."""
    return _comb(outputs, weights, kernels.MNZ, norm, depth, 0.5)


def weighted_sum(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    norm: str | None = "min_max",
    absent: str = "none",
    lows: Mapping[str, float] | None = None,
    depth: int | None = None,
) -> Ranking:
    """sum_m w_m s_m with weights that sum to 1 over the members: the convex combination of scores.

    absent: what an item counts that a list lacks: "none", nothing; "least", the least normalised score of
    that list, which suits normalisations with negative values (zscore, log_softmax). lows: by member, for
    norm="theoretical_min". With log_softmax it is the logarithmic pool of the members' distributions.
    (Bruch, Gai and Ingber 2023: better than RRF, in and out of domain, and fitted with few queries.)
    """
    laid = pool(outputs, weights)
    values = normalised(laid, norm, lows=lows)
    fills = absent_values(laid, values, norm, absent)
    return laid.ranking(combined(laid, kernels.SUM, values, fills) / laid.weights.sum(), depth)
