"""Comparisons in pairs."""

from __future__ import annotations

import numpy as np
import pytest

from conjoin.errors import OutputsError
from conjoin.fusion.labels import Comparisons, bradley_terry, noisy_bradley_terry


def duels(n=4000, items=8, workers=10, blind=(), seed=0):
    rng = np.random.default_rng(seed)
    strength = np.exp(np.linspace(-1.5, 1.5, items))
    left = rng.integers(0, items, n)
    right = (left + rng.integers(1, items, n)) % items
    worker = rng.integers(0, workers, n)
    won = rng.random(n) < strength[left] / (strength[left] + strength[right])
    won = np.where(np.isin(worker, blind), rng.random(n) < 0.9, won)
    names = tuple(f"i{k}" for k in range(items))
    return Comparisons(left, right, won, worker, names, tuple(f"w{k}" for k in range(workers))), strength


def test_strengths_are_found_and_stationary() -> None:
    data, strength = duels()
    found = bradley_terry(data, tol=1e-12, n_iter=5000)
    assert np.corrcoef(np.log(found.scores), np.log(strength))[0, 1] > 0.99
    p = found.scores[data.left] / (found.scores[data.left] + found.scores[data.right])
    surplus = np.bincount(data.left, data.won - p, 8) - np.bincount(data.right, data.won - p, 8)
    assert np.abs(surplus).max() < 1e-6
    assert next(iter(found.named)) == "i7"
    assert found.beats("i7", "i0") > 0.9


def test_steps_by_hand() -> None:
    data = Comparisons.of(["a", "b", "c"], ["b", "c", "a"], ["a", "b", "a"])
    assert bradley_terry(data, n_iter=0).scores == pytest.approx([1 / 3] * 3)
    assert bradley_terry(data, n_iter=10, tol=0).scores == pytest.approx([0.934, 0.065, 0.0], abs=0.005)
    smooth = bradley_terry(data, smoothing=0.5).scores
    assert smooth[0] > smooth[1] > smooth[2] > 0
    cycle = Comparisons.of(["a", "b", "c"], ["b", "c", "a"], ["a", "b", "c"])
    assert bradley_terry(cycle).scores == pytest.approx([1 / 3] * 3)
    draw = Comparisons.of(["a"], ["b"], [None])
    assert bradley_terry(draw).scores == pytest.approx([0.5, 0.5])


def test_blind_workers_are_seen_through() -> None:
    data, strength = duels(workers=6, blind=(0, 1, 2), seed=3)
    noisy, plain = noisy_bradley_terry(data), bradley_terry(data)
    assert noisy.skills[:3].max() < 0.4 < 0.7 < noisy.skills[3:].min()
    assert noisy.biases[:3].min() > 0.8
    logs = [np.log(s / s.sum()) for s in (noisy.scores, plain.scores, strength)]
    assert np.abs(logs[0] - logs[2]).max() < np.abs(logs[1] - logs[2]).max()


def test_nothing_to_compare() -> None:
    empty = Comparisons.of([], [], [])
    assert bradley_terry(empty).items == ()
    assert len(noisy_bradley_terry(empty).scores) == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(OutputsError, match="comparison 1: the winner 'c' is neither 'a' nor 'b'"):
        Comparisons.of(["a", "a"], ["b", "b"], ["a", "c"])
    with pytest.raises(OutputsError, match="'a' on both sides"):
        Comparisons.of(["a"], ["a"], ["a"])
    with pytest.raises(OutputsError, match="one entry each"):
        Comparisons.of(["a"], ["b", "c"], ["a"])
    with pytest.raises(OutputsError, match="left must lie in 0 to 1"):
        Comparisons([5], [0], [1.0], [0], ("a", "b"), ("w",))
    with pytest.raises(OutputsError, match="won must lie in 0 to 1"):
        Comparisons([1], [0], [2.0], [0], ("a", "b"), ("w",))
    with pytest.raises(OutputsError, match="not be negative"):
        bradley_terry(Comparisons.of(["a"], ["b"], ["a"]), smoothing=-1)
    with pytest.raises(OutputsError, match="attention"):
        noisy_bradley_terry(Comparisons.of(["a"], ["b"], ["a"]), attention=0)
    with pytest.raises(OutputsError, match="no item z"):
        bradley_terry(Comparisons.of(["a"], ["b"], ["a"])).beats("a", "z")
