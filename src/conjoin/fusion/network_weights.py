"""The record of a trained small network: its formula, ONNX form and packed form. `network` trains them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np

from conjoin.errors import BundleError, InputError

if TYPE_CHECKING:
    from conjoin.contracts import Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json

Task = Literal["classes", "values", "quantiles"]
"""classes: K probabilities. values: K numbers. quantiles: one number at K levels, in ascending order."""
TASKS: tuple[Task, ...] = ("classes", "values", "quantiles")

_FAR = 1e4  # scaled numbers are cut here, so that no square overflows
_CHUNK = 1024  # rows that forward holds at once
_BLOCK = 256  # numbers that the matrix library sums at once
_STATISTICS_ROWS = 50_000  # rows that scales and bins are taken from
_FEW = 8  # bins of a feature that has no more values than it could have bins
_BINNED = 2048  # bins of all features together, about
_HALVES = ("entry", "head", "inner.")  # matrices, stored in half precision where that loses nothing
_ARRAYS = (
    *("centre", "rate", "source", "edge", "slope", "entry", "diversity"),
    *("head", "head_bias", "scale", "shift"),
)


@dataclass(frozen=True, slots=True, eq=False)
class NetworkWeights:
    """A trained network: d features in, K numbers out, k members, hidden widths H_1 to H_L.

    The answer to X (n, d) float32, finite; x is one row, m one member:

        z   = clip((x - centre) * rate, -1e4, 1e4);   z = z / sqrt(1 + (z / 3)^2)
        e   = [z, clip((z[source] - edge) * slope, 0, 1)]
        h_1 = silu((e @ entry) * diversity_m + bias_1m)
        h_l = silu(h_{l-1} @ inner_l + bias_lm)                        l = 2 to L
        o_m = h_L @ head_m + head_bias_m

        classes:    mean over m of softmax(o_m)                        (n, K) float32
        values:     mean over m of o_m, * scale + shift                (n, K) float64
        quantiles:  sorted(mean over m of o_m) * scale + shift         (n, K) float64

    with silu(u) = u * sigmoid(u).

    centre, rate: (d,) float32. source: (P,) int64; edge, slope: (P,) float32. entry: (d + P, H_1).
    diversity: (k, 1, H_1). inner: L - 1 arrays (H_{l-1}, H_l). bias: L arrays (k, 1, H_l).
    head: (k, H_L, K). head_bias: (k, 1, K). scale, shift: (K,) float64.
    """

    task: Task
    centre: Array
    rate: Array
    source: Array
    edge: Array
    slope: Array
    entry: Array
    diversity: Array
    inner: tuple[Array, ...]
    bias: tuple[Array, ...]
    head: Array
    head_bias: Array
    scale: Array
    shift: Array

    @property
    def n_features(self) -> int:
        """The number of features d."""
        return len(self.centre)

    def forward(self, X: Array) -> Array:
        """The answers to X (n, d): probabilities (n, K) float32, or values or quantiles (n, K) float64."""
        X = np.asarray(X, dtype=np.float32)
        if X.ndim != 2 or X.shape[1] != self.n_features:
            raise InputError(f"the network takes (n, {self.n_features}) features; it was given {X.shape}")
        parts = [self._answer(X[i : i + _CHUNK]) for i in range(0, max(1, len(X)), _CHUNK)]
        return np.concatenate(parts)

    def _answer(self, X: Array) -> Array:
        e = expand(X, self.centre, self.rate, self.source, self.edge, self.slope)
        h = _silu(product(e, self.entry) * self.diversity + self.bias[0])
        for w, b in zip(self.inner, self.bias[1:], strict=True):
            h = _silu(product(h, w) + b)
        o = product(h, self.head) + self.head_bias
        if self.task == "classes":
            return cast("Array", softmax(o).mean(axis=0, dtype=np.float32))
        o = o.mean(axis=0)
        o = np.sort(o, axis=1) if self.task == "quantiles" else o
        return cast("Array", o.astype(np.float64) * self.scale + self.shift)

    def emit(self, graph: Graph, x: str) -> str:
        """Add the nodes over the tensor x (n, d) float32; returns the tensor that `forward` computes."""
        c, op = graph.const, graph.op
        z = op("Mul", op("Sub", x, c(self.centre)), c(self.rate))
        z = op("Clip", z, c(-_FAR, np.float32), c(_FAR, np.float32))
        third = op("Mul", z, c(1 / 3, np.float32))
        z = op("Div", z, op("Sqrt", op("Add", op("Mul", third, third), c(1.0, np.float32))))
        if len(self.source):
            p = op("Sub", op("Gather", z, c(self.source), axis=1), c(self.edge))
            p = op("Clip", op("Mul", p, c(self.slope)), c(0.0, np.float32), c(1.0, np.float32))
            z = graph.concat([z, p])
        u = op("Add", op("Mul", op("MatMul", z, c(self.entry)), c(self.diversity)), c(self.bias[0]))
        h = op("Mul", u, op("Sigmoid", u))
        for w, b in zip(self.inner, self.bias[1:], strict=True):
            u = op("Add", op("MatMul", h, c(w)), c(b))
            h = op("Mul", u, op("Sigmoid", u))
        o = op("Add", op("MatMul", h, c(self.head)), c(self.head_bias))
        first = c([0], np.int64)
        if self.task == "classes":
            return op("ReduceMean", op("Softmax", o, axis=-1), first, keepdims=0)
        o = op("ReduceMean", o, first, keepdims=0)
        if self.task == "quantiles":
            count = c([len(self.scale)], np.int64)
            o, _ = graph.ops("TopK", o, count, count=2, axis=1, largest=0, sorted=1)
        return op("Add", op("Mul", graph.cast(o, 11), c(self.scale)), c(self.shift))

    def children(self) -> Mapping[str, Storable]:
        """No parts inside."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Every array under its name; `inner` and `bias` under `inner.0`, `inner.1` and so on.

        Matrices are float16 where that is exact, as it is after `rounded`.
        """
        arrays = {name: cast("Array", getattr(self, name)) for name in _ARRAYS}
        arrays |= {f"inner.{i}": a for i, a in enumerate(self.inner)}
        arrays |= {f"bias.{i}": a for i, a in enumerate(self.bias)}
        arrays = {n: _half(a) if n.startswith(_HALVES) else a for n, a in arrays.items()}
        return arrays, {"task": self.task, "layers": len(self.bias)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError where the arrays do not make sense."""
        layers, task = meta.get("layers"), meta.get("task")
        if task not in TASKS or not isinstance(layers, int) or not 1 <= layers <= 64:
            raise BundleError(f"a packed network says task {task!r} with {layers!r} layers")
        names = [*_ARRAYS, *(f"inner.{i}" for i in range(layers - 1)), *(f"bias.{i}" for i in range(layers))]
        missing = [name for name in names if name not in arrays]
        if missing:
            raise BundleError(f"a packed network lacks the arrays {', '.join(missing)}")
        arrays = {n: _whole(a) if n.startswith(_HALVES) else a for n, a in arrays.items()}
        new = cls(
            task=task,
            inner=tuple(arrays[f"inner.{i}"] for i in range(layers - 1)),
            bias=tuple(arrays[f"bias.{i}"] for i in range(layers)),
            **{name: arrays[name] for name in _ARRAYS},
        )
        _check_weights(new)
        return new


