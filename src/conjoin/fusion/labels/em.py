"""The EM loop of Dawid-Skene and its relatives, on pairs (worker, label) that occur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from conjoin.errors import OutputsError, listed
from conjoin.fusion.labels.model import WorkerModel, coins, recoded
from conjoin.fusion.labels.triples import Answers, Triples, known_codes, triples_of
from conjoin.kernels import labels as kernels
from conjoin.kernels.labels import EPS
from conjoin.outputs import Array, Labels

if TYPE_CHECKING:
    from conjoin.fusion.stack import Weights

Variant: TypeAlias = Literal["full", "one_coin"]
Strategy: TypeAlias = Literal["assign", "addition", "evidence"]


@dataclass(frozen=True, slots=True)
class Options:
    """Parameters of `dawid_skene`, which explains them."""

    n_iter: int = 100
    tol: float = 1e-5
    method: str = "em"
    smoothing: float = 0.0
    diagonal: float = 0.0
    variant: Variant = "full"
    strategy: Strategy = "assign"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("method", self.method, ("em", "vb", "hard")),
            ("initial_error_strategy", self.strategy, ("assign", "addition", "evidence")),
        ):
            if value not in allowed:
                raise OutputsError(f"{name} must be one of {listed(allowed)}, not {value!r}")
        if self.method == "vb" and self.smoothing <= 0:
            raise OutputsError(f"the variational form needs smoothing above 0, not {self.smoothing}")
        if self.n_iter < 0 or self.smoothing < 0 or self.diagonal < 0:
            raise OutputsError(
                f"n_iter, smoothing and diagonal must not be negative, not {self.n_iter}, "
                f"{self.smoothing} and {self.diagonal}"
            )


PLAIN = Options()


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The P different (worker, label) that occur, sorted by worker. of: (t,) pair of each answer.

    starts: (M + 1,), where a worker's pairs begin. workers, said: (P,) worker and label of each pair.
    """

    of: Array
    starts: Array
    workers: Array
    said: Array


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What EM holds: post (n, K), prior (K,), counts and table (P, K), skills (M,), log-likelihoods."""

    post: Array
    prior: Array
    counts: Array
    table: Array
    skills: Array
    history: tuple[float, ...]


def pairs_of(triples: Triples, past: WorkerModel | None = None) -> Pairs:
    """The pairs (worker, label) of the answers, and those that the past model has answers of."""
    width, members = len(triples.classes), len(triples.members)
    key = triples.workers * width + triples.labels
    if past is not None:
        said: Array = past.answers.sum(axis=1) > 0
        said[triples.workers, triples.labels] = True
        found = np.flatnonzero(said)
        of = np.searchsorted(found, key)
    elif members * width <= 4 * len(key) + 65_536:
        found = np.flatnonzero(np.bincount(key, minlength=members * width))
        place = np.zeros(members * width, dtype=np.int64)
        place[found] = np.arange(len(found))
        of = place[key]
    else:
        found, of = np.unique(key, return_inverse=True)
    workers = found // max(width, 1)
    starts = np.searchsorted(workers, np.arange(members + 1)).astype(np.int64)
    return Pairs(np.ascontiguousarray(of, np.int64), starts, workers, found - workers * width)


def expectation_maximisation(
    triples: Triples,
    pairs: Pairs,
    weights: Array,
    known: Array,
    initial: WorkerModel | None,
    options: Options,
    row_weights: Array | None = None,
) -> State:
    """The EM loop. weights: (M,) of workers. known: (n,) class or -1."""
    members, width = len(triples.members), len(triples.classes)
    counts, table = np.empty((len(pairs.said), width)), np.empty((len(pairs.said), width))
    skills = np.full(members, 1.0 / max(width, 1))
    post = _start(triples, weights, known)
    past = None if initial is None or options.strategy == "assign" else _of_pairs(initial.answers, pairs)
    step = _Step(triples, pairs, weights, options, row_weights, counts, table, skills)
    prior = step.prior(post, initial)
    kernels.skene_counts(triples.offsets, pairs.of, step.weighted(post), counts)
    step.tabulate(past)
    if initial is not None and options.strategy == "assign":
        confusions = np.maximum(_of_pairs(initial.confusions, pairs), EPS)
        table[:] = np.maximum(confusions ** weights[pairs.workers][:, None], 1e-30)
    history: list[float] = []
    for _ in range(options.n_iter):
        hard = options.method == "hard"
        total = kernels.skene_pass(triples.offsets, pairs.of, table, prior, known, hard, post, counts)
        if row_weights is not None:
            kernels.skene_counts(triples.offsets, pairs.of, step.weighted(post), counts)
        prior = step.prior(post, initial)
        step.tabulate(past if options.strategy == "evidence" else None)
        history.append(total / max(len(triples), 1))
        if len(history) > 1 and history[-1] - history[-2] < options.tol:
            break
    return State(post, prior, counts, table, skills, tuple(history))


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """The M step, on arrays that it fills."""

    triples: Triples
    pairs: Pairs
    weights: Array
    options: Options
    row_weights: Array | None
    counts: Array
    table: Array
    skills: Array

    def weighted(self, post: Array) -> Array:
        return post if self.row_weights is None else post * self.row_weights[:, None]

    def prior(self, post: Array, initial: WorkerModel | None) -> Array:
        mass = self.weighted(post).sum(axis=0)
        if initial is not None and self.options.strategy == "evidence":
            mass = mass + initial.prior * initial.tasks
        if self.options.method == "vb":
            logs = kernels.digammas(np.append(mass + 1.0, mass.sum() + len(mass)))
            return np.asarray(np.exp(logs[:-1] - logs[-1]))
        mass = mass + self.options.smoothing
        total = mass.sum()
        return np.maximum(mass / total, EPS) if total > 0 else np.full(len(mass), 1 / max(len(mass), 1))

    def tabulate(self, past: Array | None) -> None:
        counts = self.counts if past is None else self.counts + past
        own, o = self.pairs, self.options
        if o.variant == "one_coin":
            wrong = o.smoothing * (self.table.shape[1] - 1)
            right = o.smoothing + o.diagonal
            kernels.coin_table(
                counts, own.starts, own.said, self.weights, right, wrong, self.skills, self.table
            )
            return
        vb = o.method == "vb"
        kernels.skene_table(
            counts, own.starts, own.said, self.weights, o.smoothing, o.diagonal, vb, self.table
        )


def laid(
    outputs: Answers, weights: Weights, known: Labels | None, initial: WorkerModel | None
) -> tuple[Triples, Array, Array, WorkerModel | None]:
    """Triples, weights of their members, known codes, and the initial model for the same members."""
    triples, mass = triples_of(outputs, weights)
    if initial is None:
        triples, codes = known_codes(known, triples)
        return triples, mass, codes, None
    members = tuple(sorted({*triples.members, *initial.members}))
    initial = initial.of(members)
    every = dict(zip(triples.members, mass.tolist(), strict=True))
    mass = np.array([every.get(n, w) for n, w in zip(members, initial.weights.tolist(), strict=True)])
    triples = recoded(triples, members, initial.classes, np.ones(len(members), dtype=bool))
    triples, codes = known_codes(known, triples)
    if triples.classes != initial.classes:
        more = [c for c in triples.classes if c not in initial.classes]
        raise OutputsError(f"known answers {listed(more)} are not among {listed(initial.classes)}")
    return triples, mass, codes, initial


def _start(triples: Triples, weights: Array, known: Array) -> Array:
    """The majority vote (n, K), known classes set; tasks without an answer hold 0."""
    post = triples.counts(weights)
    total = post.sum(axis=1, keepdims=True)
    post /= np.where(total > 0, total, 1.0)
    at = np.flatnonzero((known >= 0) & triples.answered)
    post[at] = 0.0
    post[at, known[at]] = 1.0
    return post


def _of_pairs(dense: Array, pairs: Pairs) -> Array:
    """(P, K) of a dense (M, K true, K said)."""
    return np.asarray(dense[pairs.workers, :, pairs.said])


def model_of(
    triples: Triples,
    pairs: Pairs,
    weights: Array,
    state: State,
    initial: WorkerModel | None,
    options: Options,
) -> WorkerModel:
    """The workers' confusions, and the answers behind them, after the loop."""
    members, width = len(triples.members), len(triples.classes)
    answers = np.zeros((members, width, width))
    answers[pairs.workers, :, pairs.said] = state.counts
    tasks = float(triples.answered.sum())
    if initial is not None and options.strategy == "evidence":
        answers, tasks = answers + initial.answers, tasks + initial.tasks
    if initial is not None and options.strategy == "assign" and options.n_iter == 0:
        confusions = initial.confusions
    elif options.variant == "one_coin":
        confusions = coins(state.skills, width)
    else:
        confusions = _normalised(answers, pairs, options)
    prior = state.prior / state.prior.sum() if width else state.prior
    return WorkerModel(triples.members, triples.classes, prior, confusions, answers, weights, tasks)


def _normalised(answers: Array, pairs: Pairs, options: Options) -> Array:
    members, width, _ = answers.shape
    cells = answers + options.smoothing
    cells[:, np.arange(width), np.arange(width)] += options.diagonal
    seen = np.zeros((members, width), dtype=bool)
    seen[pairs.workers, pairs.said] = True
    seen[~seen.any(axis=1)] = True
    cells = np.where(seen[:, None, :], np.maximum(cells, EPS), cells)
    return np.asarray(cells / cells.sum(axis=2, keepdims=True))
