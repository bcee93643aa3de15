"""Order statistics of numbers that come in blocks, exact, in one pass and without keeping them.

A sample tells a narrow bracket around each wanted rank. One pass counts what lies below it and keeps what
lies inside; counts show whether the rank is inside. Where it is not, histograms of all numbers find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from conjoin.kernels import thinning as kernels
from conjoin.transfer.weights.method import BLOCK, NEIGHBOURS

if TYPE_CHECKING:
    from conjoin.outputs import Array

TOP = 0x7FFFFFFF + 1
"""Above the bits of any number."""
MOST_INSIDE = 1 << 21
"""Numbers that are kept from inside a bracket."""
MOST_BITS = 1 << 28
"""Entries of masks that are kept from one pass to the next, a bit each; more are made again."""
TOGETHER = 4
"""Tensors whose numbers are counted side by side."""
MARGIN = 4.0
"""Standard errors of the sample between a rank and the ends of its bracket."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """n numbers, float32, none negative. block: those of a slice; sample: (groups, size) of them from all
    over, in groups of neighbours. tally: `count_brackets` of the numbers of a slice, where they need not be
    made for it.
    """

    n: int
    block: Callable[[slice], Array]
    sample: Callable[[], Array]
    tally: Callable[..., None] | None = None

    def bits(self, block: slice) -> Array:
        """The bits of a block's numbers, which rise as the numbers do."""
        return self.block(block).view(np.uint32)

    def blocks(self) -> Iterator[slice]:
        """Slices of all."""
        return (slice(start, min(start + BLOCK, self.n)) for start in range(0, self.n, BLOCK))


@dataclass(frozen=True, slots=True)
class Edge:
    """A bound on bits that changes once: `first` at positions before `position`, `then` from it on."""

    first: int
    then: int
    position: int = 0


def pieces(block: slice, *edges: Edge) -> list[tuple[slice, list[int]]]:
    """Parts of a block, counted from its start, inside which no bound changes; with the bounds."""
    start, stop = block.start, block.stop
    ends = [e.position for e in edges if start < e.position < stop]
    cuts = [start, *sorted(set(ends)), stop] if ends else [start, stop]
    return [
        (slice(a - start, b - start), [e.first if a < e.position else e.then for e in edges])
        for a, b in pairwise(cuts)
    ]


def last_of(numbers: Numbers, found: Found, count: int) -> Edge:
    """The bound at which exactly `count` of the numbers equal to that found, the first ones, still pass, and
    all larger ones do.
    """
    return Edge(found.bits, found.bits + 1, found.position(numbers, count))


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The number of a rank: its bits, how many are smaller, and how many are equal in each block."""

    rank: int
    bits: int
    below: int
    equal: Array

    def position(self, numbers: Numbers, count: int) -> int:
        """The position after the `count`-th of the equal ones; 0 for none."""
        if count <= 0:
            return 0
        ends = np.cumsum(self.equal)
        number = int(np.searchsorted(ends, count))
        before = int(ends[number] - self.equal[number])
        block = slice(number * BLOCK, min((number + 1) * BLOCK, numbers.n))
        at = np.flatnonzero(numbers.bits(block) == self.bits)
        return block.start + int(at[count - before - 1]) + 1


def order_statistics(
    numbers: Numbers, ranks: Callable[[int], Sequence[int]], *, zeros: bool = False
) -> list[Found]:
    """The numbers of certain ranks, from 0 for the smallest.

    ranks: makes them from the number of zeros, which is counted where `zeros`, else told as 0. No rank, no
    pass.
    """
    sample = numbers.sample().view(np.uint32)
    share = float((sample == 0).mean()) if zeros else 0.0
    guessed = list(ranks(int(share * numbers.n)))
    if not guessed and not zeros:
        return []
    counting, none = _Counting(numbers, _brackets(sample, guessed, numbers.n)), 0
    for number, block in enumerate(numbers.blocks()):
        bits = numbers.bits(block)
        none += len(bits) - int(np.count_nonzero(bits)) if zeros else 0
        counting.add(number, bits)
    return _found(counting, guessed, list(ranks(none)))


def side_by_side(several: Sequence[Numbers], ranks: Sequence[Sequence[int]]) -> list[list[Found]]:
    """`order_statistics` of numbers of several tensors of one size, read block by block side by side."""
    out: list[list[Found]] = []
    for first in range(0, len(several), TOGETHER):
        some, wanted = several[first : first + TOGETHER], ranks[first : first + TOGETHER]
        each = [
            _Counting(n, _brackets(n.sample().view(np.uint32), r, n.n))
            for n, r in zip(some, wanted, strict=True)
        ]
        for number, block in enumerate(some[0].blocks()):
            for counting in each:
                counting.take(number, block)
        out += [_found(c, r, r) for c, r in zip(each, wanted, strict=True)]
    return out


def _found(counting: _Counting, guessed: Sequence[int], wanted: Sequence[int]) -> list[Found]:
    """The numbers of the ranks `wanted`, from what was counted around those `guessed`."""
    numbers = counting.numbers
    found: list[Found | None] = [None] * len(wanted)
    if len(wanted) == len(guessed):
        found = [t.at(rank) for t, rank in zip(counting.tallies(), wanted, strict=True)]
    lost = [i for i, f in enumerate(found) if f is None]
    if lost:
        exact = _by_histogram(lambda: map(numbers.bits, numbers.blocks()), [wanted[i] for i in lost])
        again = _Counting(numbers, [(bits, bits) for bits in exact])
        for number, block in enumerate(numbers.blocks()):
            again.take(number, block)
        for i, tally in zip(lost, again.tallies(), strict=True):
            found[i] = tally.at(wanted[i])
    return [f for f in found if f is not None]


def grouped(sample: Array) -> Array:
    """A sample's numbers by group of neighbours."""
    return sample.reshape(-1, NEIGHBOURS) if len(sample) % NEIGHBOURS == 0 else sample.reshape(1, -1)


