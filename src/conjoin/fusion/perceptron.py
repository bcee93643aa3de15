"""`NetworkFuser`: a multilayer perceptron on the members' outputs, blended with their pool.

The network is several small ones trained as one (their answers are averaged), with dropout and weight decay,
stopped early on a held part of the rows; the share of the network in the blend is chosen on that part too. So
a network that learned nothing gives the pool back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, OutputsError
from conjoin.fusion import rules
from conjoin.fusion.affine import emit_rising, everybody, present
from conjoin.fusion.folds import fold_numbers
from conjoin.fusion.linear import LinearPool, fit_linear_pool
from conjoin.fusion.logpool import LogPool, default_floor, fit_log_pool
from conjoin.fusion.network import Recipe, fit_network
from conjoin.fusion.network_weights import NetworkWeights
from conjoin.fusion.packing import ask, child, members_of, names_of, number, text
from conjoin.fusion.problems import ClassProblem, ValueProblem, problem
from conjoin.fusion.stack import as_rows
from conjoin.fusion.threads import one_thread

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.fusion.stack import Dense
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json
    from conjoin.scores import Score

RECIPE = Recipe(hidden=(64, 32), members=4, bins=0, dropout=0.2)
MOST_INPUTS = 2048
MOST_ROWS = 50_000
"""Of more rows every second, third ... is trained on."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the network in the blend that are tried."""
LEAST = 1e-7
"""Probabilities of the pool and the network are raised to this before they are blended."""
_HELD = 5  # one row in five is held for early stopping
_KINDS = ("probabilities", "values", "quantiles")


@dataclass(frozen=True, slots=True, eq=False)
class NetworkFuser:
    """A blend of a pool and a network that sees every member's output.

    Probabilities: p proportional to pool^(1 - share) network^share; the network sees log-odds (M numbers) for
    two classes, else centred log-probabilities (M K numbers). Values and quantiles: pool + share x network;
    the network sees the members' deviations from the pool, divided by scale, and the pooled value.

    members: M names, sorted. pool: a LogPool or LinearPool. share: in [0, 1]. centre, scale: of values.
    Where a member did not answer, the mean of those who did stands in for it.
    """

    members: tuple[str, ...]
    pool: Any
    network: NetworkWeights
    share: float
    kind: str
    classes: tuple[str, ...]
    floor: float
    centre: Array
    scale: Array

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members whose output matters."""
        return self.members if self.share > 0 else tuple(self.pool.needs)

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Dense:
        """Fuse. Raises OutputsError on a member it was not fitted to."""
        laid, parts, answered = present(self.members, outputs, self.classes)
        X = np.array([np.where(answered[:, None], p, 0.5) for p in parts], dtype=np.float64)
        pool = np.where(answered[:, None], as_rows(self.pool(outputs).values), 0.5)
        if self.kind == "probabilities":
            values = _blend(pool, self.network.forward(class_inputs(X, self.floor)), self.share)
        else:
            answer = self.network.forward(self._value_inputs(X, pool))
            values = pool + self.share * answer
            if self.kind == "quantiles":
                values.sort(axis=1)
        return laid.output(np.where(answered[:, None], values, np.nan), answered)

    def _value_inputs(self, X: Array, pool: Array) -> Array:
        return value_inputs(X, pool, self.centre, self.scale)

    def emit(self, graph: Graph, outputs: Mapping[str, str], /) -> str:
        """Nodes of pool and network. Raises OutputsError where a member is missing."""
        pool = str(self.pool.emit(graph, outputs))
        if self.share == 0:
            return pool
        everybody(self.members, outputs)
        x = rules.emit_stack(graph, [outputs[n] for n in self.members])
        if self.kind == "probabilities":
            answer = self.network.emit(graph, emit_class_inputs(graph, x, self))
            logs = rules.emit_logs(graph, graph.cast(pool, 11), LEAST)
            own = rules.emit_logs(graph, graph.cast(answer, 11), LEAST)
            logs = graph.op("Mul", logs, graph.const(1 - self.share, np.float64))
            own = graph.op("Mul", own, graph.const(self.share, np.float64))
            return graph.cast(graph.op("Softmax", graph.op("Add", logs, own), axis=1), 1)
        answer = self.network.emit(graph, emit_value_inputs(graph, x, pool, self))
        answer = graph.op("Mul", graph.cast(answer, 11), graph.const(self.share, np.float64))
        total = graph.op("Add", pool, answer)
        return emit_rising(graph, total, len(self.network.shift)) if self.kind == "quantiles" else total

    def children(self) -> Mapping[str, Storable]:
        """The pool and the network."""
        return {"pool": self.pool, "network": self.network}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Scales and names."""
        meta: dict[str, Json] = {
            "members": list(self.members),
            "classes": list(self.classes),
            "kind": self.kind,
            "share": self.share,
            "floor": self.floor,
        }
        return {"centre": self.centre, "scale": self.scale}, meta

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        network, share = child(children, "network"), number(meta, "share")
        if not isinstance(network, NetworkWeights) or not 0 <= share <= 1:
            raise BundleError("a packed network fuser needs a network and a share in [0, 1]")
        return cls(
            members_of(meta),
            child(children, "pool"),
            network,
            share,
            text(meta, "kind", _KINDS),
            names_of(meta, "classes"),
            number(meta, "floor"),
            ask(arrays, "centre", (2,)),
            ask(arrays, "scale", (2,)),
        )


