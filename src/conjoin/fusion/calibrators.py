"""Calibrators: records that turn one member's (or the fused) probabilities into honest ones.

Each is called on one output and has nodes for one tensor. Classes are aligned by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

import numpy as np

from conjoin.errors import BundleError, OutputsError
from conjoin.fusion import rules
from conjoin.fusion.packing import ask, names_of, number
from conjoin.outputs import Array, Probabilities

if TYPE_CHECKING:
    from conjoin.contracts import Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Json

EDGE = 1e-6
"""Probabilities are cut to [1e-6, 1 - 1e-6] before a logit."""


class Calibrator(Protocol):
    """What a calibrator can do."""

    def __call__(self, output: Probabilities, /) -> Probabilities:
        """The calibrated output; unanswered rows stay so."""

    def emit(self, graph: Graph, tensor: str, /) -> str:
        """Nodes: probabilities (n, K) float32 to the same."""

    def children(self) -> Mapping[str, Storable]:
        """None."""

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Named arrays and JSON."""

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`."""


@dataclass(frozen=True, slots=True, eq=False)
class Temperature:
    """p proportional to ((1 - smoothing) p + smoothing / K)^(1 / temperature) (Guo et al. 2017).

    temperature: above 1 blunts, below 1 sharpens. smoothing: the share of the uniform distribution that is
    mixed in first, so that a member's 0 can be mended.
    """

    temperature: float
    smoothing: float = 0.0

    def __call__(self, output: Probabilities, /) -> Probabilities:
        """The calibrated output."""
        p = output.values.astype(np.float64)
        p = (1 - self.smoothing) * p + self.smoothing / p.shape[1]
        scores = np.log(np.maximum(p, rules.FLOOR)) / self.temperature
        return Probabilities(rules.softmax(scores), output.classes, output.answered)

    def emit(self, graph: Graph, tensor: str, /) -> str:
        """Nodes of the formula."""
        x = graph.cast(tensor, 11)
        if self.smoothing:
            width = graph.cast(graph.op("Gather", graph.op("Shape", x), graph.const([1], np.int64)), 11)
            x = graph.op("Mul", x, graph.const(1 - self.smoothing, np.float64))
            x = graph.op("Add", x, graph.op("Div", graph.const([self.smoothing], np.float64), width))
        logs = rules.emit_logs(graph, x, rules.FLOOR)
        scores = graph.op("Mul", logs, graph.const(1 / self.temperature, np.float64))
        return graph.cast(graph.op("Softmax", scores, axis=1), 1)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Two numbers."""
        return {}, {"temperature": self.temperature, "smoothing": self.smoothing}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        temperature, smoothing = number(meta, "temperature"), number(meta, "smoothing")
        if temperature <= 0 or not 0 <= smoothing <= 1:
            raise BundleError(f"a temperature of {temperature} with smoothing {smoothing} makes no sense")
        return cls(temperature, smoothing)


@dataclass(frozen=True, slots=True, eq=False)
class VectorScaling:
    """p_k proportional to exp(a_k log max(p_k, floor) + b_k) (Guo et al. 2017). slopes a, intercepts b: (K,).

    classes: K names, in the order of the answer.
    """

    slopes: Array
    intercepts: Array
    classes: tuple[str, ...]
    floor: float

    def __call__(self, output: Probabilities, /) -> Probabilities:
        """The calibrated output."""
        p = output.align(self.classes).values.astype(np.float64)
        scores = self.slopes * np.log(np.maximum(p, self.floor)) + self.intercepts
        return Probabilities(rules.softmax(scores), self.classes, output.answered)

    def emit(self, graph: Graph, tensor: str, /) -> str:
        """Nodes of the formula."""
        logs = rules.emit_logs(graph, graph.cast(tensor, 11), self.floor)
        scores = graph.op("Mul", logs, graph.const(self.slopes[None], np.float64))
        scores = graph.op("Add", scores, graph.const(self.intercepts[None], np.float64))
        return graph.cast(graph.op("Softmax", scores, axis=1), 1)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Slopes and intercepts."""
        arrays = {"slopes": self.slopes, "intercepts": self.intercepts}
        return arrays, {"classes": list(self.classes), "floor": self.floor}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        classes = names_of(meta, "classes")
        slopes, intercepts = (ask(arrays, k, (len(classes),)) for k in ("slopes", "intercepts"))
        return cls(slopes, intercepts, classes, number(meta, "floor"))


@dataclass(frozen=True, slots=True, eq=False)
class Sigmoid:
    """q_k = 1 / (1 + exp(-(a_k ln p_k - b_k ln(1 - p_k) + c_k))), then scaled to sum 1.

    With a = b it is Platt scaling of the logit (Platt 1999), else beta calibration (Kull, Silva Filho and
    Flach 2017). For two classes the second is calibrated and the first gets the rest. a, b, c: (K,).
    """

    a: Array
    b: Array
    c: Array
    classes: tuple[str, ...]

    def __call__(self, output: Probabilities, /) -> Probabilities:
        """The calibrated output."""
        p = np.clip(output.align(self.classes).values.astype(np.float64), EDGE, 1 - EDGE)
        scores = self.a * np.log(p) - self.b * np.log(1 - p) + self.c
        q = 1 / (1 + np.exp(-np.clip(scores, -50, 50)))
        return Probabilities(shared_out(q), self.classes, output.answered)

    def emit(self, graph: Graph, tensor: str, /) -> str:
        """Nodes of the formula."""
        p = graph.op(
            "Clip", graph.cast(tensor, 11), graph.const(EDGE, np.float64), graph.const(1 - EDGE, np.float64)
        )
        rest = graph.op("Log", graph.op("Sub", graph.const(1.0, np.float64), p))
        scores = graph.op("Mul", graph.op("Log", p), graph.const(self.a[None], np.float64))
        scores = graph.op("Sub", scores, graph.op("Mul", rest, graph.const(self.b[None], np.float64)))
        scores = graph.op("Add", scores, graph.const(self.c[None], np.float64))
        low, high = graph.const(-50.0, np.float64), graph.const(50.0, np.float64)
        odds = graph.op("Exp", graph.op("Neg", graph.op("Clip", scores, low, high)))
        q = graph.op("Reciprocal", graph.op("Add", odds, graph.const(1.0, np.float64)))
        return graph.cast(emit_shared_out(graph, q, len(self.classes)), 1)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Three arrays."""
        return {"a": self.a, "b": self.b, "c": self.c}, {"classes": list(self.classes)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        classes = names_of(meta, "classes")
        a, b, c = (ask(arrays, k, (len(classes),)) for k in ("a", "b", "c"))
        return cls(a, b, c, classes)


@dataclass(frozen=True, slots=True, eq=False)
class Isotonic:
    """q_k is a rising, piecewise linear function of p_k, then scaled to sum 1 (Zadrozny and Elkan 2002).

    knots, heights: (K, J), both rising; a class with fewer knots repeats its last. Outside its knots a
    function is flat. For two classes the second is calibrated and the first gets the rest.
    """

    knots: Array
    heights: Array
    classes: tuple[str, ...]

    def __call__(self, output: Probabilities, /) -> Probabilities:
        """The calibrated output."""
        p = output.align(self.classes).values.astype(np.float64)
        q = np.stack(
            [np.interp(p[:, k], self.knots[k], self.heights[k]) for k in range(len(self.classes))], axis=1
        )
        return Probabilities(shared_out(q), self.classes, output.answered)

    def emit(self, graph: Graph, tensor: str, /) -> str:
        """Nodes: count the knots below, gather that knot's height and slope."""
        width, count = self.knots.shape
        gaps = np.diff(self.knots, axis=1)
        rises = np.diff(self.heights, axis=1)
        slopes = np.divide(rises, gaps, out=np.zeros_like(rises), where=gaps > 0)
        slopes = np.pad(slopes, ((0, 0), (1, 1)))  # flat before the first knot and after the last
        starts = np.concatenate([self.knots[:, :1], self.knots], axis=1)
        levels = np.concatenate([self.heights[:, :1], self.heights], axis=1)
        p = graph.cast(tensor, 11)
        wide = graph.op("Unsqueeze", p, graph.const([2], np.int64))
        below = graph.cast(graph.op("GreaterOrEqual", wide, graph.const(self.knots[None], np.float64)), 7)
        at = graph.op("ReduceSum", below, graph.const([2], np.int64), keepdims=0)
        at = graph.op("Add", at, graph.const(np.arange(width)[None] * (count + 1), np.int64))
        start, level, slope = (
            graph.op("Gather", graph.const(t.reshape(-1), np.float64), at) for t in (starts, levels, slopes)
        )
        q = graph.op("Add", level, graph.op("Mul", slope, graph.op("Sub", p, start)))
        return graph.cast(emit_shared_out(graph, q, width), 1)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Knots and heights."""
        return {"knots": self.knots, "heights": self.heights}, {"classes": list(self.classes)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        classes = names_of(meta, "classes")
        knots = ask(arrays, "knots", (len(classes), None))
        heights = ask(arrays, "heights", knots.shape)
        if knots.shape[1] < 1 or bool((np.diff(knots, axis=1) < 0).any()):
            raise BundleError("the knots of a packed isotonic calibrator must rise")
        return cls(knots, heights, classes)


def shared_out(q: Array) -> Array:
    """Scaled to sum 1; of two classes the first gets what the second leaves; rows of zeros become uniform."""
    if q.shape[1] == 2:
        return np.stack([1 - q[:, 1], q[:, 1]], axis=1)
    sums = q.sum(axis=1, keepdims=True)
    return cast(Array, np.where(sums > 0, q / np.where(sums > 0, sums, 1.0), 1.0 / q.shape[1]))


def emit_shared_out(graph: Graph, q: str, width: int) -> str:
    """Nodes of `shared_out`."""
    if width == 2:
        second = graph.op("Gather", q, graph.const([1], np.int64), axis=1)
        return graph.concat([graph.op("Sub", graph.const(1.0, np.float64), second), second])
    sums = graph.op("ReduceSum", q, graph.const([1], np.int64), keepdims=1)
    some = graph.op("Greater", sums, graph.const(0.0, np.float64))
    safe = graph.op("Where", some, sums, graph.const(1.0, np.float64))
    return graph.op("Where", some, graph.op("Div", q, safe), graph.const(1.0 / width, np.float64))


def only_probabilities(output: Any) -> Probabilities:
    """The output. Raises OutputsError where it is not probabilities."""
    if not isinstance(output, Probabilities):
        raise OutputsError(f"only probabilities are calibrated, not {getattr(output, 'kind', type(output))}")
    return output
