"""`LogPool`: a product of powers of the members' probabilities, with fitted exponents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, OutputsError
from conjoin.fusion import loglinear, rules
from conjoin.fusion.packing import ask, known, members_of, names_of, number
from conjoin.fusion.problems import ClassProblem, class_problem, finite_tensor
from conjoin.fusion.stack import Dense, checked, stack
from conjoin.fusion.threads import one_thread

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json
    from conjoin.scores import Score


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LogPool:
    """p proportional to prod_m max(p_m, floor)^w_m; the exponents are not negative, their sum is free.

    weights: by member name. classes: of the answer, in order. floor: smaller probabilities count as it.
    loss: of the rows it was fitted to, if known.

    Called with fewer members, or with rows that some did not answer, the exponents of the others are scaled
    to the sum of all.
    """

    weights: Mapping[str, float]
    classes: tuple[str, ...]
    floor: float
    loss: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", checked({n: float(w) for n, w in sorted(self.weights.items())}))

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
        laid = stack(outputs, classes=self.classes)
        weights = self._scaled(laid.names)
        if not weights.any():
            return laid.output(np.full((laid.rows, laid.width), np.nan), np.zeros(laid.rows, dtype=bool))
        return laid.output(*rules.log_linear(*rules.counting(laid, weights), rules.Options(floor=self.floor)))

    def emit(self, graph: Graph, outputs: Mapping[str, str], /) -> str:
        """Nodes of the product."""
        known(self.members, outputs)
        names = [n for n in sorted(outputs) if self.weights[n] > 0]
        x = rules.emit_stack(graph, [outputs[n] for n in names])
        options = rules.Options(floor=self.floor)
        return graph.cast(rules.emit_log_linear(graph, x, self._scaled(tuple(names)), options), 1)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The exponents, and everything else as JSON."""
        meta: dict[str, Json] = {
            "members": list(self.weights),
            "classes": list(self.classes),
            "floor": self.floor,
            "loss": self.loss,
        }
        return {"weights": np.array(list(self.weights.values()))}, meta

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names = members_of(meta)
        weights = dict(zip(names, ask(arrays, "weights", (len(names),)).tolist(), strict=True))
        loss = None if meta.get("loss") is None else number(meta, "loss")
        try:
            return cls(weights, names_of(meta, "classes"), number(meta, "floor"), loss)
        except OutputsError as error:
            raise BundleError(f"a packed log pool does not make sense: {error}") from error

    def _scaled(self, names: tuple[str, ...]) -> Array:
        """The exponents of these members, scaled to the sum of all."""
        weights = np.array([self.weights[n] for n in names])
        if len(names) == len(self.weights) or not weights.any():
            return weights
        return np.asarray(weights * (sum(self.weights.values()) / weights.sum()))

    def __repr__(self) -> str:
        some = {n: round(w, 4) for n, w in sorted(self.weights.items(), key=lambda i: -i[1]) if w > 0}
        return f"LogPool({some}, floor={self.floor:.2g}" + (
            ")" if self.loss is None else f", loss={self.loss:.6g})"
        )


def default_floor(classes: int) -> float:
    """The floor of probabilities in fitted log-linear fusers: 0.001, less for more than twenty classes."""
    return min(1e-3, 0.02 / max(classes, 1))


def fit_log_pool(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    floor: float | None = None,
    shrink: float = 3.0,
    least_share: float = 0.07,
) -> LogPool:
    """Exponents with the least log-loss (Heskes 1998; Genest and Zidek 1986), drawn to equal weights.

    The exponents are not negative and their sum is free, so the pool sharpens or blunts as the rows say (a
    temperature is inside). Minimised: mean log-loss + shrink / (2 n) M sum_m (w_m - 1/M)^2, convex, by Newton
    steps; n is the effective number of rows. Then the member with the smallest exponent is left out and the
    rest are refitted, until none has less than least_share of the sum: fewer members, and better on new rows
    (0 leaves nobody out). floor: of probabilities before the logarithm (a member's 0 must not be a veto),
    0.001 by default, less for more than twenty classes. weights: (n,) of the rows. score and seed have no
    influence. Raises OutputsError and TruthError.
    """
    rows = class_problem(outputs, truth, weights).thinned()
    least = default_floor(rows.stack.width) if floor is None else floor
    if not 0 < least < 1:
        raise OutputsError(f"floor must lie in (0, 1), not {least}")
    with one_thread():
        theta, loss = _pruned(rows, log_tensor(rows, least), shrink, least_share)
    named = dict(zip(rows.stack.names, theta.tolist(), strict=True))
    return LogPool(named, rows.stack.classes, least, loss)


def _pruned(rows: ClassProblem, logs: Array, shrink: float, least_share: float) -> tuple[Array, float]:
    """Exponents of all members, 0 for those left out, and the loss."""
    kept = np.arange(len(logs))
    while True:
        found = fit_exponents(rows, logs if len(kept) == len(logs) else logs[kept], shrink=shrink)
        theta, total = found.theta, float(found.theta.sum())
        if total <= 0:
            theta, total = np.full(len(kept), 1e-9), 1e-9 * len(kept)
        small = theta < least_share * total
        if len(kept) == 1 or not small.any():
            full = np.zeros(len(logs))
            full[kept] = theta
            return full, found.loss
        gone = theta <= 0
        order = np.argsort(theta, kind="stable")
        gone[order[: max(1, int(small.sum()) // 4)]] = True
        gone[order[-1]] = False
        kept = kept[~gone]


def log_tensor(rows: ClassProblem, floor: float) -> Array:
    """(M, n, K): log max(p, floor)."""
    tensor = finite_tensor(rows.stack)
    np.maximum(tensor, floor, out=tensor)
    return np.asarray(np.log(tensor, out=tensor))


def fit_exponents(rows: ClassProblem, logs: Array, *, shrink: float) -> loglinear.Fit:
    """The exponents of a log pool of these logarithms."""
    members = len(logs)
    centre = np.full(members, 1.0 / members)
    penalty = np.full(members, shrink * members / effective_rows(rows.shares))
    return loglinear.fit(
        loglinear.relative(logs, rows.codes, rows.shares), centre=centre, penalty=penalty, signed=False
    )


def effective_rows(shares: Array) -> float:
    """Kish's effective sample size: the number of rows where weights are equal."""
    return float(1.0 / (shares**2).sum())
