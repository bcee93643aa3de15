"""Draws and masks: even, alike however they are cut, ranks as by sorting."""

import numpy as np
import pytest

from conjoin.kernels.thinning import RUN, keep_by_chance, keep_by_rank

KEY = np.uint64(12345)


def kept(start, n, density, key=KEY):
    out = np.empty(n, np.uint8)
    keep_by_chance(out, key, start, density)
    return out.astype(bool)


@pytest.mark.parametrize("start", [0, 3 * RUN - 5, (1 << 33) + 7])
def test_draws_do_not_depend_on_the_cuts(start):
    whole = kept(start, 3000, 0.5)
    parts = [kept(start + at, n, 0.5) for at, n in ((0, 1), (1, 1030), (1031, 1969))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("density", [0.0, 0.001, 0.3, 0.5, 0.999])
def test_the_share_is_the_density(density):
    n = 1 << 22
    share = kept(0, n, density).mean()
    assert abs(share - density) <= 5 * np.sqrt(density * (1 - density) / n)


def test_draws_are_independent():
    n = 1 << 20
    first = kept(0, n, 0.5).astype(float) - 0.5
    others = [kept(0, n, 0.5, np.uint64(12346)), kept(RUN, n, 0.5), kept(1, n, 0.5), kept(1 << 32, n, 0.5)]
    for other in others:
        assert abs((first * (other - 0.5)).mean()) < 5 * 0.25 / np.sqrt(n)
    for lag in (1, 2, 3, 16, 31, 32, 64, 1000, 2048, 4096, 5632):
        assert abs((first[lag:] * first[:-lag]).mean()) < 5 * 0.25 / np.sqrt(n)
    for size in (8, 256, 4096):  # counts in groups spread as those of coins
        counts = (first.reshape(-1, size) + 0.5).sum(axis=1)
        assert counts.var() == pytest.approx(size / 4, rel=6 * np.sqrt(2 / len(counts)))


@pytest.mark.parametrize("width", [1, 2, 7, 100, 1001])
def test_probabilities_rise_with_the_rank(width):
    rows = 40_000 // width * 10
    rng = np.random.default_rng(0)
    one = rng.permuted(np.tile(1.0 + np.arange(width) / width, (rows, 1)), axis=1)
    out = np.empty(one.size, np.uint8)
    keep_by_rank(out, np.zeros(one.size), one.reshape(-1), width, KEY, 0, 0.5, 0.3)
    order = np.argsort(one, axis=1, kind="stable")
    share = np.take_along_axis(out.reshape(rows, width), order, 1).mean(axis=0)
    expected = 0.2 + 0.6 * np.arange(width) / max(width - 1, 1)
    # magnitudes count to 8 bits: neighbours within them may change places
    assert np.abs(share - expected).max() < 6 * 0.5 / np.sqrt(rows) + 0.6 / 64


def test_ranks_of_rows_with_zeros_and_tiny_numbers():
    row = np.array([0.0, 1e-30, 3e-3, 1.0, -2.0, 0.0, 1e-3])
    out = np.empty(row.size * 20_000, np.uint8)
    keep_by_rank(out, np.zeros(out.size), np.tile(row, 20_000), row.size, KEY, 0, 0.5, 0.4)
    share = out.reshape(-1, row.size).mean(axis=0)
    assert share[4] > share[3] > share[2] > share[6] > max(share[0], share[1], share[5])


def test_rows_with_nan_and_infinite_numbers():
    row = np.array([np.nan, -np.inf, 1.0, np.nan, 2.0], np.float32)
    out = np.full(row.size * 1000, 7, np.uint8)
    keep_by_rank(out, np.zeros(out.size, np.float32), np.tile(row, 1000), row.size, KEY, 0, 0.5, 0.4)
    share = out.reshape(-1, row.size).mean(axis=0)
    assert set(out) == {0, 1}
    assert share[0] > share[1] > share[2]
