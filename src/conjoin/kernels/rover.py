"""Word transition networks: several sequences of words aligned one after another (Fiscus 1997).

Words are numbers above 0; 0 is the null word. A network has a column for each system and a row for each slot;
a cell holds the index of a word, NULL where the system says nothing there, ABSENT where it skipped the text.
Costs, order of comparison and float32 sums are those of SCTK's `rover`, so that ties fall as they fall there.
Plain loops and few functions: what numba compiles here takes most of the time of a first call.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conjoin.kernels.jit import jit

Array = np.ndarray[Any, Any]

NULL = -1
ABSENT = -2
END_OF_TIME = 9999999.9


@jit
def chunk_ends(starts: Array, ends: Array, at: Array, last: Array, silence: float, stop: Array) -> bool:
    """Where the next chunk ends: stop[k] is the last word of system k before a silence common to all.

    at, last (K,): the next and the last word of each system. The first system needs a gap longer than
    `silence` seconds, the others any gap in common with it. False where no words are left.
    """
    for e in range(at[0], last[0] + 1):
        low, high = ends[e], starts[e + 1] if e < last[0] else END_OF_TIME
        if not high > low + silence:
            continue
        stop[0] = e
        found = True
        for k in range(1, len(at)):
            stop[k] = last[k]
            found = at[k] > last[k]
            for i in range(at[k], last[k] + 1):
                high_k = starts[i + 1] if i < last[k] else END_OF_TIME
                if min(high, high_k) - max(low, ends[i]) > 0.0:
                    stop[k] = i
                    low, high = max(low, ends[i]), min(high, high_k)
                    found = True
                    break
            if not found:
                break
        if found:
            return True
    more = False
    for k in range(len(at)):
        stop[k] = last[k]
        more = more or at[k] <= last[k]
    return more


@jit
def arcs_of(
    net: Array, birth: Array, systems: int, words: Array, timed: bool, flat: Array, cuts: Array
) -> None:
    """The arcs of each slot, in SCTK's order: that of its first word, then the other systems' in turn.

    net, birth: of a network that the first `systems` columns have made. flat: filled with indices of words
    (NULL for the null word), cut into slots by cuts (slots + 1,). Without times, arcs of the same word cost
    the same and only the first is kept.
    """
    n = 0
    cuts[0] = 0
    for s in range(len(cuts) - 1):
        for k in range(-1, systems):
            if k == birth[s]:
                continue
            word = net[s, birth[s] if k < 0 else k]
            mine = words[word] if word >= 0 else 0
            seen = False
            if not timed:
                for i in range(cuts[s], n):
                    seen = seen or (words[flat[i]] if flat[i] >= 0 else 0) == mine
            if not seen:
                flat[n] = word
                n += 1
        cuts[s + 1] = n


@jit
def cheapest(
    flat: Array,
    cuts: Array,
    words: Array,
    starts: Array,
    ends: Array,
    low: int,
    timed: bool,
    moves: Array,
    best: Array,
    rows: Array,
) -> None:
    """The least costs of aligning words low, low + 1, ... to the slots whose arcs these are.

    moves (arcs + 1, length + 1): 0 substitution, 1 deletion, 2 insertion. best (slots + 1, length + 1): which
    arc of each slot is cheapest. rows (4, length + 1) float32: room for costs.
    """
    length = rows.shape[1] - 1
    rows[0, 0] = 0.0
    for b in range(1, length + 1):
        word = low + b - 1
        rows[3, b] = np.float32(ends[word] - starts[word]) if timed else np.float32(3.0)
        rows[0, b] = rows[0, b - 1] + rows[3, b]
    before, after = 0, 1
    for s in range(len(cuts) - 1):
        for a in range(cuts[s], cuts[s + 1]):
            arc = flat[a]
            mine, begin, end = 0, 0.0, 0.0
            deleting = np.float32(0.001)
            if arc >= 0:
                mine, begin, end = words[arc], starts[arc], ends[arc]
                deleting = np.float32(end - begin) if timed else np.float32(3.0)
            rows[2, 0] = rows[before, 0] + deleting
            moves[a, 0] = 1
            for b in range(1, length + 1):
                word = low + b - 1
                same = mine == words[word]
                if timed:
                    far = abs(begin - starts[word]) + abs(end - ends[word])
                    swap = np.float32(far + (0.0 if same else 0.001))
                else:
                    swap = np.float32(0.0 if same else (1.0 if mine == 0 else 4.0))
                substituted = rows[before, b - 1] + swap
                deleted = rows[before, b] + deleting
                inserted = rows[2, b - 1] + rows[3, b]
                if substituted <= deleted and substituted <= inserted:
                    rows[2, b] = substituted
                    moves[a, b] = 0
                elif deleted < inserted:
                    rows[2, b] = deleted
                    moves[a, b] = 1
                else:
                    rows[2, b] = inserted
                    moves[a, b] = 2
            for b in range(length + 1):
                if a == cuts[s] or rows[2, b] < rows[after, b]:
                    rows[after, b] = rows[2, b]
                    best[s + 1, b] = a - cuts[s]
        before, after = after, before


@jit
def trace(net: Array, birth: Array, system: int, low: int, moves: Array, best: Array, cuts: Array) -> int:
    """Follow the moves back from the end and write the new system's column; gives the new number of slots."""
    slots, length = len(best) - 1, best.shape[1] - 1
    inserted = np.zeros(slots + 1, np.int64)  # words put in after slot s - 1
    aligned = np.full(slots + 1, NULL, np.int64)
    s, b, total = slots, length, slots
    while s > 0 or b > 0:
        arc = cuts[s - 1] + best[s, b] if s > 0 else 0
        move = 2 if s == 0 else moves[arc, b]
        while move == 2:
            inserted[s] += 1
            total += 1
            b -= 1
            move = (2 if b > 0 else 3) if s == 0 else moves[arc, b]
        if move == 0:
            b -= 1
            aligned[s] = low + b
        s -= 1
    at, word = total, low + length
    for s in range(slots, -1, -1):
        for _ in range(inserted[s]):
            at -= 1
            word -= 1
            for k in range(system):
                net[at, k] = NULL
            net[at, system] = word
            birth[at] = system
        if s > 0:
            at -= 1
            for k in range(system):
                net[at, k] = net[s - 1, k]
            birth[at] = birth[s - 1]
            net[at, system] = aligned[s]
            if aligned[s] != NULL:
                word = aligned[s]
    return total


