"""Loops of COCO's average precision: regions found are matched to true ones, then ranked class by class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conjoin.kernels.boxes import sort_down
from conjoin.kernels.jit import inner, jit

if TYPE_CHECKING:
    from conjoin.outputs import Array

HIT, MISS, IGNORED = 1, 0, -1
_EPS = float(np.spacing(1))


@inner
def inside(dims: tuple[int, ...], a: Array, i: int, b: Array, j: int) -> tuple[float, float, float]:
    """Volumes: of the intersection of a[i] and b[j], of a[i], of b[j]."""
    D = len(dims)
    inter, mine, other = 1.0, 1.0, 1.0
    for d in range(D):
        side = min(a[i, D + d], b[j, D + d]) - max(a[i, d], b[j, d])
        inter = inter * side if side > 0.0 and inter > 0.0 else 0.0
        mine *= a[i, D + d] - a[i, d]
        other *= b[j, D + d] - b[j, d]
    return inter, mine, other


@jit
def match(
    dims: tuple[int, ...],
    coords: Array,
    scores: Array,
    codes: Array,
    offsets: Array,
    true_coords: Array,
    crowd: Array,
    true_codes: Array,
    true_offsets: Array,
    classes: int,
    ious: Array,
    most: int,
    low: float,
    high: float,
    flags: Array,
    needed: Array,
) -> None:
    """Match the regions found (t) to the true ones (u), row by row, the best first, at T levels of overlap.

    codes (t,): class, or -1 for one that the truth does not know. crowd (u,) bool: to be ignored; any number
    of regions may lie there. most: how many regions of a row and class count. low, high: volumes that count.
    Written: flags (T, t) of HIT, MISS or IGNORED; needed (K,): how many true regions a class has.
    """
    widest = 0
    for row in range(offsets.shape[0] - 1):
        widest = max(widest, offsets[row + 1] - offsets[row])
    order, spare = np.empty(widest, np.int64), np.empty(widest, np.int64)
    ignored = crowd.copy()
    for j in range(true_codes.shape[0]):
        _, volume, _ = inside(dims, true_coords, j, true_coords, j)
        ignored[j] = ignored[j] or volume < low or volume > high
        if not ignored[j]:
            needed[true_codes[j]] += 1
    taken = np.zeros((ious.shape[0], true_codes.shape[0]), np.bool_)
    seen = np.zeros(classes, np.int64)
    for row in range(offsets.shape[0] - 1):
        start, size = offsets[row], offsets[row + 1] - offsets[row]
        for i in range(size):
            order[i] = start + i
        sort_down(order, offsets[0], size, scores, spare)
        for slot in range(size):
            i = order[slot]
            code = codes[i]
            for t in range(ious.shape[0]):
                flags[t, i] = IGNORED
            if code < 0:
                continue
            seen[code] += 1
            if seen[code] > most:
                continue
            for t in range(ious.shape[0]):
                best, found = min(ious[t], 1.0 - 1e-10), -1
                for late in range(2):
                    for j in range(true_offsets[row], true_offsets[row + 1]):
                        if true_codes[j] != code or ignored[j] != (late == 1):
                            continue
                        if taken[t, j] and not crowd[j]:
                            continue
                        inter, mine, other = inside(dims, coords, i, true_coords, j)
                        if inter <= 0.0:
                            continue
                        near = inter / (mine if crowd[j] else mine + other - inter)
                        if near >= best:
                            best, found = near, j
                    if found >= 0:
                        break
                if found >= 0:
                    taken[t, found] = True
                    flags[t, i] = IGNORED if ignored[found] else HIT
                else:
                    _, volume, _ = inside(dims, coords, i, coords, i)
                    flags[t, i] = MISS if low <= volume <= high else IGNORED
        for slot in range(size):
            if codes[order[slot]] >= 0:
                seen[codes[order[slot]]] = 0


@jit
def average(
    scores: Array, codes: Array, flags: Array, needed: Array, places: Array, order: Array
) -> tuple[Array, Array]:
    """Average precision and greatest recall, (T, K) both; NaN for a class without true regions.

    order (t,): regions by row, in each row the best first. places: recalls at which precision is read (COCO:
    0, 0.01, ..., 1), where it is the greatest precision at this or a higher recall.
    """
    T, K = flags.shape[0], needed.shape[0]
    counts = np.zeros(K + 1, np.int64)
    for i in range(codes.shape[0]):
        if codes[i] >= 0:
            counts[codes[i] + 1] += 1
    for k in range(K):
        counts[k + 1] += counts[k]
    sorted_by, spare = np.empty(counts[K], np.int64), np.empty(counts[K], np.int64)
    ends = counts.copy()
    for i in order:
        if codes[i] >= 0:
            sorted_by[ends[codes[i]]] = i
            ends[codes[i]] += 1
    precision, recall = np.full((T, K), np.nan), np.full((T, K), np.nan)
    height, reach = np.empty(counts[K]), np.empty(counts[K])
    for k in range(K):
        if needed[k] == 0:
            continue
        sort_down(sorted_by, counts[k], counts[k + 1], scores, spare)
        for t in range(T):
            hits, misses, size = 0, 0, 0
            for slot in range(counts[k], counts[k + 1]):
                flag = flags[t, sorted_by[slot]]
                if flag == IGNORED:
                    continue
                hits += flag == HIT
                misses += flag == MISS
                height[size] = hits / (hits + misses + _EPS)
                reach[size] = hits / needed[k]
                size += 1
            recall[t, k] = hits / needed[k]
            for i in range(size - 1, 0, -1):
                height[i - 1] = max(height[i - 1], height[i])
            total, i = 0.0, 0
            for place in places:
                while i < size and reach[i] < place:
                    i += 1
                if i == size:
                    break
                total += height[i]
            precision[t, k] = total / places.shape[0]
    return precision, recall
