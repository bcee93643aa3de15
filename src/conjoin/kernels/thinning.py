"""Compiled loops that choose entries of task vectors: by magnitude, by chance, by rank; and order statistics.

bits: (n,) uint32, the bits of float32 numbers that are not negative: they rise as the numbers do. keep: (n,)
uint8, filled with 0 and 1. x, base: (n,) weights as they are stored.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conjoin.kernels.bits import bits_of_float, real
from conjoin.kernels.jit import inner, jit

Array = np.ndarray[Any, Any]
CHUNK = 16
TILE = 1024
RUN = 1 << 16
"""Draws that share a seed."""
BINS = 2048
"""Bins of a row's magnitudes: 16 octaves of 128."""


@jit
def keep_between(keep: Array, base: Array, x: Array, low: int, high: int) -> None:
    """Keep where low <= bits of |x - base| < high."""
    first, span = np.uint32(low), np.uint32(max(high - low, 0))
    for i in range(len(keep)):
        bits = bits_of_float(np.float32(abs(real(x[i]) - real(base[i]))))
        keep[i] = np.uint8(np.uint32(bits - first) < span)


@jit
def keep_bits(keep: Array, bits: Array, low: int) -> None:
    """Keep where low <= bits."""
    first = np.uint32(low)
    for i in range(len(keep)):
        keep[i] = np.uint8(bits[i] >= first)


@inner
def tally(bits: Array, low: int, high: int, counts: Array, inside: Array, filled: int) -> int:
    """`count_bracket` of numbers that stay in the first cache."""
    n, bottom, top = len(bits), np.uint32(low), np.uint32(high)
    first, gap = np.uint32(low + 1), np.uint32(max(high - low - 1, 0))
    below = at_low = at_high = np.uint32(0)
    for i in range(n):
        v = bits[i]
        below = np.uint32(below + np.uint32(v < bottom))
        at_low = np.uint32(at_low + np.uint32(v == bottom))
        at_high = np.uint32(at_high + np.uint32(v == top))
    counts[0] += np.int64(below)
    counts[1] += np.int64(at_low)
    counts[2] += np.int64(at_high)
    if gap == 0:
        return filled
    whole = n - n % CHUNK
    for start in range(0, whole, CHUNK):
        part = bits[start : start + CHUNK]
        hits = np.uint32(0)
        for j in range(CHUNK):
            hits |= np.uint32(np.uint32(part[j] - first) < gap)
        if hits != 0:
            if filled + CHUNK > len(inside):
                return -1
            for j in range(CHUNK):
                v = part[j]
                inside[np.uint64(filled)] = v
                filled += int(np.uint32(v - first) < gap)
    if filled + CHUNK > len(inside):
        return -1
    for i in range(whole, n):
        inside[np.uint64(filled)] = bits[i]
        filled += int(np.uint32(bits[i] - first) < gap)
    return filled


@jit
def count_bracket(bits: Array, low: int, high: int, counts: Array, inside: Array, filled: int) -> int:
    """counts += how many bits are below `low`, at it, and at `high`; those between are put into `inside`.

    They are put from `filled` on; the answer is where they end, -1 where there is no room for a few more.
    """
    for start in range(0, len(bits), TILE):
        if filled >= 0:
            filled = tally(bits[start : start + TILE], low, high, counts, inside, filled)
    return filled


@jit
def count_brackets(
    base: Array, x: Array, lows: Array, highs: Array, counts: Array, inside: Array, filled: Array
) -> None:
    """`count_bracket` of the bits of |x - base|, for several brackets (B,) at once.

    counts: (B, 3). inside: (B, room) uint32. filled: (B,), is changed; -1 ends the counting of a bracket.
    """
    held = np.empty(TILE, np.uint32)
    for start in range(0, len(x), TILE):
        y, b = x[start : start + TILE], base[start : start + TILE]
        bits = held[: len(y)]
        for i in range(len(y)):
            bits[i] = bits_of_float(np.float32(abs(real(y[i]) - real(b[i]))))
        for k in range(len(lows)):
            if filled[k] >= 0:
                filled[k] = tally(bits, lows[k], highs[k], counts[k], inside[k], filled[k])


@jit
def count_high(counts: Array, bits: Array) -> None:
    """Histogram of the upper 16 bits."""
    for i in range(len(bits)):
        counts[bits[i] >> np.uint32(16)] += 1


