"""From competences to weights of members, and to the fused answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conjoin.fusion.dynamic.competence import Around, diversity

if TYPE_CHECKING:
    from conjoin.outputs import Array

SINGLES = ("ola", "lca", "mla", "mcb", "rank")
"""Rules that select one member."""


def weigh(around: Around, competence: Array, present: Array) -> Array:
    """(n, M) weights of the members, 0 for those not selected; present: (n, M) bool, who answered the row.

    Each row where somebody answered has a member with weight.
    """
    options = around.options
    if options.dfp:
        competence = competence * unpruned(around)
    open_to = np.where(present, competence, -1.0)
    if options.rule in SINGLES:
        chosen = _best(open_to, options.selection, options.diff_thresh)
    elif options.rule == "des_knn":
        chosen = _diverse(around, open_to)
    else:
        chosen = _competent(around, open_to)
    chosen &= present
    nobody = ~chosen.any(axis=1)
    chosen[nobody] = present[nobody]
    if options.mode == "selection" or options.rule in (*SINGLES, "des_knn"):
        return chosen.astype(np.float64)
    weights = np.maximum(np.where(present if options.mode == "weighting" else chosen, competence, 0.0), 0.0)
    flat = ~(weights > 0).any(axis=1)
    weights[flat] = chosen[flat]
    return np.asarray(weights)


def unpruned(around: Around) -> Array:
    """(n, M) bool of frienemy pruning: who crosses the region; all where nobody does, or it is safe."""
    codes = around.codes
    there = codes >= 0
    most = np.where(there, codes, -1).max(axis=1, initial=-1)
    least = np.where(there, codes, around.classes).min(axis=1, initial=around.classes)
    safe = most <= least
    hit = around.right.astype(bool)
    top = np.where(hit, codes[:, :, None], -1).max(axis=1, initial=-1)
    low = np.where(hit, codes[:, :, None], around.classes).min(axis=1, initial=around.classes)
    crosses = (top > low) | safe[:, None]
    return np.asarray(crosses | ~crosses.any(axis=1, keepdims=True))


def hardness(around: Around) -> tuple[Array, Array]:
    """(n,) share of the first safe_k neighbours that are not of their majority; (n, K) shares of classes."""
    counts = around.counts(around.options.safe_k or around.options.k)
    total = np.maximum(counts.sum(axis=1), 1.0)
    return 1.0 - counts.max(axis=1) / total, counts / total[:, None]


def fuse(probabilities: Array, votes: Array, weights: Array, voting: str) -> Array:
    """(n, K): the weighted mean of probabilities (n, M, K), or the share of votes (n, M)."""
    total = weights.sum(axis=1, keepdims=True)
    if voting == "soft":
        # a member without weight may have answered NaN: it must not reach the sum
        safe = np.where((weights > 0)[:, :, None], probabilities, 0.0)
        return np.asarray(np.matmul(weights[:, None, :], safe)[:, 0] / total)
    out = np.zeros((len(votes), probabilities.shape[2]))
    rows = np.arange(len(votes))
    for m in range(votes.shape[1]):
        out[rows, votes[:, m]] += weights[:, m]  # a member without a vote has no weight
    return np.asarray(out / total)


def _competent(around: Around, competence: Array) -> Array:
    options = around.options
    if options.rule == "knora_e":
        return np.asarray(competence == competence.max(axis=1, keepdims=True))
    least = {"des_p": 1.0 / around.classes, "meta_des": options.threshold}.get(options.rule, 0.0)
    return np.asarray(competence > least)


def _best(competence: Array, selection: str, slack: float) -> Array:
    top = competence.max(axis=1, keepdims=True)
    if selection == "all":
        return np.asarray(competence == top)
    if selection == "diff":
        return np.asarray(top - competence < slack) if slack > 0 else np.asarray(competence == top)
    return np.asarray(np.arange(competence.shape[1]) == competence.argmax(axis=1)[:, None])


def _diverse(around: Around, competence: Array) -> Array:
    """The pct_diversity most (or least) diverse of the pct_accuracy most accurate members; ties by name."""
    members, options = competence.shape[1], around.options
    accurate = max(1, int(members * options.pct_accuracy))
    diverse = min(accurate, max(1, int(np.ceil(members * options.pct_diversity))))
    order = np.argsort(-competence, axis=1, kind="stable")[:, :accurate]
    spread = np.take_along_axis(diversity(around), order, axis=1)
    inside = np.argsort(-spread if options.more_diverse else spread, axis=1, kind="stable")[:, :diverse]
    chosen = np.zeros(competence.shape, dtype=bool)
    np.put_along_axis(chosen, np.take_along_axis(order, inside, axis=1), values=True, axis=1)
    return chosen
