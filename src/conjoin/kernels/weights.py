"""Compiled loops over stored weights, block by block: sums, deltas, elections, inner products.

rows: (K, at least n) weights of K tensors as they are stored (bfloat16 as uint16, float32, float64), the base
model's first where a loop takes deltas x - base. x, base, out: (n,) likewise. weights and the like: (M,)
float64, or float32 where the stored weights are bfloat16: the type that sums are kept in. keep: (n,) or
(M, at least n) uint8. Work goes tile by tile, so that sums stay in the first cache. Sums over a block are
kept in LANES parts, added up in a fixed order: they fill vector registers and are the same everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conjoin.kernels.bits import bits_of_float, fused, real, stored
from conjoin.kernels.jit import inner, jit

Array = np.ndarray[Any, Any]
TILE = 512
LANES = 64


@jit
def put_sum(out: Array, rows: Array, weights: Array, divisor: float) -> None:
    """out = sum_k weights_k rows_k / divisor, stored; each product is added with one rounding, in order."""
    sums = np.empty(TILE, weights.dtype)
    for start in range(0, len(out), TILE):
        o = out[start : start + TILE]
        acc = sums[: len(o)]
        acc[:] = 0
        for k in range(len(weights)):
            x, weight = rows[k, start : start + TILE], weights[k]
            for i in range(len(acc)):
                acc[i] = fused(weight, stored(real(x[i]), weight), acc[i])
        for i in range(len(acc)):
            o[i] = stored(acc[i] / divisor, o[i])


@jit
def put_deltas(out: Array, rows: Array, weights: Array, scale: float) -> None:
    """out = base + scale sum_k weights_k (x_k - base), stored."""
    sums = np.empty(TILE, weights.dtype)
    for start in range(0, len(out), TILE):
        o, base = out[start : start + TILE], rows[0, start : start + TILE]
        acc = sums[: len(o)]
        acc[:] = 0
        for k in range(len(weights)):
            x, weight = rows[k + 1, start : start + TILE], weights[k]
            for i in range(len(acc)):
                acc[i] += weight * (real(x[i]) - real(base[i]))
        for i in range(len(acc)):
            o[i] = stored(real(base[i]) + scale * acc[i], o[i])


@inner
def put_voted(
    o: Array,
    base: Array,
    deltas: Array,
    votes: Array,
    shares: Array,
    weights: Array,
    scale: float,
    least: float,
    sums: Array,
) -> None:
    """`put_elected` of deltas (M, TILE) that stay in the first cache. sums: (3, TILE), room for work."""
    n, zero, one = len(o), stored(0.0, scale), stored(1.0, scale)
    total, acc, mass = sums[0, :n], sums[1, :n], sums[2, :n]
    total[:] = 0
    acc[:] = 0
    mass[:] = 0
    for k in range(len(weights)):
        d, vote = deltas[k], votes[k]
        for i in range(n):
            total[i] += vote * d[i]
    for k in range(len(weights)):
        d, vote, share, weight = deltas[k], votes[k], shares[k], weights[k]
        for i in range(n):
            v = vote * d[i]
            agrees = (v if total[i] >= 0 else -v) > 0
            acc[i] += share * d[i] if agrees else zero
            mass[i] += weight if agrees else zero
    if least < 0:
        for i in range(n):
            o[i] = stored(real(base[i]) + scale * acc[i], o[i])
    elif least == 0:
        for i in range(n):
            weight = mass[i]
            o[i] = stored(real(base[i]) + scale * (acc[i] / (weight if weight != 0 else one)), o[i])
    else:
        for i in range(n):
            o[i] = stored(real(base[i]) + scale * (acc[i] / max(mass[i], least)), o[i])


@inner
def put_added(o: Array, base: Array, deltas: Array, weights: Array, scale: float, sums: Array) -> None:
    """o = base + scale sum_k weights_k deltas_k, stored; as `put_voted`."""
    acc = sums[0, : len(o)]
    acc[:] = 0
    for k in range(len(weights)):
        d, weight = deltas[k], weights[k]
        for i in range(len(o)):
            acc[i] += weight * d[i]
    for i in range(len(o)):
        o[i] = stored(real(base[i]) + scale * acc[i], o[i])


@jit
def put_kept(out: Array, rows: Array, keep: Array, weights: Array, scale: float) -> None:
    """out = base + scale sum_k weights_k (x_k - base) where kept, stored."""
    sums, zero = np.empty((3, TILE), weights.dtype), stored(0.0, scale)
    deltas = np.empty((len(weights), TILE), weights.dtype)
    for start in range(0, len(out), TILE):
        o, base = out[start : start + TILE], rows[0, start : start + TILE]
        for k in range(len(weights)):
            x, kept, d = rows[k + 1, start : start + TILE], keep[k, start : start + TILE], deltas[k]
            for i in range(len(o)):
                v = stored(real(x[i]) - real(base[i]), scale)
                d[i] = v if kept[i] != 0 else zero
        put_added(o, base, deltas, weights, scale, sums)


@jit
def put_elected(
    out: Array,
    rows: Array,
    keep: Array,
    votes: Array,
    shares: Array,
    weights: Array,
    scale: float,
    least: float,
) -> None:
    """out = base + scale (sum of shares_k d_k over those with the elected sign) / (sum of their weights).

    d_k = x_k - base where kept; the elected sign is that of sum_k votes_k d_k, + for 0; a model has it where
    votes_k d_k does. least: weights below it count as it; 0: only weight 0 does, as 1; negative: the sum is
    taken as it is.
    """
    sums, zero = np.empty((3, TILE), weights.dtype), stored(0.0, scale)
    deltas = np.empty((len(weights), TILE), weights.dtype)
    for start in range(0, len(out), TILE):
        o, base = out[start : start + TILE], rows[0, start : start + TILE]
        for k in range(len(weights)):
            x, kept, d = rows[k + 1, start : start + TILE], keep[k, start : start + TILE], deltas[k]
            for i in range(len(o)):
                v = stored(real(x[i]) - real(base[i]), scale)
                d[i] = v if kept[i] != 0 else zero
        put_voted(o, base, deltas, votes, shares, weights, scale, least, sums)


@jit
def put_between(
    out: Array,
    rows: Array,
    edges: Array,
    at: int,
    shares: Array,
    weights: Array,
    scale: float,
    least: float,
    elect: bool,
) -> None:
    """`put_elected` (votes are the shares), or `put_kept` where not `elect`, of what `edges` keep.

    edges: (M, 2, 3) int64: bits of |x_k - base| are kept from the first bound up to the second, outside it; a
    bound is (before a position, from it on, the position). at: the position of the block's first number.
    """
    sums, zero = np.empty((3, TILE), weights.dtype), stored(0.0, scale)
    deltas = np.empty((len(weights), TILE), weights.dtype)
    for start in range(0, len(out), TILE):
        o, base = out[start : start + TILE], rows[0, start : start + TILE]
        for k in range(len(weights)):
            x, d, done = rows[k + 1, start : start + TILE], deltas[k], 0
            one, two = edges[k, 0, 2] - at - start, edges[k, 1, 2] - at - start
            while done < len(o):  # parts in which no bound changes
                end = len(o)
                end = min(end, one) if one > done else end
                end = min(end, two) if two > done else end
                low = edges[k, 0, 0] if done < one else edges[k, 0, 1]
                high = edges[k, 1, 0] if done < two else edges[k, 1, 1]
                first, span = np.uint32(low), np.uint32(max(high - low, 0))
                y, b, into = x[done:end], base[done:end], d[done:end]
                for i in range(len(into)):
                    gap = stored(real(y[i]) - real(b[i]), scale)
                    bits = bits_of_float(np.float32(abs(gap)))
                    into[i] = gap if np.uint32(bits - first) < span else zero
                done = end
        if elect:
            put_voted(o, base, deltas, shares, shares, weights, scale, least, sums)
        else:
            put_added(o, base, deltas, shares, scale, sums)


@jit
def put_near(out: Array, rows: Array, t: float) -> None:
    """NearSwap: out = base + clip(t / |x - base|, 0, 1) (x - base), stored."""
    base, x = rows[0], rows[1]
    for i in range(len(out)):
        b = real(base[i])
        d = real(x[i]) - b
        share = t / max(abs(d), 1e-6)
        out[i] = stored(b + min(max(share, 0.0), 1.0) * d, out[i])


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
def variance(out: Array, rows: Array, count: float) -> None:
    """out (float32) = the population variance over the models of x_k - base. count: of models, M."""
    means, gaps = np.empty(TILE, type(count)), np.empty(TILE, type(count))
    for start in range(0, len(out), TILE):
        o, base = out[start : start + TILE], rows[0, start : start + TILE]
        mean, acc = means[: len(o)], gaps[: len(o)]
        mean[:] = 0
        acc[:] = 0
        for k in range(1, len(rows)):
            x = rows[k, start : start + TILE]
            for i in range(len(o)):
                mean[i] += real(x[i]) - real(base[i])
        for i in range(len(o)):
            mean[i] /= count
        for k in range(1, len(rows)):
            x = rows[k, start : start + TILE]
            for i in range(len(o)):
                gap = real(x[i]) - real(base[i]) - mean[i]
                acc[i] += gap * gap
        for i in range(len(o)):
            o[i] = np.float32(acc[i] / count)


@jit
def sum_magnitudes(base: Array, x: Array, keep: Array, sums: Array) -> None:
    """sums[0] += |x - base|, sums[1] += the same where kept."""
    n = len(keep)
    whole = n - n % LANES
    every, some = np.zeros(LANES), np.zeros(LANES)
    for start in range(0, whole, LANES):
        b, y, kept = base[start : start + LANES], x[start : start + LANES], keep[start : start + LANES]
        for j in range(LANES):
            d = np.float64(abs(real(y[j]) - real(b[j])))
            every[j] += d
            some[j] += d if kept[j] != 0 else 0.0
    for i in range(whole, n):
        d = np.float64(abs(real(x[i]) - real(base[i])))
        every[0] += d
        some[0] += d if keep[i] != 0 else 0.0
    sums[0] += every.sum()
    sums[1] += some.sum()


@jit
def sum_squares(base: Array, x: Array, keep: Array, sums: Array) -> None:
    """sums[0] += (x - base)^2 where kept."""
    n = len(keep)
    whole = n - n % LANES
    acc = np.zeros(LANES)
    for start in range(0, whole, LANES):
        b, y, kept = base[start : start + LANES], x[start : start + LANES], keep[start : start + LANES]
        for j in range(LANES):
            d = np.float64(real(y[j]) - real(b[j]))
            acc[j] += d * d if kept[j] != 0 else 0.0
    for i in range(whole, n):
        d = np.float64(real(x[i]) - real(base[i]))
        acc[0] += d * d if keep[i] != 0 else 0.0
    sums[0] += acc.sum()


@jit
def add_products(gram: Array, rows: Array, n: int, skip: int) -> None:
    """gram (M, M) += inner products of the rows from `skip` on, or where skip is 1 of their differences from
    the first.
    """
    m = len(gram)
    numbers, acc = np.zeros((m, TILE)), np.zeros((m, m, LANES))
    for start in range(0, n, TILE):
        length = min(TILE, n - start)
        for k in range(m):
            x, base, d = rows[k + skip, start : start + length], rows[0, start : start + length], numbers[k]
            if skip == 0:
                for i in range(length):
                    d[i] = real(x[i])
            else:
                for i in range(length):
                    d[i] = real(x[i]) - real(base[i])
            d[length:] = 0
        for a in range(m):
            for b in range(a + 1):
                p, q, s = numbers[a], numbers[b], acc[a, b]
                for first in range(0, TILE, LANES):
                    u, v = p[first : first + LANES], q[first : first + LANES]
                    for j in range(LANES):
                        s[j] += u[j] * v[j]
    for a in range(m):
        for b in range(a + 1):
            found = acc[a, b].sum()
            gram[a, b] += found
            if a != b:
                gram[b, a] += found


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