def values_of_ranks(blocks: Callable[[], Iterator[Array]], ranks: Sequence[int]) -> list[float]:
    """The numbers (float32, none negative) of these ranks, from blocks of any size, in two passes."""
    found = _by_histogram(lambda: (np.ascontiguousarray(v).view(np.uint32) for v in blocks()), ranks)
    return [float(np.uint32(bits).view(np.float32)) for bits in found]


def _brackets(sample: Array, ranks: Sequence[int], n: int) -> list[tuple[int, int]]:
    ordered = np.sort(sample, axis=None)
    return [_bracket(sample, ordered, rank / n) for rank in ranks]


def _bracket(sample: Array, ordered: Array, share: float) -> tuple[int, int]:
    """Bits around the quantile `share`, from groups of neighbours, which are alike: the error is that of
    means of groups.
    """
    last = len(ordered) - 1
    middle = ordered[min(int(share * len(ordered)), last)]
    below = (sample < middle).mean(axis=1)
    error = float(below.std()) / np.sqrt(max(1, len(sample) - 1)) if len(sample) > 1 else 0.0
    margin = MARGIN * error + 4 / len(ordered)
    low = int(np.clip((share - margin) * len(ordered), 0, last))
    high = int(np.clip((share + margin) * len(ordered), 0, last))
    return int(ordered[low]), int(ordered[high])


@dataclass(frozen=True, slots=True, eq=False)
class _Tally:
    """What a pass counted around a bracket: numbers below it, and by block those at its ends; the numbers
    inside, and where those of each block end. whole: whether all of these fitted.
    """

    low: int
    high: int
    counts: Array
    inside: Array
    ends: Array
    whole: bool

    def at(self, rank: int) -> Found | None:
        """The number of this rank, None where it is outside."""
        below, at_low, at_high = (int(v) for v in self.counts.sum(axis=0))
        if not self.whole or rank < below:
            return None
        if rank < below + at_low:
            return Found(rank, self.low, below, self.counts[:, 1])
        place = rank - below - at_low
        if place < len(self.inside):
            value = np.partition(self.inside, place)[place]
            smaller = int(np.count_nonzero(self.inside < value))
            sums = np.concatenate([[0], np.cumsum(self.inside == value)])
            equal = np.diff(np.concatenate([[0], sums[self.ends]]))
            return Found(rank, int(value), below + at_low + smaller, equal)
        if self.high > self.low and place < len(self.inside) + at_high:
            return Found(rank, self.high, below + at_low + len(self.inside), self.counts[:, 2])
        return None


class _Counting:
    """Counts numbers around brackets (lowest bits, highest bits), block by block."""

    def __init__(self, numbers: Numbers, brackets: Sequence[tuple[int, int]]) -> None:
        blocks, room = -(-numbers.n // BLOCK), min(MOST_INSIDE, numbers.n // 16 + BLOCK) + kernels.CHUNK
        ends = np.array(brackets, np.int64).reshape(-1, 2)
        self.numbers, self._lows, self._highs = numbers, ends[:, 0].copy(), ends[:, 1].copy()
        self._counts = np.zeros((blocks, len(ends), 3), np.int64)
        self._ends = np.zeros((blocks, len(ends)), np.int64)
        self._inside = np.empty((len(ends), room), np.uint32)
        self._filled = np.zeros(len(ends), np.int64)

    def take(self, number: int, block: slice) -> None:
        """Count the numbers of a block."""
        tally = self.numbers.tally
        if tally is None:
            self.add(number, self.numbers.bits(block))
            return
        tally(block, self._lows, self._highs, self._counts[number], self._inside, self._filled)
        self._ends[number] = self._filled

    def add(self, number: int, bits: Array) -> None:
        """Count the numbers of a block, whose bits these are."""
        for k, (low, high) in enumerate(zip(self._lows.tolist(), self._highs.tolist(), strict=True)):
            counts, inside, filled = self._counts[number, k], self._inside[k], int(self._filled[k])
            self._filled[k] = kernels.count_bracket(bits, low, high, counts, inside, filled)
        self._ends[number] = self._filled

    def tallies(self) -> list[_Tally]:
        """What was counted around each bracket."""
        filled = self._filled.tolist()
        return [
            _Tally(
                int(low),
                int(high),
                self._counts[:, k],
                self._inside[k, : max(filled[k], 0)],
                self._ends[:, k],
                filled[k] >= 0,
            )
            for k, (low, high) in enumerate(zip(self._lows, self._highs, strict=True))
        ]


def _by_histogram(blocks: Callable[[], Iterator[Array]], ranks: Sequence[int]) -> list[int]:
    """The bits of the numbers of these ranks: upper halves are counted, then the lower ones where needed."""
    counts = np.zeros(1 << 16, np.int64)
    for bits in blocks():
        kernels.count_high(counts, bits)
    ends = np.cumsum(counts)
    highs = [int(np.searchsorted(ends, rank, side="right")) for rank in ranks]
    inside = {high: np.zeros(1 << 16, np.int64) for high in highs}
    for bits in blocks():
        for high, lower in inside.items():
            kernels.count_low(lower, bits, high)
    out = []
    for rank, high in zip(ranks, highs, strict=True):
        before = int(ends[high] - counts[high])
        low = int(np.searchsorted(np.cumsum(inside[high]), rank - before, side="right"))
        out.append((high << 16) | low)
    return out
