"""Edit distances and common subsequences of sequences of whole numbers, 64 symbols of one at a time.

Levenshtein distance by Myers (1999) with blocks as in Hyyro (2003); longest common subsequence by Hyyro
(2004). Room is linear in the length, time is length x length / 64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.kernels.jit import jit
from conjoin.kernels.ngrams import popcount

if TYPE_CHECKING:
    from conjoin.outputs import Array

_FULL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE = np.uint64(1)
_ZERO = np.uint64(0)


def dense(seq: Array, bounds: Array) -> tuple[Array, Array, Array]:
    """Symbols renamed to 0 .. K - 1, the bounds, and room for K symbols."""
    most = int(seq.max(initial=0)) + 1
    seen = np.zeros(most, np.int64)
    seen[seq] = 1
    names = np.cumsum(seen) - 1
    return cast("Array", names[seq]), bounds, np.full(int(seen.sum()) + 1, -1, np.int64)


@jit
def mark(
    seq: Array,
    begin: int,
    end: int,
    heads: Array,
    word: Array,
    bits: Array,
    after: Array,
) -> None:
    """Where each symbol of a pattern stands: a chain from heads[symbol] of (word, bits), words rising."""
    used = 0
    for p in range(end - begin - 1, -1, -1):
        symbol = seq[begin + p]
        at = heads[symbol]
        if at < 0 or word[at] != p >> 6:
            word[used] = p >> 6
            bits[used] = _ZERO
            after[used] = at
            heads[symbol] = at = used
            used += 1
        bits[at] |= _ONE << np.uint64(p & 63)


@jit
def distance(
    seq: Array,
    begin: int,
    end: int,
    length: int,
    heads: Array,
    word: Array,
    bits: Array,
    after: Array,
    plus: Array,
    minus: Array,
) -> Any:
    """Levenshtein distance of the marked pattern of this length and seq[begin:end]."""
    if length == 0:
        return end - begin
    words = (length + 63) >> 6
    for w in range(words):
        plus[w] = _FULL
        minus[w] = _ZERO
    found = length
    last = np.uint64((length - 1) & 63)
    for p in range(begin, end):
        at = heads[seq[p]]
        carry = 1
        for w in range(words):
            equal = _ZERO
            if at >= 0 and word[at] == w:
                equal = bits[at]
                at = after[at]
            up, down = plus[w], minus[w]
            vertical = equal | down
            if carry < 0:
                equal |= _ONE
            across = (((equal & up) + up) ^ up) | equal
            rise = down | ~(across | up)
            fall = up & across
            top = last if w == words - 1 else np.uint64(63)
            out: Any = np.int64((rise >> top) & _ONE) - np.int64((fall >> top) & _ONE)
            rise = (rise << _ONE) | np.uint64(carry > 0)
            fall = (fall << _ONE) | np.uint64(carry < 0)
            plus[w] = fall | ~(vertical | rise)
            minus[w] = rise & vertical
            carry = out
        found += carry
    return found


@jit
def common(
    seq: Array,
    begin: int,
    end: int,
    length: int,
    heads: Array,
    word: Array,
    bits: Array,
    after: Array,
    rest: Array,
) -> Any:
    """Length of the longest common subsequence of the marked pattern and seq[begin:end]."""
    words = (length + 63) >> 6
    for w in range(words):
        rest[w] = _FULL
    for p in range(begin, end):
        at = heads[seq[p]]
        carry = _ZERO
        for w in range(words):
            old = rest[w]
            hit = _ZERO
            if at >= 0 and word[at] == w:
                hit = old & bits[at]
                at = after[at]
            total = old + hit + carry
            carry = np.uint64(total < old or (carry > _ZERO and total == old))
            rest[w] = total | (old - hit)
    found = 0
    for w in range(words):
        used = ~rest[w]
        if w == words - 1 and length & 63:
            used &= (_ONE << np.uint64(length & 63)) - _ONE
        found += popcount(used)
    return found


@jit
def edit_pairs(
    seq: Array, bounds: Array, heads: Array, texts: Array, rows: Array, starts: Array, out: Array
) -> None:
    """Levenshtein distance of each pair of each row: (D, D) numbers from starts[r] on in out (flat).

    seq (S,) of 0 .. K - 1, heads (K,) all -1.
    """
    longest = 1
    for t in texts:
        longest = max(longest, bounds[t + 1] - bounds[t])
    word = np.zeros(longest, np.int64)
    bits = np.zeros(longest, np.uint64)
    after = np.zeros(longest, np.int64)
    plus = np.zeros(longest // 64 + 1, np.uint64)
    minus = np.zeros(longest // 64 + 1, np.uint64)
    for r in range(len(rows) - 1):
        count = rows[r + 1] - rows[r]
        for h in range(count):
            a, z = bounds[texts[rows[r] + h]], bounds[texts[rows[r] + h] + 1]
            mark(seq, a, z, heads, word, bits, after)
            for t in range(h + 1, count):
                b, y = bounds[texts[rows[r] + t]], bounds[texts[rows[r] + t] + 1]
                found = distance(seq, b, y, z - a, heads, word, bits, after, plus, minus)
                out[starts[r] + h * count + t] = out[starts[r] + t * count + h] = found
            for p in range(a, z):
                heads[seq[p]] = -1


@jit
def common_pairs(
    seq: Array, bounds: Array, heads: Array, texts: Array, rows: Array, starts: Array, out: Array
) -> None:
    """Longest common subsequence of each pair of each row; as `edit_pairs`."""
    longest = 1
    for t in texts:
        longest = max(longest, bounds[t + 1] - bounds[t])
    word = np.zeros(longest, np.int64)
    bits = np.zeros(longest, np.uint64)
    after = np.zeros(longest, np.int64)
    rest = np.zeros(longest // 64 + 1, np.uint64)
    for r in range(len(rows) - 1):
        count = rows[r + 1] - rows[r]
        for h in range(count):
            a, z = bounds[texts[rows[r] + h]], bounds[texts[rows[r] + h] + 1]
            mark(seq, a, z, heads, word, bits, after)
            out[starts[r] + h * count + h] = z - a
            for t in range(h + 1, count):
                b, y = bounds[texts[rows[r] + t]], bounds[texts[rows[r] + t] + 1]
                found = common(seq, b, y, z - a, heads, word, bits, after, rest)
                out[starts[r] + h * count + t] = out[starts[r] + t * count + h] = found
            for p in range(a, z):
                heads[seq[p]] = -1
