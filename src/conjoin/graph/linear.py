"""Linear and logistic models over a dense view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np

from conjoin.errors import BundleError, InputError

if TYPE_CHECKING:
    from conjoin.contracts import Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json

Link = Literal["values", "rising", "exp", "sigmoid", "softmax", "rest"]
"""What is done with the scores.

values: `* scale + shift`, double (n, K). rising: the same, each row sorted, for quantiles. exp: exp(score),
double. sigmoid: one score z to [sigmoid(-z), sigmoid(z)]. softmax: K scores to K probabilities. rest: each of
K classes against the rest, K sigmoids divided by their sum.
"""
LINKS: tuple[str, ...] = ("values", "rising", "exp", "sigmoid", "softmax", "rest")
FLOAT, DOUBLE = 1, 11


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """Scores x @ coefficients + intercept.

    coefficients: (e, K). intercept: (K,). Both float32, or both float64: the scores are made in that type.
    link: see `Link`. scale, shift: the last step of values.
    """

    coefficients: Array
    intercept: Array
    link: Link
    scale: float = 1.0
    shift: float = 0.0

    @classmethod
    def mean(cls, parts: Sequence[Linear]) -> Linear:
        """One model whose scores are the mean of those of `parts`. Raises InputError where they differ."""
        first = parts[0]
        if any((p.link, p.scale, p.shift) != (first.link, first.scale, first.shift) for p in parts):
            raise InputError("linear models of different kinds have no mean")
        kind = first.coefficients.dtype
        coefficients = np.asarray(np.mean([p.coefficients for p in parts], axis=0, dtype=np.float64), kind)
        intercept = np.asarray(np.mean([p.intercept for p in parts], axis=0, dtype=np.float64), kind)
        return replace(first, coefficients=coefficients, intercept=intercept)

    def emit(self, graph: Graph, x: str) -> str:
        """Add the nodes over the tensor x (n, e); returns probabilities float32 or values double."""
        op = graph.op
        x = graph.cast(x, DOUBLE if self.coefficients.dtype == np.float64 else FLOAT)
        score = op("Gemm", x, graph.const(self.coefficients), graph.const(self.intercept))
        if self.link in ("softmax", "sigmoid", "rest"):
            return graph.cast(self._shares(graph, score), FLOAT)
        wide = graph.cast(score, DOUBLE)
        if self.link == "exp":
            return op("Exp", wide)
        if self.link == "rising":
            count = graph.const([self.coefficients.shape[1]], np.int64)
            wide = graph.ops("TopK", wide, count, count=2, axis=1, largest=0, sorted=1)[0]
        return op("Add", op("Mul", wide, graph.const(self.scale)), graph.const(self.shift))

    def _shares(self, graph: Graph, score: str) -> str:
        op, kind = graph.op, self.coefficients.dtype
        if (
            self.link == "sigmoid"
        ):  # a softmax of [0, z], because onnxruntime's Sigmoid rounds small ends to 0
            both = op("Mul", score, graph.const(np.array([[0, 1]], kind)))
            return op("Softmax", both, axis=1)
        if self.link == "softmax":
            return op("Softmax", score, axis=1)
        one = graph.const(np.array(1, kind))
        each = op("Reciprocal", op("Add", one, op("Exp", op("Neg", score))))
        return op("Div", each, op("ReduceSum", each, graph.const([1], np.int64), keepdims=1))

    def children(self) -> Mapping[str, Storable]:
        """No parts inside."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The two arrays, the link, scale and shift."""
        arrays = {"coefficients": self.coefficients, "intercept": self.intercept}
        return arrays, {"link": self.link, "scale": self.scale, "shift": self.shift}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError where the arrays do not make sense."""
        try:
            w, b = arrays["coefficients"], arrays["intercept"]
            link, scale, shift = str(meta["link"]), float(str(meta["scale"])), float(str(meta["shift"]))
        except (KeyError, ValueError) as error:
            raise BundleError(f"a packed linear model does not make sense: {error!r}") from error
        fits = w.ndim == 2 and b.shape == (w.shape[1],) and w.dtype == b.dtype
        if not fits or w.dtype not in (np.float32, np.float64) or link not in LINKS:
            raise BundleError(
                f"packed linear models do not fit: {w.dtype} {w.shape}, {b.dtype} {b.shape}, {link!r}"
            )
        return cls(w, b, cast("Link", link), scale, shift)