@jit
def count_low(counts: Array, bits: Array, high: int) -> None:
    """Histogram of the lower 16 bits of those whose upper 16 bits are `high`."""
    for i in range(len(bits)):
        if (bits[i] >> np.uint32(16)) == high:
            counts[bits[i] & np.uint32(0xFFFF)] += 1


@inner
def draw(out: Array, key: int, start: int) -> None:
    """out (uint32): draws of a key and the positions from `start` on; they depend on nothing else.

    RUN positions share a seed of 64 bits, SplitMix64 of the key and their number (Steele et al. 2014). Half
    of it is where 32-bit counters begin, which three rounds of xor-shift and multiply scramble (triple32:
    Wellons, hash prospector, 2018); the other half goes in after the first round.
    """
    done = 0
    while done < len(out):
        at = np.uint64(start) + np.uint64(done)
        z = np.uint64(key) + ((at >> np.uint64(16)) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
        within = np.uint32(at & np.uint64(RUN - 1))
        begin, middle = np.uint32(np.uint32(z) + within), np.uint32(z >> np.uint64(32))
        part = out[done : done + RUN - np.int64(within)]
        for i in range(len(part)):
            h = np.uint32(begin + np.uint32(i))
            h = np.uint32((h ^ (h >> np.uint32(17))) * np.uint32(0xED5AD4BB))
            h = np.uint32((h ^ middle ^ (h >> np.uint32(11))) * np.uint32(0xAC4C1B51))
            h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x31848BAB))
            part[i] = h ^ (h >> np.uint32(14))
        done += len(part)


@jit
def keep_by_chance(keep: Array, key: int, start: int, density: float) -> None:
    """Keep each with probability `density`, below 1; the draw depends on key and position alone."""
    limit = np.uint32(density * 4294967296.0)
    draws = np.empty(1024, np.uint32)
    for first in range(0, len(keep), 1024):
        part = keep[first : first + 1024]
        draw(draws[: len(part)], key, start + first)
        for i in range(len(part)):
            part[i] = np.uint8(draws[i] < limit)


@jit
def keep_by_rank(
    keep: Array, base: Array, x: Array, width: int, key: int, start: int, density: float, spread: float
) -> None:
    """MAGPRUNE of rows of `width`: keep with probability density - spread + 2 spread rank / (width - 1).

    Ranks are by |x - base| to 8 significant bits (as bfloat16), equal ones by position; what is 2^16 times
    smaller than the row's largest counts as equal.
    """
    places, draws, ranks = np.empty(width, np.uint16), np.empty(width, np.uint32), np.empty(width, np.uint32)
    first_half, second_half = np.empty(BINS, np.uint32), np.empty(BINS, np.uint32)
    least = np.float32((density - spread) * 4294967296.0)
    step = np.float32(2.0 * spread * 4294967296.0 / max(width - 1, 1))
    half = width // 2
    for row in range(0, len(keep), width):
        b, y, kept = base[row : row + width], x[row : row + width], keep[row : row + width]
        largest = np.uint16(0)
        for i in range(width):
            bits = bits_of_float(np.float32(abs(real(y[i]) - real(b[i]))))
            place = np.uint16(np.uint32(bits + np.uint32(0x8000)) >> np.uint32(16))
            places[i] = place
            largest = max(largest, place)
        lowest = np.int32(largest) - np.int32(BINS - 1)
        for i in range(width):
            places[i] = np.uint16(max(np.int32(places[i]) - lowest, np.int32(0)))
        first_half[:] = 0
        second_half[:] = 0
        for i in range(half):
            first_half[places[i]] += np.uint32(1)
            second_half[places[half + i]] += np.uint32(1)
        if width > 2 * half:
            second_half[places[width - 1]] += np.uint32(1)
        before = np.uint32(0)
        for k in range(BINS):
            one, two = first_half[k], second_half[k]
            first_half[k] = before
            second_half[k] = before + one
            before += one + two
        for i in range(half):
            p, q = places[i], places[half + i]
            ranks[i] = first_half[p]
            first_half[p] += np.uint32(1)
            ranks[half + i] = second_half[q]
            second_half[q] += np.uint32(1)
        if width > 2 * half:
            ranks[width - 1] = second_half[places[width - 1]]
        draw(draws, key, start + row)
        for i in range(width):
            kept[i] = np.uint8(np.float32(draws[i]) < least + step * np.float32(np.int32(ranks[i])))
