"""Order statistics of numbers that come in blocks, in two passes and without keeping them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from conjoin.kernels import weights as kernels

if TYPE_CHECKING:
    from conjoin.outputs import Array

Blocks = Callable[[], "Iterator[Array]"]
"""Makes an iterator over blocks of float32 numbers that are not negative."""
TOP = 0x7FFFFFFF + 1
"""Above the bits of any number."""


@dataclass(frozen=True, slots=True)
class Band:
    """Numbers of certain ranks, by the bits of float32, which rise as the numbers do.

    Those with bits above `low` and below `high` are in. Of those at `low` all but the first `skip` are in; of
    those at `high` the first `take`. Where low equals high, `take` of them are in after `skip`.
    """

    low: int
    high: int
    skip: int
    take: int


def band(blocks: Blocks, n: int, low: int, high: int) -> Band:
    """The numbers of the ranks low to high - 1 out of n, counted from the smallest (rank 0)."""
    ranks = [low, *([high] if high < n else [])]
    found = order_statistics(blocks, ranks)
    low_bits, below_low, _ = found[0]
    if high >= n:
        return Band(low_bits, TOP, low - below_low, 0)
    high_bits, below_high, _ = found[1]
    if low_bits == high_bits:
        return Band(low_bits, high_bits, low - below_low, high - low)
    return Band(low_bits, high_bits, low - below_low, high - below_high)


def largest_of(blocks: Blocks, n: int, count: int) -> tuple[int, int]:
    """The `count` largest of n numbers: those with bits above the first answer, so many of those at it."""
    ((bits, below, equal),) = order_statistics(blocks, [n - count])
    return bits, count - (n - below - equal)


def order_statistics(blocks: Blocks, ranks: list[int]) -> list[tuple[int, int, int]]:
    """For each rank (from 0): the bits of that number, how many are smaller, and how many are equal."""
    counts = np.zeros(1 << 16, np.int64)
    for values in blocks():
        kernels.count_high(counts, values)
    ends = np.cumsum(counts)
    highs = [int(np.searchsorted(ends, rank, side="right")) for rank in ranks]
    inside = {high: np.zeros(1 << 16, np.int64) for high in highs}
    for values in blocks():
        for high, low_counts in inside.items():
            kernels.count_low(low_counts, values, high)
    out = []
    for rank, high in zip(ranks, highs, strict=True):
        before = int(ends[high] - counts[high])
        low_ends = np.cumsum(inside[high])
        low = int(np.searchsorted(low_ends, rank - before, side="right"))
        equal = int(inside[high][low])
        out.append(((high << 16) | low, before + int(low_ends[low]) - equal, equal))
    return out
