"""Shared n-grams: exact whatever the room for the sets of items, and for any numbers as symbols."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.kernels.edits import dense, edit_pairs
from conjoin.kernels.ngrams import pair_matches, popcount, room_of


def laid(rows):
    """Sequences of all rows end to end: seq, bounds, texts, rows."""
    flat = [s for row in rows for s in row]
    seq = np.array([x for s in flat for x in s], dtype=np.int64)
    bounds = np.cumsum([0, *map(len, flat)]).astype(np.int64)
    return seq, bounds, np.arange(len(flat)), np.cumsum([0, *map(len, rows)]).astype(np.int64)


def matches(rows, order, words=None):
    seq, bounds, texts, cuts = laid(rows)
    starts = np.concatenate([[0], np.cumsum(np.diff(cuts) ** 2 * order)]).astype(np.int64)
    work, table, sets = room_of(bounds, texts, cuts)
    if words is not None:
        sets = np.zeros(words, np.uint64)
    out = np.full(int(starts[-1]), -1, np.int32)
    pair_matches(seq, bounds, texts, cuts, order, starts, work, table, sets, out)
    return [out[starts[r] : starts[r + 1]] for r in range(len(rows))]


def expected(row, order):
    out = np.zeros((order, len(row), len(row)), int)
    for n in range(order):
        counts = [Counter(tuple(s[i : i + n + 1]) for i in range(len(s) - n)) for s in row]
        for i, a in enumerate(counts):
            for j, b in enumerate(counts):
                out[n, i, j] = (a & b).total()
    return out.reshape(-1)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.lists(st.integers(0, 3), max_size=40), max_size=5), max_size=3))
def test_shared_ngrams(rows):
    for row, found in zip(rows, matches(rows, 4), strict=True):
        np.testing.assert_array_equal(found, expected(row, 4))


@pytest.mark.parametrize("words", [70, 140, 1000])
def test_small_room_gives_the_same(words):
    rng = np.random.default_rng(0)
    base = rng.integers(0, 50, 600)
    row = [np.where(rng.random(600) < 0.1, rng.integers(0, 50, 600), base).tolist() for _ in range(70)]
    np.testing.assert_array_equal(matches([row], 3, words)[0], matches([row], 3)[0])
    np.testing.assert_array_equal(matches([row[:9]], 3, words)[0], expected(row[:9], 3))


def test_symbols_up_to_32_bits_do_not_collide():
    top = 2**32 - 1
    row = [[top, 0, top], [0, top, 0], [top - 1, 1, top - 1]]
    np.testing.assert_array_equal(matches([row], 3)[0], expected(row, 3))


def test_ones_are_counted():
    rng = np.random.default_rng(0)
    for x in [0, 1, 2**64 - 1, 2**63, *rng.integers(0, 2**63, 50).tolist()]:
        assert popcount(np.uint64(x)) == bin(x).count("1")


def test_edit_distance_over_many_words_of_bits():
    rng = np.random.default_rng(1)
    a = rng.integers(0, 4, 300).tolist()
    b = [x for x in a if rng.random() > 0.1]
    seq, bounds, texts, cuts = laid([[a, b]])
    out = np.zeros(4)
    edit_pairs(*dense(seq, bounds), texts, cuts, np.array([0, 4]), out)
    assert out.tolist() == [0, len(a) - len(b), len(a) - len(b), 0]
