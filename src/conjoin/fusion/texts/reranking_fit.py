"""Fitting a reranker: priors of systems, slopes of their scores, coefficients of features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from conjoin.errors import TruthError
from conjoin.fusion.applied import Applied
from conjoin.fusion.single import guarded
from conjoin.fusion.texts.judging import Judged, judged, side_by_side
from conjoin.fusion.texts.laid import Laid, system_of
from conjoin.fusion.texts.reranking import FEATURES
from conjoin.outputs import Array

RIDGES = (1000.0, 100.0, 10.0, 1.0)
"""How many rows' worth of evidence features must overcome."""
FOLDS = 5


def fit_rerank(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
) -> Any:
    """`rerank` with a prior for each system, a slope of its scores, and coefficients of all `FEATURES`.

    A ridge regression of what each answer loses on its row, compared with the other answers to that row.
    The penalty on features and slopes is the one of `RIDGES`, or leaving them all out, whose choices lose
    least on rows held out (5 folds, drawn with `seed`). weights: (n,) of rows. score: one that adds up over
    rows. Gives way to the best member where that scores better on the truth. Raises OutputsError and
    TruthError.
    """
    case = judged(outputs, truth, weights, score)
    laid, _ = side_by_side(case)
    design = _design(case, laid)
    folds = np.random.default_rng(seed).permutation(laid.rows) % min(FOLDS, max(2, laid.rows))
    lost = []
    for ridge in (np.inf, *RIDGES):
        total = 0.0
        for f in range(int(folds.max()) + 1):
            inside = folds[design.row] != f
            theta = _solve(design, ridge, inside)
            total += _lost(design, design.x @ theta, ~inside)
        lost.append(total)
    ridge = (np.inf, *RIDGES)[int(np.argmin(np.round(lost, 9)))]
    theta = _solve(design, ridge, np.ones(len(design.row), dtype=bool))
    fuser = Applied("texts", "rerank", dict.fromkeys(case.names, 1.0), design.options(theta))
    return guarded(fuser, outputs, truth, case.score, weights)


@dataclass(frozen=True, slots=True, eq=False)
class _Design:
    """x: (e, F + S + K): features, one column a system, scores of the systems that have some. y: (e,) loss.

    scales: of the features' and scores' columns; centres: (mean, of) scores of each system that has some.
    """

    x: Array
    y: Array
    row: Array
    mass: Array
    systems: tuple[str, ...]
    scales: Array
    scored: tuple[str, ...]
    means: Array

    def options(self, theta: Array) -> dict[str, Any]:
        """The options of `rerank`; theta is of losses, `rerank` wants the greatest value."""
        f, s = len(FEATURES), len(self.systems)
        slopes = 0.0 - theta / self.scales
        features = dict(zip(FEATURES, slopes[:f].tolist(), strict=True))
        priors = dict(zip(self.systems, slopes[f : f + s].tolist(), strict=True))
        lines = zip(self.scored, self.means.tolist(), slopes[f + s :].tolist(), strict=True)
        return {"features": features, "priors": priors, "scores": {n: [m, c] for n, m, c in lines}}


def _design(case: Judged, laid: Laid) -> _Design:
    losses = np.array([_row_losses(case, n) for n in laid.names])
    row = laid.row_of[laid.slot]
    y = losses[laid.owner, row]
    systems = tuple(sorted(case.losses))
    place = np.array([systems.index(system_of(n)) for n in laid.names])[laid.owner]
    known = np.isfinite(laid.scores)
    scored = tuple(s for k, s in enumerate(systems) if known[place == k].any())
    columns = [feature(laid)[laid.slot] for feature in FEATURES.values()]
    columns += [(place == k).astype(np.float64) for k in range(len(systems))]
    means = np.array([laid.scores[known & (place == systems.index(s))].mean() for s in scored])
    for s, mean in zip(scored, means, strict=True):
        columns.append(np.where(known & (place == systems.index(s)), laid.scores - mean, 0.0))
    x = np.stack(columns, axis=1)
    kept = np.isfinite(y) & (case.mass[row] > 0)
    scales = np.ones(x.shape[1])
    for c in [*range(len(FEATURES)), *range(len(FEATURES) + len(systems), x.shape[1])]:
        spread = float(x[kept, c].std()) if kept.any() else 0.0
        scales[c] = spread if spread > 1e-12 else 1.0
    x = x / scales
    return _Design(x[kept], y[kept], row[kept], case.mass[row[kept]], systems, scales, scored, means)


def _row_losses(case: Judged, name: str) -> Array:
    found = case.score.rows(case.outputs[name], case.truth, case.mass)
    if found is None:
        raise TruthError(f"{case.score.name} does not add up over rows; take fit_minimum_bayes_risk")
    return np.where(case.outputs[name].answered, found, np.nan)


def _solve(design: _Design, ridge: float, inside: Array) -> Array:
    """Coefficients for losses compared within a row; all but the systems' are 0 for an infinite penalty."""
    f, s = len(FEATURES), len(design.systems)
    x, y, w = design.x[inside], design.y[inside], design.mass[inside]
    _, row = np.unique(design.row[inside], return_inverse=True)
    if not len(y):
        return np.zeros(design.x.shape[1])
    total = np.bincount(row, weights=w)
    x = x - np.stack([np.bincount(row, weights=w * c) / total for c in x.T], axis=1)[row]
    y = y - (np.bincount(row, weights=w * y) / total)[row]
    penalty = np.full(x.shape[1], ridge if np.isfinite(ridge) else 0.0)
    penalty[f : f + s] = 1.0
    free = np.ones(x.shape[1], dtype=bool)
    if not np.isfinite(ridge):
        free[:f] = free[f + s :] = False
    out = np.zeros(x.shape[1])
    xw = x[:, free] * w[:, None]
    out[free] = np.linalg.solve(xw.T @ x[:, free] + np.diag(penalty[free] * w.mean()), xw.T @ y)
    return out


def _lost(design: _Design, predicted: Array, inside: Array) -> float:
    """The sum of losses of the answers with the least predicted loss in each row."""
    order = np.lexsort((predicted[inside], design.row[inside]))
    rows, y, w = (a[inside][order] for a in (design.row, design.y, design.mass))
    first = np.concatenate([[True], rows[1:] != rows[:-1]]) if len(rows) else np.zeros(0, dtype=bool)
    return float((y * w)[first].sum())
