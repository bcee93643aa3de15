"""Comparisons in pairs: Bradley-Terry, and its form for workers who sometimes choose blindly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conjoin.errors import OutputsError, listed
from conjoin.outputs import Array


@dataclass(frozen=True, slots=True, eq=False)
class Comparisons:
    """t comparisons: left[i] against right[i], shown by workers[i].

    left, right: (t,) int, positions in items, different. won: (t,) float, 1 where the left one won, 0 where
    the right one did, 0.5 for a draw. workers: (t,) int, positions in members. items, members: names.
    Raises OutputsError.

    >>> Comparisons.of(["a", "b"], ["b", "c"], ["a", "c"]).won
    array([1., 0.])
    """

    left: Array
    right: Array
    won: Array
    workers: Array
    items: tuple[str, ...]
    members: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, size in (
            ("left", len(self.items)),
            ("right", len(self.items)),
            ("workers", len(self.members)),
        ):
            codes = np.asarray(getattr(self, name), dtype=np.int64)
            if codes.size and (codes.min() < 0 or codes.max() >= size):
                raise OutputsError(f"comparisons: {name} must lie in 0 to {size - 1}")
            object.__setattr__(self, name, codes)
        won = np.asarray(self.won, dtype=np.float64)
        object.__setattr__(self, "won", won)
        if not len(self.left) == len(self.right) == len(won) == len(self.workers):
            raise OutputsError("comparisons: left, right, won and workers must have one entry each")
        if bool(((won < 0) | (won > 1) | np.isnan(won)).any()):
            raise OutputsError("comparisons: won must lie in 0 to 1 (1: the left one won)")
        same = np.flatnonzero(self.left == self.right)
        if len(same):
            raise OutputsError(f"comparison {same[0]} has {self.items[self.left[same[0]]]!r} on both sides")

    def __len__(self) -> int:
        return len(self.left)

    @classmethod
    def of(
        cls,
        left: Sequence[object],
        right: Sequence[object],
        winner: Sequence[object],
        workers: Sequence[object] | None = None,
    ) -> Comparisons:
        """Comparisons of names; a winner of None is a draw. Raises OutputsError where it is neither."""
        lengths = {len(left), len(right), len(winner), len(left if workers is None else workers)}
        if len(lengths) > 1:
            raise OutputsError("comparisons: left, right, winner and workers must have one entry each")
        items = tuple(sorted({*map(str, left), *map(str, right)}))
        members = ("",) if workers is None else tuple(sorted(set(map(str, workers))))
        at = {n: i for i, n in enumerate(items)}
        worker_at = {n: i for i, n in enumerate(members)}
        won = np.empty(len(left))
        for i, (a, b, w) in enumerate(zip(left, right, winner, strict=True)):
            if w is not None and str(w) not in (str(a), str(b)):
                raise OutputsError(f"comparison {i}: the winner {w!r} is neither {a!r} nor {b!r}")
            won[i] = 0.5 if w is None else float(str(w) == str(a))
        found = np.zeros(len(left), dtype=np.int64)
        if workers is not None:
            found[:] = [worker_at[str(w)] for w in workers]
        return cls(
            np.array([at[str(a)] for a in left], dtype=np.int64),
            np.array([at[str(b)] for b in right], dtype=np.int64),
            won,
            found,
            items,
            members,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Strengths:
    """How strong each item is. scores: (I,), sum 1; P(i beats j) = scores_i / (scores_i + scores_j).

    items: names. members, skills, biases: of the workers (M,), the chance that one compares at all, and the
    chance that it takes the left one where it does not; empty for `bradley_terry`. steps: iterations made.
    """

    items: tuple[str, ...]
    scores: Array
    members: tuple[str, ...] = ()
    skills: Array | None = None
    biases: Array | None = None
    steps: int = 0

    @property
    def named(self) -> Mapping[str, float]:
        """Score by item, the strongest first."""
        order = np.argsort(-self.scores, kind="stable")
        return {self.items[i]: float(self.scores[i]) for i in order}

    def beats(self, one: str, other: str) -> float:
        """P(one beats other); NaN where both have strength 0. Raises OutputsError on an unknown item."""
        unknown = [n for n in (one, other) if n not in self.items]
        if unknown:
            raise OutputsError(f"no item {listed(unknown)}")
        a, b = (float(self.scores[self.items.index(n)]) for n in (one, other))
        return a / (a + b) if a + b > 0 else float("nan")


def bradley_terry(
    comparisons: Comparisons, /, *, n_iter: int = 1000, tol: float = 1e-8, smoothing: float = 0.0
) -> Strengths:
    """P(i beats j) = s_i / (s_i + s_j), the likeliest s (Bradley and Terry 1952; MM of Hunter 2004).

    s_i <- W_i / sum_j N_ij / (s_i + s_j), then scaled to sum 1; W wins, N comparisons. It stops where the
    scores move by less than tol in sum. smoothing: comparisons won and lost against a phantom of mean
    strength, so that one who always loses does not end at 0. Memory grows with the pairs that met.

    >>> data = Comparisons.of(["a", "b", "a"], ["b", "a", "b"], ["a", "b", "a"])
    >>> bradley_terry(data).scores.round(3)
    array([0.667, 0.333])
    """
    return _strengths(comparisons, np.ones(len(comparisons)), None, (n_iter, tol, smoothing))


def noisy_bradley_terry(
    comparisons: Comparisons,
    /,
    *,
    n_iter: int = 200,
    tol: float = 1e-7,
    smoothing: float = 0.1,
    attention: float = 1.0,
) -> Strengths:
    """Bradley-Terry for workers who choose blindly now and then (Bugakova et al. 2019; Chen et al. 2013).

    P(left wins) = g_w s_l / (s_l + s_r) + (1 - g_w) q_w. EM: the chance that an answer was a comparison; then
    g_w and q_w in closed form, with `attention` pseudo answers of each sort, and an MM step of s.
    smoothing: as of `bradley_terry`. Raises OutputsError.

    >>> data = Comparisons.of(["a", "b", "a"], ["b", "a", "b"], ["a", "a", "a"], ["w", "w", "v"])
    >>> bool(noisy_bradley_terry(data).beats("a", "b") > 0.5)
    True
    """
    if attention <= 0:
        raise OutputsError(f"attention must be above 0, not {attention}")
    c, members = comparisons, len(comparisons.members)
    n_iter = n_iter if len(c) else 0
    skills, biases = np.full(members, 0.8), np.full(members, 0.5)
    scores = np.full(len(c.items), 1.0 / max(len(c.items), 1))
    count = np.bincount(c.workers, minlength=members)
    step = 0
    while step < n_iter:
        step += 1
        pair = scores[c.left] + scores[c.right]
        chance = np.where(pair > 0, scores[c.left] / np.where(pair > 0, pair, 1.0), 0.5)
        looked = skills[c.workers] * (c.won * chance + (1 - c.won) * (1 - chance))
        q = biases[c.workers]
        blind = (1 - skills[c.workers]) * (c.won * q + (1 - c.won) * (1 - q))
        share = looked / np.maximum(looked + blind, 1e-300)
        skills = (np.bincount(c.workers, share, members) + attention) / (count + 2 * attention)
        left = np.bincount(c.workers, (1 - share) * c.won, members) + attention
        biases = left / (np.bincount(c.workers, 1 - share, members) + 2 * attention)
        before, scores = scores, _strengths(c, share, scores, (1, 0.0, smoothing)).scores
        if float(np.abs(scores - before).sum()) < tol:
            break
    return Strengths(c.items, scores, c.members, skills, biases, step)


def _strengths(
    c: Comparisons, mass: Array, start: Array | None, steps: tuple[int, float, float]
) -> Strengths:
    n_iter, tol, smoothing = steps
    if n_iter < 0 or smoothing < 0:
        raise OutputsError(f"n_iter and smoothing must not be negative, not {n_iter} and {smoothing}")
    items = len(c.items)
    low, high = np.minimum(c.left, c.right), np.maximum(c.left, c.right)
    pairs, of = np.unique(low * items + high, return_inverse=True)
    met = np.bincount(of, mass, len(pairs))
    one, other = pairs // max(items, 1), pairs % max(items, 1)
    wins: Array = np.bincount(c.left, mass * c.won, items) + np.bincount(c.right, mass * (1 - c.won), items)
    p = np.ones(items) if start is None else start * items
    new = p / max(items, 1)
    step = 0
    for step in range(1, n_iter + 1):
        both = p[one] + p[other]
        rate = np.divide(met, both, out=np.zeros(len(pairs)), where=both > 0)
        Z = np.bincount(one, rate, items) + np.bincount(other, rate, items)
        top = wins
        if smoothing > 0:
            mean = p.mean()
            Z = Z + 2 * smoothing / (p + mean)
            top = wins + smoothing
        before, new = new, np.divide(top, Z, out=np.zeros(items), where=Z > 0)
        total = new.sum()
        new = new / total if total > 0 else np.full(items, 1.0 / max(items, 1))
        p = new
        if step > 1 and float(np.abs(new - before).sum()) < tol:
            break
    return Strengths(c.items, new, steps=step)