@jit
def candidates(net: Array, turns: Array, words: Array, of: Array, first: Array, cuts: Array) -> int:
    """The different words of each slot, in the order of its arcs; gives their number.

    net (S, M); turns (S, M): the columns in the order of the slot's arcs, -1 after the last. Fills of (S, M):
    which candidate of its slot each system says; first (S M,): index of the first word of each candidate
    (NULL for the null word); cuts (S + 1,).
    """
    n = 0
    cuts[0] = 0
    for s in range(len(net)):
        for column in turns[s]:
            if column < 0:
                break
            word = net[s, column]
            mine = words[word] if word >= 0 else 0
            c = cuts[s]
            while c < n and (words[first[c]] if first[c] >= 0 else 0) != mine:
                c += 1
            if c == n:
                first[n] = word
                n += 1
            of[s, column] = c - cuts[s]
        cuts[s + 1] = n
    return n


@jit
def tallies(
    net: Array, turns: Array, of: Array, cuts: Array, evidence: Array, nulls: Array, shares: Array, out: Array
) -> None:
    """Of each candidate the weight of the systems that say it, and the sum and greatest of its confidences.

    evidence (t,): confidence of each word. nulls (M,): confidence of each system's null word. shares (M,):
    weights of systems. out (3, c), zeros: filled. Sums run in the order of the arcs.
    """
    for s in range(len(net)):
        for column in turns[s]:
            if column < 0:
                break
            word = net[s, column]
            c = cuts[s] + of[s, column]
            confidence = evidence[word] if word >= 0 else nulls[column]
            out[0, c] += shares[column]
            out[1, c] += shares[column] * confidence
            out[2, c] = max(out[2, c], confidence)
