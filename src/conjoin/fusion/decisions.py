"""Fitting decisions: factors on classes with which the most probable class scores best.

For scores that look at decisions alone (balanced accuracy, F1, MCC) the best class is not the most probable
one. The factors become part of the answer, so that its most probable class is the decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.fusion import rules
from conjoin.fusion.calibrate import Calibrated
from conjoin.fusion.calibrators import VectorScaling, only_probabilities
from conjoin.fusion.logpool import fit_log_pool
from conjoin.fusion.problems import ClassProblem, class_problem
from conjoin.outputs import Array, Probabilities

if TYPE_CHECKING:
    from conjoin.scores import Score

PASSES = 2
TRIED = 48
"""Values tried for one class in one pass."""


def fit_decisions(output: Any, truth: Any, *, score: Score, weights: Any = None) -> VectorScaling:
    """A factor per class, p_k proportional to p_k exp(b_k), with which decisions score best on these rows.

    Starts at equal factors and at the inverse of the classes' shares, whichever scores better; then one class
    after another, twice, takes the middle of the best stretch of 48 values. score: any Score of probabilities
    or decisions. Raises OutputsError and TruthError.
    """
    rows = class_problem({"it": only_probabilities(output)}, truth, weights)
    logs = np.log(np.maximum(rows.stack.parts[0].astype(np.float64), rules.FLOOR))
    width = rows.stack.width
    shares = np.bincount(rows.codes, rows.shares, width)
    starts = [np.zeros(width), -np.log(np.maximum(shares, 1.0 / (len(rows.codes) + width)))]
    losses = [_loss(rows, logs + b, score) for b in starts]
    b = starts[int(np.nanargmin([*losses, np.inf]))] if not np.isnan(losses).all() else starts[0]
    for _ in range(PASSES):
        for k in [1] if width == 2 else range(width):
            b = _moved(rows, logs, b, k, score)
    return VectorScaling(np.ones(width), b - b.mean(), rows.stack.classes, rules.FLOOR)


def _moved(rows: ClassProblem, logs: Array, b: Array, k: int, score: Score) -> Array:
    """The factors with that of class k at its best."""
    others = logs + b
    others[:, k] = -np.inf
    if others.shape[1] < 2:
        return b
    margin = others.max(axis=1) - logs[:, k]
    tried = np.unique(np.append(np.quantile(margin, np.linspace(0.01, 0.99, TRIED)), b[k]))
    losses = []
    for value in tried:
        moved = b.copy()
        moved[k] = value
        losses.append(_loss(rows, logs + moved, score))
    found = np.array(losses)
    if np.isnan(found).all():
        return b
    best = np.flatnonzero(found <= np.nanmin(found) + 1e-12)
    here = int(np.flatnonzero(tried == b[k])[0])
    out = b.copy()
    if here not in best:
        end = int(np.flatnonzero(np.diff(best, append=best[-1] + 2) > 1)[0])  # of the first stretch
        out[k] = float(np.median(tried[best[: end + 1]]))
    return out


def _loss(rows: ClassProblem, scores: Array, score: Score) -> float:
    answer = Probabilities(rules.softmax(scores), rows.stack.classes)
    return score.loss(answer, rows.truth, rows.shares)


def fit_decided_log_pool(outputs: Mapping[str, Any], truth: Any, *, score: Score, **more: Any) -> Calibrated:
    """A log pool, and factors on classes with which its decisions score best."""
    pool = fit_log_pool(outputs, truth, score=score, **more)
    after = fit_decisions(pool(outputs), truth, score=score, weights=more.get("weights"))
    return Calibrated(pool, {}, after)
