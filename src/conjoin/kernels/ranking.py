"""Loops over ranked lists: merging lists into candidates, combining their scores, sorting, finding items.

T entries of M members' lists lie one after another; list (m, r) is `begins[m, r]:ends[m, r]`, best first.
Row r has the candidates `starts[r]:starts[r + 1]`, the different items of its lists in order of their first
appearance; `slots (T,)` says which candidate an entry is. Items are int64 keys.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from conjoin.kernels.jit import jit

Array: TypeAlias = np.ndarray[Any, Any]

SUM, MAX, MIN, MED, ANZ, MNZ, WMNZ, LOG = range(8)
"""Rules of `combine`."""

_MIX = 0x9E3779B97F4A7C15 - (1 << 64)  # 2^64 / golden ratio, as int64


def keys_of(ids: Sequence[Array]) -> list[Array]:
    """Each array of ids as int64 keys: whole numbers as they are, strings numbered by first appearance.

    >>> [k.tolist() for k in keys_of([np.array(["b", "a"], object), np.array(["a"], object)])]
    [[0, 1], [1]]
    """
    if all(a.dtype.kind in "iu" for a in ids):
        return [np.ascontiguousarray(a).astype(np.int64, copy=False) for a in ids]
    table: defaultdict[str, int] = defaultdict(itertools.count().__next__)
    return [np.fromiter(map(table.__getitem__, a.tolist()), np.int64, len(a)) for a in ids]


def rises(scores: Array, offsets: Array) -> bool:
    """Whether a score is above the one before it in the same row.

    >>> rises(np.array([2.0, 1.0, 3.0]), np.array([0, 2, 3]))
    False
    """
    up = scores[1:] > scores[:-1]
    inner = offsets[1:-1]
    up[inner[(inner > 0) & (inner < len(scores))] - 1] = False
    return bool(up.any())


def sorted_positions(scores: Array, starts: Array) -> Array:
    """Positions of the scores (C,) in each row, by falling score; ties stay in order. No NaN.

    >>> sorted_positions(np.array([1.0, 2.0, 5.0]), np.array([0, 2, 3])).tolist()
    [1, 0, 2]
    """
    out = np.empty(len(scores), np.int64)
    bits = np.ascontiguousarray(scores, np.float64).view(np.int64)
    order(bits, np.ascontiguousarray(starts, np.int64), out)
    return out


def first_of(keys: Array, starts: Array, wanted: Array, cuts: Array) -> Array:
    """(R,): where the wanted keys are among the keys of their row, the first of equal ones; -1 for nowhere.

    >>> first_of(np.array([7, 8]), np.array([0, 2]), np.array([8, 9]), np.array([0, 2])).tolist()
    [1, -1]
    """
    out = np.empty(len(wanted), np.int64)
    find(keys, np.ascontiguousarray(starts, np.int64), wanted, np.ascontiguousarray(cuts, np.int64), out)
    return out


@jit
def merge(
    keys: Array, begins: Array, ends: Array, most: int, slots: Array, firsts: Array, starts: Array
) -> int:
    """Fill slots (T,), firsts (T,): the first entry of each candidate, and starts (n + 1,).

    most: entries of the longest row. Returns -1, or an entry whose item is twice in its list.
    """
    members, rows = begins.shape
    bits = 4
    while (1 << bits) < 2 * most:
        bits += 1
    mask = (1 << bits) - 1
    held = np.full(1 << bits, -1, np.int64)
    known = np.empty(1 << bits, np.int64)
    last = np.empty(most + 1, np.int64)
    count = 0
    starts[0] = 0
    for r in range(rows):
        base = count
        for m in range(members):
            for t in range(begins[m, r], ends[m, r]):
                key = keys[t]
                at = ((key * _MIX) >> (64 - bits)) & mask
                while held[at] >= base and known[at] != key:
                    at = (at + 1) & mask
                if held[at] < base:
                    held[at] = count
                    known[at] = key
                    firsts[count] = t
                    last[count - base] = m
                    slots[t] = count
                    count += 1
                else:
                    slot = held[at]
                    if last[slot - base] == m:
                        return t
                    last[slot - base] = m
                    slots[t] = slot
        starts[r + 1] = count
    return -1


@jit
def add_points(points: Array, begins: Array, ends: Array, slots: Array, out: Array) -> None:
    """out (C,) += points[m, position] of each entry; points (M, L)."""
    members, rows = begins.shape
    for r in range(rows):
        for m in range(members):
            begin = begins[m, r]
            for t in range(begin, ends[m, r]):
                out[slots[t]] += points[m, t - begin]


@jit
def tabulate(
    values: Array, fills: Array, begins: Array, ends: Array, slots: Array, starts: Array, out: Array
) -> None:
    """out (C, M): the value of each candidate in each list; fills[m, r] (or NaN) where it is not."""
    members, rows = begins.shape
    for r in range(rows):
        for c in range(starts[r], starts[r + 1]):
            for m in range(members):
                out[c, m] = fills[m, r]
        for m in range(members):
            for t in range(begins[m, r], ends[m, r]):
                out[slots[t], m] = values[t]


@jit
def combine(
    rule: int, power: float, values: Array, fills: Array, weights: Array, begins: Array, ends: Array,
    slots: Array, starts: Array, out: Array,
) -> None:  # fmt: skip
    """out (C,): one score of each candidate's weighted values v_m = w_m s_m, over the members that have it.

    SUM: their sum; MAX, MIN, MED: of them; ANZ: sum / sum of w_m; MNZ: sum * count^power;
    WMNZ: sum of s_m * sum of w_m; LOG: sum * log(count + power). fills (M, n): as of `tabulate`.
    """
    members, rows = begins.shape
    widest = 0
    for r in range(rows):
        widest = max(widest, starts[r + 1] - starts[r])
    table = np.empty((widest, members))
    some = np.empty(members)
    for r in range(rows):
        base = starts[r]
        width = starts[r + 1] - base
        for m in range(members):
            for c in range(width):
                table[c, m] = fills[m, r]
            for t in range(begins[m, r], ends[m, r]):
                table[slots[t] - base, m] = values[t]
        for c in range(width):
            count = 0
            total, mass, plain = 0.0, 0.0, 0.0
            high, low = -np.inf, np.inf
            for m in range(members):
                s = table[c, m]
                if np.isnan(s):
                    continue
                v = weights[m] * s
                total += v
                plain += s
                mass += weights[m]
                high = max(high, v)
                low = min(low, v)
                if rule == MED:
                    at = count
                    while at > 0 and some[at - 1] > v:
                        some[at] = some[at - 1]
                        at -= 1
                    some[at] = v
                count += 1
            if rule == SUM:
                score = total
            elif rule == MAX:
                score = high
            elif rule == MIN:
                score = low
            elif rule == MED:
                score = (some[(count - 1) // 2] + some[count // 2]) / 2
            elif rule == ANZ:
                score = total / mass
            elif rule == MNZ:
                score = total * (np.sqrt(count) if power == 0.5 else float(count) ** power)
            elif rule == WMNZ:
                score = plain * mass
            else:
                score = total * np.log(count + power)
            out[base + c] = score


@jit
def _insert(keys: Array, index: Array, width: int, budget: int) -> bool:
    """Sort in place by insertion, stable; False where it takes more than `budget` moves."""
    for i in range(1, width):
        key, which = keys[i], index[i]
        at = i
        while at > 0 and keys[at - 1] > key:
            keys[at] = keys[at - 1]
            index[at] = index[at - 1]
            at -= 1
        keys[at], index[at] = key, which
        budget -= i - at
        if budget < 0:
            return False
    return True


@jit
def _by_bytes(keys: Array, index: Array, counts: Array, width: int, lowest: int) -> int:
    """Sort (2, width) keys by their bytes from `lowest` to 7, stable; says in which half the result is."""
    counts[:] = 0
    for i in range(width):
        key = keys[0, i] ^ -0x8000000000000000
        for p in range(lowest, 8):
            counts[p, (key >> (8 * p)) & 255] += 1
    now = 0
    for p in range(lowest, 8):
        if counts[p, ((keys[now, 0] ^ -0x8000000000000000) >> (8 * p)) & 255] == width:
            continue
        total = 0
        for d in range(256):
            n = counts[p, d]
            counts[p, d] = total
            total += n
        for i in range(width):
            key = keys[now, i]
            d = ((key ^ -0x8000000000000000) >> (8 * p)) & 255
            at = counts[p, d]
            counts[p, d] = at + 1
            keys[1 - now, at] = key
            index[1 - now, at] = index[now, i]
        now = 1 - now
    return now


@jit
def order(bits: Array, starts: Array, out: Array) -> None:
    """out (C,): within each row the positions by falling score, ties in their order.

    bits: the float64 scores viewed as int64 (no NaN). Long rows are sorted by the upper four bytes and then
    by insertion, or by all eight where many scores differ in the lower four alone.
    """
    rows = len(starts) - 1
    widest = 0
    for r in range(rows):
        widest = max(widest, starts[r + 1] - starts[r])
    keys, index = np.empty((2, widest), np.int64), np.empty((2, widest), np.int64)
    counts = np.empty((8, 256), np.int64)
    for r in range(rows):
        base = starts[r]
        width = starts[r + 1] - base
        lowest = 4
        while lowest >= 0:
            for i in range(width):
                b = bits[base + i]
                if b == -0x8000000000000000:  # -0.0 is 0.0
                    b = 0
                keys[0, i] = ~b if b >= 0 else b ^ -0x8000000000000000
                index[0, i] = base + i
            now = _by_bytes(keys, index, counts, width, lowest) if width > 64 else 0
            budget = 8 * width if lowest and width > 64 else width * width
            if _insert(keys[now], index[now], width, budget):
                break
            lowest -= 4
        for i in range(width):
            out[base + i] = index[now, i]


@jit
def gather(keys: Array, firsts: Array, scores: Array, best: Array, ids: Array, values: Array) -> None:
    """ids, values (C,): the key and the score of the best, the second best and so on."""
    for i in range(len(best)):
        c = best[i]
        ids[i] = keys[firsts[c]]
        values[i] = scores[c]


@jit
def find(keys: Array, starts: Array, wanted: Array, cuts: Array, out: Array) -> None:
    """out (R,): the candidate of the same row with the wanted key, the first of equal ones; -1 where none is.

    keys (C,) cut by starts (n + 1,), wanted (R,) cut by cuts (n + 1,).
    """
    rows = len(starts) - 1
    most = 1
    for r in range(rows):
        most = max(most, starts[r + 1] - starts[r])
    bits = 4
    while (1 << bits) < 2 * most:
        bits += 1
    mask = (1 << bits) - 1
    held = np.full(1 << bits, -1, np.int64)
    for r in range(rows):
        if cuts[r] == cuts[r + 1]:
            continue
        base = starts[r]
        for c in range(base, starts[r + 1]):
            at = ((keys[c] * _MIX) >> (64 - bits)) & mask
            while held[at] >= base and keys[held[at]] != keys[c]:
                at = (at + 1) & mask
            if held[at] < base:
                held[at] = c
        for i in range(cuts[r], cuts[r + 1]):
            at = ((wanted[i] * _MIX) >> (64 - bits)) & mask
            while held[at] >= base and keys[held[at]] != wanted[i]:
                at = (at + 1) & mask
            out[i] = held[at] if held[at] >= base else -1


@jit
def majority(ranks: Array, weights: Array, starts: Array, best: Array) -> None:
    """Sort `best` (C,), candidates of each row in their first order, by weighted majority; ties keep it.

    ranks (C, M): in each list, infinite where it lacks the candidate. A merge sort, bottom up.
    """
    rows, members = len(starts) - 1, ranks.shape[1]
    other = best.copy()
    for r in range(rows):
        low, high = starts[r], starts[r + 1]
        step = 1
        while step < high - low:
            for begin in range(low, high, 2 * step):
                middle, end = min(begin + step, high), min(begin + 2 * step, high)
                a, b = begin, middle
                for at in range(begin, end):
                    take = b >= end
                    if not take and a < middle:
                        x, y = best[a], best[b]
                        votes = 0.0
                        for m in range(members):
                            if ranks[x, m] < ranks[y, m]:
                                votes += weights[m]
                            elif ranks[y, m] < ranks[x, m]:
                                votes -= weights[m]
                        take = votes >= 0
                    if take:
                        other[at] = best[a]
                        a += 1
                    else:
                        other[at] = best[b]
                        b += 1
            for at in range(low, high):
                best[at] = other[at]
            step *= 2


@jit
def ranks_under(table: Array, weights: Array, starts: Array, wanted: Array, cuts: Array, out: Array) -> None:
    """out (W, R): the rank from 1 of each wanted candidate (R,) in its row under each of W weight vectors.

    table (C, M), weights (W, M); score = table @ weights, ties in order; wanted -1 has the rank infinity.
    """
    rows, members = len(starts) - 1, table.shape[1]
    widest = 1
    for r in range(rows):
        widest = max(widest, starts[r + 1] - starts[r])
    scores = np.empty(widest)
    for w in range(len(weights)):
        for r in range(rows):
            if cuts[r] == cuts[r + 1]:
                continue
            base = starts[r]
            width = starts[r + 1] - base
            for c in range(width):
                s = 0.0
                for m in range(members):
                    s += weights[w, m] * table[base + c, m]
                scores[c] = s
            for i in range(cuts[r], cuts[r + 1]):
                at = wanted[i] - base
                if wanted[i] < 0:
                    out[w, i] = np.inf
                    continue
                own = scores[at]
                rank = 1
                for c in range(at):
                    rank += scores[c] >= own
                for c in range(at + 1, width):
                    rank += scores[c] > own
                out[w, i] = rank
