"""Loops over regions of 1, 2 or 3 dimensions, row by row: laid out by class, clustered or suppressed, ranked.

Regions are rows of `coords (t, 2 D)`: lower corner, then upper corner. Intersection over union is that of
lengths, areas or volumes. M members, n rows, K classes, t regions of all members one after another. `dims` is
a tuple of D numbers: its length is known to the compiler, so that loops over dimensions are unrolled.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from conjoin.kernels.jit import inner, jit

if TYPE_CHECKING:
    from conjoin.outputs import Array

AVG, MAX, BOX_AND_MODEL_AVG, ABSENT_MODEL_AWARE_AVG, NMW, LOG_ODDS = range(6)
"""How a cluster gets its score; with the last two, regions are compared with the cluster's first region."""
LINEAR, GAUSSIAN, HARD = 1, 2, 3
"""How the scores of regions that overlap a better one are lowered."""
EDGE = 1e-6
"""Probabilities are cut to [1e-6, 1 - 1e-6] before a logit."""
_RUN = 16


class Given(NamedTuple):
    """Members' regions. offsets (M, n + 1): where rows begin in coords (t, 2 D), scores (t,), codes (t,).

    answered (M, n). weights (M, K): of a member in a class; 0 is absent. skip: regions of a lower score are
    left out.
    """

    offsets: Array
    answered: Array
    coords: Array
    scores: Array
    codes: Array
    weights: Array
    skip: float


class Work(NamedTuple):
    """Scratch for one row of at most W regions: as they lie in classes, and of the clusters made of them.

    whole (9, W), int64, its rows: AT, WHO, PLACE of regions (position, member, cluster), LABEL, START of
    groups, FIRST, SIZE, CODE, TARGET of clusters. real (4, W), float64: TOTAL, BEST, MASS, UNIQUE of them.
    order, spare, ends (W,) int64. strength, score (W,) of regions and of clusters. box, sums (W, 2 D).
    seen (W, M) bool. counts (2, K) int64.
    """

    whole: Array
    real: Array
    order: Array
    spare: Array
    ends: Array
    strength: Array
    score: Array
    box: Array
    sums: Array
    seen: Array
    counts: Array


AT, WHO, PLACE, LABEL, START, FIRST, SIZE, CODE, TARGET = range(9)
TOTAL, BEST, MASS, UNIQUE = range(4)


class Made(NamedTuple):
    """Fused regions, row after row: coords (t, 2 D), scores, codes (t,), sizes (n,) of rows.

    assigned (t,): for each given region the fused one that it went into, or -1; or of length 0.
    """

    coords: Array
    scores: Array
    codes: Array
    sizes: Array
    assigned: Array


def scratch(given: Given) -> Work:
    """Arrays for the row with the most regions."""
    M, K = given.weights.shape
    W = int(np.diff(given.offsets, axis=1).sum(axis=0).max(initial=0)) + 1
    C = given.coords.shape[1]
    order, spare, ends = (np.zeros(W, np.int64) for _ in range(3))
    return Work(
        np.zeros((9, W), np.int64), np.zeros((4, W)), order, spare, ends, np.zeros(W), np.zeros(W),
        np.zeros((W, C)), np.zeros((W, C)), np.zeros((W, M), np.bool_), np.zeros((2, K), np.int64),
    )  # fmt: skip


@inner
def overlap(dims: tuple[int, ...], a: Array, i: int, b: Array, j: int) -> float:
    """Intersection over union of the regions a[i] and b[j]; 0 where they do not overlap."""
    D = len(dims)
    inter, mine, other = 1.0, 1.0, 1.0
    for d in range(D):
        side = min(a[i, D + d], b[j, D + d]) - max(a[i, d], b[j, d])
        if side <= 0.0:
            return 0.0
        inter *= side
        mine *= a[i, D + d] - a[i, d]
        other *= b[j, D + d] - b[j, d]
    return inter / (mine + other - inter)


