"""`LinearPool`: a weighted mean with fitted weights, and the functions that fit one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, OutputsError
from conjoin.fusion import rules
from conjoin.fusion.packing import ask, known, members_of, names_of
from conjoin.fusion.problems import ClassProblem, ValueProblem, finite_tensor, problem
from conjoin.fusion.simplex import (
    Optimum,
    least_pinball_mixture,
    least_quadratic,
    least_squares_mixture,
    likeliest_mixture,
)
from conjoin.fusion.stack import Dense, checked, stack
from conjoin.fusion.threads import one_thread

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json
    from conjoin.scores import Score


ABSOLUTE = ("mae", "medae", "mape")
"""Scores of values for which the pool's optimum is that of the absolute error."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LinearPool:
    """sum_m w_m v_m with weights that sum to 1; of quantiles Vincentization.

    weights: by member name. kind: of the outputs. classes: of the answer, in order (empty for numbers).
    loss: of the rows it was fitted to, if known. gap: how far that is above the optimum at most.
    picks: the members that greedy selection took, in order.

    Called with fewer members, or with rows that some did not answer, the weights of the others count.
    """

    weights: Mapping[str, float]
    kind: str
    classes: tuple[str, ...] = ()
    loss: float | None = None
    gap: float | None = None
    picks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        found = checked({str(n): float(w) for n, w in sorted(self.weights.items())})
        total = sum(found.values())
        scaled = found if abs(total - 1) < 1e-15 else {n: w / total for n, w in found.items()}
        object.__setattr__(self, "weights", scaled)

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members it knows."""
        return tuple(self.weights)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members with weight."""
        return tuple(n for n, w in self.weights.items() if w > 0)

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Dense:
        """Fuse. Raises OutputsError on a member it was not fitted to."""
        known(self.members, outputs)
        laid = stack(outputs, classes=self.classes or None)
        weights = np.array([self.weights[n] for n in laid.names])
        if not weights.any():
            return laid.output(np.full((laid.rows, laid.width), np.nan), np.zeros(laid.rows, dtype=bool))
        return laid.output(*rules.linear(*rules.counting(laid, weights), rules.Options()))

    def emit(self, graph: Graph, outputs: Mapping[str, str], /) -> str:
        """Nodes of the weighted mean."""
        known(self.members, outputs)
        names = [n for n in sorted(outputs) if self.weights[n] > 0]
        weights = np.array([self.weights[n] for n in names])
        values = rules.emit_linear(
            graph, rules.emit_stack(graph, [outputs[n] for n in names]), weights, rules.Options()
        )
        return graph.cast(values, 1) if self.kind == "probabilities" else values

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The weights, and everything else as JSON."""
        meta: dict[str, Json] = {
            "members": list(self.weights),
            "kind": self.kind,
            "classes": list(self.classes),
            "loss": self.loss,
            "gap": self.gap,
            "picks": list(self.picks),
        }
        return {"weights": np.array(list(self.weights.values()))}, meta

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names = members_of(meta)
        weights = dict(zip(names, ask(arrays, "weights", (len(names),)).tolist(), strict=True))
        loss, gap, picks = (meta.get(k) for k in ("loss", "gap", "picks"))
        try:
            return cls(
                weights,
                str(meta.get("kind")),
                names_of(meta, "classes"),
                float(loss) if isinstance(loss, int | float) else None,
                float(gap) if isinstance(gap, int | float) else None,
                tuple(str(p) for p in picks) if isinstance(picks, list) else (),
            )
        except OutputsError as error:
            raise BundleError(f"a packed linear pool does not make sense: {error}") from error

    def __repr__(self) -> str:
        some = {n: round(w, 4) for n, w in sorted(self.weights.items(), key=lambda i: -i[1]) if w > 0}
        told = "" if self.loss is None else f", loss={self.loss:.6g}"
        told += "" if self.gap is None else f", gap<={self.gap:.1e}"
        return f"LinearPool({some}{told})"


def fit_linear_pool(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    tolerance: float = 1e-7,
    least_share: float = 0.0,
) -> LinearPool:
    """The linear pool at its optimum, over all weights that are not negative and sum to 1.

    The least log-loss of probabilities, squared error of values, pinball loss of quantiles. The problem is
    convex; the gap on the record bounds how far the loss is above the optimum. weights: (n,) of the rows.
    score: where it is mae, medae or mape, the absolute error takes the place of the squared error; any other
    has no influence. tolerance: the gap at which the solver stops (log-loss, nats). least_share: members that
    get less are left out and the others weighed again (the gap is still that to the optimum of all).
    seed has no influence. Probabilities of the true class are clipped at 1e-15.
    Raises OutputsError and TruthError.
    """
    rows = problem(outputs, truth, weights)
    with one_thread():
        task = _task(rows, tolerance, score)
        found = task(np.arange(len(rows.stack.names)))
        kept = np.flatnonzero(found.weights >= least_share)
        while least_share and 0 < len(kept) < int((found.weights > 0).sum()):
            found = task(kept)
            kept = np.flatnonzero(found.weights >= least_share)
    return _pool(rows, found.weights, loss=found.loss, gap=found.gap)


Task = Callable[["Array"], Optimum]
"""From the members that may have weight to the optimum over them; its gap is to the optimum of all."""


def _task(rows: ClassProblem | ValueProblem, tolerance: float, score: Score | None) -> Task:
    if isinstance(rows, ClassProblem):
        return _likeliest(rows, tolerance)
    if rows.stack.kind == "quantiles":
        levels = np.array(rows.stack.levels)
        return _pinball(finite_tensor(rows.stack), rows.target[:, 0], levels, rows.shares, 1.0)
    if score is not None and score.name in ABSOLUTE:
        return _absolute(rows, score.name)
    return _squares(rows)


def _likeliest(rows: ClassProblem, tolerance: float) -> Task:
    P = rows.of_truth()

    def task(kept: Array) -> Optimum:
        if len(kept) == len(P):
            return likeliest_mixture(P, rows.shares, tolerance=tolerance)
        found = likeliest_mixture(P[kept], rows.shares, tolerance=tolerance)
        weights = _spread(found.weights, kept, len(P))
        slope = P @ (rows.shares / (found.weights @ P[kept]))
        return Optimum(weights, found.loss, float(slope.max() - 1), found.steps)

    return task


def _squares(rows: ValueProblem) -> Task:
    R = rows.residuals()
    G = R @ R.T / rows.stack.width

    def task(kept: Array) -> Optimum:
        found = least_squares_mixture(G[np.ix_(kept, kept)])
        weights = _spread(found.weights, kept, len(G))
        pull = G @ weights
        gap = max(2 * float(weights @ pull - pull.min()), 0.0)
        return Optimum(weights, found.loss, gap, found.steps)

    return task


def _pinball(X: Array, target: Array, levels: Array, shares: Array, scale: float) -> Task:
    full = least_pinball_mixture(X, target, levels, shares)

    def task(kept: Array) -> Optimum:
        found = full if len(kept) == len(X) else least_pinball_mixture(X[kept], target, levels, shares)
        gap = found.loss - (full.loss - full.gap)
        weights = _spread(found.weights, kept, len(X))
        return Optimum(weights, scale * found.loss, scale * max(gap, 0.0), found.steps)

    return task


def _absolute(rows: ValueProblem, name: str) -> Task:
    """Twice the pinball loss of the median is the absolute error; of MAPE each error has a weight 1 / |y|."""
    X = finite_tensor(rows.stack).reshape(len(rows.stack.parts), -1, 1)
    target = rows.target.reshape(-1)
    shares = np.repeat(rows.shares, rows.stack.width) / rows.stack.width
    if name == "mape":
        shares = shares / np.maximum(np.abs(target), np.finfo(np.float64).eps)
    total = float(shares.sum())
    return _pinball(X, target, np.array([0.5]), shares / total, 2.0 * total)


def _spread(weights: Array, kept: Array, members: int) -> Array:
    full = np.zeros(members)
    full[kept] = weights
    return full


def _pool(
    rows: ClassProblem | ValueProblem,
    weights: Array,
    *,
    loss: float | None = None,
    gap: float | None = None,
    picks: tuple[str, ...] = (),
) -> LinearPool:
    named = dict(zip(rows.stack.names, weights.tolist(), strict=True))
    return LinearPool(named, rows.stack.kind, rows.stack.classes, loss, gap, picks)


def fit_mean(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
) -> LinearPool:
    """Equal weights for all: nothing is fitted."""
    rows = problem(outputs, truth, weights)
    return _pool(rows, np.full(len(outputs), 1.0 / len(outputs)))


def fit_best_single(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
) -> LinearPool:
    """All weight on the member with the best score (log-loss, squared error or pinball loss by default)."""
    from conjoin.scores import default_score

    rows = problem(outputs, truth, weights)
    losses = []
    for part in rows.stack.parts:
        output = rows.stack.output(part)
        losses.append((score or default_score(output)).loss(output, rows.truth, rows.shares))
    chosen = np.zeros(len(losses))
    chosen[int(np.nanargmin(losses)) if not np.isnan(losses).all() else 0] = 1.0
    return _pool(rows, chosen)


def fit_inverse_error(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
) -> LinearPool:
    """w_m proportional to 1 / (mean squared error of m) (Bates and Granger 1969, without correlations).

    For probabilities the Brier score is the error, for quantiles the pinball loss.
    """
    from conjoin.scores import SCORES

    rows = problem(outputs, truth, weights)
    score = SCORES[{"probabilities": "brier", "values": "mse", "quantiles": "pinball"}[rows.stack.kind]]
    errors = np.array([score.loss(rows.stack.output(p), rows.truth, rows.shares) for p in rows.stack.parts])
    floor = float(errors.max()) * 1e-12
    if floor <= 0:
        return _pool(rows, np.ones(len(errors)))
    inverse = 1.0 / np.maximum(errors, floor)
    return _pool(rows, inverse / inverse.sum())


def fit_nnls(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
) -> Any:
    """Non-negative least squares: the least squared error over all weights >= 0 (Breiman 1996).

    Of values the weights need not sum to 1 and there is an intercept per target: an `AffinePool`. Of
    probabilities (to the one-hot truth) the answer is scaled to sum 1: a `LinearPool`. Raises OutputsError
    for quantiles.
    """
    from conjoin.fusion.affine import affine_pool

    rows = problem(outputs, truth, weights)
    if rows.stack.kind == "quantiles":
        raise OutputsError("nnls is not for quantiles: take fit_linear_pool, which fits the pinball loss")
    with one_thread():
        if isinstance(rows, ClassProblem):
            H, c = _one_hot_products(rows)
            x = least_quadratic(H, c)
            return _pool(rows, x if x.any() else np.ones(len(x)))
        X = finite_tensor(rows.stack)
        share = rows.shares[:, None]
        means, centre = (X * share).sum(axis=1), (rows.target * share).sum(axis=0)
        A = ((X - means[:, None]) * np.sqrt(share)).reshape(len(X), -1)
        y = ((rows.target - centre) * np.sqrt(share)).reshape(-1)
        w = least_quadratic(A @ A.T, -(A @ y))
        return affine_pool(rows, w, centre - w @ means)


def _one_hot_products(rows: ClassProblem) -> tuple[Array, Array]:
    X = finite_tensor(rows.stack) * np.sqrt(rows.shares)[:, None]
    hit = X[:, np.arange(len(rows.codes)), rows.codes]
    flat = X.reshape(len(X), -1)
    return flat @ flat.T, -(hit @ np.sqrt(rows.shares))
