"""The dense view of encoded features: finite, of similar size, categories one-hot. For linear models,
neighbours and networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.contracts import Storable
from conjoin.errors import BundleError

if TYPE_CHECKING:
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json

FAR = 1e4
"""Scaled numbers are clipped to this before the smooth clip, so that their squares stay finite."""


@dataclass(frozen=True, slots=True, eq=False)
class DenseView:
    """Features of an encoder made finite: `emit` turns (n, d) into float32 (n, e), e = p + m + h.

    Numbers (p): z = (x - center) * scale with NaN replaced by `fill`, then z / sqrt(1 + (z / 3)^2), which is
    z near 0 and never beyond 3 (the preprocessing of RealMLP, Holzmueller et al. 2024).
    Flags (m): 1 where the feature is missing. One-hot (h): 1 where feature `code` has the value `value`.

    d: number of features before. numbers, flags, code: (p,), (m,), (h,) indices of features.
    center, scale, fill: (p,) float32. value: (h,) float32.
    """

    d: int
    numbers: Array
    center: Array
    scale: Array
    fill: Array
    flags: Array
    code: Array
    value: Array

    @property
    def width(self) -> int:
        """How many columns it gives (e)."""
        return len(self.numbers) + len(self.flags) + len(self.code)

    def emit(self, graph: Graph, x: str) -> str:
        """Add the nodes: x float32 (n, d) -> float32 (n, e), all finite."""
        blocks = []
        if len(self.numbers):
            blocks.append(self._emit_numbers(graph, x))
        if len(self.flags):
            some = graph.op("Gather", x, graph.const(self.flags, np.int64), axis=1)
            blocks.append(graph.cast(graph.op("IsNaN", some), 1))
        if len(self.code):
            codes = graph.op("Gather", x, graph.const(self.code, np.int64), axis=1)
            blocks.append(graph.cast(graph.op("Equal", codes, graph.const(self.value[None], np.float32)), 1))
        return graph.concat(blocks)

    def _emit_numbers(self, graph: Graph, x: str) -> str:
        if not np.array_equal(self.numbers, np.arange(self.d)):
            x = graph.op("Gather", x, graph.const(self.numbers, np.int64), axis=1)
        x = graph.op("Where", graph.op("IsNaN", x), graph.const(self.fill[None], np.float32), x)
        z = graph.op("Sub", x, graph.const(self.center[None], np.float32))
        z = graph.op("Mul", z, graph.const(self.scale[None], np.float32))
        z = graph.op("Clip", z, graph.const(-FAR, np.float32), graph.const(FAR, np.float32))
        square = graph.op("Mul", graph.op("Mul", z, z), graph.const(1 / 9, np.float32))
        return graph.op("Div", z, graph.op("Sqrt", graph.op("Add", square, graph.const(1, np.float32))))

    def children(self) -> Mapping[str, Storable]:
        """A view holds no other parts."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The arrays by their names, and d."""
        whole = {n: getattr(self, n).astype(np.int32) for n in ("numbers", "flags", "code")}
        return whole | {n: getattr(self, n) for n in ("center", "scale", "fill", "value")}, {"d": self.d}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError where the arrays do not make sense."""
        try:
            d = int(str(meta["d"]))
            whole = {n: arrays[n].astype(np.int64) for n in ("numbers", "flags", "code")}
            real = {n: arrays[n].astype(np.float32) for n in ("center", "scale", "fill", "value")}
        except (KeyError, ValueError) as error:
            raise BundleError(f"the stored dense view does not make sense: {error!r}") from error
        p, h = whole["numbers"].shape, whole["code"].shape
        fits = all(real[n].shape == p for n in ("center", "scale", "fill")) and real["value"].shape == h
        inside = all(a.ndim == 1 and bool(((a >= 0) & (a < d)).all()) for a in whole.values())
        view = cls(d, **whole, **real)
        if not fits or not inside or not view.width:
            raise BundleError("the stored dense view does not make sense: its arrays do not fit together")
        return view
