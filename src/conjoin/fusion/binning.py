"""Histogram binning: the share of hits in each bin of a class's probability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, InputError
from conjoin.fusion.calibrators import emit_shared_out, only_probabilities, shared_out
from conjoin.fusion.packing import ask, names_of
from conjoin.fusion.problems import class_problem
from conjoin.outputs import Array, Probabilities

if TYPE_CHECKING:
    from conjoin.contracts import Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Json


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """q_k is the height of the bin of p_k, then scaled to sum 1 (Zadrozny and Elkan 2001).

    edges: (K, B - 1), rising; bin b holds edges[b - 1] <= p < edges[b]. heights: (K, B). For two classes the
    second is calibrated and the first gets the rest.
    """

    edges: Array
    heights: Array
    classes: tuple[str, ...]

    def __call__(self, output: Probabilities, /) -> Probabilities:
        """The calibrated output."""
        p = output.align(self.classes).values.astype(np.float64)
        bins = (np.searchsorted(e, p[:, k], side="right") for k, e in enumerate(self.edges))
        q = np.stack([h[b] for h, b in zip(self.heights, bins, strict=True)], axis=1)
        return Probabilities(shared_out(q), self.classes, output.answered)

    def emit(self, graph: Graph, tensor: str, /) -> str:
        """Nodes: count the edges below, gather that bin's height."""
        width, count = self.heights.shape
        wide = graph.op("Unsqueeze", graph.cast(tensor, 11), graph.const([2], np.int64))
        below = graph.cast(graph.op("GreaterOrEqual", wide, graph.const(self.edges[None], np.float64)), 7)
        at = graph.op("ReduceSum", below, graph.const([2], np.int64), keepdims=0)
        at = graph.op("Add", at, graph.const(np.arange(width)[None] * count, np.int64))
        q = graph.op("Gather", graph.const(self.heights.reshape(-1), np.float64), at)
        return graph.cast(emit_shared_out(graph, q, width), 1)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Edges and heights."""
        return {"edges": self.edges, "heights": self.heights}, {"classes": list(self.classes)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        classes = names_of(meta, "classes")
        heights = ask(arrays, "heights", (len(classes), None))
        if heights.shape[1] < 1:
            raise BundleError("a packed histogram needs a bin")
        edges = ask(arrays, "edges", (len(classes), heights.shape[1] - 1))
        if bool((np.diff(edges, axis=1) < 0).any()) or bool((heights < 0).any()):
            raise BundleError("the edges of a packed histogram must rise, its heights not be below 0")
        return cls(edges, heights, classes)


def fit_histogram(output: Any, truth: Any, *, weights: Any = None, bins: int = 15) -> Histogram:
    """Bins of equal weight in rows; a bin's height is its share of hits, drawn to its mean p by one row.

    bins: at most; each has 10 rows or more. weights: (n,) of the rows. Raises OutputsError and TruthError,
    InputError on bins.

    >>> from conjoin.outputs import Labels
    >>> sure = Probabilities([[0.1, 0.9]] * 10, "ab")
    >>> fit_histogram(sure, Labels([0] * 5 + [1] * 5, "ab"))(sure).values[0].round(3)
    array([0.464, 0.536])
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise InputError(f"bins must be a whole number, 1 or more, not {bins!r}")
    rows = class_problem({"it": only_probabilities(output)}, truth, weights)
    p = rows.stack.parts[0].astype(np.float64)
    n, width = p.shape
    count = max(1, min(bins, n // 10))
    edges, heights = np.zeros((width, count - 1)), np.zeros((width, count))
    mass = rows.shares * n
    for k in range(width):
        shares = np.arange(1, count) / count
        edges[k] = np.quantile(p[:, k], shares, method="inverted_cdf", weights=mass)
        at = np.searchsorted(edges[k], p[:, k], side="right")
        size = np.bincount(at, mass, minlength=count)
        mean = np.bincount(at, mass * p[:, k], minlength=count)
        hits = np.bincount(at, mass * (rows.codes == k), minlength=count)
        own = np.divide(mean, size, out=np.full(count, float(p[:, k].mean())), where=size > 0)
        heights[k] = (hits + own) / (size + 1.0)
    return Histogram(edges, heights, rows.stack.classes)
