"""Errors of a recognised sequence of words against a reference with alternatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from conjoin.kernels.jit import jit

Array = np.ndarray[Any, Any]


@jit
def errors(
    heard: Array,
    heard_cuts: Array,
    said: Array,
    way_cuts: Array,
    slot_cuts: Array,
    row_cuts: Array,
    swap: int,
    gap: int,
    out: Array,
) -> None:
    """The errors of the cheapest alignment of each row, and the words of the reference on its way.

    heard, cut into n rows by heard_cuts: the recognised words. A row of the reference is a sequence of slots
    (row_cuts), a slot has one or more ways (slot_cuts), a way has no or more words (way_cuts) of said.
    swap, gap: costs of a substitution, and of an insertion or deletion. Of equal costs the way with fewer
    errors counts, then the one named first. out (n, 2): filled.
    """
    longest = 1
    for i in range(len(out)):
        longest = max(longest, heard_cuts[i + 1] - heard_cuts[i] + 1)
    # a state is cost * 2^32 + errors: the least state is the cheapest, and has the fewest errors of those
    one = (1 << 32) * gap + 1
    other = (1 << 32) * swap + 1
    state, now, best = np.empty(longest, np.int64), np.empty(longest, np.int64), np.empty(longest, np.int64)
    words, count, most = np.empty(longest, np.int64), np.empty(longest, np.int64), np.empty(longest, np.int64)
    for i in range(len(out)):
        low, length = heard_cuts[i], heard_cuts[i + 1] - heard_cuts[i]
        for b in range(length + 1):
            state[b], words[b] = b * one, 0
        for slot in range(row_cuts[i], row_cuts[i + 1]):
            for way in range(slot_cuts[slot], slot_cuts[slot + 1]):
                for b in range(length + 1):
                    now[b], count[b] = state[b], words[b]
                for w in range(way_cuts[way], way_cuts[way + 1]):
                    corner, corner_count = now[0], count[0]
                    now[0] += one
                    count[0] += 1
                    for b in range(1, length + 1):
                        above, above_count = now[b], count[b]
                        found = corner + (0 if said[w] == heard[low + b - 1] else other)
                        found_count = corner_count + 1
                        if above + one < found:
                            found, found_count = above + one, above_count + 1
                        if now[b - 1] + one < found:
                            found, found_count = now[b - 1] + one, count[b - 1]
                        now[b], count[b] = found, found_count
                        corner, corner_count = above, above_count
                first = way == slot_cuts[slot]
                for b in range(length + 1):
                    if first or now[b] < best[b]:
                        best[b], most[b] = now[b], count[b]
            for b in range(length + 1):
                state[b], words[b] = best[b], most[b]
        out[i, 0] = state[length] & 0xFFFFFFFF
        out[i, 1] = words[length]
