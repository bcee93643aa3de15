"""Weights of similarities, fitted to pairs whose similarity is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from conjoin.errors import OutputsError, TruthError
from conjoin.fusion.applied import Applied
from conjoin.fusion.embeddings.laid import Vectors, lay
from conjoin.fusion.embeddings.ranks import rank_mean_of
from conjoin.fusion.simplex import least_quadratic
from conjoin.fusion.single import guarded
from conjoin.outputs import Array, Values
from conjoin.scores import checked_weights

RIDGE = 0.1


def fit_concat(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    ridge: float = RIDGE,
) -> Any:
    """`concat` with the weights of the members' cosines that follow the truth best.

    truth: Values (n,), the similarity of each pair (n, 2, D_m). The weights w >= 0 have the least squared
    error of a + sum_m w_m cos_m, plus `ridge` times the variance of the cosines times the squared distance of
    w from equal weights; so two members that say the same share their weight. The problem is convex and
    solved exactly. The cosine of the fused vectors is the fitted similarity, and they serve for a search too.
    weights: (n,) of rows. score: of the guard; Spearman by default. seed has no influence. Where the best
    single member scores better it is taken. Raises OutputsError and TruthError.
    """
    named = _fitted(outputs, truth, weights, ridge)
    return guarded(Applied("embeddings", "concat", named, {}), outputs, truth, score, weights)


def fit_similarity(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    ridge: float = RIDGE,
) -> Any:
    """`similarity` with the weights of `fit_concat`. The parameters are the same."""
    named = _fitted(outputs, truth, weights, ridge)
    return guarded(Applied("embeddings", "similarity", named, {}), outputs, truth, score, weights)


def fit_rank_mean(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    ridge: float = RIDGE,
) -> Any:
    """`rank_mean` that keeps these rows as those to rank among, weighted as by `fit_concat`, of the ranks.

    truth: Values (n,), or None: equal weights. Otherwise as `fit_concat`.
    """
    laid = lay(outputs)
    if truth is None:
        return rank_mean_of(laid)
    plain = rank_mean_of(laid)
    ranks = np.array([plain({n: outputs[n]}).values for n in laid.names])
    named = _solved(laid.names, ranks, *_truth(laid, truth, weights), ridge)
    return guarded(rank_mean_of(laid, named), outputs, truth, score, weights)


def _fitted(outputs: Mapping[str, Any], truth: Any, weights: Any, ridge: float) -> dict[str, float]:
    laid = lay(outputs)
    return _solved(laid.names, laid.cosines(), *_truth(laid, truth, weights), ridge)


def _truth(laid: Vectors, truth: Any, weights: Any) -> tuple[Array, Array]:
    """(n,) similarities, and shares of the rows that sum to 1, 0 without a truth or an answer."""
    if not isinstance(truth, Values) or truth.values.ndim != 1:
        kind = "values of several columns" if isinstance(truth, Values) else type(truth).__name__
        raise TruthError(f"similarities are fitted to a truth of values (n,), not {kind}")
    if len(truth) != laid.rows:
        raise TruthError(f"the members answered {laid.rows} rows, the truth has {len(truth)}")
    right = truth.values.astype(np.float64)
    mass = checked_weights(weights, laid.rows) * (truth.answered & laid.spoken)
    mass = np.where(np.isfinite(right), mass, 0.0)
    if not mass.any():
        raise TruthError("no row has both a truth and an answer to learn from")
    return np.where(mass > 0, right, 0.0), mass / mass.sum()


def _solved(
    names: tuple[str, ...], found: Array, right: Array, mass: Array, ridge: float
) -> dict[str, float]:
    """Weights by name that sum to 1. found (M, n): what members say, NaN where nothing."""
    if not ridge >= 0:
        raise OutputsError(f"ridge must not be negative, not {ridge!r}")
    centred = np.zeros_like(found)
    for m, row in enumerate(found):
        share = np.where(np.isnan(row), 0.0, mass)
        total = share.sum()
        centre = (share * np.nan_to_num(row)).sum() / total if total > 0 else 0.0
        centred[m] = np.where(np.isnan(row) | (mass == 0), 0.0, row - centre)
    H = (centred * mass) @ centred.T
    pull = centred @ (mass * (right - mass @ right))
    spread = ridge * float(np.trace(H)) / len(H)
    H += spread * (np.eye(len(H)) - 1.0 / len(H))
    solved = least_quadratic(H, -pull) if np.trace(H) > 0 else np.zeros(len(H))
    if not solved.sum() > 0:
        solved = np.ones(len(H))
    return dict(zip(names, (solved / solved.sum()).tolist(), strict=True))
