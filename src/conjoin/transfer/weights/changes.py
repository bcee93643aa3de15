"""Merging by what changed: SCE, reinforced agent merging, arcee fusion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from conjoin.kernels import thinning
from conjoin.kernels import weights as kernels
from conjoin.transfer.weights.method import BLOCK, Given, Stack
from conjoin.transfer.weights.select import (
    MOST_BITS,
    Numbers,
    grouped,
    last_of,
    order_statistics,
    pieces,
    values_of_ranks,
)

if TYPE_CHECKING:
    from conjoin.outputs import Array


def sce(given: Given) -> None:
    """Select, calculate, erase (Wan et al. 2024).

    Keeps the `select_topk` share of the entries whose task vectors vary most over the models, weighs models
    by their mean squared task vectors, and erases deltas of the minority sign.
    """
    stack, chosen = Stack(given, look=True), _chosen(given, float(given.shared["select_topk"]))
    keep = np.empty((len(given.tensors), min(given.size, BLOCK)), np.uint8)
    squares = np.zeros((len(given.tensors), 1))
    for block in given.blocks():
        rows, part = stack(block), keep[0, : block.stop - block.start]
        chosen(block, rows, part)
        for m in range(len(squares)):
            kernels.sum_squares(rows[0], rows[m + 1], part, squares[m])
    means = squares[:, 0] / max(1, given.size)
    total = float(means.sum())
    weights = given.numbers(np.full(len(means), 1 / len(means)) if total < 1e-6 else means / total)
    ones, one, least = given.numbers([1.0] * len(means)), given.number(1.0), given.number(1e-6)
    for block, out in given.parts():
        rows = stack(block)
        chosen(block, rows, keep[0, : len(out)])
        keep[1:] = keep[0]
        kernels.put_elected(out, rows, keep, ones, weights, weights, one, least)
    if stack.full and given.tell is not None:
        given.tell()


def _chosen(given: Given, share: float) -> Callable[[slice, Array, Array], None]:
    """Fills masks (block, rows, keep) with the entries that vary most over the models; the first of equal
    ones.
    """
    n, models = given.size, given.number(len(given.tensors))
    values = np.empty(min(n, BLOCK), np.float32)

    def variance(rows: Array, length: int) -> Array:
        kernels.variance(values[:length], rows, models)
        return values[:length]

    def count(zeros: int) -> int:
        return int((n - zeros) * share)

    if share >= 1:
        return lambda block, rows, keep: keep.fill(1)
    stack = Stack(given)
    numbers = Numbers(n, lambda b: variance(stack(b), b.stop - b.start), lambda: _sampled_variance(given))
    found = order_statistics(numbers, lambda z: [n - count(z)] if count(z) else [], zeros=True)
    if not found:
        return lambda block, rows, keep: keep.fill(0)
    edge = last_of(numbers, found[0], found[0].below + int(found[0].equal.sum()) - found[0].rank)

    kept: dict[int, Array] = {}

    def fill(block: slice, rows: Array, keep: Array) -> None:
        if block.start in kept:
            keep[:] = np.unpackbits(kept[block.start], count=len(keep))
            return
        bits = variance(rows, len(keep)).view(np.uint32)
        for part, (low,) in pieces(block, edge):
            thinning.keep_bits(keep[part], bits[part], low)
        if n <= MOST_BITS:
            kept[block.start] = np.packbits(keep)

    return fill


def _sampled_variance(given: Given) -> Array:
    some = given.sampled()
    out = np.empty(some.size, np.float32)
    kernels.variance(out, Stack(some, some.size)(slice(0, some.size)), given.number(len(given.tensors)))
    return grouped(out)


def ram(given: Given) -> None:
    """Entries that one model changed by more than `epsilon` are added whole, shared ones averaged (Yuan et
    al. 2026).
    """
    _reinforced(given, [1.0] * len(given.tensors))


def ramplus_tl(given: Given) -> None:
    """`ram`, with a model's own entries times 1 + r clip(shared / own, 0, alpha)."""
    base, epsilon = given.read(given.start), given.number(given.shared["epsilon"])
    tallies = np.zeros((len(given.tensors), 2))
    for block in given.blocks():
        count = _counts(given, block)
        for m, tensor in enumerate(given.tensors):
            kernels.count_shared(tallies[m], count, base[block], given.read(tensor)[block], epsilon)
    ratio = tallies[:, 0] / np.maximum(tallies[:, 1], float(given.shared["epsilon"]))
    alone = 1 + float(given.shared["r"]) * np.clip(ratio, 0, float(given.shared["alpha"]))
    _reinforced(given, alone.tolist())


def _reinforced(given: Given, alone: list[float]) -> None:
    base, epsilon = given.read(given.start), given.number(given.shared["epsilon"])
    for block, out in given.parts():
        count = _counts(given, block)
        acc = np.zeros(len(count), given.work)
        for tensor, factor in zip(given.tensors, alone, strict=True):
            x = given.read(tensor)[block]
            kernels.add_changed(acc, count, base[block], x, epsilon, given.number(factor))
        kernels.put_moved(out, base[block], acc, given.number(1.0))


def _counts(given: Given, block: slice) -> Array:
    count = np.zeros(block.stop - block.start, np.int32)
    base, epsilon = given.read(given.start)[block], given.number(given.shared["epsilon"])
    for tensor in given.tensors:
        kernels.add_count(count, base, given.read(tensor)[block], epsilon)
    return count


def arcee_fusion(given: Given) -> None:
    """Takes the model's entries whose importance reaches median + 1.5 times the interquartile range, else
    the base's.

    Importance: |theta_1 - theta_0| times the Kullback-Leibler divergence of the softmax of the row. The
    quantiles are exact, where mergekit samples a million entries.
    """
    base = given.start
    x = given.tensors[0]
    width = base.shape[-1] if base.ndim else 1
    rows = max(1, BLOCK // max(1, width))
    flat = (base.reshape(-1, width), x.reshape(-1, width), given.out.reshape(-1, width))

    def importances() -> Iterator[Array]:
        for start in range(0, len(flat[0]), rows):
            yield _importance(flat[0][start : start + rows], flat[1][start : start + rows])

    n = given.size
    ranks = [int(q * (n - 1)) for q in (0.25, 0.5, 0.75)]
    low, middle, high = values_of_ranks(importances, ranks)
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
