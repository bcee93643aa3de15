"""GLAD: abilities of workers and difficulties of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import OutputsError, listed
from conjoin.fusion.labels.model import WorkerModel, coins, must_fit
from conjoin.fusion.labels.triples import Answers, Triples, fused, known_codes, triples_of
from conjoin.kernels import labels as kernels
from conjoin.outputs import Array, Labels, Probabilities

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conjoin.contracts import Batch
    from conjoin.fusion.stack import Weights

FLOOR = 1e-300


@dataclass(frozen=True, slots=True, eq=False)
class GladFit:
    """What GLAD found: abilities alpha (M,), log easiness beta (n,), and the posterior.

    members: names of the workers. history: the mean log-posterior per answer after each step.
    """

    members: tuple[str, ...]
    alpha: Array
    beta: Array
    probabilities: Probabilities
    history: tuple[float, ...]

    @property
    def skill(self) -> dict[str, float]:
        """Each worker's chance to be right on a task of mean easiness: sigmoid(alpha exp(mean beta))."""
        scale = np.exp(self.beta.mean()) if len(self.beta) else 1.0
        values = 1 / (1 + np.exp(-self.alpha * scale))
        return dict(zip(self.members, values.tolist(), strict=True))

    def model(self) -> WorkerModel:
        """The workers as on a task of mean easiness, to fuse answers to new tasks. Raises OutputsError."""
        classes = self.probabilities.classes
        width, members = len(classes), len(self.members)
        must_fit(members, width)
        confusions = coins(np.array(list(self.skill.values())), width)
        shares = np.full(width, 1.0 / max(width, 1))
        return WorkerModel(
            self.members, classes, shares, confusions, np.zeros_like(confusions), np.ones(members)
        )


def glad(
    outputs: Answers,
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    known: Labels | None = None,
    labels_priors: Mapping[str, float] | None = None,
    n_iter: int = 100,
    tol: float = 1e-5,
    alpha_prior: float = 1.0,
    beta_prior: float = 1.0,
) -> Probabilities:
    """Worker w is right on task i with chance sigmoid(alpha_w exp(beta_i)) (Whitehill et al. 2009).

    Errors are spread evenly over the other K - 1 classes. alpha_w ~ N(alpha_prior, 1), beta_i ~
    N(beta_prior, 1). Each step is an E step with Newton steps of beta and alpha, so the posterior rises;
    it stops where it rises by less than tol per answer. labels_priors: share of each class, equal by default.
    known: `Labels` of the n tasks; where they are answered, the class is fixed.

    It learns from all rows together: rows in chunks give other answers. Raises OutputsError.

    >>> from conjoin.outputs import Labels
    >>> said = {"ann": "yyn", "bob": "yyn", "eve": "nyy"}
    >>> glad({w: Labels.of(list(s)) for w, s in said.items()}).labels().names()
    array(['y', 'y', 'n'], dtype=object)
    """
    return fit_glad_model(
        outputs,
        weights=weights,
        known=known,
        labels_priors=labels_priors,
        n_iter=n_iter,
        tol=tol,
        alpha_prior=alpha_prior,
        beta_prior=beta_prior,
    ).probabilities


def fit_glad_model(
    outputs: Answers,
    /,
    *,
    weights: Weights = None,
    known: Labels | None = None,
    labels_priors: Mapping[str, float] | None = None,
    n_iter: int = 100,
    tol: float = 1e-5,
    alpha_prior: float = 1.0,
    beta_prior: float = 1.0,
) -> GladFit:
    """As `glad`, with the abilities and difficulties found. Raises OutputsError."""
    triples, mass = triples_of(outputs, weights)
    triples, codes = known_codes(known, triples)
    prior = class_shares(triples.classes, labels_priors)
    alpha = np.full(len(triples.members), float(alpha_prior))
    beta = np.full(triples.rows, float(beta_prior))
    means = np.array([alpha_prior, beta_prior], dtype=np.float64)
    right = np.zeros(len(triples))
    slope, curve = np.empty_like(alpha), np.empty_like(alpha)
    history: list[float] = []
    arrays = (triples.offsets, triples.workers, triples.labels, np.maximum(prior, FLOOR), mass, codes)
    for step in range(n_iter + 1):
        moves = 1 if step else 0  # the first pass only finds the posterior
        total = kernels.glad_pass(*arrays, alpha, beta, means, moves, right, slope, curve)
        total -= 0.5 * float(((alpha - alpha_prior) ** 2).sum())
        history.append(total / max(len(triples), 1))
        if step and history[-1] - history[-2] < tol:
            break
        if step < n_iter:
            alpha += np.clip((slope - (alpha - alpha_prior)) / (curve + 1.0), -1.0, 1.0)
    post = _posterior(triples, alpha, beta, prior, mass, codes)
    return GladFit(triples.members, alpha, beta, fused(post, triples), tuple(history))


def class_shares(classes: tuple[str, ...], shares: Mapping[str, float] | None) -> Array:
    """(K,) shares of the classes, sum 1; None is equal shares. Raises OutputsError."""
    if shares is None:
        return np.full(len(classes), 1.0 / max(len(classes), 1))
    missing = [c for c in classes if c not in shares]
    given = np.array([float(shares.get(c, 0.0)) for c in classes])
    if missing or not bool(np.isfinite(given).all()) or bool((given < 0).any()) or given.sum() <= 0:
        raise OutputsError(
            f"shares of classes must be numbers, none negative, one for each of {listed(classes)}; "
            f"given: {dict(shares)}"
        )
    return np.asarray(given / given.sum())


def _posterior(
    triples: Triples, alpha: Array, beta: Array, prior: Array, weights: Array, known: Array
) -> Array:
    spread = np.log(max(len(prior) - 1, 1))
    gains = weights[triples.workers] * (alpha[triples.workers] * np.exp(beta[triples.tasks]) + spread)
    post = np.empty((triples.rows, len(prior)))
    kernels.gains_posterior(triples.offsets, triples.labels, gains, np.maximum(prior, FLOOR), known, post)
    return post
