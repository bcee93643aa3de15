"""MACE: workers who know the answer, and workers who guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.labels.model import WorkerModel, must_fit
from conjoin.fusion.labels.triples import Answers, Triples, fused, known_codes, triples_of
from conjoin.kernels import labels as kernels
from conjoin.outputs import Array, Labels, Probabilities

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.fusion.stack import Weights

SMALLEST = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class MaceFit:
    """What MACE found. competence: (M,), the chance that a worker knows. guesses: (M, K), what it says else.

    members: names of the workers. likelihood: log-likelihood of the best start. probabilities: the posterior.
    """

    members: tuple[str, ...]
    competence: Array
    guesses: Array
    likelihood: float
    probabilities: Probabilities

    def model(self) -> WorkerModel:
        """The confusions theta_w [l = c] + (1 - theta_w) xi_w[l], to fuse answers to new tasks."""
        members, width = self.guesses.shape
        must_fit(members, width)
        spam = (1 - self.competence)[:, None] * self.guesses
        confusions = np.repeat(spam[:, None, :], width, axis=1)
        confusions[:, np.arange(width), np.arange(width)] += self.competence[:, None]
        confusions /= confusions.sum(axis=2, keepdims=True)
        shares = np.full(width, 1.0 / max(width, 1))
        return WorkerModel(
            self.members,
            self.probabilities.classes,
            shares,
            confusions,
            np.zeros_like(confusions),
            np.ones(members),
        )


def mace(
    outputs: Answers,
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    known: Labels | None = None,
    n_restarts: int = 10,
    n_iter: int = 50,
    method: str = "vb",
    smoothing: float | None = None,
    default_noise: float = 0.5,
    alpha: float = 0.5,
    beta: float = 0.5,
    seed: int = 0,
) -> Probabilities:
    """A worker knows the class with theta_w, else it guesses from its own xi_w (Hovy et al. 2013).

    P(l | c) = theta_w [l = c] + (1 - theta_w) xi_w[l]; classes are equally frequent. method: "vb" is
    variational, with Beta(alpha, beta) on theta and Dirichlet(10) on xi; "em" adds `smoothing` (0.01 / K by
    default) to the expected counts. n_restarts: random starts, of which the likeliest is taken.
    default_noise: how far starts differ. known: `Labels` of the n tasks; where they are answered, the class
    is fixed.

    It learns from all rows together: rows in chunks give other answers. Raises OutputsError.

    >>> from conjoin.outputs import Labels
    >>> said = {"ann": "yynn", "bob": "yynn", "eve": "ynyn"}
    >>> mace({w: Labels.of(list(s)) for w, s in said.items()}).labels().names()
    array(['y', 'y', 'n', 'n'], dtype=object)
    """
    return fit_mace_model(
        outputs,
        weights=weights,
        known=known,
        n_restarts=n_restarts,
        n_iter=n_iter,
        method=method,
        smoothing=smoothing,
        default_noise=default_noise,
        alpha=alpha,
        beta=beta,
        seed=seed,
    ).probabilities


def fit_mace_model(
    outputs: Answers,
    /,
    *,
    weights: Weights = None,
    known: Labels | None = None,
    n_restarts: int = 10,
    n_iter: int = 50,
    method: str = "vb",
    smoothing: float | None = None,
    default_noise: float = 0.5,
    alpha: float = 0.5,
    beta: float = 0.5,
    seed: int = 0,
) -> MaceFit:
    """As `mace`, with the competences found. Raises OutputsError."""
    if method not in ("vb", "em"):
        raise OutputsError(f"method of mace must be 'vb' or 'em', not {method!r}")
    if n_restarts < 1 or n_iter < 0:
        raise OutputsError(f"mace needs n_restarts >= 1 and n_iter >= 0, not {n_restarts} and {n_iter}")
    triples, mass = triples_of(outputs, weights)
    triples, codes = known_codes(known, triples)
    width = len(triples.classes)
    least = 0.01 / max(width, 1) if smoothing is None else float(smoothing)
    prior = _Prior(method == "vb", least, float(alpha), float(beta))
    rng = np.random.default_rng(seed)
    best: tuple[float, Array, Array] | None = None
    for _ in range(n_restarts):
        theta = rng.uniform(1.0, 2.0 + default_noise, (len(triples.members), 2))
        xi = rng.uniform(1.0, 2.0 + default_noise, (len(triples.members), width))
        found = _run(triples, mass, codes, _rows(theta)[:, 1], _rows(xi), n_iter, prior)
        if best is None or found[0] > best[0]:
            best = found
    assert best is not None
    likelihood, theta_w, xi_w = best
    knows, guesses = _chances(triples, theta_w)
    gains = mass[triples.workers] * np.log1p(knows / (guesses * xi_w[triples.workers, triples.labels]))
    post = np.empty((triples.rows, width))
    shares = np.full(width, 1.0 / max(width, 1))
    kernels.gains_posterior(triples.offsets, triples.labels, gains, shares, codes, post)
    total = theta_w.sum(axis=1)
    return MaceFit(triples.members, theta_w[:, 1] / total, _rows(xi_w), likelihood, fused(post, triples))


@dataclass(frozen=True, slots=True)
class _Prior:
    """How expected counts become parameters."""

    variational: bool
    smoothing: float
    alpha: float
    beta: float

    def theta(self, counts: Array) -> Array:
        """(M, 2): chances to guess and to know; they sum to less than 1 where variational."""
        return (
            _share(counts + np.array([self.alpha, self.beta]))
            if self.variational
            else _rows(counts + self.smoothing)
        )

    def xi(self, counts: Array) -> Array:
        """(M, K): what a worker says when it guesses."""
        return _share(counts + 10.0) if self.variational else _rows(counts + self.smoothing)


def _run(
    triples: Triples,
    weights: Array,
    known: Array,
    competence: Array,
    xi: Array,
    n_iter: int,
    prior: _Prior,
) -> tuple[float, Array, Array]:
    members, width = xi.shape
    theta = np.stack([1 - competence, competence], axis=1)
    right = np.empty(len(triples))
    pair = triples.workers * width + triples.labels
    total = -np.inf
    for step in range(n_iter + 1):
        spam, knows = theta[triples.workers, 0], theta[triples.workers, 1]
        guesses = np.maximum(spam * xi[triples.workers, triples.labels], SMALLEST)
        total = kernels.mace_pass(
            triples.offsets, triples.workers, triples.labels, weights, known, knows, guesses, width, right
        )
        if step == n_iter:
            break
        guessed = np.bincount(pair, 1 - right, members * width).reshape(members, width)
        knew = np.bincount(triples.workers, right, members)
        theta = prior.theta(np.stack([guessed.sum(axis=1), knew], axis=1))
        xi = prior.xi(guessed)
    return float(total), theta, xi


def _chances(triples: Triples, theta: Array) -> tuple[Array, Array]:
    return theta[triples.workers, 1], np.maximum(theta[triples.workers, 0], SMALLEST)


def _rows(values: Array) -> Array:
    total = values.sum(axis=1, keepdims=True)
    return np.asarray(values / np.where(total > 0, total, 1.0))


def _share(counts: Array) -> Array:
    """exp(digamma(count) - digamma(sum of the row))."""
    total = kernels.digammas(counts.sum(axis=1))
    return np.asarray(np.exp(kernels.digammas(counts.ravel()).reshape(counts.shape) - total[:, None]))
