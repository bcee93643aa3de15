"""`Gate`: weights that depend on the row (Jacobs et al. 1991), as a convex problem.

The members' weights are linear in a few numbers f that describe the row: w(x) = w + V f(x). So for
probabilities the model is log-linear and for values it is a ridge regression; both have one optimum, and a
penalty on V gives the pool without a gate. The numbers are of the outputs themselves (how sure the pool is,
how sure the members are, how much they disagree), and, if a batch is given, its columns of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import NotExportableError, OutputsError
from conjoin.fusion import loglinear, rules
from conjoin.fusion.affine import everybody, present
from conjoin.fusion.logpool import default_floor, effective_rows, fit_exponents
from conjoin.fusion.packing import ask, members_of, names_of, number, text
from conjoin.fusion.problems import ClassProblem, ValueProblem, finite_tensor, problem
from conjoin.fusion.stacking import PROBABILITY_SCALE, SHRINK, pool_weights
from conjoin.fusion.threads import one_thread

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.fusion.stack import Dense
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json
    from conjoin.scores import Score

OF_CLASSES = ("entropy of the pool", "mean entropy of the members", "disagreement")
OF_VALUES = ("pooled value", "log spread")
LIGHTER = 0.1
"""The penalty on what does not depend on the row, for probabilities, relative to that on the slopes."""
LIMIT = 3.0
"""Standardised numbers are cut at plus and minus this."""
_KINDS = ("probabilities", "values", "quantiles")


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """Weights w(x) = weights + slopes f(x), f the standardised numbers of the row, cut at 3.

    Probabilities: p_k proportional to exp(sum_m (w_m(x) log max(p_mk, floor) + extra_m p_mk)).
    Values: sum_m w_m(x) (v_m - pool) + pool, with pool = sum_m base_m v_m.
    Quantiles: the same, then sorted.

    members: M names, sorted. base: (M,) weights of the pool that f is computed from. weights, extra: (M,);
    extra is 0 for values. slopes: (M, F). centres, scales: (F,). columns: names of the batch's columns, which
    come after the numbers of the outputs.
    Where a member did not answer, the mean of those who did stands in for it.
    """

    members: tuple[str, ...]
    base: Array
    weights: Array
    extra: Array
    slopes: Array
    centres: Array
    scales: Array
    columns: tuple[str, ...]
    kind: str
    classes: tuple[str, ...]
    floor: float

    @property
    def needs(self) -> tuple[str, ...]:
        """All members: each enters the disagreement."""
        return self.members

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Dense:
        """Fuse. Raises OutputsError on a member it was not fitted to, and where it needs a batch."""
        laid, parts, answered = present(self.members, outputs, self.classes)
        X = np.array(parts, dtype=np.float64)
        f = (
            numbers_of(X, self.base, self.kind, self.floor, self.columns, batch) - self.centres
        ) / self.scales
        w = self.weights[:, None] + self.slopes @ _cut(f).T
        if self.kind == "probabilities":
            logs = np.log(np.maximum(X, self.floor))
            scores = np.einsum("mn,mnk->nk", w, logs) + np.tensordot(self.extra, X, axes=1)
            return laid.output(rules.softmax(scores), answered)
        pool = np.tensordot(self.base, X, axes=1)
        total = pool + np.einsum("mn,mnk->nk", w, X - pool)
        if self.kind == "quantiles":
            total.sort(axis=1)
        return laid.output(total, answered)

    def emit(self, graph: Graph, outputs: Mapping[str, str], /) -> str:
        """Nodes of the gate. Raises NotExportableError where it reads columns of the batch."""
        if self.columns:
            raise NotExportableError(f"this gate reads the columns {list(self.columns)} of the batch")
        everybody(self.members, outputs)
        x = rules.emit_stack(graph, [outputs[n] for n in self.members])
        return _Nodes(graph, self).emit(x)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Weights and scales; names as JSON."""
        arrays = {
            "base": self.base,
            "weights": self.weights,
            "extra": self.extra,
            "slopes": self.slopes,
            "centres": self.centres,
            "scales": self.scales,
        }
        meta: dict[str, Json] = {
            "members": list(self.members),
            "classes": list(self.classes),
            "columns": list(self.columns),
            "kind": self.kind,
            "floor": self.floor,
        }
        return arrays, meta

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names, columns = members_of(meta), names_of(meta, "columns")
        kind = text(meta, "kind", _KINDS)
        width = len(OF_CLASSES if kind == "probabilities" else OF_VALUES) + len(columns)
        return cls(
            names,
            ask(arrays, "base", (len(names),)),
            ask(arrays, "weights", (len(names),)),
            ask(arrays, "extra", (len(names),)),
            ask(arrays, "slopes", (len(names), width)),
            ask(arrays, "centres", (width,)),
            ask(arrays, "scales", (width,)),
            columns,
            kind,
            names_of(meta, "classes"),
            number(meta, "floor"),
        )


