"""Translation edit rate: edits and shifts of words (Snover et al. 2006), with the limits of Tercom.

As sacrebleu counts them: edit distances only near the diagonal (25 words around it), shifts of at most 10
words over at most 50, at most 1,000 shifts tried for a pair. A tried shift is worked out from the first word
that it moves to where its row of the table runs parallel to that before the shift. Row i of a table holds the
columns bands[0, i] .. bands[1, i] - 1 only, so that room and time for long texts are linear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.kernels.jit import jit

if TYPE_CHECKING:
    from conjoin.outputs import Array

BEAM = 25
MOST_WORDS, MOST_DISTANCE, MOST_TRIED = 10, 50, 1000
_FAR = np.int64(10**15)
SAME, CHANGED, MORE, LESS = range(4)
"""Steps: no edit, substitution, one more word of the reference, one more word of the hypothesis."""


@jit
def set_bands(n_hyp: int, n_ref: int, bands: Array) -> Any:
    """The columns that each row of the table holds; returns the width of the widest."""
    ratio = n_ref / n_hyp
    half = np.int64(np.ceil(ratio / 2 + BEAM)) if ratio / 2 > BEAM else np.int64(BEAM)
    widest = 0
    for i in range(n_hyp + 1):
        middle = np.int64(np.floor(i * ratio))
        bands[0, i] = max(0, middle - half)
        bands[1, i] = min(n_ref + 1, middle + half)
        if i == 0:
            bands[1, i] = min(n_ref + 1, n_ref // n_hyp + half + 1)
        if i == n_hyp:
            bands[1, i] = n_ref + 1
        widest = max(widest, bands[1, i] - bands[0, i])
    return widest


@jit
def fill_row(
    i: int, word: int, ref: Array, r0: int, bands: Array, above: Array, here: Array, step: Array
) -> None:
    """Row i of the table of distances from the row above it, and the steps that lead there."""
    a0, a1, h0 = bands[0, i - 1], bands[1, i - 1], bands[0, i]
    left = _FAR
    for j in range(h0, bands[1, i]):
        over = above[j - a0] if a0 <= j < a1 else _FAR
        if j == 0:
            best, how = over + 1, LESS
        else:
            across = above[j - 1 - a0] if a0 <= j - 1 < a1 else _FAR
            how = SAME if word == ref[r0 + j - 1] else CHANGED
            best = across + how
            if over + 1 < best:
                best, how = over + 1, LESS
            if left + 1 < best:
                best, how = left + 1, MORE
        here[j - h0] = left = best
        step[j - h0] = how


@jit
def align(n_hyp: int, n_ref: int, bands: Array, steps: Array, aligned: Array, wrong: Array) -> None:
    """Follow the steps back: the word of the hypothesis at each of the reference, and which are wrong.

    wrong (2, longest): of the hypothesis, of the reference.
    """
    for k in range(n_hyp):
        wrong[0, k] = 0
    for k in range(n_ref):
        wrong[1, k] = 0
    i, j = n_hyp, n_ref
    while i > 0 or j > 0:
        how = MORE
        if j == 0:
            how = LESS
        elif i > 0:
            how = steps[i, j - bands[0, i]]
        if how == LESS:
            i -= 1
            wrong[0, i] = 1
        elif how == MORE:
            j -= 1
            wrong[1, j] = 1
            aligned[j] = i - 1
        else:
            i -= 1
            j -= 1
            wrong[0, i] = wrong[1, j] = how
            aligned[j] = i


@jit
def moved(hyp: Array, n_hyp: int, start: int, length: int, target: int, out: Array) -> Any:
    """Words with hyp[start : start + length] shifted to the target; returns which begin and end to differ."""
    low, high = min(start, target), start + length
    if target >= start:
        high = target if target > start + length else min(length + target, n_hyp)
    at = 0
    for i in range(low):
        out[at] = hyp[i]
        at += 1
    if target >= start:
        for i in range(start + length, high):
            out[at] = hyp[i]
            at += 1
    for i in range(start, start + length):
        out[at] = hyp[i]
        at += 1
    if target < start:
        for i in range(target, start):
            out[at] = hyp[i]
            at += 1
    for i in range(high, n_hyp):
        out[i] = hyp[i]
    return low, high


@jit
def shifted_distance(
    words: Array,
    low: int,
    high: int,
    n_hyp: int,
    ref: Array,
    r0: int,
    n_ref: int,
    bands: Array,
    table: Array,
    rows: Array,
) -> Any:
    """How much less the distance of words is that differ from those of the table in low .. high - 1 only."""
    above = table[low]
    for i in range(low + 1, n_hyp + 1):
        here = rows[i & 1]
        fill_row(i, words[i - 1], ref, r0, bands, above, here, rows[2])
        if i >= high:
            gap = table[i, 0] - here[0]
            parallel = True
            for j in range(1, bands[1, i] - bands[0, i]):
                if table[i, j] - here[j] != gap:
                    parallel = False
                    break
            if parallel:
                return gap
        above = here
    return table[n_hyp, n_ref - bands[0, n_hyp]] - above[n_ref - bands[0, n_hyp]]


@jit
def best_shift(
    hyp: Array,
    n_hyp: int,
    ref: Array,
    r0: int,
    n_ref: int,
    bands: Array,
    table: Array,
    rows: Array,
    aligned: Array,
    wrong: Array,
    tried: int,
    words: Array,
) -> Any:
    """The shift that saves most edits: (saved, start, length, target, tried so far); length 0 is none.

    Ties go to the longest, then to the earliest start, then to the earliest target.
    """
    saved, from_, size, to = 0, 0, 0, 0
    for start in range(n_hyp):
        for at in range(max(0, start - MOST_DISTANCE), min(n_ref, start + MOST_DISTANCE + 1)):
            wrong_h = wrong_r = length = 0
            while (
                length < MOST_WORDS
                and start + length < n_hyp
                and at + length < n_ref
                and hyp[start + length] == ref[r0 + at + length]
            ):
                wrong_h += wrong[0, start + length]
                wrong_r += wrong[1, at + length]
                length += 1
                if wrong_h == 0 or wrong_r == 0 or start <= aligned[at] < start + length:
                    continue
                before = -1
                for offset in range(-1, length):
                    target = 0 if at + offset == -1 else aligned[at + offset] + 1
                    if target == before:
                        continue
                    before = target
                    low, high = moved(hyp, n_hyp, start, length, target, words)
                    gain = shifted_distance(words, low, high, n_hyp, ref, r0, n_ref, bands, table, rows)
                    tried += 1
                    better = size == 0 or gain > saved
                    if size and gain == saved:
                        better = length > size
                        if length == size:
                            better = start < from_ or (start == from_ and target < to)
                    if better:
                        saved, from_, size, to = gain, start, length, target
                if tried >= MOST_TRIED:
                    return saved, from_, size, to, tried
    return saved, from_, size, to, tried


@jit
def translation_edits(
    n_hyp: int,
    ref: Array,
    r0: int,
    n_ref: int,
    bands: Array,
    table: Array,
    steps: Array,
    rows: Array,
    aligned: Array,
    wrong: Array,
    texts: Array,
) -> Any:
    """Edits and shifts that make the hypothesis texts[0, :n_hyp] the reference. texts is written over."""
    shifts = tried = 0
    for j in range(bands[1, 0]):
        table[0, j] = j
    while True:
        for i in range(1, n_hyp + 1):
            fill_row(i, texts[0, i - 1], ref, r0, bands, table[i - 1], table[i], steps[i])
        align(n_hyp, n_ref, bands, steps, aligned, wrong)
        saved, start, length, target, tried = best_shift(
            texts[0], n_hyp, ref, r0, n_ref, bands, table, rows, aligned, wrong, tried, texts[1]
        )
        if tried >= MOST_TRIED or saved <= 0 or length == 0:
            return shifts + table[n_hyp, n_ref - bands[0, n_hyp]]
        shifts += 1
        moved(texts[0], n_hyp, start, length, target, texts[1])
        for i in range(n_hyp):
            texts[0, i] = texts[1, i]


@jit
def ter_pairs(
    seq: Array, bounds: Array, texts: Array, rows: Array, starts: Array, room: Array, out: Array
) -> None:
    """Edits of each pair [hypothesis, reference] of each row: (D, D) from starts[r] on in out (flat).

    room (10, longest + 1) int64.
    """
    table = np.zeros((2, 1), np.int64)
    for r in range(len(rows) - 1):
        count = rows[r + 1] - rows[r]
        for h in range(count):
            a = bounds[texts[rows[r] + h]]
            n_hyp = bounds[texts[rows[r] + h] + 1] - a
            for t in range(count):
                b = bounds[texts[rows[r] + t]]
                n_ref = bounds[texts[rows[r] + t] + 1] - b
                at = starts[r] + h * count + t
                if h == t or n_hyp == 0 or n_ref == 0:
                    out[at] = 0 if h == t else n_hyp + n_ref
                    continue
                for i in range(n_hyp):
                    room[0, i] = seq[a + i]
                wide = set_bands(n_hyp, n_ref, room[2:4])
                cells = (n_hyp + 1) * wide
                if table.shape[1] < cells:
                    table = np.zeros((2, cells), np.int64)
                out[at] = translation_edits(
                    n_hyp,
                    seq,
                    b,
                    n_ref,
                    room[2:4],
                    table[0, :cells].reshape((n_hyp + 1, wide)),
                    table[1, :cells].reshape((n_hyp + 1, wide)),
                    room[4:7],
                    room[7],
                    room[8:10],
                    room[0:2],
                )
