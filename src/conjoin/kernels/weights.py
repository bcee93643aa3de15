"""Compiled loops over stored weights, block by block: sums, deltas, masks, votes.

x, base, out: (n,) weights as they are stored (bfloat16 as uint16, float32, float64). acc and the like: (n,)
float64, or float32 where the stored weights are bfloat16. keep: (n,) uint8. Deltas are x - base.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conjoin.kernels.bits import bits_of_float, chance, fused, real, stored
from conjoin.kernels.jit import jit

Array = np.ndarray[Any, Any]


@jit
def add_linear(acc: Array, x: Array, weight: float) -> None:
    """acc = weight x + acc, rounded once."""
    for i in range(len(acc)):
        acc[i] = fused(weight, stored(real(x[i]), weight), acc[i])


@jit
def add_delta(acc: Array, base: Array, x: Array, weight: float) -> None:
    """acc += weight (x - base)."""
    for i in range(len(acc)):
        acc[i] += weight * (real(x[i]) - real(base[i]))


@jit
def add_masked(acc: Array, base: Array, x: Array, weight: float, keep: Array) -> None:
    """acc += weight (x - base) where kept."""
    for i in range(len(acc)):
        if keep[i]:
            acc[i] += weight * (real(x[i]) - real(base[i]))


@jit
def delta(out: Array, base: Array, x: Array) -> None:
    """out = x - base, as numbers."""
    for i in range(len(out)):
        out[i] = real(x[i]) - real(base[i])


@jit
def decode(out: Array, x: Array) -> None:
    """out = x, as numbers."""
    for i in range(len(out)):
        out[i] = real(x[i])


@jit
def magnitude(out: Array, base: Array, x: Array) -> None:
    """out (float32) = |x - base|."""
    for i in range(len(out)):
        out[i] = np.float32(abs(real(x[i]) - real(base[i])))


@jit
def put_quotient(out: Array, acc: Array, divisor: float) -> None:
    """out = acc / divisor, stored."""
    for i in range(len(out)):
        out[i] = stored(acc[i] / divisor, out[i])


@jit
def put_moved(out: Array, base: Array, acc: Array, scale: float) -> None:
    """out = base + scale acc, stored."""
    for i in range(len(out)):
        out[i] = stored(real(base[i]) + scale * acc[i], out[i])


@jit
def put_near(out: Array, base: Array, x: Array, t: float) -> None:
    """NearSwap: out = base + clip(t / |x - base|, 0, 1) (x - base), stored."""
    for i in range(len(out)):
        b = real(base[i])
        d = real(x[i]) - b
        share = t / max(abs(d), 1e-6)
        out[i] = stored(b + min(max(share, 0.0), 1.0) * d, out[i])


@jit
def sum_magnitudes(base: Array, x: Array, keep: Array, sums: Array) -> None:
    """sums[0] += |x - base|, sums[1] += the same where kept. In four lanes, added up at the end."""
    n = len(x)
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = 0.0
    for i in range(0, n - n % 4, 4):
        d0 = np.float64(abs(real(x[i]) - real(base[i])))
        d1 = np.float64(abs(real(x[i + 1]) - real(base[i + 1])))
        d2 = np.float64(abs(real(x[i + 2]) - real(base[i + 2])))
        d3 = np.float64(abs(real(x[i + 3]) - real(base[i + 3])))
        a0, a1, a2, a3 = a0 + d0, a1 + d1, a2 + d2, a3 + d3
        b0, b1 = b0 + d0 * keep[i], b1 + d1 * keep[i + 1]
        b2, b3 = b2 + d2 * keep[i + 2], b3 + d3 * keep[i + 3]
    for i in range(n - n % 4, n):
        d0 = np.float64(abs(real(x[i]) - real(base[i])))
        a0, b0 = a0 + d0, b0 + d0 * keep[i]
    sums[0] += (a0 + a1) + (a2 + a3)
    sums[1] += (b0 + b1) + (b2 + b3)


@jit
def count_high(counts: Array, values: Array) -> None:
    """Histogram of the upper 16 bits of float32 values >= 0; NaN counts as the largest."""
    for i in range(len(values)):
        counts[bits_of_float(values[i]) >> np.uint32(16)] += 1


@jit
def count_low(counts: Array, values: Array, high: int) -> None:
    """Histogram of the lower 16 bits of the values whose upper 16 bits are `high`."""
    for i in range(len(values)):
        bits = bits_of_float(values[i])
        if (bits >> np.uint32(16)) == high:
            counts[bits & np.uint32(0xFFFF)] += 1


@jit
def keep_between(keep: Array, values: Array, low: int, high: int, left: Array) -> None:
    """Keep values whose bits lie above `low` and below `high`; of those at a bound, by position.

    left[0]: how many at `low` are still to be passed over; left[1]: how many at `high` may still be kept.
    """
    for i in range(len(values)):
        bits = np.int64(bits_of_float(values[i]))
        kept = bool(low < bits < high)
        if bits == low:
            if left[0] > 0:
                left[0] -= 1
            elif low < high or left[1] > 0:
                kept = True
                if low == high:
                    left[1] -= 1
        elif bits == high and left[1] > 0:
            left[1] -= 1
            kept = True
        keep[i] = kept


@jit
def keep_largest(keep: Array, values: Array, low: int, left: Array) -> None:
    """Keep values whose bits lie above `low`, and the first left[0] of those at `low`."""
    for i in range(len(values)):
        bits = np.int64(bits_of_float(values[i]))
        kept = bool(bits > low)
        if bits == low and left[0] > 0:
            left[0] -= 1
            kept = True
        keep[i] = kept


@jit
def keep_by_chance(keep: Array, key: int, start: int, density: float) -> None:
    """Keep each with probability `density`; the draw of an element depends on key and position alone."""
    for i in range(len(keep)):
        keep[i] = chance(key, np.uint64(start) + np.uint64(i)) < density


@jit
def keep_by_rank(
    keep: Array, values: Array, key: int, start: int, density: float, spread: float, keys: Array, order: Array
) -> None:
    """MAGPRUNE of one row: keep with probability density - spread + 2 spread rank / (n - 1), ranks by
    magnitude.

    values: (n,) float32 magnitudes. keys, order: (2, n) uint32 scratch. Equal magnitudes rank by position.
    """
    n = len(values)
    counts = np.zeros((4, 256), np.int64)
    for i in range(n):
        bits = bits_of_float(values[i])
        keys[0, i] = bits
        order[0, i] = i
        for turn in range(4):
            counts[turn, (bits >> np.uint32(8 * turn)) & np.uint32(255)] += 1
    side = 0
    for turn in range(4):  # radix sort, a byte at a time; one that all share is passed over
        shift = np.uint32(8 * turn)
        if counts[turn, (keys[side, 0] >> shift) & np.uint32(255)] == n:
            continue
        place = 0
        for k in range(256):
            count = counts[turn, k]
            counts[turn, k] = place
            place += count
        for i in range(n):
            digit = (keys[side, i] >> shift) & np.uint32(255)
            at = counts[turn, digit]
            counts[turn, digit] = at + 1
            keys[1 - side, at] = keys[side, i]
            order[1 - side, at] = order[side, i]
        side = 1 - side
    low, step = np.float32(density - spread), np.float32(2.0 * spread / max(n - 1, 1))
    for rank in range(n):
        values[order[side, rank]] = low + step * np.float32(rank)
    for i in range(n):
        keep[i] = chance(key, np.uint64(start) + np.uint64(i)) < values[i]


@jit
def vote(sums: Array, base: Array, x: Array, part: float, weight: float, scale: float, keep: Array) -> None:
    """Votes on the sign of deltas d = x - base where kept.

    Rows of sums (5, at least n): the total of part d; and by the sign of part d (positive, then negative)
    the sums of weight scale d, and of weight.
    """
    for i in range(len(x)):
        d = (real(x[i]) - real(base[i])) * keep[i]
        share = part * d
        sums[0, i] += share
        up = np.float32(share > 0)
        down = np.float32(share < 0)
        sums[1, i] += up * weight * scale * d
        sums[2, i] += down * weight * scale * d
        sums[3, i] += up * weight
        sums[4, i] += down * weight


@jit
def put_elected(out: Array, base: Array, sums: Array, scale: float, least: float) -> None:
    """out = base + scale (sum of the deltas with the elected sign) over their weight.

    sums: of `vote`. least: weights below it count as it; 0: only weight 0 does, as 1; negative: the sum is
    taken as it is.
    """
    if least < 0:
        for i in range(len(out)):
            total, other = sums[1, i], sums[2, i]
            total = total if sums[0, i] >= 0 else other
            out[i] = stored(real(base[i]) + scale * total, out[i])
    elif least == 0:
        for i in range(len(out)):
            up = sums[0, i] >= 0
            total, other, weight, others = sums[1, i], sums[2, i], sums[3, i], sums[4, i]
            total = total if up else other
            weight = weight if up else others
            mean = total / (weight if weight != 0 else weight + 1)
            out[i] = stored(real(base[i]) + scale * mean, out[i])
    else:
        for i in range(len(out)):
            up = sums[0, i] >= 0
            total, other, weight, others = sums[1, i], sums[2, i], sums[3, i], sums[4, i]
            total = total if up else other
            weight = weight if up else others
            out[i] = stored(real(base[i]) + scale * (total / max(weight, least)), out[i])


@jit
def add_count(count: Array, base: Array, x: Array, epsilon: float) -> None:
    """count += 1 where |x - base| > epsilon."""
    for i in range(len(count)):
        if abs(real(x[i]) - real(base[i])) > epsilon:
            count[i] += 1


@jit
def count_shared(sums: Array, count: Array, base: Array, x: Array, epsilon: float) -> None:
    """Of the entries that x changes: sums[0] += those that others change too, sums[1] += those of x alone."""
    for i in range(len(count)):
        if abs(real(x[i]) - real(base[i])) > epsilon:
            sums[0 if count[i] > 1 else 1] += 1


@jit
def add_changed(acc: Array, count: Array, base: Array, x: Array, epsilon: float, alone: float) -> None:
    """acc += the delta over `count` where others change the entry too, times `alone` where x alone does."""
    for i in range(len(acc)):
        d = real(x[i]) - real(base[i])
        if abs(d) > epsilon:
            acc[i] += d / count[i] if count[i] > 1 else d * alone


@jit
def add_square_gap(acc: Array, base: Array, x: Array, mean: Array) -> None:
    """acc += (x - base - mean)^2."""
    for i in range(len(acc)):
        gap = real(x[i]) - real(base[i]) - mean[i]
        acc[i] += gap * gap


@jit
def sum_squares(base: Array, x: Array, keep: Array, sums: Array) -> None:
    """sums[0] += (x - base)^2 where kept. In four lanes, added up at the end."""
    n = len(x)
    a0 = a1 = a2 = a3 = 0.0
    for i in range(0, n - n % 4, 4):
        d0 = np.float64(real(x[i]) - real(base[i])) * keep[i]
        d1 = np.float64(real(x[i + 1]) - real(base[i + 1])) * keep[i + 1]
        d2 = np.float64(real(x[i + 2]) - real(base[i + 2])) * keep[i + 2]
        d3 = np.float64(real(x[i + 3]) - real(base[i + 3])) * keep[i + 3]
        a0, a1, a2, a3 = a0 + d0 * d0, a1 + d1 * d1, a2 + d2 * d2, a3 + d3 * d3
    for i in range(n - n % 4, n):
        d0 = np.float64(real(x[i]) - real(base[i])) * keep[i]
        a0 += d0 * d0
    sums[0] += (a0 + a1) + (a2 + a3)