def numbers_of(
    X: Array, base: Array, kind: str, floor: float, columns: tuple[str, ...], batch: Batch | None
) -> Array:
    """(n, F): what describes each row; X (M, n, C). A missing number of the batch is NaN there."""
    if kind == "probabilities":
        logs = np.log(np.maximum(X, floor))
        pool = rules.softmax(np.tensordot(base, logs, axes=1))
        sure = -(pool * np.log(np.maximum(pool, floor))).sum(axis=1)
        own = -(X * logs).sum(axis=2).mean(axis=0)
        away = (X * (logs - np.log(np.maximum(pool, floor)))).sum(axis=2).mean(axis=0)
        found = [sure, own, away]
    else:
        pool = np.tensordot(base, X, axes=1)
        spread = np.sqrt(((X - X.mean(axis=0)) ** 2).mean(axis=(0, 2)))
        found = [pool.mean(axis=1), np.log(spread + floor)]
    if columns and batch is None:
        raise OutputsError(f"this gate needs the batch: its columns {list(columns)}")
    missing = [c for c in columns if batch is not None and c not in batch]
    if missing:
        raise OutputsError(f"the batch lacks the columns {missing} of the gate")
    found += [np.asarray(batch[c], dtype=np.float64).reshape(-1) for c in columns if batch is not None]
    return np.stack(found, axis=1) if found[0].size else np.zeros((0, len(found)))


def fit_gate(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    batch: Batch | None = None,
    penalty: float | None = None,
    floor: float | None = None,
) -> Gate:
    """Weights that depend on the row, drawn to those of the pool.

    batch: its columns of numbers (up to 32) join what describes a row; the gate then needs them to answer and
    has no ONNX form. penalty: times 1 / (2 n) the squared distance of the slopes from 0; a tenth of it (for
    values all of it) weighs on the distance of the weights from the pool's; 3,000 by default, 10,000 for
    values. For probabilities the pool is the log pool, and the probabilities themselves enter beside their
    logarithms, as in `fit_stacking`.
    weights: (n,) of the rows. score and seed have no influence. Raises OutputsError and TruthError.
    """
    rows = problem(outputs, truth, weights).thinned()
    columns = () if batch is None else number_columns(batch)
    some = None if batch is None else {c: np.asarray(batch[c])[rows.at] for c in columns}
    with one_thread():
        if isinstance(rows, ClassProblem):
            return _class_gate(rows, columns, some, 3000.0 if penalty is None else penalty, floor)
        return _value_gate(rows, columns, some, 10_000.0 if penalty is None else penalty)


def number_columns(batch: Batch) -> tuple[str, ...]:
    """Names of the first 32 columns of finite numbers."""
    some = [n for n, v in batch.items() if np.asarray(v).dtype.kind in "fiub" and np.asarray(v).ndim == 1]
    return tuple(some[:32])


def _standard(f: Array, shares: Array) -> tuple[Array, Array, Array]:
    """Standardised numbers, missing ones in the middle; centres and scales."""
    known = np.isfinite(f)
    mass = shares[:, None] * known
    total = np.maximum(mass.sum(axis=0), 1e-300)
    safe = np.where(known, f, 0.0)
    centres = (mass * safe).sum(axis=0) / total
    scales = np.sqrt((mass * (safe - centres) ** 2).sum(axis=0) / total)
    scales = np.where(scales > 1e-12 * (np.abs(centres) + 1e-12), scales, 1.0)
    return _cut((f - centres) / scales), centres, scales


def _cut(f: Array) -> Array:
    """Cut at plus and minus 3; missing numbers are in the middle."""
    return np.asarray(np.clip(np.where(np.isnan(f), 0.0, f), -LIMIT, LIMIT))


def _class_gate(
    rows: ClassProblem, columns: tuple[str, ...], batch: Batch | None, penalty: float, floor: float | None
) -> Gate:
    least = default_floor(rows.stack.width) if floor is None else floor
    X = finite_tensor(rows.stack)
    logs = np.log(np.maximum(X, least))
    base = fit_exponents(rows, logs, shrink=SHRINK).theta
    raw = numbers_of(X, base, "probabilities", least, columns, batch)
    f, centres, scales = _standard(raw, rows.shares)
    F = np.concatenate(
        [logs, PROBABILITY_SCALE * X, *(logs * f[None, :, j, None] for j in range(f.shape[1]))]
    )
    centre = np.concatenate([base, np.zeros(len(F) - len(base))])
    weighed = np.full(len(F), penalty)
    weighed[: 2 * len(base)] *= LIGHTER
    found = loglinear.fit(
        loglinear.relative(F, rows.codes, rows.shares),
        centre=centre,
        penalty=weighed / effective_rows(rows.shares),
        signed=True,
    )
    members = len(base)
    w, extra = found.theta[:members], found.theta[members : 2 * members] * PROBABILITY_SCALE
    return Gate(
        *(rows.stack.names, base, w, extra, _slopes(found.theta[2 * members :], members)),
        *(centres, scales, columns),
        kind="probabilities",
        classes=rows.stack.classes,
        floor=least,
    )


