"""The label model of weak supervision: accuracies of labelling functions from how they agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.labels.glad import class_shares
from conjoin.fusion.labels.model import WorkerModel, must_fit
from conjoin.fusion.labels.triples import Answers, Triples, triples_of
from conjoin.outputs import Array, Probabilities

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conjoin.contracts import Batch
    from conjoin.fusion.stack import Weights

MOST_COLUMNS = 4000
"""It holds (M K) x (M K) moments."""


def label_model(
    outputs: Answers,
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    class_balance: Mapping[str, float] | None = None,
    n_iter: int = 100,
    tol: float = 1e-8,
    l2: float = 0.01,
    mu_eps: float = 1e-3,
) -> Probabilities:
    """Labelling functions that err independently: matrix completion of their agreements (Ratner et al. 2019).

    With mu[(w, l), c] = P(w says l | c), the moments are O[(v, k), (w, l)] = sum_c p_c mu[(v, k), c]
    mu[(w, l), c] for v != w, and P(w says l) = sum_c p_c mu[(w, l), c]. mu is found by least squares, one
    worker in turn, from the majority vote on; p_i(c) proportional to p_c prod_w mu[(w, l_iw), c]. Abstaining
    says nothing. class_balance: share of each class; by default that of the majority vote.
    l2: pull towards the majority vote's mu, relative to the moments. mu_eps: the least mu.

    Holds (M K)^2 numbers: for tens of functions, not for crowds. It learns from all rows together.
    Raises OutputsError.

    >>> from conjoin.outputs import Labels
    >>> said = {"ann": "yyn", "bob": "yyn", "eve": "nyy"}
    >>> label_model({w: Labels.of(list(s)) for w, s in said.items()}).labels().names()
    array(['y', 'y', 'n'], dtype=object)
    """
    fitted = fit_label_model(
        outputs, weights=weights, class_balance=class_balance, n_iter=n_iter, tol=tol, l2=l2, mu_eps=mu_eps
    )
    return fitted(_counted(outputs, fitted))


def fit_label_model(
    outputs: Answers,
    /,
    *,
    weights: Weights = None,
    class_balance: Mapping[str, float] | None = None,
    n_iter: int = 100,
    tol: float = 1e-8,
    l2: float = 0.01,
    mu_eps: float = 1e-3,
) -> WorkerModel:
    """The model of `label_model`, to label new rows. Needs no truth. Raises OutputsError."""
    triples, mass = triples_of(outputs, weights)
    members, width = len(triples.members), len(triples.classes)
    must_fit(members, width)
    if members * width > MOST_COLUMNS:
        raise OutputsError(
            f"label_model holds (M K)^2 numbers: {members} members x {width} classes are more than "
            f"{MOST_COLUMNS}; take dawid_skene for crowds"
        )
    if not 0 < mu_eps < 0.5 or l2 < 0:
        raise OutputsError(f"label_model needs 0 < mu_eps < 0.5 and l2 >= 0, not {mu_eps} and {l2}")
    votes = triples.counts(mass)
    post = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1e-300)
    if class_balance is None:
        smooth = post.sum(axis=0) + 1.0
        p = smooth / smooth.sum()
    else:
        p = class_shares(triples.classes, class_balance)
    moments, start, covered = _moments(triples, post)
    mu = _completed(moments, start, np.maximum(p, 1e-6), (n_iter, tol, l2, mu_eps))
    confusions = mu.reshape(members, width, width).transpose(0, 2, 1)
    answers = confusions * p[:, None] * covered
    return WorkerModel(triples.members, triples.classes, p, confusions, answers, mass, covered)


def _counted(outputs: Answers, model: WorkerModel) -> Answers:
    """The outputs of the model's members alone."""
    if isinstance(outputs, Triples):
        names = set(model.members)
        return triples_of(outputs, {n: float(n in names) for n in outputs.members})[0]
    return {n: outputs[n] for n in model.members}


def _moments(triples: Triples, post: Array) -> tuple[Array, Array, float]:
    """O (MK, MK), first moments on its diagonal; mu by the vote (MK, K); the number of answered rows."""
    members, width = len(triples.members), len(triples.classes)
    columns = members * width
    total, mu = np.zeros((columns, columns)), np.zeros((columns, width))
    column = triples.workers * width + triples.labels
    step = max(1, 20_000_000 // max(columns, 1))
    for first in range(0, triples.rows, step):
        last = min(first + step, triples.rows)
        part = slice(triples.offsets[first], triples.offsets[last])
        L = np.zeros((last - first, columns), dtype=np.float32)
        L[triples.tasks[part] - first, column[part]] = 1.0
        total += L.T @ L
        mu += L.T @ post[first:last]
    covered = max(float(triples.answered.sum()), 1.0)
    mass = np.maximum(post.sum(axis=0), 1e-12)
    return total / covered, mu / mass, covered


def _completed(O: Array, start: Array, p: Array, steps: tuple[int, float, float, float]) -> Array:  # noqa: E741
    """mu (MK, K): least squares for one worker's K rows at a time, with a pull towards the start."""
    n_iter, tol, l2, least = steps
    width = len(p)
    mu = np.clip(start, least, 1 - least)
    blocks = [slice(i, i + width) for i in range(0, len(mu), max(width, 1))]
    if len(blocks) < 3:
        return mu  # two workers' agreements do not say who is right
    centre = mu.copy()
    for _ in range(n_iter):
        before = mu.copy()
        for block in blocks:
            others = np.delete(mu, np.r_[block], axis=0) * p
            seen = np.delete(O[block], np.r_[block], axis=1)
            first = np.diag(O[block, block])[:, None]
            A = others.T @ others + np.outer(p, p)
            pull = l2 * np.trace(A) / width
            right = seen @ others + first * p + pull * centre[block]
            mu[block] = np.clip(np.linalg.solve(A + pull * np.eye(width), right.T).T, least, 1 - least)
        if float(np.abs(mu - before).max()) < tol:
            break
    return mu
