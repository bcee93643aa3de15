"""Greedy selection with replacement (Caruana, Niculescu-Mizil, Crew and Ksikes 2004).

For log-loss only the probability of the true class matters, and convexity bounds each candidate from below,
so that few are tried; squared errors need only the matrix of products. Any other score is computed on each
mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.fusion.linear import LinearPool
from conjoin.fusion.problems import ClassProblem, ValueProblem, finite_tensor, problem
from conjoin.fusion.simplex import SMALLEST
from conjoin.fusion.threads import one_thread
from conjoin.scores import SCORES, default_score

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.scores import Score

PICKS = 25
QUICK = ("log_loss", "brier", "rmse", "mse", "r2")
"""Scores that need no mixture to be computed."""
RESOLUTION = 6
"""Losses that agree to this many decimals tie, unless the first loss is below 1e-4."""
_BLOCK = 16  # probabilities multiplied before one logarithm; 1e-15^16 is still a number

Losses = Callable[[list[int]], "tuple[Array, Array]"]
"""From the picks so far to (candidates, the loss with each added once more)."""


def fit_greedy_selection(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    picks: int = PICKS,
) -> LinearPool:
    """Add `picks` times the member with which the mean of all picked scores best; keep the best such mean.

    score: any Score; log-loss, RMSE or pinball loss by default. Losses that agree to 6 decimals tie: members
    already picked win ties, then the better loss, then the name. weights: (n,) of the rows. seed has no
    influence. The record's picks are the members in order. Raises OutputsError and TruthError.
    """
    rows = problem(outputs, truth, weights)
    score = score or default_score(rows.stack.output(rows.stack.parts[0]))
    with one_thread():
        order, losses = _select(_losses(rows, score), len(rows.stack.names), picks)
    counts = np.bincount(order, minlength=len(rows.stack.names)) / len(order)
    named = dict(zip(rows.stack.names, counts.tolist(), strict=True))
    picked = tuple(rows.stack.names[m] for m in order)
    return LinearPool(named, rows.stack.kind, rows.stack.classes, losses[-1], None, picked)


def _select(losses: Losses, members: int, picks: int) -> tuple[list[int], list[float]]:
    """The picks up to the first with the least loss, and the loss after each."""
    order: list[int] = []
    path: list[float] = []
    rounded = False
    for _ in range(max(1, picks) if members > 1 else 1):
        candidates, found = losses(order)
        shown = np.round(found, RESOLUTION) if rounded else found
        tied = candidates[np.isclose(shown, np.nanmin(shown), rtol=1e-12, atol=0.0)]
        again = [m for m in tied if m in order]
        values = dict(zip(candidates.tolist(), found.tolist(), strict=True))
        best = int(min(again or tied.tolist(), key=lambda m: (values[m], m)))
        rounded = rounded or abs(values[best]) > 1e-4
        order.append(best)
        path.append(round(values[best], RESOLUTION) if rounded else values[best])
    last = int(np.argmin(path)) + 1
    return order[:last], path[:last]


def _losses(rows: ClassProblem | ValueProblem, score: Score) -> Losses:
    if isinstance(rows, ClassProblem) and score is SCORES["log_loss"]:
        return _log_losses(rows.of_truth(), rows.shares)
    if isinstance(rows, ClassProblem) and score is SCORES["brier"]:
        X = finite_tensor(rows.stack)
        X[:, np.arange(len(rows.codes)), rows.codes] -= 1.0
        R = (X * np.sqrt(rows.shares)[:, None]).reshape(len(X), -1)
        return _squares(R @ R.T / (2.0 if rows.stack.width == 2 else 1.0), lambda v: v)
    if isinstance(rows, ValueProblem) and score.name in ("rmse", "mse", "r2") and SCORES[score.name] is score:
        return _number_squares(rows, score.name)
    return _any(rows, score)


def _number_squares(rows: ValueProblem, name: str) -> Losses:
    R = rows.residuals()
    G = R @ R.T / rows.stack.width
    if name == "rmse":
        return _squares(G, np.sqrt)
    if name == "mse":
        return _squares(G, lambda v: v)
    share = rows.shares[:, None]
    centre = (rows.target * share).sum(axis=0)
    spread = ((rows.target - centre) ** 2 * share).sum(axis=0)
    X = (finite_tensor(rows.stack) - rows.target) * np.sqrt(share / np.where(spread > 0, spread, 1.0))
    flat = X.reshape(len(X), -1)
    return _squares(flat @ flat.T / rows.stack.width, lambda v: v)


def _squares(G: Array, shown: Callable[[Array], Array]) -> Losses:
    """G (M, M): mean products of residuals."""
    everybody, diagonal = np.arange(len(G)), np.diag(G)

    def losses(order: list[int]) -> tuple[Array, Array]:
        pull = G[:, order].sum(axis=1)
        inside = float(pull[order].sum())
        total = np.maximum(inside + 2 * pull + diagonal, 0.0) / (len(order) + 1) ** 2
        return everybody, shown(total)

    return losses


def _log_losses(P: Array, shares: Array) -> Losses:
    """P (M, n): the probability of the true class.

    With S the mean so far and b = 1 / (picks + 1), convexity gives
    loss((1 - b) S + b P_m) >= loss(S) - b (sum_i shares_i P_mi / S_i - 1), at the cost of one product.
    """
    members, n = P.shape
    mean = _log_mean(n, shares)
    work = np.empty(n)
    slack = 2.0 * 10.0**-RESOLUTION

    def losses(order: list[int]) -> tuple[Array, Array]:
        if not order:
            return np.arange(members), np.array([-mean(row) for row in P])
        b = 1.0 / (len(order) + 1)
        S = np.bincount(order, minlength=members) @ P / len(order)
        bounds = -mean(S) - b * (P @ (shares / S) - 1.0)
        rest, tried, found = (1 - b) * S, [], []
        least = np.inf
        for m in np.argsort(bounds, kind="stable"):
            if bounds[m] > least + slack:
                break
            np.multiply(P[m], b, out=work)
            np.add(work, rest, out=work)
            tried.append(int(m))
            found.append(-mean(work))
            least = min(least, found[-1])
        return np.array(tried), np.array(found)

    return losses


def _log_mean(n: int, shares: Array) -> Callable[[Array], float]:
    """The weighted mean of the logarithms of n numbers in [1e-15, 1].

    With equal weights, 16 numbers are multiplied before one logarithm is taken.
    """
    if n < 4 * _BLOCK or not bool((shares == shares[0]).all()):
        return lambda p: float(shares @ np.log(np.clip(p, SMALLEST, 1.0)))
    width = n // _BLOCK
    whole = width * _BLOCK
    share = float(shares[0])

    def mean(p: Array) -> float:
        block = p[:whole].reshape(_BLOCK, width)
        while len(block) > 1:
            block = block[: len(block) // 2] * block[len(block) // 2 :]
        return share * float(np.log(block[0]).sum() + np.log(p[whole:]).sum())

    return mean


def _any(rows: ClassProblem | ValueProblem, score: Score) -> Losses:
    X = finite_tensor(rows.stack)
    everybody = np.arange(len(X))
    truth = rows.truth

    def losses(order: list[int]) -> tuple[Array, Array]:
        counts = np.bincount(order, minlength=len(X)) if order else np.zeros(len(X))
        total = np.tensordot(counts, X, axes=1)
        found = []
        for m in everybody:
            mixed = rows.stack.output((total + X[m]) / (len(order) + 1))
            found.append(score.loss(mixed, truth, rows.shares))
        worst = np.array(found)
        return everybody, np.where(np.isnan(worst), np.inf, worst)

    return losses