def _value_gate(rows: ValueProblem, columns: tuple[str, ...], batch: Batch | None, penalty: float) -> Gate:
    X = finite_tensor(rows.stack)
    base = pool_weights(rows, X)
    pool = np.tensordot(base, X, axes=1)
    away = X - pool
    floor = 0.05 * float(np.sqrt((away**2).mean())) or 1e-12
    raw = numbers_of(X, base, rows.stack.kind, floor, columns, batch)
    f, centres, scales = _standard(raw, rows.shares)
    F = np.concatenate([away, *(away * f[None, :, j, None] for j in range(f.shape[1]))])
    root = np.sqrt(rows.shares)[:, None]
    D = (F * root).reshape(len(F), -1)
    r = ((rows.target - pool) * root).reshape(-1)
    H, c = D @ D.T, D @ r
    scale = float(np.trace(H[: len(base), : len(base)])) / len(base)
    inside = H + (scale * penalty / effective_rows(rows.shares) + 1e-12 * scale + 1e-300) * np.eye(len(H))
    found = np.linalg.solve(inside, c)
    members = len(base)
    return Gate(
        *(rows.stack.names, base, found[:members], np.zeros(members), _slopes(found[members:], members)),
        *(centres, scales, columns),
        kind=rows.stack.kind,
        classes=(),
        floor=floor,
    )


def _slopes(theta: Array, members: int) -> Array:
    """(M, F) of numbers laid out feature by feature."""
    return theta.reshape(-1, members).T


class _Nodes:
    """The nodes of a gate: x (n, M, C) to the answer."""

    def __init__(self, graph: Graph, gate: Gate) -> None:
        self.graph, self.gate = graph, gate

    def emit(self, x: str) -> str:
        g, gate = self.graph, self.gate
        if gate.kind == "probabilities":
            logs = rules.emit_logs(g, x, gate.floor)
            pool = g.op("Softmax", rules.emit_total(g, logs, gate.base), axis=1)
            w = self._weights(self._of_classes(x, logs, pool))
            scores = g.op("Add", self._sum(g.op("Mul", logs, w), 1), rules.emit_total(g, x, gate.extra))
            return g.cast(g.op("Softmax", scores, axis=1), 1)
        pool = rules.emit_total(g, x, gate.base)
        w = self._weights(self._of_values(x, pool))
        away = g.op("Sub", x, g.op("Unsqueeze", pool, self._axis(1)))
        total = g.op("Add", pool, self._sum(g.op("Mul", away, w), 1))
        if gate.kind == "quantiles":
            width = g.op("Gather", g.op("Shape", total), self._axis(1))
            total = g.ops("TopK", total, width, count=2, axis=1, largest=0)[0]
        return total

    def _axis(self, axis: int) -> str:
        return self.graph.const([axis], np.int64)

    def _sum(self, tensor: str, axis: int, *, keep: int = 0) -> str:
        return self.graph.op("ReduceSum", tensor, self._axis(axis), keepdims=keep)

    def _weights(self, f: list[str]) -> str:
        """w(x) of each member, (n, M, 1), from numbers (n, 1)."""
        g, gate = self.graph, self.gate
        joined = g.op("Sub", g.concat(f), g.const(gate.centres[None], np.float64))
        joined = g.op("Div", joined, g.const(gate.scales[None], np.float64))
        joined = g.op("Clip", joined, g.const(-LIMIT, np.float64), g.const(LIMIT, np.float64))
        w = g.op("MatMul", joined, g.const(gate.slopes.T, np.float64))
        w = g.op("Add", w, g.const(gate.weights[None], np.float64))
        return g.op("Unsqueeze", w, self._axis(2))

    def _of_classes(self, x: str, logs: str, pool: str) -> list[str]:
        g = self.graph
        pool_logs = rules.emit_logs(g, pool, self.gate.floor)
        sure = g.op("Neg", self._sum(g.op("Mul", pool, pool_logs), 1, keep=1))
        own = g.op("Neg", self._mean(self._sum(g.op("Mul", x, logs), 2)))
        gap = g.op("Sub", logs, g.op("Unsqueeze", pool_logs, self._axis(1)))
        return [sure, own, self._mean(self._sum(g.op("Mul", x, gap), 2))]

    def _of_values(self, x: str, pool: str) -> list[str]:
        g = self.graph
        away = g.op("Sub", x, g.op("ReduceMean", x, self._axis(1), keepdims=1))
        square = g.op("ReduceMean", g.op("Mul", away, away), g.const([1, 2], np.int64), keepdims=0)
        spread = g.op("Add", g.op("Sqrt", square), g.const(self.gate.floor, np.float64))
        return [self._mean(pool), g.op("Unsqueeze", g.op("Log", spread), self._axis(1))]

    def _mean(self, tensor: str) -> str:
        return self.graph.op("ReduceMean", tensor, self._axis(1), keepdims=1)