@inner
def sort_down(index: Array, start: int, stop: int, keys: Array, spare: Array) -> None:
    """Sort index[start:stop] in place so that keys[index] falls; equal keys keep their order."""
    for low in range(start, stop, _RUN):
        for i in range(low + 1, min(low + _RUN, stop)):
            moved = index[i]
            key = keys[moved]
            j = i - 1
            while j >= low and keys[index[j]] < key:
                index[j + 1] = index[j]
                j -= 1
            index[j + 1] = moved
    width = _RUN
    while width < stop - start:
        for low in range(start, stop, 2 * width):
            middle, high = min(low + width, stop), min(low + 2 * width, stop)
            if middle >= high or keys[index[middle - 1]] >= keys[index[middle]]:
                continue
            for i in range(low, middle):
                spare[i] = index[i]
            i, j = low, middle
            for k in range(low, high):
                if i < middle and (j >= high or keys[spare[i]] >= keys[index[j]]):
                    index[k] = spare[i]
                    i += 1
                elif i < middle:
                    index[k] = index[j]
                    j += 1
                else:
                    break
        width *= 2


@inner
def lay_row(dims: tuple[int, ...], given: Given, row: int, work: Work) -> tuple[int, int]:
    """Group a row's regions by class, in each group the strongest (weight x score) first.

    Written: AT, WHO, strength of regions that count; order, so that groups lie together; LABEL and START of
    groups. Returns the number of groups, and the position of the first region that makes
    no sense (NaN, infinite, upper below lower, negative score), or -1.
    """
    D = len(dims)
    whole, strength, counts, order = work.whole, work.strength, work.counts, work.order
    answered, offsets, codes, weights = given.answered, given.offsets, given.codes, given.weights
    coords, scores, skip = given.coords, given.scores, given.skip
    found, groups = 0, 0
    for m in range(answered.shape[0]):
        if not answered[m, row]:
            continue
        for p in range(offsets[m, row], offsets[m, row + 1]):
            code = codes[p]
            share = weights[m, code]
            if share == 0.0:
                continue
            size = 1.0
            for d in range(D):
                side = coords[p, D + d] - coords[p, d]
                if not 0.0 <= side < np.inf:
                    return groups, p
                size *= side
            score = scores[p]
            if not 0.0 <= score < np.inf:
                return groups, p
            if score < skip or size == 0.0:
                continue
            if counts[0, code] == 0:
                counts[1, groups] = code
                groups += 1
            counts[0, code] += 1
            whole[AT, found], whole[WHO, found], strength[found] = p, m, score * share
            found += 1
    place = 0
    for g in range(groups):
        code = counts[1, g]
        whole[LABEL, g], whole[START, g] = code, place
        counts[0, code], place = place, place + counts[0, code]
    whole[START, groups] = place
    for i in range(found):
        code = codes[whole[AT, i]]
        order[counts[0, code]] = i
        counts[0, code] += 1
    for g in range(groups):
        counts[0, counts[1, g]] = 0
        sort_down(order, whole[START, g], whole[START, g + 1], strength, work.spare)
    return groups, -1


@inner
def count_crowd(answered: Array, weights: Array, row: int, code: int) -> tuple[int, float, float]:
    """Number, sum and maximum of the weights of the members who answered the row and know the class."""
    number, total, most = 0, 0.0, 0.0
    for m in range(answered.shape[0]):
        share = weights[m, code]
        if answered[m, row] and share > 0.0:
            number += 1
            total += share
            most = max(most, share)
    return number, total, most


