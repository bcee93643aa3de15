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

Link = Literal["values", "sigmoid", "softmax", "rising"]
"""What is done with the scores.

values: `* scale + shift`, double (n, K). rising: the same, each row sorted, for quantiles. sigmoid: one score z to
[sigmoid(-z), sigmoid(z)]. softmax: K scores to K probabilities.
"""
LINKS: tuple[str, ...] = ("values", "sigmoid", "softmax", "rising")


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """Scores x @ coefficients + intercept.

    coefficients: (e, K) float32. intercept: (K,) float32. link: see `Link`. scale, shift: the last step of values.
    """

    coefficients: Array
    intercept: Array
    link: Link
    scale: float = 1.0
    shift: float = 0.0

    @classmethod
    def mean(cls, parts: Sequence[Linear]) -> Linear:
        """One model whose scores are the mean of those of `parts`. Raises InputError where they differ in kind."""
        first = parts[0]
        if any((p.link, p.scale, p.shift) != (first.link, first.scale, first.shift) for p in parts):
            raise InputError("linear models of different kinds have no mean")
        return replace(
            first,
            coefficients=np.mean([p.coefficients for p in parts], axis=0, dtype=np.float64).astype(
                np.float32
            ),
            intercept=np.mean([p.intercept for p in parts], axis=0, dtype=np.float64).astype(np.float32),
        )

    def emit(self, graph: Graph, x: str) -> str:
        """Add the nodes over the tensor x (n, e) float32; returns probabilities float32 or values double."""
        score = graph.op(
            "Gemm", x, graph.const(self.coefficients, np.float32), graph.const(self.intercept, np.float32)
        )
        if self.link == "softmax":
            return graph.op("Softmax", score, axis=1)
        if self.link == "sigmoid":
            return graph.op("Sigmoid", graph.concat([graph.op("Neg", score), score]))
        if self.link == "rising":
            count = graph.const([self.coefficients.shape[1]], np.int64)
            score, _ = graph.ops("TopK", score, count, count=2, axis=1, largest=0, sorted=1)
        wide = graph.op("Mul", graph.cast(score, 11), graph.const(self.scale, np.float64))
        return graph.op("Add", wide, graph.const(self.shift, np.float64))

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
        if w.ndim != 2 or b.shape != (w.shape[1],) or link not in LINKS:
            raise BundleError(
                f"a packed linear model does not make sense: coefficients {w.shape}, intercept {b.shape}, {link!r}"
            )
        return cls(w, b, cast("Link", link), scale, shift)
