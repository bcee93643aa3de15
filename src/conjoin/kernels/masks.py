"""Loops over pixels: patterns of labels, tables looked up, exact distances.

A pattern is the tuple of labels that the members gave to a pixel. Millions of pixels hold few patterns, so
what is costly is done once a pattern.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conjoin.kernels.jit import jit

Array = np.ndarray[Any, Any]


@jit
def add_digit(codes: Array, digits: Array, base: int) -> None:
    """codes (V,) uint16 becomes codes * base + digits. digits (V,) uint8."""
    b = np.uint16(base)
    for i in range(len(codes)):
        codes[i] = codes[i] * b + digits[i]


@jit
def add_mapped_digit(codes: Array, labels: Array, table: Array, base: int) -> None:
    """codes (V,) uint16 becomes codes * base + table[labels]. labels (V,) uint8, table (256,) uint16."""
    for i in range(len(codes)):
        codes[i] = codes[i] * base + table[labels[i]]


@jit
def count_codes(codes: Array, counts: Array) -> None:
    """Add to counts (4, S) int64 how often each code occurs; the sum over axis 0 is the histogram.

    Four rows, so that runs of one code do not wait for their own last count.
    """
    n = len(codes) // 4 * 4
    for i in range(0, n, 4):
        counts[0, codes[i]] += 1
        counts[1, codes[i + 1]] += 1
        counts[2, codes[i + 2]] += 1
        counts[3, codes[i + 3]] += 1
    for i in range(n, len(codes)):
        counts[0, codes[i]] += 1


@jit
def mark_present(labels: Array, present: Array) -> None:
    """present[l] = 1 for each label l. labels (V,) uint8, present (256,) uint8."""
    for i in range(len(labels)):
        present[labels[i]] = 1


@jit
def look_up(codes: Array, table: Array, out: Array) -> None:
    """out[i] = table[codes[i]]. codes uint16; table and out float64."""
    for i in range(len(codes)):
        out[i] = table[codes[i]]


@jit
def look_up_labels(codes: Array, table: Array, out: Array) -> None:
    """out[i] = table[codes[i]]. codes uint16; table and out uint8."""
    for i in range(len(codes)):
        out[i] = table[codes[i]]


@jit
def refine(ids: Array, codes: Array, base: int, keys: Array, found: Array, first: Array) -> int:
    """Replace each id by one of the pair (id, code), counted from 0 as they occur; gives their number.

    ids (V,) int64, codes (V,) uint16 below base. keys, found (T,) int64: a hash table, keys all -1, T a power
    of 2 of at least twice the pairs that can occur. first (V,) int64: gets a pixel of each new id.
    """
    mask = len(keys) - 1
    count = 0
    for i in range(len(ids)):
        key = ids[i] * base + codes[i]
        mixed = key ^ (key >> 31)
        mixed = mixed * 0x5851F42D4C957F2D
        slot = (mixed ^ (mixed >> 29)) & mask
        while keys[slot] != key and keys[slot] != -1:
            slot = (slot + 1) & mask
        if keys[slot] == -1:
            keys[slot] = key
            found[slot] = count
            first[count] = i
            count += 1
        ids[i] = found[slot]
    return count


@jit
def staple_rounds(
    decisions: Array,
    shares: Array,
    weights: Array,
    prior: float,
    truth: Array,
    p: Array,
    q: Array,
    tolerance: float,
    most: int,
) -> int:
    """EM of STAPLE; the rounds it took. Ends when no p and no q moves by more than the tolerance.

    decisions (P, M) uint8 of 0 and 1, shares (P,) of the pixels, weights (M,): exponents of the members.
    truth (P,): probability of the foreground, from where it begins to where it ends. p, q (M,): sensitivity
    and specificity; NaN where there is no foreground or background. Works with logarithms, none below -690.
    """
    patterns, members = decisions.shape
    said, unsaid = np.empty(members), np.empty(members)
    for rounds in range(1, most + 1):
        front, back = 0.0, 0.0
        said[:], unsaid[:] = 0.0, 0.0
        for r in range(patterns):
            inside = truth[r] * shares[r]
            outside = shares[r] - inside
            front += inside
            back += outside
            for m in range(members):
                if decisions[r, m]:
                    said[m] += inside
                else:
                    unsaid[m] += outside
        moved, level = 0.0, np.log(prior) - np.log(1.0 - prior)
        for m in range(members):
            new_p = min(said[m] / front, 1.0) if front > 0 else np.nan
            new_q = min(unsaid[m] / back, 1.0) if back > 0 else np.nan
            moved = max(moved, abs(new_p - p[m])) if front > 0 else moved
            moved = max(moved, abs(new_q - q[m])) if back > 0 else moved
            p[m], q[m] = new_p, new_q
            sure_p = new_p if front > 0 else 1.0
            sure_q = new_q if back > 0 else 1.0
            miss = max(np.log(1.0 - sure_p), -690.0) - max(np.log(sure_q), -690.0)
            hit = max(np.log(sure_p), -690.0) - max(np.log(1.0 - sure_q), -690.0)
            said[m], unsaid[m] = weights[m] * hit, weights[m] * miss
        for r in range(patterns):
            odds = level
            for m in range(members):
                odds += said[m] if decisions[r, m] else unsaid[m]
            truth[r] = 1.0 / (1.0 + np.exp(-odds))
        if rounds > 1 and moved <= tolerance:
            return rounds
    return most


@jit
def confusion_rounds(
    codes: Array,
    shares: Array,
    weights: Array,
    log_prior: Array,
    matrices: Array,
    tolerance: float,
    most: int,
) -> int:
    """EM of STAPLE for many labels; the rounds it took. Ends when no element moves by the tolerance.

    codes (P, M) int64: labels from 0. matrices (M, L, L), said by true: from where it begins to where it
    ends. A pattern in which no label is possible teaches nothing.
    """
    patterns, members = codes.shape
    labels = len(log_prior)
    now, logs, row = np.empty_like(matrices), np.empty_like(matrices), np.empty(labels)
    for rounds in range(1, most + 1):
        for m in range(members):
            for said in range(labels):
                for true in range(labels):
                    logs[m, said, true] = weights[m] * np.log(matrices[m, said, true])
                    now[m, said, true] = 0.0
        for r in range(patterns):
            top, total = -np.inf, 0.0
            for true in range(labels):
                row[true] = log_prior[true]
                for m in range(members):
                    row[true] += logs[m, codes[r, m], true]
                top = max(top, row[true])
            if top == -np.inf:
                continue
            for true in range(labels):
                row[true] = np.exp(row[true] - top)
                total += row[true]
            for m in range(members):
                for true in range(labels):
                    now[m, codes[r, m], true] += row[true] * (shares[r] / total)
        moved = 0.0
        for m in range(members):
            for true in range(labels):
                total = 0.0
                for said in range(labels):
                    total += now[m, said, true]
                for said in range(labels):
                    new = now[m, said, true] / total if total > 0 else 0.0
                    moved = max(moved, abs(new - matrices[m, said, true]))
                    matrices[m, said, true] = new
        if moved < tolerance:
            return rounds
    return most


@jit
def squared_distances(field: Array, step: float, place: Array, bound: Array, line: Array) -> None:
    """Lower envelope of parabolas along the last axis: field[r, x] = min_y field[r, y] + (step (x - y))^2.

    In place on field (R, N) float64; inf is no source. place (N,) int64, bound (N + 1,) and line (N,) float64
    are scratch. Felzenszwalb and Huttenlocher (2012); applied to each axis in turn it is the exact squared
    Euclidean distance.
    """
    rows, n = field.shape
    square = step * step
    for r in range(rows):
        count = 0
        for x in range(n):
            height = field[r, x]
            line[x] = height
            if height == np.inf:
                continue
            cut = -np.inf
            while count > 0:
                p = place[count - 1]
                cut = (height - line[p]) / (2.0 * square * (x - p)) + 0.5 * (x + p)
                if cut > bound[count - 1]:
                    break
                count -= 1
            if count == 0:
                cut = -np.inf
            place[count] = x
            bound[count] = cut
            count += 1
        if count == 0:
            continue
        at = 0
        for x in range(n):
            while at + 1 < count and bound[at + 1] < x:
                at += 1
            away = x - place[at]
            field[r, x] = line[place[at]] + square * away * away


def distance_to(mask: Array, spacing: Array) -> Array:
    """The Euclidean distance of each pixel to the nearest pixel of the mask; inf where the mask is empty.

    mask: bool, of any number of axes; spacing: the size of a pixel along each.
    """
    field = np.where(mask, 0.0, np.inf)
    for axis in range(mask.ndim):
        moved = np.ascontiguousarray(np.moveaxis(field, axis, -1))
        n = moved.shape[-1]
        squared_distances(
            moved.reshape(-1, n),
            float(spacing[axis]),
            np.empty(n, dtype=np.int64),
            np.empty(n + 1),
            np.empty(n),
        )
        field = np.moveaxis(moved, -1, axis)
    return np.sqrt(field)
