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
    """sums[0] += |x - base|, sums[1] += the same where kept."""
    for i in range(len(x)):
        d = abs(real(x[i]) - real(base[i]))
        sums[0] += d
        if keep[i]:
            sums[1] += d


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
    for i in range(n):
        keys[0, i] = bits_of_float(values[i])
        order[0, i] = i
    side = 0
    for turn in range(3):  # 31 bits of a float32 that is not negative, in digits of 11
        shift = np.uint32(11 * turn)
        counts = np.zeros(2049, np.int64)
        for i in range(n):
            counts[((keys[side, i] >> shift) & np.uint32(2047)) + 1] += 1
        for k in range(2048):
            counts[k + 1] += counts[k]
        for i in range(n):
            digit = (keys[side, i] >> shift) & np.uint32(2047)
            at = counts[digit]
            counts[digit] = at + 1
            keys[1 - side, at] = keys[side, i]
            order[1 - side, at] = order[side, i]
        side = 1 - side
    last = max(n - 1, 1)
    for rank in range(n):
        i = order[side, rank]
        wanted = density - spread + 2.0 * spread * rank / last
        keep[i] = chance(key, np.uint64(start) + np.uint64(i)) < wanted


@jit
def vote(sums: Array, base: Array, x: Array, part: float, weight: float, scale: float, keep: Array) -> None:
    """Votes on the sign of deltas d = x - base where kept.

    Rows of sums (5, n): the total of part d; and by the sign of part d (positive, then negative) the sums of
    weight scale d, and of weight.
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
def put_elected(out: Array, base: Array, sums: Array, scale: float, normalize: bool, least: float) -> None:
    """out = base + scale (sum of the deltas with the elected sign), over their weight where `normalize`.

    least: weights whose size is below it count as 1 (0: only weight 0 does), or as `least` where it is > 0.
    """
    for i in range(len(out)):
        elected = sums[0, i] >= 0
        total = sums[1, i] if elected else sums[2, i]
        weight = sums[3, i] if elected else sums[4, i]
        if least > 0:
            weight = max(weight, least)
        elif weight == 0:
            weight = 1.0
        out[i] = stored(real(base[i]) + scale * (total / weight if normalize else total), out[i])


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
    """sums[0] += (x - base)^2 where kept."""
    for i in range(len(x)):
        if keep[i]:
            d = np.float64(real(x[i]) - real(base[i]))
            sums[0] += d * d