@inner
def cluster_row(
    dims: tuple[int, ...],
    given: Given,
    work: Work,
    row: int,
    groups: int,
    iou: float,
    rule: int,
    capped: bool,
    prior: float,
) -> int:
    """Cluster a row's regions class by class, and give each cluster its box and score. Returns their number.

    A region joins the cluster with the greatest intersection over union, if above `iou`: that with the
    cluster's mean so far, or with its first region (NMW, LOG_ODDS). prior: log-odds, for LOG_ODDS.
    """
    C = 2 * len(dims)
    whole, real, box, sums, seen, coords = work.whole, work.real, work.box, work.sums, work.seen, given.coords
    answered, weights, scores, order = given.answered, given.weights, given.scores, work.order
    moving = rule < NMW
    done = 0
    for g in range(groups):
        code, base = whole[LABEL, g], done
        for slot in range(whole[START, g], whole[START, g + 1]):
            i = order[slot]
            p, m, share = whole[AT, i], whole[WHO, i], work.strength[i]
            c, most = -1, iou
            for k in range(base, done):
                if moving:
                    near = overlap(dims, box, k, coords, p)
                else:
                    near = overlap(dims, coords, whole[FIRST, k], coords, p)
                if near > most:
                    c, most = k, near
            if c < 0:
                c, done = done, done + 1
                whole[FIRST, c], whole[SIZE, c], whole[CODE, c], real[BEST, c] = p, 0, code, share
                real[TOTAL, c] = real[MASS, c] = real[UNIQUE, c] = 0.0
                for k in range(seen.shape[1]):
                    seen[c, k] = False
                for k in range(C):
                    box[c, k] = coords[p, k]
                    sums[c, k] = 0.0
            elif rule == NMW:
                share *= most
            weight = weights[m, code]
            if not seen[c, m]:
                seen[c, m] = True
                real[UNIQUE, c] += weight
                if rule == LOG_ODDS:
                    sure = min(max(scores[p], EDGE), 1.0 - EDGE)
                    real[TOTAL, c] += weight * (math.log(sure / (1.0 - sure)) - prior)
            if moving:
                real[TOTAL, c] += share
            real[MASS, c] += weight if moving else share
            whole[PLACE, i] = c
            whole[SIZE, c] += 1
            mass = real[TOTAL, c] if moving else real[MASS, c]
            for k in range(C):
                sums[c, k] += share * coords[p, k]
            if whole[SIZE, c] > 1 and mass > 0.0:
                for k in range(C):
                    box[c, k] = sums[c, k] / mass
        number, total, most = count_crowd(answered, weights, row, code)
        for c in range(base, done):
            if rule == LOG_ODDS:
                score = 1.0 / (1.0 + math.exp(-real[TOTAL, c] - prior))
            elif rule == MAX or rule == NMW:  # noqa: SIM109  a tuple costs the compiler time
                score = real[BEST, c] / most
            elif rule == BOX_AND_MODEL_AVG:
                score = real[TOTAL, c] / real[MASS, c] * real[UNIQUE, c] / total
            elif rule == ABSENT_MODEL_AWARE_AVG:
                score = real[TOTAL, c] / (real[MASS, c] + total - real[UNIQUE, c])
            else:
                score = real[TOTAL, c] / total
                if capped:
                    score = min(score * min(number, whole[SIZE, c]) / whole[SIZE, c], 1.0)
            work.score[c] = score
    return done


@inner
def suppress_row(
    dims: tuple[int, ...],
    given: Given,
    work: Work,
    row: int,
    groups: int,
    iou: float,
    method: int,
    sigma: float,
    least: float,
) -> int:
    """In each class take the best region, lower the scores of those that overlap it, and so on.

    HARD: to 0 above `iou`; LINEAR: by the factor 1 - IoU above `iou`; GAUSSIAN: by exp(-IoU^2 / sigma); there
    regions with scores that are not above `least` are left out. Returns how many stay, as clusters of one.
    """
    order, strength, whole, coords = work.order, work.strength, work.whole, given.coords
    done = 0
    for g in range(groups):
        low, high = whole[START, g], whole[START, g + 1]
        _, _, most = count_crowd(given.answered, given.weights, row, whole[LABEL, g])
        for slot in range(low, high):
            strength[order[slot]] /= most
        while low < high:
            if method != HARD:
                top = low
                for slot in range(low + 1, high):
                    if strength[order[slot]] > strength[order[top]]:
                        top = slot
                order[low], order[top] = order[top], order[low]
            i = order[low]
            if method != HARD and strength[i] <= least:
                break
            p = whole[AT, i]
            for k in range(2 * len(dims)):
                work.box[done, k] = coords[p, k]
            work.score[done], whole[CODE, done] = strength[i], whole[LABEL, g]
            done += 1
            last = low + 1
            for slot in range(low + 1, high):
                j = order[slot]
                near = overlap(dims, coords, p, coords, whole[AT, j])
                if method == HARD:
                    if near > iou:
                        continue
                elif method == GAUSSIAN:
                    if near > 0.0:
                        strength[j] *= math.exp(-near * near / sigma)
                elif near > iou:
                    strength[j] *= 1.0 - near
                order[last] = j
                last += 1
            low, high = low + 1, last
    return done