def class_inputs(X: Array, floor: float) -> Array:
    """(n, d) float32: centred log-probabilities of X (M, n, K); of two classes the log-odds of the second."""
    logs = np.log(np.maximum(X, floor))
    if X.shape[2] == 2:
        return np.ascontiguousarray((logs[:, :, 1] - logs[:, :, 0]).T, dtype=np.float32)
    logs -= logs.mean(axis=2, keepdims=True)
    return np.ascontiguousarray(
        logs.transpose(1, 0, 2).reshape(X.shape[1], len(X) * X.shape[2]), dtype=np.float32
    )


def emit_class_inputs(graph: Graph, x: str, fuser: NetworkFuser) -> str:
    """Nodes of `class_inputs`; x (n, M, K) double."""
    logs, axis = rules.emit_logs(graph, x, fuser.floor), graph.const([2], np.int64)
    if len(fuser.classes) == 2:
        second, first = (graph.op("Gather", logs, graph.const(k, np.int64), axis=2) for k in (1, 0))
        return graph.cast(graph.op("Sub", second, first), 1)
    logs = graph.op("Sub", logs, graph.op("ReduceMean", logs, axis, keepdims=1))
    return graph.cast(graph.op("Reshape", logs, graph.const([0, -1], np.int64)), 1)


def value_inputs(X: Array, pool: Array, centre: Array, scale: Array) -> Array:
    """(n, d) float32: deviations from the pool (n, C) of X (M, n, C), and the pooled values; standardised.

    centre, scale: (2,) of deviations and of pooled values.
    """
    away = (X - pool - centre[0]) / scale[0]
    flat = away.transpose(1, 0, 2).reshape(X.shape[1], len(X) * X.shape[2])
    return np.concatenate([flat, (pool - centre[1]) / scale[1]], axis=1).astype(np.float32)


def emit_value_inputs(graph: Graph, x: str, pool: str, fuser: NetworkFuser) -> str:
    """Nodes of `value_inputs`; x (n, M, C) double, pool (n, C) double."""

    def standard(tensor: str, k: int) -> str:
        tensor = graph.op("Sub", tensor, graph.const(float(fuser.centre[k]), np.float64))
        return graph.op("Div", tensor, graph.const(float(fuser.scale[k]), np.float64))

    away = standard(graph.op("Sub", x, graph.op("Unsqueeze", pool, graph.const([1], np.int64))), 0)
    flat = graph.op("Reshape", away, graph.const([0, -1], np.int64))
    return graph.cast(graph.concat([flat, standard(pool, 1)]), 1)


def _blend(pool: Array, network: Array, share: float) -> Array:
    if share == 0:
        return pool
    logs = np.log(np.maximum(pool, LEAST)), np.log(np.maximum(network, LEAST), dtype=np.float64)
    return rules.softmax((1 - share) * logs[0] + share * logs[1])


