"""n-grams of sequences of whole numbers: how many any two sequences of a row share, and weighted bags.

A *sequence* is a stretch `seq[bounds[t] : bounds[t + 1]]` of characters or words; a *row* is a group of
sequences `texts[rows[r] : rows[r + 1]]` that are compared with each other. The k-th occurrence of an n-gram
in a sequence is an *item*; two sequences share as many n-grams (the smaller of both counts, summed) as they
have items in common. Items of n-grams are named by exact table look-ups of (item of the first n - 1, last
symbol), so nothing is hashed to a lossy key, and sets of items are bit sets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.kernels.jit import jit

if TYPE_CHECKING:
    from conjoin.outputs import Array

BITS = 1 << 28
"""Bits of the sets of one row that are held at a time (32 MiB)."""
GRAM, ITEM, LAST, NOW, NEXT, PLACE = range(6)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_ONES = np.uint64(0x5555555555555555)
_TWOS = np.uint64(0x3333333333333333)
_FOURS = np.uint64(0x0F0F0F0F0F0F0F0F)
_BYTES = np.uint64(0x0101010101010101)


@jit
def popcount(
    x: Any,
) -> Any:
    """The number of ones in a uint64."""
    x = x - ((x >> np.uint64(1)) & _ONES)
    x = (x & _TWOS) + ((x >> np.uint64(2)) & _TWOS)
    x = (x + (x >> np.uint64(4))) & _FOURS
    return np.int64((x * _BYTES) >> np.uint64(56))


@jit
def table_bits(positions: int) -> int:
    """The power of two slots, at least twice the positions and 16, of a table."""
    bits = 4
    while (1 << bits) < 2 * positions:
        bits += 1
    return bits


@jit
def slot_of(table: Array, key: int, stamp: int, bits: int) -> Any:
    """The slot of this key, or the empty one where it belongs. table[0]: keys; [1]: (stamp << 32) | value."""
    mask = (1 << bits) - 1
    at = np.int64((np.uint64(key) * _MIX) >> np.uint64(64 - bits))
    while (table[1, at] >> 32) == stamp and table[0, at] != key:
        at = (at + 1) & mask
    return at


@jit
def pair_matches(
    seq: Array,
    bounds: Array,
    texts: Array,
    rows: Array,
    order: int,
    starts: Array,
    work: Array,
    table: Array,
    sets: Array,
    out: Array,
) -> None:
    """Shared n-grams of each pair of sequences of each row.

    seq (S,), bounds (T + 1,), texts (t,), rows (n + 1,) int64. out: int32, flat; row r of D sequences writes
    (order, D, D) from starts[r]. The diagonal is the number of n-grams of a sequence. Time for a row: its
    symbols x order, plus D^2 / 64 for each different n-gram that two sequences share.
    work, table, sets: room, as `room_of` gives it.
    """
    stamp = 0
    for r in range(len(rows) - 1):
        first, count = rows[r], rows[r + 1] - rows[r]
        total = 0
        for d in range(first, first + count):
            total += bounds[texts[d] + 1] - bounds[texts[d]]
        bits = table_bits(total)
        step = (len(sets) // max(count, 1)) * 64
        for k in range(order):
            stamp += 1
            base = starts[r] + k * count * count
            used = name_items(seq, bounds, texts, first, count, k, work, table, stamp, bits)
            shared = 0
            for i in range(1, used + 1):
                if work[PLACE, i]:
                    shared += 1
                    work[PLACE, i] = shared
            for i in range(count * count):
                out[base + i] = 0
            for low in range(0, shared, step):
                width = (min(step, shared - low) + 63) >> 6
                fill_sets(bounds, texts, first, count, k, work, low, width, sets)
                count_common(sets, count, width, out, base)
            forget_alone(bounds, texts, first, count, k, work, out, base)


@jit
def name_items(
    seq: Array,
    bounds: Array,
    texts: Array,
    first: int,
    count: int,
    k: int,
    work: Array,
    table: Array,
    stamp: int,
    bits: int,
) -> int:
    """Names from 1 up for the items of order k + 1 of a row's sequences; returns how many there are.

    work[GRAM]: name of the n-gram of order k at each position, 0 where only one sequence has it; becomes that
    of order k + 1. work[ITEM]: the item at each position. work[PLACE, i]: whether two sequences have item i.
    """
    used = 0
    at = 0
    for d in range(count):
        begin = bounds[texts[first + d]]
        length = bounds[texts[first + d] + 1] - begin
        for p in range(at, at + length):
            head = np.int64(work[GRAM, p])
            if p >= at + length - k or (k and (head == 0 or work[GRAM, p + 1] == 0)):
                work[GRAM, p] = 0
                work[ITEM, p] = 0
                continue
            key = seq[begin + p - at + k]
            if k:
                key |= head << 32
            slot = slot_of(table, key, stamp, bits)
            if (table[1, slot] >> 32) != stamp:
                used += 1
                table[0, slot] = key
                table[1, slot] = (np.int64(stamp) << 32) | used
                work[GRAM, p] = work[ITEM, p] = work[NOW, used] = used
                work[LAST, used] = d
                work[NEXT, used] = work[PLACE, used] = 0
                continue
            name = table[1, slot] & 0xFFFFFFFF
            work[GRAM, p] = name
            found = name
            if work[LAST, name] == d:
                found = np.int64(work[NEXT, work[NOW, name]])
                if found == 0:
                    used += 1
                    found = used
                    work[NEXT, work[NOW, name]] = found
                    work[NEXT, found] = work[PLACE, found] = 0
                    work[LAST, found] = d
            if work[LAST, found] != d:
                work[LAST, found] = d
                work[PLACE, found] = 1
            work[NOW, name] = found
            work[ITEM, p] = found
        at += length
    work[PLACE, 0] = 0
    return used


@jit
def fill_sets(
    bounds: Array,
    texts: Array,
    first: int,
    count: int,
    k: int,
    work: Array,
    low: int,
    width: int,
    sets: Array,
) -> None:
    """Bit sets (count x width words) of the items whose places are in low + 1 .. low + 64 width."""
    for i in range(count * width):
        sets[i] = np.uint64(0)
    at = 0
    for d in range(count):
        length = bounds[texts[first + d] + 1] - bounds[texts[first + d]]
        for p in range(at, at + length - k):
            bit = work[PLACE, work[ITEM, p]] - 1 - low
            if 0 <= bit < width * 64:
                sets[d * width + (bit >> 6)] |= np.uint64(1) << np.uint64(bit & 63)
        at += length


@jit
def count_common(
    sets: Array,
    count: int,
    width: int,
    out: Array,
    base: int,
) -> None:
    """Add to out[base:] (count x count) how many items each two sets have in common."""
    for i in range(count):
        for j in range(i + 1, count):
            total = 0
            for w in range(width):
                total += popcount(sets[i * width + w] & sets[j * width + w])
            out[base + i * count + j] += total
            out[base + j * count + i] += total


@jit
def forget_alone(
    bounds: Array,
    texts: Array,
    first: int,
    count: int,
    k: int,
    work: Array,
    out: Array,
    base: int,
) -> None:
    """Name n-grams that one sequence alone has 0: no longer n-gram there is shared. Fill the diagonal."""
    at = 0
    for d in range(count):
        length = bounds[texts[first + d] + 1] - bounds[texts[first + d]]
        out[base + d * count + d] = max(length - k, 0)
        for p in range(at, at + length):
            if work[PLACE, work[GRAM, p]] == 0:
                work[GRAM, p] = 0
        at += length


def room_of(bounds: Array, texts: Array, rows: Array) -> tuple[Array, Array, Array]:
    """Room for `pair_matches`: work (6, P) int32, table (2, slots) int64, sets uint64."""
    lengths = np.diff(bounds)[texts]
    sums = np.concatenate([[0], np.cumsum(lengths)])
    totals = sums[rows[1:]] - sums[rows[:-1]]
    counts = np.diff(rows)
    most = int(totals.max(initial=0))
    words = int((counts * (totals // 128 + 1)).max(initial=1))
    words = max(min(words, BITS >> 6), int(counts.max(initial=1)))
    work = np.zeros((6, most + 2), np.int32)
    return work, np.zeros((2, 1 << max(4, (2 * most - 1).bit_length())), np.int64), np.empty(words, np.uint64)
