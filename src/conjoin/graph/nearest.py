"""Nearest neighbours as scikit-learn counts them: equal weights, or weights of one over the distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError

if TYPE_CHECKING:
    from conjoin.contracts import Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json

FLOAT, DOUBLE = 1, 11
BYTES = 64 << 20
"""What the distances of the rows that run at once may take."""


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The mean of the answers of the k nearest of m rows, in Euclidean distance.

    rows: (m, d) float32 or float64. codes: (m,) the row of `table` that each answers. table: (U, K) float64.
    inverse: answers weigh one over the distance; rows at distance 0 then count alone. shares: the answers are
    probabilities. Distances are made in double, so only exact ties may fall otherwise than in scikit-learn.
    """

    rows: Array
    codes: Array
    table: Array
    k: int
    inverse: bool
    shares: bool

    def emit(self, graph: Graph, x: str, /) -> str:
        """Add the nodes over x (n, d); returns probabilities float32 or values double, (n, K)."""
        op, one = graph.op, graph.const([1], np.int64)
        graph.limit_rows(BYTES // (8 * max(1, len(self.rows))))
        rows, x = graph.const(self.rows, np.float64), graph.cast(x, DOUBLE)
        lengths = graph.const((self.rows.astype(np.float64) ** 2).sum(axis=1)[None])
        near = op("Gemm", x, rows, lengths, alpha=-2.0, transB=1)
        count = graph.const([self.k], np.int64)
        at = graph.ops("TopK", near, count, count=2, axis=1, largest=0, sorted=1)[1]
        codes = op("Gather", graph.const(self.codes, np.int64), at, axis=0)
        answers = op("Gather", graph.const(self.table, np.float64), codes, axis=0)
        if not self.inverse:
            found = op("ReduceMean", answers, one, keepdims=0)
        else:
            apart = op("Sub", op("Gather", rows, at, axis=0), op("Unsqueeze", x, one))
            weight = self._weights(graph, op("ReduceL2", apart, graph.const([2], np.int64), keepdims=0))
            total = op("Squeeze", op("MatMul", op("Unsqueeze", weight, one), answers), one)
            found = op("Div", total, op("ReduceSum", weight, one, keepdims=1))
        return graph.cast(found, FLOAT) if self.shares else found

    def _weights(self, graph: Graph, distance: str) -> str:
        """(n, k) one over the distance; where a row has distance 0, 1 for such rows and 0 for others."""
        op, one = graph.op, graph.const([1], np.int64)
        same = graph.cast(op("Equal", distance, graph.const(0.0)), DOUBLE)
        any_same = op("Greater", op("ReduceMax", same, one, keepdims=1), graph.const(0.0))
        return op("Where", any_same, same, op("Reciprocal", distance))

    def children(self) -> Mapping[str, Storable]:
        """No parts inside."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Rows, codes, table and numbers."""
        arrays = {"rows": self.rows, "codes": self.codes, "table": self.table}
        return arrays, {"k": self.k, "inverse": self.inverse, "shares": self.shares}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError where the arrays do not make sense."""
        try:
            rows, codes, table = (arrays[n] for n in ("rows", "codes", "table"))
            k, inverse, shares = int(str(meta["k"])), bool(meta["inverse"]), bool(meta["shares"])
        except (KeyError, ValueError) as error:
            raise BundleError(f"packed neighbours do not make sense: {error!r}") from error
        fits = rows.ndim == 2 and codes.shape == (len(rows),) and table.ndim == 2 and 1 <= k <= len(rows)
        if not fits or codes.dtype.kind not in "iu" or codes.min() < 0 or codes.max() >= len(table):
            raise BundleError("packed neighbours do not make sense: their arrays do not fit together")
        return cls(rows, codes, table, k, inverse, shares)
