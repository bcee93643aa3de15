"""Quantile regression averaging: quantiles of the truth, regressed on what the members say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, OutputsError
from conjoin.fusion.affine import present
from conjoin.fusion.columns import ColumnWeights
from conjoin.fusion.packing import ask, members_of
from conjoin.fusion.problems import ValueProblem, finite_tensor, value_problem
from conjoin.fusion.series.regression import MOST, quantile_regression
from conjoin.fusion.single import guarded
from conjoin.fusion.threads import one_thread
from conjoin.outputs import Quantiles

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json
    from conjoin.scores import Score

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


@dataclass(frozen=True, slots=True, eq=False)
class QuantileRegression:
    """Quantiles from members' point forecasts: Q(tau) = b_tau + sum_m w_m,tau v_m, sorted.

    members: M names, sorted. weights: (M, Q). intercepts: (Q,). levels: Q. Where a member did not answer,
    the mean of those who did stands in for it.
    """

    members: tuple[str, ...]
    weights: Array
    intercepts: Array
    levels: tuple[float, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members with weight."""
        return tuple(n for n, w in zip(self.members, self.weights, strict=True) if w.any())

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Quantiles:
        """Fuse. Raises OutputsError on a member it was not fitted to, and on more than one number a row."""
        laid, parts, answered = present(self.members, outputs)
        if laid.kind != "values" or laid.width != 1:
            raise OutputsError(f"this fuser was fitted to one value a row, not {laid.width} {laid.kind}")
        total = self.intercepts + sum(p * w for p, w in zip(parts, self.weights, strict=True))
        return Quantiles(np.sort(np.asarray(total), axis=1), self.levels, answered)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Weights, intercepts and levels; names as JSON."""
        arrays = {"weights": self.weights, "intercepts": self.intercepts, "levels": np.array(self.levels)}
        return arrays, {"members": list(self.members)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names, levels = members_of(meta), levels_of(arrays)
        weights = ask(arrays, "weights", (len(names), len(levels)))
        return cls(names, weights, ask(arrays, "intercepts", (len(levels),)), levels)


def levels_of(arrays: Mapping[str, Array]) -> tuple[float, ...]:
    """Quantile levels from a file. Raises BundleError."""
    levels = tuple(ask(arrays, "levels", (None,)).tolist())
    try:
        checked_levels(levels)
    except OutputsError as error:
        raise BundleError(str(error)) from error
    return levels


def checked_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """The levels, rising and in (0, 1). Raises OutputsError."""
    return Quantiles(np.zeros((0, len(levels))), tuple(levels)).levels


def fit_quantile_regression_averaging(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    levels: Sequence[float] = LEVELS,
    penalty: float = 0.0,
) -> Any:
    """Quantile regression averaging: each level's pinball loss at its optimum (Nowotarski and Weron 2015).

    Of values (point forecasts, one number a row): a `QuantileRegression` that answers quantiles at `levels`.
    Of quantiles: each level is regressed on the members' quantiles of that level, a `ColumnWeights`; levels
    is not looked at, and the best single member is given where it has less loss. Weights are free, with an
    intercept for each level; quantiles that cross are sorted (Chernozhukov et al. 2010). penalty: times
    1 / n sum_m |w_m - 1/M|, in units of the members' spread. Exact, by an interior point method.
    seed has no influence. Raises OutputsError and TruthError.

    >>> from conjoin.outputs import Values
    >>> y = np.arange(40.0)
    >>> fit_quantile_regression_averaging({"a": Values(y)}, Values(2 * y), levels=[0.5]).weights.round(6)
    array([[2.]])
    """
    if not penalty >= 0:
        raise OutputsError(f"penalty must be at least 0, not {penalty}")
    rows = value_problem(outputs, truth, weights).thinned_to(MOST)
    if rows.stack.kind == "values" and rows.stack.width != 1:
        raise OutputsError(
            f"quantile regression averaging takes one value a row, not {rows.stack.width}; "
            "fit each horizon apart: each_horizon(...)"
        )
    if not rows.stack.width:
        raise OutputsError("the members' quantiles have no levels: there is nothing to regress on")
    X = finite_tensor(rows.stack)
    with one_thread():
        if rows.stack.kind == "values":
            wanted = checked_levels(levels)
            found = [_regressed(rows, X[:, :, 0], q, penalty) for q in wanted]
            w, b = np.array([f[0] for f in found]).T, np.array([f[1] for f in found])
            return QuantileRegression(rows.stack.names, w.reshape(len(X), len(wanted)), b, wanted)
        found = [_regressed(rows, X[:, :, k], q, penalty) for k, q in enumerate(rows.stack.levels)]
    w, b = np.array([f[0] for f in found]).T, np.array([f[1] for f in found])
    fuser = ColumnWeights(rows.stack.names, w.reshape(len(X), -1), b, "quantiles", (), 0.5)
    return guarded(fuser, outputs, truth, score, weights)


def _regressed(rows: ValueProblem, X: Array, level: float, penalty: float) -> tuple[Array, float]:
    """Weights (M,) and intercept of one level; members (M, n)."""
    members, n = X.shape
    shift = float(rows.shares @ X.mean(axis=0))  # an intercept far from 0 costs digits
    design = np.concatenate([X - shift, np.ones((1, n))]).T
    y, shares, at = rows.target[:, 0] - shift, rows.shares, np.full(n, level)
    if penalty > 0:
        spread = np.sqrt(float((rows.shares * (X - X @ rows.shares[:, None]) ** 2).sum() / members)) or 1.0
        pull = np.concatenate([2 * penalty * spread * np.eye(members), np.zeros((members, 1))], axis=1)
        design = np.concatenate([design, pull])
        y = np.concatenate([y, np.full(members, 2 * penalty * spread / members)])
        shares = np.concatenate([shares, np.full(members, 1.0 / n)])
        at = np.concatenate([at, np.full(members, 0.5)])
    found = quantile_regression(design, y, at, shares)
    w = found[:-1]
    return w, float(found[-1] + shift * (1 - w.sum()))
