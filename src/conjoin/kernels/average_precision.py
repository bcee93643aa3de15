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
    ignored: Array,
    true_codes: Array,
    true_offsets: Array,
    ious: Array,
    most: int,
    counts: Array,
    taken: Array,
    seen: Array,
    work: Array,
    flags: Array,
) -> None:
    """Match the regions found (t) to the true ones (u), row by row, the best first, at T levels of overlap.

    codes (t,): class, or -1 for one that does not count. crowd (u,) bool: any number of regions may lie
    there. ignored (u,): true regions that need not be found, the crowds among them. most: how many regions
    of a row and class count. counts (t,) bool: which regions are wrong where they match nothing. taken (T, u)
    and seen (K,): zeros. work (2, t + 1): scratch. Written: HIT and MISS in flags (T, t), which held IGNORED.
    """
    order, spare = work[0], work[1]
    for row in range(offsets.shape[0] - 1):
        start, size = offsets[row], offsets[row + 1] - offsets[row]
        for i in range(size):
            order[i] = start + i
        sort_down(order, offsets[0], size, scores, spare)
        for slot in range(size):
            i = order[slot]
            code = codes[i]
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
                elif counts[i]:
                    flags[t, i] = MISS
        for slot in range(size):
            if codes[order[slot]] >= 0:
                seen[codes[order[slot]]] = 0


@jit
def average(
    order: Array,
    bounds: Array,
    flags: Array,
    needed: Array,
    places: Array,
    curve: Array,
    precision: Array,
    recall: Array,
) -> None:
    """Average precision and greatest recall of each level and class, written to (T, K) both.

    order: regions by class, in each class the best first; bounds (K + 1,): where classes begin. needed (K,):
    how many true regions a class has; where there is none, nothing is written. places: recalls at which
    precision is read (COCO: 0, 0.01, ..., 1), where it is the greatest at this or a higher recall. curve
    (2, t + 1): scratch.
    """
    for k in range(needed.shape[0]):
        if needed[k] == 0:
            continue
        for t in range(flags.shape[0]):
            hits, misses, size = 0, 0, 0
            for slot in range(bounds[k], bounds[k + 1]):
                flag = flags[t, order[slot]]
                if flag == IGNORED:
                    continue
                hits += flag == HIT
                misses += flag == MISS
                curve[0, size] = hits / (hits + misses + _EPS)
                curve[1, size] = hits / needed[k]
                size += 1
            recall[t, k] = hits / needed[k]
            for i in range(size - 1, 0, -1):
                curve[0, i - 1] = max(curve[0, i - 1], curve[0, i])
            total, i = 0.0, 0
            for r in range(places.shape[0]):
                while i < size and curve[1, i] < places[r]:
                    i += 1
                if i == size:
                    break
                total += curve[0, i]
            precision[t, k] = total / places.shape[0]
