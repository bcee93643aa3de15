"""Combining forecasts: winsorised mean, Bates-Granger, Granger-Ramanathan, constrained and LAD regression.

All fit functions take (outputs, truth, *, weights, score, seed) and give a record of `conjoin.fusion`; where
the best single member has less loss on the same rows, they give that member (`Single`). Forecasts of H
numbers share the members' weights over horizons (`each_horizon` fits them apart); numbers that are NaN are
missing (see `cells`). Where a member did not answer, the mean of those who did stands in for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion import rules
from conjoin.fusion.affine import affine_pool
from conjoin.fusion.linear import fit_linear_pool
from conjoin.fusion.problems import ValueProblem, finite_tensor, value_problem
from conjoin.fusion.series.cells import cellwise, with_gaps
from conjoin.fusion.series.covariance import shrunk_covariance
from conjoin.fusion.series.regression import MOST, quantile_regression
from conjoin.fusion.simplex import least_squares_mixture
from conjoin.fusion.single import guarded
from conjoin.fusion.stack import Dense, Stack, Weights, named_weights, stack
from conjoin.fusion.threads import one_thread

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array
    from conjoin.scores import Score


def winsorised_mean(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    trim: float = 0.1,
) -> Dense:
    """The mean after the numbers in each tail are set to the nearest one that is not in it (Tukey 1962).

    trim: share of the weight in each tail, in [0, 0.5). Members that lie wholly in a tail are moved:
    floor(trim x M) at each end for equal weights. Raises OutputsError.

    >>> from conjoin.outputs import Values
    >>> many = {c: Values([x]) for c, x in zip("abcde", (1.0, 2.0, 3.0, 4.0, 100.0))}
    >>> winsorised_mean(many, trim=0.2).values
    array([3.])
    """
    if not 0 <= trim < 0.5:
        raise OutputsError(f"trim must lie in [0, 0.5), not {trim}")
    return cast(Dense, cellwise(_winsorised, outputs, weights=weights, trim=trim))


def _winsorised(outputs: Mapping[str, Any], /, *, weights: Weights, trim: float) -> Dense:
    mass = named_weights(outputs, weights)
    laid, counting = rules.counting(*_laid(outputs, mass))

    def pick(values: Array, mass: Array) -> Array:
        ends, total = np.cumsum(mass, axis=0), mass.sum(axis=0)
        keep = (ends > trim * total * (1 + 1e-12)) & (ends - mass < (1 - trim) * total * (1 - 1e-12))
        keep &= mass > 0
        low = np.where(keep, values, np.inf).min(axis=0)
        high = np.where(keep, values, -np.inf).max(axis=0)
        held = np.clip(np.where(mass > 0, values, low), low, high)
        return np.asarray((mass * np.where(total > 0, held, 0.0)).sum(axis=0) / np.where(total > 0, total, 1))

    return laid.output(*rules.by_order(laid, counting, pick))


def _laid(outputs: Mapping[str, Any], mass: Mapping[str, float]) -> tuple[Stack, Array]:
    laid = stack(outputs)
    return laid, np.array([mass[n] for n in laid.names])


def _problem(outputs: Mapping[str, Any], truth: Any, weights: Any, who: str) -> ValueProblem:
    rows = value_problem(outputs, truth, weights)
    if rows.stack.kind != "values":
        raise OutputsError(f"{who} combines values, not {rows.stack.kind}")
    return rows


@with_gaps
def fit_bates_granger(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    shrink: float | None = None,
) -> Any:
    """w = S^-1 1 / (1' S^-1 1): the weights of sum 1 with the least squared error (Bates and Granger 1969).

    S (M, M): mean products of the members' errors, also known as Newbold and Granger (1974). shrink: how far
    correlations are drawn to 0, in [0, 1]; 1 gives inverse mean squared errors, None the optimum of Schafer
    and Strimmer, which keeps S invertible where members are alike or more than rows. Weights may be
    negative. seed has no influence. Raises OutputsError and TruthError.

    >>> from conjoin.outputs import Values
    >>> a, b = Values([1.0, -1.0, 1.0, -1.0]), Values([2.0, 2.0, -2.0, -2.0])
    >>> fit_bates_granger({"a": a, "b": b}, Values([0.0] * 4)).weights
    array([0.8, 0.2])
    """
    rows = _problem(outputs, truth, weights, "bates_granger")
    with one_thread():
        S, _ = shrunk_covariance(rows.residuals(), _each(rows), shrink=shrink)
        w = _least_of_sum_one(S)
    return guarded(affine_pool(rows, w, np.zeros(rows.stack.width)), outputs, truth, score, weights)


def _each(rows: ValueProblem) -> Array:
    """Weights of `rows.residuals()`, in which the rows' own are inside already."""
    n = rows.stack.rows * rows.stack.width
    return np.full(n, 1.0 / n)


def _least_of_sum_one(S: Array) -> Array:
    """The w with sum 1 and least w'Sw; equal weights share what S does not tell apart."""
    scale = float(np.trace(S)) / len(S)
    if not scale > 0:
        return np.full(len(S), 1.0 / len(S))
    w = np.linalg.solve(S / scale + 1e-9 * np.eye(len(S)), np.ones(len(S)))
    return np.asarray(w / w.sum())


@with_gaps
def fit_granger_ramanathan(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    constant: bool = True,
    penalty: float = 0.0,
) -> Any:
    """Least squares of the truth on the forecasts: y = b + sum_m w_m v_m (Granger and Ramanathan 1984).

    constant: with an intercept for each target (their method C), else none (A). Weights are free. penalty:
    times 1 / n the squared distance from equal weights, in units of the members' spread. Of the solutions
    that fit equally well (members that are alike, more members than rows) that nearest to equal weights is
    taken. Raises OutputsError and TruthError.
    """
    if not penalty >= 0:
        raise OutputsError(f"penalty must be at least 0, not {penalty}")
    rows = _problem(outputs, truth, weights, "granger_ramanathan")
    with one_thread():
        A, y, means, centre = _centred(rows, constant=constant)
        w = _least_squares(A, y, penalty / len(rows.shares))
    return guarded(affine_pool(rows, w, centre - w @ means), outputs, truth, score, weights)


def _centred(rows: ValueProblem, *, constant: bool) -> tuple[Array, Array, Array, Array]:
    """Design (M, n C), target (n C,), both less their means where there is a constant; means (M, C), (C,)."""
    X, share = finite_tensor(rows.stack), rows.shares[:, None]
    means, centre = (X * share).sum(axis=1), (rows.target * share).sum(axis=0)
    if not constant:
        means, centre = np.zeros_like(means), np.zeros_like(centre)
    root = np.sqrt(share)
    return (
        ((X - means[:, None]) * root).reshape(len(X), -1),
        ((rows.target - centre) * root).reshape(-1),
        means,
        centre,
    )


def _least_squares(A: Array, y: Array, penalty: float) -> Array:
    """The w with the least |y - w A|^2, nearest to equal weights where that is not unique."""
    equal = np.full(len(A), 1.0 / len(A))
    rest = y - equal @ A
    if penalty > 0:
        H = A @ A.T
        ridge = penalty * float(np.trace(H)) / len(H) + 1e-300
        return np.asarray(equal + np.linalg.solve(H + ridge * np.eye(len(H)), A @ rest))
    return np.asarray(equal + np.linalg.lstsq(A.T, rest, rcond=1e-9)[0])


@with_gaps
def fit_constrained_least_squares(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    constant: bool = False,
) -> Any:
    """Least squares over weights that are not negative and sum to 1 (the combination CLS; Timmermann 2006).

    constant: with an intercept for each target, which takes away the members' common bias: an `AffinePool`.
    Without, it is `fit_linear_pool`. Raises OutputsError and TruthError.
    """
    rows = _problem(outputs, truth, weights, "constrained_least_squares")
    if not constant:
        return fit_linear_pool(outputs, truth, weights=weights)
    with one_thread():
        A, y, means, centre = _centred(rows, constant=True)
        R = A - y
        w = least_squares_mixture(R @ R.T).weights
    return guarded(affine_pool(rows, w, centre - w @ means), outputs, truth, score, weights)


@with_gaps
def fit_lad(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    constant: bool = True,
) -> Any:
    """Least absolute deviations: y = b + sum_m w_m v_m with the least sum of |errors| (the combination LAD).

    Robust against outliers in the truth. constant: with an intercept for each target. score: MAE where none
    is given, for the comparison with the best single member. Raises OutputsError and TruthError.
    """
    from conjoin.scores import SCORES

    rows = _problem(outputs, truth, weights, "lad").thinned_to(MOST)
    with one_thread():
        w, b = absolute_regression(rows, constant=constant)
    return guarded(affine_pool(rows, w, b), outputs, truth, score or SCORES["mae"], weights)


def absolute_regression(rows: ValueProblem, *, constant: bool) -> tuple[Array, Array]:
    """Weights (M,) and intercepts (C,) of the least absolute deviations."""
    X, width = finite_tensor(rows.stack), rows.stack.width
    columns = X.reshape(len(X), -1).T
    if constant:
        columns = np.concatenate([columns, np.tile(np.eye(width), (rows.stack.rows, 1))], axis=1)
    y, shares = rows.target.reshape(-1), np.repeat(rows.shares, width)
    found = quantile_regression(columns, y, np.full(len(y), 0.5), shares)
    return found[: len(X)], found[len(X) :] if constant else np.zeros(width)
