"""Merging by what changed: SCE, reinforced agent merging, arcee fusion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError
from conjoin.kernels import weights as kernels
from conjoin.transfer.weights.method import BLOCK, Given
from conjoin.transfer.weights.select import largest_of, order_statistics

if TYPE_CHECKING:
    from conjoin.outputs import Array

SAMPLE = 1_000_000


def sce(given: Given) -> None:
    """Select, calculate, erase (Wan et al. 2024).

    Keeps the `select_topk` share of the entries whose task vectors vary most over the models, weighs models
    by their mean squared task vectors, and erases deltas of the minority sign.
    """
    base, out, share = given.flat(_base(given)), given.flat(given.out), float(given.shared["select_topk"])
    chosen = _Chosen(given, share)
    keep = np.empty(min(given.size, BLOCK), np.uint8)
    squares = np.zeros((len(given.tensors), 1))
    for block in given.blocks():
        part = keep[: block.stop - block.start]
        chosen(block, part)
        for m, tensor in enumerate(given.tensors):
            kernels.sum_squares(base[block], given.flat(tensor)[block], part, squares[m])
    means = squares[:, 0] / max(1, given.size)
    total = float(means.sum())
    weights = np.full(len(means), 1 / len(means)) if total < 1e-6 else means / total
    one, least = given.number(1.0), given.number(1e-6)
    sums = np.empty((5, len(keep)), given.work)
    for block in given.blocks():
        n = block.stop - block.start
        chosen(block, keep[:n])
        sums[:, :n] = 0
        for tensor, weight in zip(given.tensors, weights.tolist(), strict=True):
            kernels.vote(
                sums, base[block], given.flat(tensor)[block], one, given.number(weight), one, keep[:n]
            )
        kernels.put_elected(out[block], base[block], sums, one, least)


class _Chosen:
    """Fills masks of the entries with the largest variance over the models."""

    def __init__(self, given: Given, share: float) -> None:
        self.given = given
        self.everything, self.nothing = share >= 1, share <= 0
        if self.everything or self.nothing:
            return
        some = sum(int(np.count_nonzero(v)) for v in self.variances())
        kept = int(some * share)
        self.nothing = kept == 0
        if kept:
            self.bits, self.first = largest_of(self.variances, given.size, kept)
            self.left = np.zeros(1, np.int64)

    def __call__(self, block: slice, keep: Array) -> None:
        keep[:] = self.everything
        if self.everything or self.nothing:
            return
        if block.start == 0:
            self.left[0] = self.first
        kernels.keep_largest(keep, self.variance(block), self.bits, self.left)

    def variances(self) -> Iterator[Array]:
        return (self.variance(block) for block in self.given.blocks())

    def variance(self, block: slice) -> Array:
        """The population variance over the models of the block's deltas, float32."""
        given, n = self.given, block.stop - block.start
        base = given.flat(_base(given))[block]
        mean, gaps = np.zeros(n, given.work), np.zeros(n, given.work)
        for tensor in given.tensors:
            kernels.add_delta(mean, base, given.flat(tensor)[block], given.number(1 / len(given.tensors)))
        for tensor in given.tensors:
            kernels.add_square_gap(gaps, base, given.flat(tensor)[block], mean)
        return (gaps / len(given.tensors)).astype(np.float32)


def ram(given: Given) -> None:
    """Entries that one model changed by more than `epsilon` are added whole, shared ones averaged (Yuan et
    al. 2026).
    """
    _reinforced(given, [1.0] * len(given.tensors))


def ramplus_tl(given: Given) -> None:
    """`ram`, with a model's own entries times 1 + r clip(shared / own, 0, alpha)."""
    base, epsilon = given.flat(_base(given)), given.number(given.shared["epsilon"])
    tallies = np.zeros((len(given.tensors), 2))
    for block in given.blocks():
        count = _counts(given, block)
        for m, tensor in enumerate(given.tensors):
            kernels.count_shared(tallies[m], count, base[block], given.flat(tensor)[block], epsilon)
    ratio = tallies[:, 0] / np.maximum(tallies[:, 1], float(given.shared["epsilon"]))
    alone = 1 + float(given.shared["r"]) * np.clip(ratio, 0, float(given.shared["alpha"]))
    _reinforced(given, alone.tolist())


def _reinforced(given: Given, alone: list[float]) -> None:
    base, out, epsilon = (
        given.flat(_base(given)),
        given.flat(given.out),
        given.number(given.shared["epsilon"]),
    )
    for block in given.blocks():
        count = _counts(given, block)
        acc = np.zeros(len(count), given.work)
        for tensor, factor in zip(given.tensors, alone, strict=True):
            x = given.flat(tensor)[block]
            kernels.add_changed(acc, count, base[block], x, epsilon, given.number(factor))
        kernels.put_moved(out[block], base[block], acc, given.number(1.0))


def _counts(given: Given, block: slice) -> Array:
    count = np.zeros(block.stop - block.start, np.int32)
    base, epsilon = given.flat(_base(given))[block], given.number(given.shared["epsilon"])
    for tensor in given.tensors:
        kernels.add_count(count, base, given.flat(tensor)[block], epsilon)
    return count


def arcee_fusion(given: Given) -> None:
    """Takes the model's entries whose importance reaches median + 1.5 times the interquartile range, else
    the base's.

    Importance: |theta_1 - theta_0| times the Kullback-Leibler divergence of the softmax of the row. The
    quantiles are exact, where mergekit samples a million entries.
    """
    base = _base(given)
    x = given.tensors[0]
    width = base.shape[-1] if base.ndim else 1
    rows = max(1, BLOCK // max(1, width))
    flat = (base.reshape(-1, width), x.reshape(-1, width), given.out.reshape(-1, width))

    def importances() -> Iterator[Array]:
        for start in range(0, len(flat[0]), rows):
            yield _importance(flat[0][start : start + rows], flat[1][start : start + rows])

    n = given.size
    ranks = [int(q * (n - 1)) for q in (0.25, 0.5, 0.75)]
    low, middle, high = (
        float(np.uint32(bits).view(np.float32)) for bits, _, _ in order_statistics(importances, ranks)
    )
    threshold = np.float32(middle + 1.5 * (high - low))
    for start in range(0, len(flat[0]), rows):
        part = slice(start, start + rows)
        take = _importance(flat[0][part], flat[1][part]).reshape(-1, width) >= threshold
        merged = np.where(take, flat[1][part], flat[0][part])
        if flat[2].dtype == merged.dtype:
            flat[2][part] = merged
        else:
            numbers = np.empty(merged.size)
            kernels.decode(numbers, merged.reshape(-1))
            kernels.put_quotient(flat[2][part].reshape(-1), numbers, 1.0)


def _importance(base: Array, x: Array) -> Array:
    """(rows * width,) float32."""
    numbers = np.empty((2, base.size))
    kernels.decode(numbers[0], np.ascontiguousarray(base).reshape(-1))
    kernels.decode(numbers[1], np.ascontiguousarray(x).reshape(-1))
    q, p = (_softmax(v.reshape(base.shape)) + 1e-8 for v in numbers)
    divergence = (p * np.log(p / q)).sum(axis=-1, keepdims=True)
    found = np.abs(numbers[1] - numbers[0]).reshape(base.shape) * np.maximum(divergence, 0.0)
    return np.ascontiguousarray(found, dtype=np.float32).reshape(-1)


def _softmax(values: Array) -> Array:
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def _base(given: Given) -> Array:
    if given.base is None:
        raise InputError(f"{given.name}: the base model has no such tensor")
    return given.base
