"""KOS message passing, and skills from a matrix of agreements (M-MSR)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import OutputsError, listed
from conjoin.fusion.labels.triples import Answers, Triples, fused, triples_of
from conjoin.outputs import Array, Probabilities

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.fusion.stack import Weights

MOST_WORKERS = 2000
"""M-MSR holds M x M agreements."""


def kos(
    outputs: Answers,
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    n_iter: int = 10,
    seed: int = 0,
) -> Probabilities:
    """Iterative message passing between tasks and workers, for two classes (Karger, Oh and Shah 2011).

    With A in {-1, 1}: x_iw = sum_{v != w} A_iv y_iv; y_iw = sum_{j != i} A_jw x_jw, from y ~ N(1, 1). The
    decision is the sign of s_i = sum_w A_iw y_iw; p_i = (1 + s_i / sum_w |y_iw|) / 2. Messages are scaled in
    each step, which changes no sign; the sign of all is the one that agrees with the majority vote. Made for
    sparse random assignments; where all workers answer all tasks, many steps (n_iter) do harm. It learns from
    all rows together. Raises OutputsError for more classes.

    >>> from conjoin.outputs import Labels
    >>> said = {"ann": "yynyn", "bob": "yynyn", "cem": "yynnn", "eve": "nyyyn"}
    >>> "".join(kos({w: Labels.of(list(s)) for w, s in said.items()}).labels().names())
    'yynyn'
    """
    triples, mass = triples_of(outputs, weights)
    if len(triples.classes) > 2:
        raise OutputsError(f"kos is for two classes, not {listed(triples.classes)}")
    sign = np.where(triples.labels == 0, 1.0, -1.0)
    reliability = np.random.default_rng(seed).normal(1.0, 1.0, len(triples))
    strength = mass[triples.workers]
    for _ in range(n_iter):
        reliability = _messages(triples, sign, strength * reliability)
    votes = strength * reliability
    total = np.bincount(triples.tasks, sign * votes, triples.rows)
    if float(total @ np.bincount(triples.tasks, sign * strength, triples.rows)) < 0:
        total = -total
    size = np.bincount(triples.tasks, np.abs(votes), triples.rows)
    first = (1 + np.divide(total, size, out=np.zeros(triples.rows), where=size > 0)) / 2
    return fused(np.stack([first, 1 - first], axis=1)[:, : len(triples.classes)], triples)


def _messages(triples: Triples, sign: Array, reliability: Array) -> Array:
    own = sign * reliability
    task = np.bincount(triples.tasks, own, triples.rows)[triples.tasks] - own
    own = sign * task
    worker = np.bincount(triples.workers, own, len(triples.members))[triples.workers] - own
    size = float(np.sqrt(np.mean(worker**2))) if len(worker) else 0.0
    return np.asarray(worker / size) if size > 0 else reliability


def m_msr(
    outputs: Answers,
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    n_iter: int = 10_000,
    tol: float = 1e-10,
) -> Probabilities:
    """Skills from a rank-one fit of the workers' agreements, robust against outliers (Ma and Olshevsky 2020).

    c_vw = (share of common tasks with equal answers) K / (K - 1) - 1 / (K - 1) is s_v s_w in expectation;
    s is found by filtered means in turn, a worker's weight is log(q (K - 1) / (1 - q)) for its chance q to be
    right. Weights may be negative: the answer is the softmax of the weighted votes. Holds M x M numbers.
    It learns from all rows together. Raises OutputsError above 2,000 workers.

    >>> from conjoin.outputs import Labels
    >>> said = {"ann": "yyn", "bob": "yyn", "eve": "nyn"}
    >>> m_msr({w: Labels.of(list(s)) for w, s in said.items()}).labels().names()
    array(['y', 'y', 'n'], dtype=object)
    """
    triples, mass = triples_of(outputs, weights)
    votes = triples.counts(mass * m_msr_skills(triples, n_iter, tol))
    votes -= votes.max(axis=1, keepdims=True) if votes.shape[1] else 0.0
    post = np.exp(votes)
    return fused(post / np.maximum(post.sum(axis=1, keepdims=True), 1e-300), triples)


def m_msr_skills(
    triples: Triples, n_iter: int = 10_000, tol: float = 1e-10, start: Array | None = None
) -> Array:
    """(M,) weights of the workers, as in `m_msr`. start: (M,), where |s| begins; 0.5 for each by default."""
    members, width, rows = len(triples.members), len(triples.classes), int(triples.answered.sum())
    if members > MOST_WORKERS:
        raise OutputsError(f"m_msr holds M x M numbers: {members} workers are more than {MOST_WORKERS}")
    if width < 2 or members < 2 or not rows:
        return np.ones(members)
    common, agreements = _agreements(triples)
    C = (agreements / np.maximum(common, 1)) * width / (width - 1) - 1 / (width - 1)
    C[common == 0] = -1 / (width - 1)
    seen = common > 0
    cut = max(int((seen.sum(axis=0).min()) // 2) - 1, 0)
    first = np.full(members, 0.5) if start is None else np.asarray(start, dtype=np.float64)
    u = _rank_one(np.abs(C), seen, first, (cut, rows, n_iter, tol))
    s = _signs(np.where(seen, C, 0.0)) * u
    s = np.clip(s, -1 / (width - 1) + 1 / np.sqrt(rows), 1 - 1 / np.sqrt(rows))
    q = np.clip(s * (width - 1) / width + 1 / width, 1e-10, 1 - 1e-10)
    return np.asarray(np.log(q * (width - 1) / (1 - q)))


def _agreements(triples: Triples) -> tuple[Array, Array]:
    """(M, M) common tasks and equal answers of each two workers; the last answer counts of several."""
    members = len(triples.members)
    common, equal = np.zeros((members, members)), np.zeros((members, members))
    step = max(1, 20_000_000 // max(members, 1))
    for first in range(0, triples.rows, step):
        last = min(first + step, triples.rows)
        part = slice(triples.offsets[first], triples.offsets[last])
        codes = np.full((members, last - first), -1)
        codes[triples.workers[part], triples.tasks[part] - first] = triples.labels[part]
        said = (codes >= 0).astype(np.float32)
        common += said @ said.T
        for k in range(len(triples.classes)):
            one = (codes == k).astype(np.float32)
            equal += one @ one.T
    np.fill_diagonal(common, 0)
    return common, equal


def _rank_one(X: Array, seen: Array, start: Array, steps: tuple[int, int, int, float]) -> Array:
    """|s| with X close to s s^T where seen: each side in turn, without the `cut` extremes at each end.

    steps: cut, the number of tasks, n_iter, tol.
    """
    cut, rows, n_iter, tol = steps
    u, v = start.copy(), start.copy()
    for _ in range(n_iter):
        before = np.outer(u, v)
        for j in range(len(X)):
            v[j] = _filtered_mean(X[seen[:, j], j] / u[seen[:, j]], cut, v[j], rows)
        for i in range(len(X)):
            u[i] = _filtered_mean(X[i, seen[i]] / v[seen[i]], cut, u[i], rows)
        if np.linalg.norm(np.outer(u, v) - before) < tol:
            break
    return np.asarray(u / np.sqrt(np.linalg.norm(u) / np.linalg.norm(v)))


def _filtered_mean(values: Array, cut: int, own: float, rows: int) -> float:
    """The mean without at most `cut` values below, and `cut` above, the own one."""
    y = np.sort(values)
    y = y[y >= own] if int((y < own).sum()) < cut else y[cut:]
    y = y[y <= own] if int((y > own).sum()) < cut else y[: len(y) - cut]
    if not len(y):
        return own
    return max(float(y.mean()), 1 / np.sqrt(rows) if len(y) == 1 and y[0] == 0 else 1e-12)


def _signs(C: Array) -> Array:
    """(M,) +1 or -1: the leading eigenvector of the agreements, most workers taken as better than chance."""
    vector = np.linalg.eigh(C)[1][:, -1]
    sign = np.where(vector >= 0, 1.0, -1.0)
    return sign if sign.sum() >= 0 else -sign