def fit_network_fuser(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    recipe: Recipe = RECIPE,
    deadline: float | None = None,
) -> NetworkFuser:
    """Train the perceptron. One row in five is held: training stops on it, and the share is chosen on it.

    recipe: of the network (`conjoin.fusion.network.Recipe`); two hidden layers of 64 and 32 by default.
    deadline: a time.monotonic value. weights: (n,) of the rows. score has no influence.
    Raises OutputsError and TruthError, and OutputsError where the members give more than 2,048 numbers a row.
    """
    rows = problem(outputs, truth, weights)
    rows = rows.thinned_to(MOST_ROWS * len(rows.stack.names) * rows.stack.width)
    inputs = len(rows.stack.names) * rows.stack.width
    if inputs > MOST_INPUTS:
        raise OutputsError(f"{inputs} numbers a row are too many for a network fuser (at most {MOST_INPUTS})")
    if rows.stack.rows < 2 * _HELD:
        raise OutputsError(f"a network fuser needs at least {2 * _HELD} rows, not {rows.stack.rows}")
    strata = rows.codes if isinstance(rows, ClassProblem) else None
    number_ = fold_numbers(rows.stack.rows, _HELD, seed, strata=strata)
    held, kept = np.flatnonzero(number_ == 0), np.flatnonzero(number_ > 0)
    with one_thread():
        if isinstance(rows, ClassProblem):
            return _fit_classes(rows, kept, held, seed, recipe, deadline)
        return _fit_values(rows, kept, held, seed, recipe, deadline)


def _fit_classes(
    rows: ClassProblem, kept: Array, held: Array, seed: int, recipe: Recipe, deadline: float | None
) -> NetworkFuser:
    pool: LogPool = fit_log_pool(rows.stack.outputs(), rows.truth, weights=rows.shares)
    floor = default_floor(rows.stack.width)
    features = class_inputs(rows.stack.tensor(), floor)
    n = len(rows.codes)
    share = rows.shares * n
    found = fit_network(
        features[kept],
        rows.codes[kept],
        task="classes",
        n_outputs=rows.stack.width,
        seed=seed,
        recipe=recipe,
        weights=share[kept],
        validation=(features[held], rows.codes[held], share[held]),
        deadline=deadline,
    ).weights
    inside, test = rows.rows(kept), rows.rows(held)
    apart = fit_log_pool(inside.stack.outputs(), inside.truth, weights=inside.shares)
    p = apart(test.stack.outputs()).values
    q = found.forward(features[held])
    at = np.arange(len(held)), rows.codes[held]
    losses = [-float(share[held] @ np.log(np.maximum(_blend(p, q, s)[at], 1e-15))) for s in SHARES]
    best = SHARES[int(np.argmin(losses))]
    flat = np.zeros(2), np.ones(2)
    return NetworkFuser(
        rows.stack.names, pool, found, best, "probabilities", rows.stack.classes, floor, *flat
    )


def _fit_values(
    rows: ValueProblem, kept: Array, held: Array, seed: int, recipe: Recipe, deadline: float | None
) -> NetworkFuser:
    inside = rows.rows(kept)
    apart = fit_linear_pool(inside.stack.outputs(), inside.truth, weights=inside.shares)
    pool: LinearPool = fit_linear_pool(rows.stack.outputs(), rows.truth, weights=rows.shares)
    X, width = rows.stack.tensor(), rows.stack.width
    pooled = apart(rows.stack.outputs()).values.reshape(len(rows.shares), width)
    centre = np.array([0.0, float(pooled.mean())])
    scale = np.array([float(np.sqrt(((X - pooled) ** 2).mean())), float(pooled.std())])
    scale = np.where(scale > 0, scale, 1.0)
    features = value_inputs(X, pooled, centre, scale)
    rest = np.broadcast_to(rows.target - pooled, pooled.shape)
    levels = np.array(rows.stack.levels)
    share = rows.shares * len(rows.shares)
    found = fit_network(
        features[kept],
        rest[kept],
        task="values",
        n_outputs=width,
        seed=seed,
        recipe=recipe,
        weights=share[kept],
        validation=(features[held], rest[held], share[held]),
        deadline=deadline,
    ).weights
    answer = found.forward(features[held])
    losses = []
    for s in SHARES:
        e = rest[held] - s * answer
        loss = np.maximum(levels * e, (levels - 1) * e) if len(levels) else e**2
        losses.append(float(share[held] @ loss.mean(axis=1)))
    best = SHARES[int(np.argmin(losses))]
    return NetworkFuser(rows.stack.names, pool, found, best, rows.stack.kind, (), 0.5, centre, scale)
