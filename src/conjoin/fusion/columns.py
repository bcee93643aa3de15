"""`ColumnWeights`: weights of their own for each class, target or quantile level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.fusion import rules
from conjoin.fusion.affine import emit_rising, everybody, present
from conjoin.fusion.descent import descend
from conjoin.fusion.folds import folds_of
from conjoin.fusion.logpool import default_floor, effective_rows, fit_exponents, log_tensor
from conjoin.fusion.packing import ask, members_of, names_of, number, text
from conjoin.fusion.problems import ClassProblem, ValueProblem, finite_tensor, problem
from conjoin.fusion.simplex import least_pinball_mixture, least_squares_mixture
from conjoin.fusion.stacking import SHRINK
from conjoin.fusion.threads import one_thread

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.fusion.stack import Dense
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json
    from conjoin.scores import Score

PENALTIES = (30.0, 100.0, 300.0, 1000.0)
_KINDS = ("probabilities", "values", "quantiles")


@dataclass(frozen=True, slots=True, eq=False)
class ColumnWeights:
    """A weight for each member and class: p_k proportional to exp(b_k) prod_m max(p_mk, floor)^w_mk.

    For values and quantiles a weight for each member and target or level: v_c = sum_m w_mc v_mc + b_c;
    quantiles are sorted afterwards. members: M names, sorted. weights: (M, C). intercepts: (C,).
    Where a member did not answer, the mean of those who did stands in for it.
    """

    members: tuple[str, ...]
    weights: Array
    intercepts: Array
    kind: str
    classes: tuple[str, ...]
    floor: float

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members with weight."""
        return tuple(n for n, w in zip(self.members, self.weights, strict=True) if w.any())

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Dense:
        """Fuse. Raises OutputsError on a member it was not fitted to."""
        laid, parts, answered = present(self.members, outputs, self.classes)
        total = np.tile(self.intercepts, (laid.rows, 1)).astype(np.float64)
        for part, w in zip(parts, self.weights, strict=True):
            logs = self.kind == "probabilities"
            total += w * (np.log(np.maximum(part, self.floor), dtype=np.float64) if logs else part)
        if self.kind == "probabilities":
            total = rules.softmax(total)
        elif self.kind == "quantiles":
            total.sort(axis=1)
        return laid.output(total, answered)

    def emit(self, graph: Graph, outputs: Mapping[str, str], /) -> str:
        """Nodes of the weighted sums. Raises OutputsError where a member is missing."""
        everybody(self.members, outputs)
        x = rules.emit_stack(graph, [outputs[n] for n in self.members])
        if self.kind == "probabilities":
            x = rules.emit_logs(graph, x, self.floor)
        weighted = graph.op("Mul", x, graph.const(self.weights[None], np.float64))
        total = graph.op("ReduceSum", weighted, graph.const([1], np.int64), keepdims=0)
        total = graph.op("Add", total, graph.const(self.intercepts.reshape(1, -1), np.float64))
        if self.kind == "probabilities":
            return graph.cast(graph.op("Softmax", total, axis=1), 1)
        return emit_rising(graph, total, len(self.intercepts)) if self.kind == "quantiles" else total

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Weights and intercepts; names as JSON."""
        meta: dict[str, Json] = {
            "members": list(self.members),
            "classes": list(self.classes),
            "kind": self.kind,
            "floor": self.floor,
        }
        return {"weights": self.weights, "intercepts": self.intercepts}, meta

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names, classes = members_of(meta), names_of(meta, "classes")
        weights = ask(arrays, "weights", (len(names), len(classes) or None))
        intercepts = ask(arrays, "intercepts", (weights.shape[1],))
        return cls(names, weights, intercepts, text(meta, "kind", _KINDS), classes, number(meta, "floor"))


def fit_class_weights(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    penalty: float | None = None,
    floor: float | None = None,
) -> ColumnWeights:
    """Weights per class: a log pool whose exponents may differ between classes, drawn to the common ones.

    Minimised: mean log-loss + penalty / (2 n) (sum_mk (w_mk - w_m)^2 + sum_k b_k^2), convex; w_m are the
    exponents of `fit_log_pool`. penalty: None chooses among 30 to 1,000 by 5-fold cross-validation with this
    seed. For values and quantiles each target or level has its own linear pool at its optimum; penalty is not
    looked at. weights: (n,) of the rows. score has no influence. Raises OutputsError and TruthError.
    """
    rows = problem(outputs, truth, weights).thinned()
    with one_thread():
        if isinstance(rows, ValueProblem):
            return _per_column(rows)
        least = default_floor(rows.stack.width) if floor is None else floor
        chosen = _choose(rows, least, seed) if penalty is None else penalty
        return _per_class(rows, least, (chosen,))[0]


def _per_class(rows: ClassProblem, floor: float, penalties: tuple[float, ...]) -> list[ColumnWeights]:
    logs = log_tensor(rows, floor)
    members, _, width = logs.shape
    pool = fit_exponents(rows, logs, shrink=SHRINK).theta
    start = np.concatenate([np.repeat(pool, width), np.zeros(width)])
    x, out = start, []
    for penalty in penalties:
        loss = _objective(rows, logs, start, penalty / effective_rows(rows.shares))
        x = descend(loss, x)
        weights, intercepts = x[:-width].reshape(members, width), x[-width:]
        out.append(
            ColumnWeights(rows.stack.names, weights, intercepts, "probabilities", rows.stack.classes, floor)
        )
    return out


def _objective(rows: ClassProblem, logs: Array, centre: Array, penalty: float) -> Any:
    members, n, width = logs.shape
    at, share = np.arange(n), rows.shares

    def loss(x: Array) -> tuple[float, Array]:
        z = np.einsum("mnk,mk->nk", logs, x[:-width].reshape(members, width)) + x[-width:]
        z -= z.max(axis=1, keepdims=True)
        e = np.exp(z)
        total = e.sum(axis=1)
        value = float(share @ (np.log(total) - z[at, rows.codes]))
        slope = e * (share / total)[:, None]
        slope[at, rows.codes] -= share
        off = x - centre
        pull = np.concatenate([np.einsum("mnk,nk->mk", logs, slope).ravel(), slope.sum(axis=0)])
        return value + penalty / 2 * float(off @ off), pull + penalty * off

    return loss


def _choose(rows: ClassProblem, floor: float, seed: int) -> float:
    losses = np.zeros(len(PENALTIES))
    for fit_at, test_at in folds_of(rows, 5, seed):
        test = rows.rows(test_at)
        given = test.stack.outputs()
        mass = float(rows.shares[test_at].sum())
        for k, fuser in enumerate(_per_class(rows.rows(fit_at), floor, PENALTIES)):
            p = fuser(given).values[np.arange(len(test.codes)), test.codes]
            losses[k] -= mass * float(test.shares @ np.log(np.maximum(p, 1e-15)))
    return PENALTIES[int(losses.argmin())]


def _per_column(rows: ValueProblem) -> ColumnWeights:
    X = finite_tensor(rows.stack)
    width = rows.stack.width
    weights = np.empty((len(X), width))
    for c in range(width):
        if rows.stack.kind == "quantiles":
            level = np.array([rows.stack.levels[c]])
            found = least_pinball_mixture(X[:, :, c : c + 1], rows.target[:, 0], level, rows.shares)
        else:
            R = (X[:, :, c] - rows.target[:, c]) * np.sqrt(rows.shares)
            found = least_squares_mixture(R @ R.T)
        weights[:, c] = found.weights
    return ColumnWeights(rows.stack.names, weights, np.zeros(width), rows.stack.kind, (), 0.5)