@inner
def hand_over(size: int, done: int, work: Work, made: Made) -> None:
    """Write a row's clusters behind the first `done` regions, the best first; ties keep their order.

    Scores are spread over as many buckets as there are clusters, and each bucket is sorted.
    """
    score, ends, order = work.score, work.ends, work.order
    low, high = np.inf, -np.inf
    for i in range(size):
        low, high = min(low, score[i]), max(high, score[i])
    scale = (size - 1) / (high - low) if high > low else 0.0
    place = ends[size]  # 0, but no literal: `sort_down` would be compiled for it once more
    start = place
    for i in range(size):
        ends[int((high - score[i]) * scale)] += 1
    for k in range(size):
        ends[k], place = place, place + ends[k]
    for i in range(size):
        k = int((high - score[i]) * scale)
        order[ends[k]] = i
        ends[k] += 1
    for k in range(size):
        if ends[k] - start > 1:
            sort_down(order, start, ends[k], score, work.spare)
        start = ends[k]
        ends[k] = 0
    for k in range(size):
        c = order[k]
        made.scores[done + k], made.codes[done + k] = score[c], work.whole[CODE, c]
        for d in range(work.box.shape[1]):
            made.coords[done + k, d] = work.box[c, d]
        work.whole[TARGET, c] = done + k


@jit
def fuse(
    dims: tuple[int, ...],
    given: Given,
    work: Work,
    made: Made,
    done: int,
    iou: float,
    rule: int,
    capped: bool,
    prior: float,
) -> tuple[int, int]:
    """Cluster each row's regions and make one region of each cluster; in each row the best first.

    done: how many regions `made` holds already. Returns how many there are now, and the position of a
    given one that makes no sense, or -1.
    """
    for row in range(given.answered.shape[1]):
        groups, wrong = lay_row(dims, given, row, work)
        if wrong >= 0:
            return done, wrong
        regions = work.whole[START, groups]
        size = cluster_row(dims, given, work, row, groups, iou, rule, capped, prior)
        hand_over(size, done, work, made)
        if made.assigned.shape[0]:
            for i in range(regions):
                made.assigned[work.whole[AT, i]] = work.whole[TARGET, work.whole[PLACE, i]]
        made.sizes[row] = size
        done += size
    return done, -1


@jit
def suppress(
    dims: tuple[int, ...],
    given: Given,
    work: Work,
    made: Made,
    done: int,
    iou: float,
    method: int,
    sigma: float,
    least: float,
) -> tuple[int, int]:
    """Suppress in each row and class, see `suppress_row`; in each row the best first.

    done: how many regions `made` holds already. Returns how many there are now, and the position of a
    given one that makes no sense, or -1.
    """
    for row in range(given.answered.shape[1]):
        groups, wrong = lay_row(dims, given, row, work)
        if wrong >= 0:
            return done, wrong
        size = suppress_row(dims, given, work, row, groups, iou, method, sigma, least)
        hand_over(size, done, work, made)
        made.sizes[row] = size
        done += size
    return done, -1
