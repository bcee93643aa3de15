"""Votes: majority, weighted, and with weights that the votes themselves give (Wawa, zero-based skill)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.labels.triples import Answers, Triples, fused, triples_of
from conjoin.outputs import Array, Labels, Probabilities

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.fusion.stack import Weights


def majority_vote(
    outputs: Answers, /, *, weights: Weights = None, batch: Batch | None = None
) -> Probabilities:
    """p_i(c) = the share of task i's answers, or of their weight, that class c got. Abstaining is no vote.

    outputs: `Labels` by member, or `Triples`. A tie is a tie of probabilities; the first class wins.

    >>> from conjoin.outputs import Labels
    >>> majority_vote({w: Labels.of([s], "ny") for w, s in (("ann", "y"), ("bob", "y"), ("eve", "n"))}).values
    array([[0.33333333, 0.66666667]])
    """
    triples, mass = triples_of(outputs, weights)
    return fused(shares(triples, mass), triples)


def weighted_vote(
    outputs: Answers, /, *, weights: Weights = None, batch: Batch | None = None
) -> Probabilities:
    """`majority_vote` under the name that fits it where there are weights; `fit_weighted_vote` finds them.

    >>> from conjoin.outputs import Labels
    >>> said = {"ann": Labels.of(["y"], "ny"), "bob": Labels.of(["n"], "ny")}
    >>> weighted_vote(said, weights={"ann": 3, "bob": 1}).values
    array([[0.25, 0.75]])
    """
    return majority_vote(outputs, weights=weights)


def wawa(outputs: Answers, /, *, weights: Weights = None, batch: Batch | None = None) -> Probabilities:
    """Worker agreement with aggregate: a vote weighted by each worker's agreement with the majority vote.

    s_w = share of the answers of w that are the majority's (ties go to the first class); then
    p_i(c) proportional to sum_w s_w weight_w [l_iw = c]. It learns from all rows together. As in crowd-kit.

    >>> from conjoin.outputs import Labels
    >>> said = {"ann": "yyn", "bob": "yyn", "eve": "nyy"}
    >>> wawa({w: Labels.of(list(s)) for w, s in said.items()}).labels().names()
    array(['y', 'y', 'n'], dtype=object)
    """
    triples, mass = triples_of(outputs, weights)
    agreed = agreement_with(triples, shares(triples, mass))
    return fused(shares(triples, mass * agreed), triples)


def zero_based_skill(
    outputs: Answers,
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    n_iter: int = 100,
    lr_init: float = 1.0,
    lr_steps_to_reduce: int = 20,
    lr_reduce_factor: float = 0.5,
    eps: float = 1e-5,
) -> Probabilities:
    """`wawa` repeated: skills follow the agreement with the vote that they weight. As in crowd-kit.

    s_w <- s_w + rate (agreement_w - s_w), from s_w = 1 / K + eps; rate begins at lr_init and is multiplied by
    lr_reduce_factor every lr_steps_to_reduce steps. It learns from all rows together.

    >>> from conjoin.outputs import Labels
    >>> said = {"ann": "yyn", "bob": "yyn", "eve": "nyy"}
    >>> zero_based_skill({w: Labels.of(list(s)) for w, s in said.items()}).labels().names()
    array(['y', 'y', 'n'], dtype=object)
    """
    triples, mass = triples_of(outputs, weights)
    steps = (n_iter, lr_init, lr_steps_to_reduce, lr_reduce_factor)
    skills = zero_based_skills(triples, mass, steps, eps)
    return fused(shares(triples, mass * skills), triples)


def zero_based_skills(
    triples: Triples, weights: Array, steps: tuple[int, float, int, float], eps: float
) -> Array:
    """(M,) the skills of `zero_based_skill`; steps: n_iter, first rate, steps to reduce, factor."""
    n_iter, rate, reduce_every, factor = steps
    if n_iter < 0 or reduce_every < 1:
        raise OutputsError(
            f"zero_based_skill needs n_iter >= 0 and lr_steps_to_reduce >= 1, not {n_iter} and {reduce_every}"
        )
    skills = np.full(len(triples.members), 1.0 / max(len(triples.classes), 1) + eps)
    for step in range(1, n_iter + 1):
        if step % reduce_every == 0:
            rate *= factor
        agreed = agreement_with(triples, shares(triples, weights * skills))
        skills = skills + rate * (agreed - skills)
    return skills


def binary_relevance(
    sets: Mapping[str, Sequence[Collection[str] | None]],
    /,
    *,
    fuser: Callable[..., Probabilities] = majority_vote,
    weights: Weights = None,
) -> dict[str, Array]:
    """Sets of labels, several to a row: each label is a question of its own, no or yes (binary relevance).

    sets: by member, for each row the labels that it gave, or None where it did not answer. fuser: any
    operator of this package. Gives label -> (n,) the probability that it applies, NaN where nobody
    answered; labels sorted. Raises OutputsError.

    >>> found = binary_relevance({"ann": [{"cat", "dog"}], "bob": [{"cat"}]})
    >>> {label: float(p[0]) for label, p in found.items()}
    {'cat': 1.0, 'dog': 0.5}
    """
    lengths = {n: len(rows) for n, rows in sets.items()}
    if not sets or len(set(lengths.values())) > 1:
        raise OutputsError(f"members must answer the same rows; rows answered: {lengths or 'no members'}")
    told = np.array([[row is not None for row in rows] for rows in sets.values()], dtype=bool)
    out = {}
    for label in sorted({str(c) for rows in sets.values() for row in rows if row is not None for c in row}):
        said = [[row is not None and label in map(str, row) for row in rows] for rows in sets.values()]
        codes = np.where(told, np.array(said, dtype=np.int64), -1)
        outputs = {n: Labels(c, ("no", "yes")) for n, c in zip(sets, codes, strict=True)}
        out[label] = np.asarray(fuser(outputs, weights=weights).values[:, 1])
    return out


def worker_skill(outputs: Answers, reference: Labels | Probabilities) -> dict[str, float]:
    """Each worker's share of answers that equal the reference (truth, or a fused output); NaN without any.

    reference: n rows; rows that it does not answer do not count. Raises OutputsError.

    >>> from conjoin.outputs import Labels
    >>> worker_skill({"ann": Labels.of(["y", "n"])}, Labels.of(["y", "y"], "ny"))
    {'ann': 0.5}
    """
    triples, _ = triples_of(outputs)
    labels = reference.labels() if isinstance(reference, Probabilities) else reference
    if len(labels) != triples.rows:
        raise OutputsError(f"the reference has {len(labels)} rows, the workers answered {triples.rows}")
    at = {c: k for k, c in enumerate(triples.classes)}
    table = np.array([*(at.get(c, -2) for c in labels.classes), -1], dtype=np.int64)
    codes = np.where(labels.answered, table[labels.codes], -1)
    mine = codes[triples.tasks]
    counted = mine != -1
    hits = np.bincount(triples.workers[counted], (mine == triples.labels)[counted], len(triples.members))
    total = np.bincount(triples.workers[counted], minlength=len(triples.members))
    skill = np.divide(hits, total, out=np.full(len(hits), np.nan), where=total > 0)
    return dict(zip(triples.members, skill.tolist(), strict=True))


def shares(triples: Triples, weights: Array) -> Array:
    """(n, K) shares of the weight (M,) of workers; where the weight is 0, equal shares of the answers."""
    votes = triples.counts(weights)
    total = votes.sum(axis=1, keepdims=True)
    lost = (total[:, 0] <= 0) & triples.answered
    if lost.any():
        votes[lost] = triples.counts()[lost]
        total = votes.sum(axis=1, keepdims=True)
    return np.asarray(votes / np.where(total > 0, total, 1.0))


def agreement_with(triples: Triples, post: Array) -> Array:
    """(M,) share of each worker's answers that are the most probable class of post (n, K); 0 without any."""
    best = post.argmax(axis=1) if post.shape[1] else np.zeros(len(post), dtype=np.int64)
    hits = np.bincount(triples.workers, best[triples.tasks] == triples.labels, len(triples.members))
    total = np.bincount(triples.workers, minlength=len(triples.members))
    return np.asarray(hits / np.maximum(total, 1))
