"""Stacking: a regularised linear model on the members' outputs, drawn to their pool (Wolpert 1992)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.fusion import loglinear, rules
from conjoin.fusion.affine import AffinePool, affine_pool, everybody, present
from conjoin.fusion.folds import folds_of
from conjoin.fusion.logpool import default_floor, effective_rows, fit_exponents
from conjoin.fusion.packing import ask, members_of, names_of, number
from conjoin.fusion.problems import ClassProblem, ValueProblem, finite_tensor, problem
from conjoin.fusion.simplex import least_pinball_mixture, least_squares_mixture
from conjoin.fusion.stack import as_rows
from conjoin.fusion.threads import one_thread

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.fusion.stack import Dense
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json
    from conjoin.scores import Score

CLASS_PENALTIES = (10.0, 30.0, 100.0, 300.0)
VALUE_PENALTIES = (30.0, 100.0, 300.0, 1000.0)
SHRINK = 3.0
"""How strongly the log pool that a richer model is drawn to is itself drawn to equal weights."""
PROBABILITY_SCALE = 5.0
"""Probabilities enter times this, so that a penalty weighs on them as on their logarithms."""


@dataclass(frozen=True, slots=True, eq=False)
class Stacking:
    """p_k proportional to exp(sum_m (a_m log max(p_mk, floor) + c_m p_mk) + b_k).

    A conditional logit model: the same weights for all classes, of either sign, and an intercept per class.
    members: M names, sorted. log_weights a, weights c: (M,). intercepts b: (K,). classes: K names.
    Where a member did not answer, the mean of those who did stands in for it.
    """

    members: tuple[str, ...]
    log_weights: Array
    weights: Array
    intercepts: Array
    classes: tuple[str, ...]
    floor: float

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members with weight."""
        some = (self.log_weights != 0) | (self.weights != 0)
        return tuple(n for n, w in zip(self.members, some, strict=True) if w)

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Dense:
        """Fuse. Raises OutputsError on a member it was not fitted to."""
        laid, parts, answered = present(self.members, outputs, self.classes)
        scores = np.tile(self.intercepts, (laid.rows, 1)).astype(np.float64)
        for part, a, c in zip(parts, self.log_weights, self.weights, strict=True):
            scores += a * np.log(np.maximum(part, self.floor), dtype=np.float64)
            scores += c * part
        return laid.output(rules.softmax(scores), answered)

    def emit(self, graph: Graph, outputs: Mapping[str, str], /) -> str:
        """Nodes of the model. Raises OutputsError where a member is missing."""
        everybody(self.members, outputs)
        x = rules.emit_stack(graph, [outputs[n] for n in self.members])
        scores = rules.emit_total(graph, rules.emit_logs(graph, x, self.floor), self.log_weights)
        scores = graph.op("Add", scores, rules.emit_total(graph, x, self.weights))
        scores = graph.op("Add", scores, graph.const(self.intercepts.reshape(1, -1), np.float64))
        return graph.cast(graph.op("Softmax", scores, axis=1), 1)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Weights and intercepts; names as JSON."""
        arrays = {"log_weights": self.log_weights, "weights": self.weights, "intercepts": self.intercepts}
        meta: dict[str, Json] = {
            "members": list(self.members),
            "classes": list(self.classes),
            "floor": self.floor,
        }
        return arrays, meta

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names, classes = members_of(meta), names_of(meta, "classes")
        logs, weights = (ask(arrays, k, (len(names),)) for k in ("log_weights", "weights"))
        intercepts = ask(arrays, "intercepts", (len(classes),))
        return cls(names, logs, weights, intercepts, classes, number(meta, "floor"))


def fit_stacking(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    penalty: float | None = None,
    floor: float | None = None,
) -> Stacking | AffinePool:
    """Regularised logistic regression on log-probabilities and probabilities, or ridge regression on values.

    Both are drawn to the pool and not to 0: of probabilities to the log pool of the same rows, of values and
    quantiles to the linear pool at its optimum. So a large penalty gives the pool back. penalty: times
    1 / (2 n) the squared distance from the pool; None chooses among 10 to 1,000 by 5-fold cross-validation
    with this seed. Quantiles share the members' weights over levels; each level has an intercept.
    weights: (n,) of the rows. score has no influence. Raises OutputsError and TruthError.
    """
    rows = problem(outputs, truth, weights).thinned()
    with one_thread():
        if isinstance(rows, ClassProblem):
            least = default_floor(rows.stack.width) if floor is None else floor
            chosen = _choose(rows, seed, least) if penalty is None else penalty
            return _class_stacking(rows, least, (chosen,))[0]
        chosen = _choose_ridge(rows, seed) if penalty is None else penalty
        return _ridge(rows, (chosen,))[0]


def _class_stacking(rows: ClassProblem, floor: float, penalties: tuple[float, ...]) -> list[Stacking]:
    """A fit for each penalty."""
    tensor = finite_tensor(rows.stack)
    logs = np.log(np.maximum(tensor, floor))
    pool = fit_exponents(rows, logs, shrink=SHRINK).theta
    features = loglinear.relative(np.concatenate([logs, PROBABILITY_SCALE * tensor]), rows.codes, rows.shares)
    centre = np.concatenate([pool, np.zeros(len(pool))])
    n, start, out = effective_rows(rows.shares), centre, []
    for penalty in sorted(penalties, reverse=True):
        found = loglinear.fit(
            features,
            centre=centre,
            penalty=np.full(len(centre), penalty / n),
            signed=True,
            intercept_penalty=penalty * rows.stack.width / n,
            start=start,
        )
        start = found.theta
        a, c = found.theta[: len(pool)], found.theta[len(pool) :] * PROBABILITY_SCALE
        out.append(Stacking(rows.stack.names, a, c, found.intercepts, rows.stack.classes, floor))
    return out[::-1] if penalties == tuple(sorted(penalties)) else out


def _choose(rows: ClassProblem, seed: int, floor: float) -> float:
    losses = np.zeros(len(CLASS_PENALTIES))
    for fit_at, test_at in folds_of(rows, 5, seed):
        test = rows.rows(test_at)
        given = test.stack.outputs()
        mass = float(rows.shares[test_at].sum())
        for k, fuser in enumerate(_class_stacking(rows.rows(fit_at), floor, CLASS_PENALTIES)):
            p = fuser(given).values[np.arange(len(test.codes)), test.codes]
            losses[k] -= mass * float(test.shares @ np.log(np.maximum(p, 1e-15)))
    return CLASS_PENALTIES[int(losses.argmin())]


def _ridge(rows: ValueProblem, penalties: tuple[float, ...]) -> list[AffinePool]:
    """A ridge fit for each penalty: deviations of the members from their pool explain its residual."""
    X = finite_tensor(rows.stack)
    pool = pool_weights(rows, X)
    pooled = np.tensordot(pool, X, axes=1)
    root = np.sqrt(rows.shares)[:, None]
    deviation = X - pooled
    shift = (deviation * rows.shares[:, None]).sum(axis=1)
    residual = rows.target - pooled
    offset = (residual * rows.shares[:, None]).sum(axis=0)
    D = ((deviation - shift[:, None]) * root).reshape(len(X), -1)
    r = ((residual - offset) * root).reshape(-1)
    H, c = D @ D.T, D @ r
    scale = float(np.trace(H)) / len(H)
    n = effective_rows(rows.shares)
    out = []
    for penalty in penalties:
        inside = H + (scale * penalty / n + 1e-12 * scale + 1e-300) * np.eye(len(H))
        a = np.linalg.solve(inside, c)
        weights = pool + a - a.sum() * pool
        shrunk = n / (n + penalty)
        out.append(affine_pool(rows, weights, shrunk * (offset - a @ shift)))
    return out


def pool_weights(rows: ValueProblem, X: Array) -> Array:
    """The weights of the linear pool at its optimum."""
    if rows.stack.kind == "quantiles":
        return least_pinball_mixture(X, rows.target[:, 0], np.array(rows.stack.levels), rows.shares).weights
    R = rows.residuals()
    return least_squares_mixture(R @ R.T).weights


def _choose_ridge(rows: ValueProblem, seed: int) -> float:
    losses = np.zeros(len(VALUE_PENALTIES))
    levels = np.array(rows.stack.levels)
    for fit_at, test_at in folds_of(rows, 5, seed):
        test = rows.rows(test_at)
        given = test.stack.outputs()
        mass = float(rows.shares[test_at].sum())
        for k, fuser in enumerate(_ridge(rows.rows(fit_at), VALUE_PENALTIES)):
            e = test.target - as_rows(fuser(given).values)
            loss = np.maximum(levels * e, (levels - 1) * e) if len(levels) else e**2
            losses[k] += mass * float(test.shares @ loss.mean(axis=1))
    return VALUE_PENALTIES[int(losses.argmin())]
