"""Translation edit rate: edits and shifts of words (Snover et al. 2006), with the limits of Tercom.

As sacrebleu counts them: edit distances only near the diagonal (25 words around it), shifts of at most 10
words over at most 50, at most 1,000 shifts tried for a pair. A tried shift is worked out from the first word
that it moves to where its row of the table runs parallel to that before the shift.
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
def band(
    i: int,
    n_hyp: int,
    n_ref: int,
    half: int,
) -> Any:
    """First and last + 1 column that row i of the table of distances holds."""
    if i == 0:
        return 0, min(n_ref + 1, n_ref // n_hyp + half + 1)
    middle = np.int64(np.floor(i * (n_ref / n_hyp)))
    last = n_ref + 1 if i == n_hyp else min(n_ref + 1, middle + half)
    return max(0, middle - half), last


@jit
def half_width(
    n_hyp: int,
    n_ref: int,
) -> Any:
    """How far from the diagonal distances are looked at."""
    ratio = n_ref / n_hyp
    return np.int64(np.ceil(ratio / 2 + BEAM)) if ratio / 2 > BEAM else np.int64(BEAM)


@jit
def fill_row(
    word: int,
    ref: Array,
    r0: int,
    above: Array,
    a0: int,
    a1: int,
    here: Array,
    h0: int,
    h1: int,
    step: Array,
    keep: bool,
) -> None:
    """Row `here`, columns h0 .. h1 - 1, from the row above it, columns a0 .. a1 - 1. `step` where keep."""
    left = _FAR
    for j in range(h0, h1):
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
        if keep:
            step[j - h0] = how


@jit
def fill_table(
    hyp: Array,
    n_hyp: int,
    ref: Array,
    r0: int,
    n_ref: int,
    half: int,
    table: Array,
    steps: Array,
) -> Any:
    """Distances and steps of all beginnings; returns the distance of the whole."""
    a0, a1 = band(0, n_hyp, n_ref, half)
    for j in range(a1):
        table[0, j] = j
    for i in range(1, n_hyp + 1):
        h0, h1 = band(i, n_hyp, n_ref, half)
        fill_row(hyp[i - 1], ref, r0, table[i - 1], a0, a1, table[i], h0, h1, steps[i], True)
        a0, a1 = h0, h1
    return table[n_hyp, n_ref - a0]


@jit
def align(
    n_hyp: int,
    n_ref: int,
    half: int,
    steps: Array,
    aligned: Array,
    hyp_wrong: Array,
    ref_wrong: Array,
) -> None:
    """Follow the steps back: the word of the hypothesis at each of the reference, and which are wrong."""
    i, j = n_hyp, n_ref
    for k in range(n_ref):
        aligned[k] = -1
    while i > 0 or j > 0:
        how = MORE
        if i > 0:
            h0, _ = band(i, n_hyp, n_ref, half)
            how = steps[i, j - h0]
        if j == 0:
            how = LESS
        if how == LESS:
            i -= 1
            hyp_wrong[i] = 1
        elif how == MORE:
            j -= 1
            ref_wrong[j] = 1
            aligned[j] = i - 1
        else:
            i -= 1
            j -= 1
            hyp_wrong[i] = ref_wrong[j] = how
            aligned[j] = i


@jit
def moved(
    hyp: Array,
    n_hyp: int,
    start: int,
    length: int,
    target: int,
    out: Array,
) -> Any:
    """Words with hyp[start : start + length] shifted to the target."""
    if target > start + length:
        first, second, end = start + length, target, target
    elif target < start:
        first, second, end = -1, -1, start + length
    else:
        first, second, end = start + length, min(length + target, n_hyp), min(length + target, n_hyp)
    at = min(start, target)
    for i in range(at):
        out[i] = hyp[i]
    if first >= 0:
        at = start
        for i in range(first, second):
            out[at] = hyp[i]
            at += 1
    for i in range(start, start + length):
        out[at] = hyp[i]
        at += 1
    if first < 0:
        for i in range(target, start):
            out[at] = hyp[i]
            at += 1
    for i in range(end, n_hyp):
        out[i] = hyp[i]
    return min(start, target), end


@jit
def shifted_distance(
    words: Array,
    low: int,
    high: int,
    n_hyp: int,
    ref: Array,
    r0: int,
    n_ref: int,
    half: int,
    table: Array,
    rows: Array,
    base: int,
) -> Any:
    """The distance of words that differ from those of the table only in low .. high - 1."""
    a0, a1 = band(low, n_hyp, n_ref, half)
    above = table[low]
    for i in range(low + 1, n_hyp + 1):
        h0, h1 = band(i, n_hyp, n_ref, half)
        here = rows[i & 1]
        fill_row(words[i - 1], ref, r0, above, a0, a1, here, h0, h1, rows[0], False)
        if i >= high:
            gap = here[0] - table[i, 0]
            parallel = True
            for j in range(1, h1 - h0):
                if here[j] - table[i, j] != gap:
                    parallel = False
                    break
            if parallel:
                return base + gap
        above = here
        a0, a1 = h0, h1
    return above[n_ref - a0]


@jit
def best_shift(
    hyp: Array,
    n_hyp: int,
    ref: Array,
    r0: int,
    n_ref: int,
    half: int,
    table: Array,
    rows: Array,
    base: int,
    aligned: Array,
    hyp_wrong: Array,
    ref_wrong: Array,
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
                wrong_h += hyp_wrong[start + length]
                wrong_r += ref_wrong[at + length]
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
                    gain = base - shifted_distance(
                        words, low, high, n_hyp, ref, r0, n_ref, half, table, rows, base
                    )
                    tried += 1
                    better = gain > saved
                    if gain == saved:
                        better = length > size
                        if length == size:
                            better = start < from_ or (start == from_ and target < to)
                    if size == 0 or better:
                        saved, from_, size, to = gain, start, length, target
                if tried >= MOST_TRIED:
                    return saved, from_, size, to, tried
    return saved, from_, size, to, tried


@jit
def translation_edits(
    hyp: Array,
    n_hyp: int,
    ref: Array,
    r0: int,
    n_ref: int,
    table: Array,
    steps: Array,
    rows: Array,
    aligned: Array,
    hyp_wrong: Array,
    ref_wrong: Array,
    words: Array,
) -> Any:
    """Edits and shifts that make the hypothesis the reference. hyp is written over."""
    if n_ref == 0 or n_hyp == 0:
        return n_hyp + n_ref
    half = half_width(n_hyp, n_ref)
    shifts = tried = 0
    while True:
        base = fill_table(hyp, n_hyp, ref, r0, n_ref, half, table, steps)
        for i in range(n_hyp):
            hyp_wrong[i] = 0
        for j in range(n_ref):
            ref_wrong[j] = 0
        align(n_hyp, n_ref, half, steps, aligned, hyp_wrong, ref_wrong)
        saved, start, length, target, tried = best_shift(
            hyp, n_hyp, ref, r0, n_ref, half, table, rows, base, aligned, hyp_wrong, ref_wrong, tried, words
        )
        if tried >= MOST_TRIED or saved <= 0 or length == 0:
            return shifts + base
        shifts += 1
        moved(hyp, n_hyp, start, length, target, words)
        for i in range(n_hyp):
            hyp[i] = words[i]


@jit
def ter_pairs(seq: Array, bounds: Array, texts: Array, rows: Array, starts: Array, out: Array) -> None:
    """Edits of each pair [hypothesis, reference] of each row: (D, D) from starts[r] on in out (flat)."""
    longest = 1
    for t in texts:
        longest = max(longest, bounds[t + 1] - bounds[t])
    hyp = np.zeros(longest, np.int64)
    words = np.zeros(longest, np.int64)
    aligned = np.zeros(longest, np.int64)
    hyp_wrong = np.zeros(longest, np.int64)
    ref_wrong = np.zeros(longest, np.int64)
    table = np.zeros(1, np.int64)
    steps = np.zeros(1, np.int64)
    row = np.zeros((2, longest + 1), np.int64)
    for r in range(len(rows) - 1):
        count = rows[r + 1] - rows[r]
        for h in range(count):
            a = bounds[texts[rows[r] + h]]
            n_hyp = bounds[texts[rows[r] + h] + 1] - a
            for t in range(count):
                b = bounds[texts[rows[r] + t]]
                n_ref = bounds[texts[rows[r] + t] + 1] - b
                if h == t:
                    continue
                for i in range(n_hyp):
                    hyp[i] = seq[a + i]
                tall, wide = n_hyp + 1, 1
                if n_hyp and n_ref:
                    wide = min(n_ref + 1, n_ref // n_hyp + 2 * half_width(n_hyp, n_ref) + 2)
                if len(table) < tall * wide:
                    table = np.zeros(tall * wide, np.int64)
                    steps = np.zeros(tall * wide, np.int64)
                out[starts[r] + h * count + t] = translation_edits(
                    hyp,
                    n_hyp,
                    seq,
                    b,
                    n_ref,
                    table[: tall * wide].reshape((tall, wide)),
                    steps[: tall * wide].reshape((tall, wide)),
                    row,
                    aligned,
                    hyp_wrong,
                    ref_wrong,
                    words,
                )
