"""The rules of plain fusers on arrays, each in numpy and as ONNX nodes.

A rule takes a stack and a weight per member, and gives values (n, C) and which rows were answered. Members of
weight 0 and members who did not answer a row do not count there; a row that nobody answered holds NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.stack import Stack
from conjoin.graph.builder import Graph
from conjoin.outputs import Array

FLOOR = 1e-12
"""Probabilities are raised to this before a logarithm, so that one member's 0 is not a veto for ever."""
_CELLS = 4_000_000  # numbers that a rule which sorts holds at once


@dataclass(frozen=True, slots=True)
class Options:
    """floor: of probabilities before a logarithm. trim: share of the weight cut off at each end."""

    floor: float = FLOOR
    trim: float = 0.1


Rule = Callable[[Stack, Array, Options], tuple[Array, Array]]
EmitRule = Callable[[Graph, str, Array, Options], str]


def counting(stack: Stack, weights: Array) -> tuple[Stack, Array]:
    """The members whose weight is not 0, and their weights."""
    if (weights != 0).all():
        return stack, weights
    names = [n for n, w in zip(stack.names, weights, strict=True) if w != 0]
    return (stack.only(names) if names else stack), weights[weights != 0]


def somebody(stack: Stack) -> Array:
    """(n,) bool: rows that at least one member answered."""
    return np.asarray(np.logical_or.reduce(stack.answered))


def linear(stack: Stack, weights: Array, options: Options) -> tuple[Array, Array]:
    """sum w v / sum w over those who answered."""
    weights = weights / weights.sum()
    total = np.zeros((stack.rows, stack.width))
    if stack.complete:
        for part, w in zip(stack.parts, weights, strict=True):
            total += w * part
        return total, np.ones(stack.rows, dtype=bool)
    mass = np.zeros(stack.rows)
    for part, answered, w in zip(stack.parts, stack.answered, weights, strict=True):
        total += w * np.where(answered[:, None], part, 0.0)
        mass += w * answered
    everybody = np.logical_and.reduce(stack.answered)
    return _blank(total / np.where(everybody | (mass <= 0), 1.0, mass)[:, None], mass > 0)


def weighted_sum(stack: Stack, weights: Array, options: Options) -> tuple[Array, Array]:
    """sum w v over those who answered; probabilities are then cut at 0 and scaled to sum 1."""
    total = np.zeros((stack.rows, stack.width))
    for part, answered, w in zip(stack.parts, stack.answered, weights, strict=True):
        total += w * (part if answered.all() else np.where(answered[:, None], part, 0.0))
    if stack.kind == "probabilities":
        total = _scaled(np.maximum(total, 0.0), stack)
    return _blank(total, somebody(stack))


def log_linear(stack: Stack, weights: Array, options: Options) -> tuple[Array, Array]:
    """prod max(p, floor)^w, scaled to sum 1. Exponents of those who answered are scaled to the sum of all."""
    _only_probabilities(stack, "log_pool and product")
    if len(weights) == 1 and weights[0] == 1.0:
        return _blank(stack.parts[0].astype(np.float64), stack.answered[0])
    scores = np.zeros((stack.rows, stack.width))
    mass = np.zeros(stack.rows)
    for part, answered, w in zip(stack.parts, stack.answered, weights, strict=True):
        logs = np.log(np.maximum(part, options.floor), dtype=np.float64)
        scores += w * (logs if answered.all() else np.where(answered[:, None], logs, 0.0))
        mass += w * answered
    if not stack.complete:
        everybody = np.logical_and.reduce(stack.answered)
        scores *= np.where(everybody | (mass <= 0), 1.0, weights.sum() / np.where(mass > 0, mass, 1.0))[
            :, None
        ]
    return _blank(softmax(scores), mass > 0)


def normalised_log_linear(stack: Stack, weights: Array, options: Options) -> tuple[Array, Array]:
    """`log_linear` with weights scaled to sum 1."""
    return log_linear(stack, weights / weights.sum(), options)


def median(stack: Stack, weights: Array, options: Options) -> tuple[Array, Array]:
    """The weighted median of each class, target or level; in the middle of two where the halves tie."""

    def pick(values: Array, mass: Array) -> Array:
        ends, half = np.cumsum(mass, axis=0), mass.sum(axis=0) / 2
        low = (ends < half * (1 - 1e-12)).sum(axis=0)
        high = (ends <= half * (1 + 1e-12)).sum(axis=0)
        last = len(values) - 1
        both = [np.take_along_axis(values, np.minimum(k, last)[None], axis=0)[0] for k in (low, high)]
        return np.asarray((both[0] + both[1]) / 2)

    return by_order(stack, weights, pick)


