"""`AffinePool`: weighted sum plus intercept for values and quantiles; ridge stacking fits one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion import rules
from conjoin.fusion.packing import ask, known, members_of, text
from conjoin.fusion.problems import ValueProblem, filled_parts
from conjoin.fusion.stack import Dense, Stack, stack

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json


@dataclass(frozen=True, slots=True, eq=False)
class AffinePool:
    """sum_m w_m v_m + b; the weights may be negative and need not sum to 1.

    members: M names, sorted. weights: (M,). intercepts: (C,), one per target or level. kind: "values" or
    "quantiles"; quantiles are sorted afterwards, so that they do not cross.

    Where a member did not answer, the mean of those who did stands in for it.
    """

    members: tuple[str, ...]
    weights: Array
    intercepts: Array
    kind: str

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members with weight."""
        return tuple(n for n, w in zip(self.members, self.weights, strict=True) if w != 0)

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Dense:
        """Fuse. Raises OutputsError on a member it was not fitted to."""
        laid, parts, answered = present(self.members, outputs)
        if laid.kind != self.kind:
            raise OutputsError(f"this fuser was fitted to {self.kind}, not {laid.kind}")
        total = np.tile(self.intercepts, (laid.rows, 1)).astype(np.float64)
        for part, w in zip(parts, self.weights, strict=True):
            total += w * part
        if self.kind == "quantiles":
            total.sort(axis=1)
        return laid.output(total, answered)

    def emit(self, graph: Graph, outputs: Mapping[str, str], /) -> str:
        """Nodes of the weighted sum. Raises OutputsError where a member is missing."""
        everybody(self.members, outputs)
        names = self.needs or self.members[:1]
        weights = self.weights[[self.members.index(n) for n in names]]
        total = rules.emit_total(graph, rules.emit_stack(graph, [outputs[n] for n in names]), weights)
        total = graph.op("Add", total, graph.const(self.intercepts.reshape(1, -1), np.float64))
        return emit_rising(graph, total, len(self.intercepts)) if self.kind == "quantiles" else total

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Weights and intercepts; names as JSON."""
        return {"weights": self.weights, "intercepts": self.intercepts}, {
            "members": list(self.members),
            "kind": self.kind,
        }

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names = members_of(meta)
        kind = text(meta, "kind", ("values", "quantiles"))
        return cls(names, ask(arrays, "weights", (len(names),)), ask(arrays, "intercepts", (None,)), kind)


def affine_pool(rows: ValueProblem, weights: Array, intercepts: Array) -> AffinePool:
    """The record of a fit to these rows."""
    return AffinePool(rows.stack.names, np.asarray(weights), np.asarray(intercepts), rows.stack.kind)


def present(
    members: tuple[str, ...], outputs: Mapping[str, Any], classes: tuple[str, ...] = ()
) -> tuple[Stack, list[Array], Array]:
    """The stack of the outputs given; one part (n, C) per member; rows that somebody answered.

    Where a member is absent or did not answer, the mean of those who did stands in.
    Raises OutputsError on a name that is not among the members.
    """
    known(members, outputs)
    laid = stack(outputs, classes=classes or None)
    parts = dict(zip(laid.names, filled_parts(laid), strict=True))
    answered = rules.somebody(laid)
    if len(parts) < len(members):
        mean, _ = rules.linear(laid, np.ones(len(laid.parts)), rules.Options())
        parts = {n: parts.get(n, mean) for n in members}
    return laid, [parts[n] for n in members], answered


def everybody(members: tuple[str, ...], outputs: Mapping[str, str]) -> None:
    """Raises OutputsError unless there is a tensor for each member."""
    known(members, outputs)
    missing = [n for n in members if n not in outputs]
    if missing:
        raise OutputsError(f"the graph lacks the members {missing}; this fuser needs all of {list(members)}")


def emit_rising(graph: Graph, values: str, width: int) -> str:
    """Each row sorted."""
    return graph.ops("TopK", values, graph.const([width], np.int64), count=2, axis=1, largest=0)[0]