def rounded(a: Array) -> Array:
    """The nearest numbers that float16 has, as float32: at most 1/2048 away, in half the bytes."""
    return cast("Array", np.clip(a, -65504, 65504).astype(np.float16).astype(np.float32))


def _half(a: Array) -> Array:
    small = np.clip(a, -65504, 65504).astype(np.float16)
    return small if np.array_equal(small.astype(a.dtype), a) else a


def _whole(a: Array) -> Array:
    return a.astype(np.float32) if a.dtype == np.float16 else a


def expand(X: Array, centre: Array, rate: Array, source: Array, edge: Array, slope: Array) -> Array:
    """e of `NetworkWeights`, (n, d + P) float32: scaled and smoothly clipped features, then their bins."""
    z = np.clip((X - centre) * rate, -_FAR, _FAR)
    third = z * np.float32(1 / 3)
    z /= np.sqrt(third * third + np.float32(1))
    if not len(source):
        return cast("Array", z)
    p = np.take(z, source, axis=1)
    p -= edge
    p *= slope
    return np.concatenate([z, np.clip(p, 0, 1, out=p)], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """The fixed first steps of the formula, and the mean of what they give, which training subtracts."""

    centre: Array
    rate: Array
    source: Array
    edge: Array
    slope: Array
    mean: Array
    groups: int  # features, and binned features once more

    @property
    def width(self) -> int:
        """Numbers of e."""
        return len(self.centre) + len(self.source)

    def of(self, X: Array) -> Array:
        """e of `NetworkWeights` (n, width), less the mean of its bins."""
        e = expand(X, self.centre, self.rate, self.source, self.edge, self.slope)
        if len(self.source):
            e -= self.mean
        return e


def fit_inputs(X: Array, bins: int, rng: np.random.Generator) -> Inputs:
    """Median and interquartile range, and edges at quantiles of features with over 2 values."""
    if len(X) > _STATISTICS_ROWS:
        X = X[np.sort(rng.choice(len(X), _STATISTICS_ROWS, replace=False))]
    low, quarter, centre, three, high = np.quantile(X, [0, 0.25, 0.5, 0.75, 1], axis=0, method="nearest")
    width = np.where(three > quarter, three - quarter, (high - low) / 2)
    rate = np.where(width > 0, 1 / np.where(width > 0, width, 1), 0).astype(np.float32)
    none = np.zeros(0, dtype=np.float32)
    z = expand(X, centre, rate, np.zeros(0, dtype=np.int64), none, none)
    found = [np.unique(column, return_counts=True) for column in z.T]
    many = [j for j, (v, _) in enumerate(found) if len(v) > 2]
    bins = min(bins, _BINNED // max(1, len(many)))
    source: list[int] = []
    edge: list[Array] = []
    slope: list[Array] = []
    for j in many if bins > 1 else []:
        cut = _edges(*found[j], bins)
        source += [j] * (len(cut) - 1)
        edge.append(cut[:-1])
        slope.append(1 / np.diff(cut))
    e, s = (np.concatenate([none, *a]).astype(np.float32) for a in (edge, slope))
    index = np.asarray(source, dtype=np.int64)
    mean = expand(X, centre, rate, index, e, s).mean(axis=0)
    mean[: len(centre)] = 0
    return Inputs(centre, rate, index, e, s, mean, len(centre) + (len(many) if source else 0))


def _edges(values: Array, counts: Array, bins: int) -> Array:
    """At most bins + 1 of the values, ascending, at equal steps of their share; few where values are few.

    No value counts for more than a bin, else a column that is mostly 0 would have no bins for the rest.
    """
    bins = bins if len(values) > bins else min(bins, _FEW)
    if len(values) <= bins + 1:
        return values
    share = np.cumsum(np.minimum(counts, counts.sum() / bins))
    at = np.searchsorted(share, np.linspace(0, share[-1], bins + 1))
    return np.asarray(values[np.unique(np.minimum(at, len(values) - 1))])


def product(a: Array, b: Array) -> Array:
    """a (..., n, m) @ b (..., m, p), summed over m in blocks.

    A matrix library that shares the rows and columns of the answer among threads, as OpenBLAS does, cuts a
    long sum at places that depend on their number. A block is never cut, so no byte depends on it.
    """
    answer = a[..., :_BLOCK] @ b[..., :_BLOCK, :]
    for i in range(_BLOCK, a.shape[-1], _BLOCK):
        answer += a[..., i : i + _BLOCK] @ b[..., i : i + _BLOCK, :]
    return cast("Array", answer)


def softmax(o: Array) -> Array:
    """Probabilities along the last axis, same shape and type."""
    p = np.exp(o - o.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return cast("Array", p)


def sigmoid(u: Array) -> Array:
    """1 / (1 + exp(-u)), same shape and type; nothing overflows."""
    s = np.tanh(u * np.float32(0.5))
    s += np.float32(1)
    s *= np.float32(0.5)
    return cast("Array", s)


def _silu(u: Array) -> Array:
    return u * sigmoid(u)


def _shapes(w: NetworkWeights) -> dict[str, tuple[Array, tuple[int, ...], str]]:
    """Each array with the shape and the kind of numbers that the others ask for."""
    d, p, k = w.centre.size, w.source.size, w.diversity.shape[0] if w.diversity.ndim else 0
    widths = [b.shape[-1] if b.ndim else 0 for b in w.bias]
    K = w.scale.size
    expected: dict[str, tuple[Array, tuple[int, ...], str]] = {
        "centre": (w.centre, (d,), "f4"),
        "rate": (w.rate, (d,), "f4"),
        "source": (w.source, (p,), "i8"),
        "edge": (w.edge, (p,), "f4"),
        "slope": (w.slope, (p,), "f4"),
        "entry": (w.entry, (d + p, widths[0]), "f4"),
        "diversity": (w.diversity, (k, 1, widths[0]), "f4"),
        "head": (w.head, (k, widths[-1], K), "f4"),
        "head_bias": (w.head_bias, (k, 1, K), "f4"),
        "scale": (w.scale, (K,), "f8"),
        "shift": (w.shift, (K,), "f8"),
    }
    for i, b in enumerate(w.bias):
        expected[f"bias.{i}"] = (b, (k, 1, widths[i]), "f4")
    for i, a in enumerate(w.inner):
        expected[f"inner.{i}"] = (a, (widths[i], widths[i + 1]), "f4")
    return expected


def _check_weights(w: NetworkWeights) -> None:
    for name, (array, shape, kind) in _shapes(w).items():
        if array.shape != shape or array.dtype != np.dtype(kind):
            raise BundleError(
                f"array {name!r} of a packed network is {array.dtype} {array.shape}, not {kind} {shape}"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BundleError(f"array {name!r} of a packed network holds numbers that are not finite")
    if not w.diversity.size or not w.scale.size:
        raise BundleError("a packed network has no members, or answers nothing")
    if len(w.source) and (w.source.min() < 0 or w.source.max() >= w.centre.size):
        raise BundleError("a packed network takes bins of a feature that does not exist")