def trimmed_mean(stack: Stack, weights: Array, options: Options) -> tuple[Array, Array]:
    """The weighted mean without those who lie wholly in the lowest or highest `trim` of the weight."""
    if not 0 <= options.trim < 0.5:
        raise OutputsError(f"trim must lie in [0, 0.5), not {options.trim}")

    def pick(values: Array, mass: Array) -> Array:
        ends, total = np.cumsum(mass, axis=0), mass.sum(axis=0)
        keep = (ends > options.trim * total * (1 + 1e-12)) & (
            ends - mass < (1 - options.trim) * total * (1 - 1e-12)
        )
        kept = mass * keep
        some = np.where(np.isfinite(values), values, 0.0)
        return np.asarray((kept * some).sum(axis=0) / np.where(total > 0, kept.sum(axis=0), 1.0))

    return by_order(stack, weights, pick)


def vote(stack: Stack, weights: Array, options: Options) -> tuple[Array, Array]:
    """The share of the weight that each class gets; a member votes for its first most probable class."""
    _only_probabilities(stack, "vote")
    total, mass = np.zeros((stack.rows, stack.width)), np.zeros(stack.rows)
    rows = np.arange(stack.rows)
    for part, answered, w in zip(stack.parts, stack.answered, weights, strict=True):
        choice = np.where(answered[:, None], part, 0.0).argmax(axis=1) if stack.width else rows
        total[rows, choice] += w * answered
        mass += w * answered
    return _blank(total / np.where(mass > 0, mass, 1.0)[:, None], mass > 0)


def maximum(stack: Stack, weights: Array, options: Options) -> tuple[Array, Array]:
    """The greatest of each class, target or level; probabilities are then scaled to sum 1."""
    return _extreme(stack, np.maximum, -np.inf)


def minimum(stack: Stack, weights: Array, options: Options) -> tuple[Array, Array]:
    """The least of each class, target or level; probabilities are then scaled to sum 1."""
    return _extreme(stack, np.minimum, np.inf)


def softmax(scores: Array) -> Array:
    """exp(scores), each row scaled to sum 1."""
    if not scores.size:
        return scores
    scores = scores - scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    return np.asarray(scores / scores.sum(axis=-1, keepdims=True))


def _extreme(stack: Stack, pick: np.ufunc, none: float) -> tuple[Array, Array]:
    best = np.full((stack.rows, stack.width), none)
    for part, answered in zip(stack.parts, stack.answered, strict=True):
        best = pick(best, part if answered.all() else np.where(answered[:, None], part, none))
    some = somebody(stack)
    if stack.kind == "probabilities":
        best = _scaled(np.where(some[:, None], best, 0.0), stack)
    return _blank(best, some)


