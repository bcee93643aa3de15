"""Nearest neighbours over a dense view, weighted by a kernel that nearly ends at the last of them."""

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

DISTANCES = 16 << 20
"""How many distances may be held at once: 64 MB."""
LEAST = 1e-6
"""The least squared bandwidth, so that copies of a stored row do not divide by 0."""
BEYOND = 1.05
"""The squared bandwidth over the squared distance of the k-th neighbour: its weight is not quite 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The weighted mean of the answers of the k nearest of m stored rows.

    With z = x * weight and d_i the distance of z from the i-th neighbour:

        w_i = (1 - d_i^2 / max(1.05 d_k^2, 1e-6))^2
        answer = (sum_i w_i a_i + smooth * prior) / (sum_i w_i + smooth)

    The weight is continuous where neighbours change, so rounding does not show. Biweight kernel: Loader
    (1999), Local regression and likelihood.

    rows: (m, e) float32, multiplied by `weight`. weight: (e,) float32. codes: (m,) int32 rows of `table`.
    table: (U, K) float32 answers: the unit matrix for classes. prior: (K,) float32. values: True for numbers,
    which end with `* scale + shift` in double; False for probabilities.
    """

    rows: Array
    weight: Array
    codes: Array
    table: Array
    prior: Array
    k: int
    smooth: float
    values: bool = False
    scale: float = 1.0
    shift: float = 0.0

    def forward(self, dense: Array) -> Array:
        """(n, K) answers in numpy, as the graph computes them but for rounding: float64."""
        z = np.asarray(dense * self.weight, np.float32)
        nearest, squares = search(self.rows, z, self.k)
        return self.answer(self.codes[nearest], squares)

    def answer(self, codes: Array, squares: Array) -> Array:
        """(n, K) answers from the codes and squared distances (n, k) of the nearest rows, nearest first."""
        weights = (1 - squares / np.maximum(BEYOND * squares[:, -1:], LEAST)) ** 2
        total = np.einsum("nk,nkc->nc", weights, self.table[codes]) + self.smooth * self.prior
        found = total / (weights.sum(axis=1, keepdims=True) + self.smooth)
        return np.asarray(found * self.scale + self.shift if self.values else found, np.float64)

    def emit(self, graph: Graph, x: str) -> str:
        """Add the nodes over the tensor x (n, e) float32; returns probabilities float32 or values double."""
        op, one = graph.op, np.float32(1)
        graph.limit_rows(DISTANCES // max(1, len(self.rows)))
        z = op("Mul", x, graph.const(self.weight[None], np.float32))
        rows = graph.const(self.rows, np.float32)
        lengths = graph.const((self.rows.astype(np.float64) ** 2).sum(axis=1)[None], np.float32)
        near = op("Gemm", z, rows, lengths, alpha=-2.0, transB=1)
        _, at = graph.ops("TopK", near, graph.const([self.k], np.int64), count=2, axis=1, largest=0, sorted=1)
        apart = op("Sub", op("Gather", rows, at, axis=0), op("Unsqueeze", z, graph.const([1], np.int64)))
        squares = op("ReduceSumSquare", apart, graph.const([2], np.int64), keepdims=0)
        last = op("ReduceMax", squares, graph.const([1], np.int64), keepdims=1)
        width = op("Max", op("Mul", last, graph.const(BEYOND, np.float32)), graph.const(LEAST, np.float32))
        w = op("Sub", graph.const(one), op("Div", squares, width))
        w = op("Mul", w, w)
        codes = op("Gather", graph.const(self.codes, np.int64), at, axis=0)
        answers = op("Gather", graph.const(self.table, np.float32), codes, axis=0)
        first = graph.const([1], np.int64)
        total = op("Squeeze", op("MatMul", op("Unsqueeze", w, first), answers), first)
        total = op("Add", total, graph.const(self.smooth * self.prior[None], np.float32))
        mass = op("Add", op("ReduceSum", w, first, keepdims=1), graph.const(self.smooth, np.float32))
        found = op("Div", total, mass)
        if not self.values:
            return found
        wide = op("Mul", graph.cast(found, 11), graph.const(self.scale, np.float64))
        return op("Add", wide, graph.const(self.shift, np.float64))

    def children(self) -> Mapping[str, Storable]:
        """No parts inside."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The arrays by their names, and the numbers."""
        arrays = {n: getattr(self, n) for n in ("rows", "weight", "codes", "table", "prior")}
        return arrays, {n: getattr(self, n) for n in ("k", "smooth", "values", "scale", "shift")}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError where the arrays do not make sense."""
        try:
            part = cls(
                arrays["rows"],
                arrays["weight"],
                arrays["codes"],
                arrays["table"],
                arrays["prior"],
                k=int(str(meta["k"])),
                smooth=float(str(meta["smooth"])),
                values=bool(meta["values"]),
                scale=float(str(meta["scale"])),
                shift=float(str(meta["shift"])),
            )
            m, e = part.rows.shape
            (u, width) = part.table.shape
        except (KeyError, ValueError, TypeError) as error:
            raise BundleError(f"packed neighbours do not make sense: {error!r}") from error
        fits = part.weight.shape == (e,) and part.codes.shape == (m,) and part.prior.shape == (width,)
        if not fits or not 1 <= part.k <= m or part.codes.min() < 0 or part.codes.max() >= u:
            raise BundleError("packed neighbours do not make sense: their arrays do not fit together")
        return part


def search(rows: Array, z: Array, k: int, *, chunk: int = 512) -> tuple[Array, Array]:
    """The k nearest rows for each z: positions (n, k) and squared distances (n, k), nearest first."""
    lengths = np.einsum("me,me->m", rows, rows)
    found, squares = np.empty((len(z), k), np.int64), np.empty((len(z), k), np.float32)
    for a in range(0, len(z), chunk):
        part = z[a : a + chunk]
        near = lengths - 2 * (part @ rows.T)
        at = (
            np.argpartition(near, k - 1, axis=1)[:, :k]
            if k < len(rows)
            else np.tile(np.arange(k), (len(part), 1))
        )
        exact = ((rows[at] - part[:, None]) ** 2).sum(axis=2)
        order = np.argsort(exact, axis=1, kind="stable")
        found[a : a + chunk] = np.take_along_axis(at, order, axis=1)
        squares[a : a + chunk] = np.take_along_axis(exact, order, axis=1)
    return found, squares