def by_order(stack: Stack, weights: Array, pick: Callable[[Array, Array], Array]) -> tuple[Array, Array]:
    """Sort the members' numbers in each cell and let `pick` see values and weights (M, rows, C) in order."""
    out = np.empty((stack.rows, stack.width))
    step = max(1, _CELLS // max(1, len(weights) * stack.width))
    for a in range(0, stack.rows, step):
        answered = np.array([m[a : a + step] for m in stack.answered])[:, :, None]
        values = np.array([p[a : a + step] for p in stack.parts], dtype=np.float64)
        values = np.where(answered, values, np.inf)
        mass = np.broadcast_to(weights[:, None, None] * answered, values.shape)
        order = np.argsort(values, axis=0, kind="stable")
        out[a : a + step] = pick(
            np.take_along_axis(values, order, axis=0), np.take_along_axis(mass, order, axis=0)
        )
    some = somebody(stack)
    if stack.kind == "probabilities":
        out = _scaled(np.where(some[:, None], out, 0.0), stack)
    return _blank(out, some)


def _scaled(values: Array, stack: Stack) -> Array:
    """Rows scaled to sum 1; a row of zeros becomes the mean of the members."""
    sums = values.sum(axis=1, keepdims=True)
    empty = sums[:, 0] <= 0
    if empty.any():
        values = values.copy()
        values[empty] = linear(stack, np.ones(len(stack.parts)), Options())[0][empty]
        sums = np.where(sums > 0, sums, 1.0)
    return np.asarray(values / sums)


def _blank(values: Array, answered: Array) -> tuple[Array, Array]:
    if not answered.all():
        values = np.where(answered[:, None], values, np.nan)
    return values, answered


def _only_probabilities(stack: Stack, rule: str) -> None:
    if stack.kind != "probabilities":
        raise OutputsError(f"{rule} fuse probabilities, not {stack.kind}")


def emit_stack(graph: Graph, tensors: list[str]) -> str:
    """(n, M, C) double of the members' tensors (n, C)."""
    joined = graph.cast(graph.concat(tensors), 11)
    return graph.op("Reshape", joined, graph.const([0, len(tensors), -1], np.int64))


def emit_total(graph: Graph, x: str, weights: Array) -> str:
    """sum over members of w x: (n, M, C) to (n, C)."""
    weighted = graph.op("Mul", x, graph.const(weights.reshape(1, -1, 1), np.float64))
    return graph.op("ReduceSum", weighted, graph.const([1], np.int64), keepdims=0)


def emit_linear(graph: Graph, x: str, weights: Array, options: Options) -> str:
    """Nodes of `linear`."""
    return emit_total(graph, x, weights / weights.sum())


def emit_log_linear(graph: Graph, x: str, weights: Array, options: Options) -> str:
    """Nodes of `log_linear`."""
    if len(weights) == 1 and weights[0] == 1.0:
        return emit_total(graph, x, weights)
    return graph.op("Softmax", emit_total(graph, emit_logs(graph, x, options.floor), weights), axis=1)


def emit_normalised_log_linear(graph: Graph, x: str, weights: Array, options: Options) -> str:
    """Nodes of `normalised_log_linear`."""
    return emit_log_linear(graph, x, weights / weights.sum(), options)


def emit_logs(graph: Graph, x: str, floor: float) -> str:
    """log max(x, floor), double."""
    return graph.op("Log", graph.op("Max", x, graph.const(floor, np.float64)))


def emit_weighted_sum(graph: Graph, x: str, weights: Array, options: Options) -> str:
    """Nodes of `weighted_sum` for values."""
    return emit_total(graph, x, weights)


def emit_cut_sum(graph: Graph, x: str, weights: Array, options: Options) -> str:
    """Nodes of `weighted_sum` for probabilities."""
    return emit_scaled(graph, graph.op("Relu", emit_total(graph, x, weights)), x)


def emit_scaled(graph: Graph, values: str, x: str) -> str:
    """Rows scaled to sum 1; rows of zeros become the mean of the members x (n, M, C)."""
    axis = graph.const([1], np.int64)
    sums = graph.op("ReduceSum", values, axis, keepdims=1)
    some = graph.op("Greater", sums, graph.const(0.0, np.float64))
    safe = graph.op("Where", some, sums, graph.const(1.0, np.float64))
    mean = graph.op("ReduceMean", x, axis, keepdims=0)
    return graph.op("Where", some, graph.op("Div", values, safe), mean)


def emit_sorted(graph: Graph, x: str, weights: Array) -> tuple[str, str, str]:
    """Values sorted over members, their weights, and the running sum of those; all (n, M, C)."""
    count = graph.const([len(weights)], np.int64)
    values, order = graph.ops("TopK", x, count, count=2, axis=1, largest=0, sorted=1)
    mass = graph.op("Gather", graph.const(weights, np.float64), order)
    return values, mass, graph.op("CumSum", mass, graph.const(1, np.int64))


def emit_median(graph: Graph, x: str, weights: Array, options: Options) -> str:
    """Nodes of `median`."""
    values, _, ends = emit_sorted(graph, x, weights)
    axis, half = graph.const([1], np.int64), float(weights.sum()) / 2
    picked = []
    for compare, limit in (("Less", half * (1 - 1e-12)), ("LessOrEqual", half * (1 + 1e-12))):
        below = graph.cast(graph.op(compare, ends, graph.const(limit, np.float64)), 7)
        at = graph.op("ReduceSum", below, axis, keepdims=1)
        at = graph.op("Min", at, graph.const(len(weights) - 1, np.int64))
        picked.append(graph.op("Squeeze", graph.op("GatherElements", values, at, axis=1), axis))
    return graph.op("Mul", graph.op("Add", *picked), graph.const(0.5, np.float64))


def emit_trimmed_mean(graph: Graph, x: str, weights: Array, options: Options) -> str:
    """Nodes of `trimmed_mean`."""
    values, mass, ends = emit_sorted(graph, x, weights)
    total, axis = float(weights.sum()), graph.const([1], np.int64)
    low = graph.op("Greater", ends, graph.const(options.trim * total * (1 + 1e-12), np.float64))
    top = graph.const((1 - options.trim) * total * (1 - 1e-12), np.float64)
    high = graph.op("Less", graph.op("Sub", ends, mass), top)
    kept = graph.op("Mul", mass, graph.cast(graph.op("And", low, high), 11))
    sums = graph.op("ReduceSum", graph.op("Mul", kept, values), axis, keepdims=0)
    return graph.op("Div", sums, graph.op("ReduceSum", kept, axis, keepdims=0))


def emit_vote(graph: Graph, x: str, weights: Array, options: Options) -> str:
    """Nodes of `vote`."""
    choice = graph.op("ArgMax", x, axis=2, keepdims=0)
    width = graph.op("Gather", graph.op("Shape", x), graph.const([2], np.int64))
    votes = graph.op("OneHot", choice, width, graph.const([0.0, 1.0], np.float32), axis=2)
    return emit_total(graph, graph.cast(votes, 11), weights / weights.sum())


def emit_maximum(graph: Graph, x: str, weights: Array, options: Options) -> str:
    """Nodes of `maximum` for values."""
    return graph.op("ReduceMax", x, graph.const([1], np.int64), keepdims=0)


def emit_minimum(graph: Graph, x: str, weights: Array, options: Options) -> str:
    """Nodes of `minimum` for values."""
    return graph.op("ReduceMin", x, graph.const([1], np.int64), keepdims=0)
