"""Fits to truth: weights of a vote, confusions of workers, and Dawid-Skene where only some truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError, TruthError
from conjoin.fusion.applied import Applied
from conjoin.fusion.labels.em import Options
from conjoin.fusion.labels.model import WorkerModel, coins, must_fit
from conjoin.fusion.labels.skene import fit_workers
from conjoin.fusion.labels.triples import Answers, Triples, known_codes, triples_of
from conjoin.fusion.single import guarded
from conjoin.outputs import Array, Labels, Output
from conjoin.scores import checked_weights

if TYPE_CHECKING:
    from conjoin.scores import FieldScore, Score

PENALTIES = (1.0, 4.0, 16.0, 64.0)
MOST_MEMBERS = 500
MOST_WORK = 4e9
"""Products in one Newton step of `fit_log_odds_vote`; of more rows every second, third ... is taken."""


def fit_weighted_vote(
    outputs: Answers,
    truth: Labels,
    *,
    weights: Any = None,
    score: Score | FieldScore | None = None,
    seed: int = 0,
) -> Any:
    """`weighted_vote` with w_m = log(a_m (K - 1) / (1 - a_m)), at least 0 (Nitzan and Paroush 1982).

    a_m: share of right answers, drawn to the mean by 2 answers. For members that err independently these
    weights decide best. weights: (n,) of the rows. seed has no influence. Raises OutputsError, TruthError.

    >>> truth = Labels.of(["y", "y", "n", "n"])
    >>> said = {"ann": truth, "bob": Labels.of(["y", "n", "n", "y"])}
    >>> fuser = fit_weighted_vote(said, truth)
    >>> fuser.weights["ann"] > fuser.weights["bob"]
    True
    """
    triples, codes, mass = _supervised(outputs, truth, weights)
    skill = np.clip(_accuracies(triples, codes, mass), 1e-6, 1 - 1e-6)
    odds = np.log(skill * max(len(triples.classes) - 1, 1) / (1 - skill))
    odds = np.where(odds > 1e-12, odds, 0.0)
    if not odds.any():
        odds = np.ones(len(odds))
    fuser = Applied("labels", "weighted_vote", dict(zip(triples.members, odds.tolist(), strict=True)), {})
    return _guarded(fuser, outputs, truth, score, weights)


def fit_naive_bayes(
    outputs: Answers,
    truth: Labels,
    *,
    weights: Any = None,
    score: Score | FieldScore | None = None,
    seed: int = 0,
    strength: float = 2.0,
) -> Any:
    """Confusions of the members, counted on the rows with truth; answers are taken as independent.

    p(c) proportional to pi_c prod_m P_m(l_m | c) (Xu, Krzyzak and Suen 1992). Each member's row of counts
    gets `strength` answers more, spread as all members answer together, so one with few answers is taken as
    an ordinary one. weights: (n,) of the rows. seed has no influence. Raises OutputsError, TruthError.

    >>> truth = Labels.of(["y", "y", "n", "n"])
    >>> said = {"ann": truth, "eve": Labels.of(["n", "n", "y", "y"])}
    >>> fit_naive_bayes(said, truth)({"ann": Labels.of(["y"], "ny")}).labels().names()
    array(['y'], dtype=object)
    """
    if strength <= 0:
        raise OutputsError(f"strength must be above 0, not {strength}")
    triples, codes, mass = _supervised(outputs, truth, weights)
    answers = _answers(triples, codes, mass)
    width = len(triples.classes)
    pooled = answers.sum(axis=0) + 0.5 + np.eye(width)
    cells = answers + strength * pooled / pooled.sum(axis=1, keepdims=True)
    prior = _prior(triples, codes, mass)
    fuser = WorkerModel(
        triples.members,
        triples.classes,
        prior,
        cells / cells.sum(axis=2, keepdims=True),
        answers,
        np.ones(len(triples.members)),
        float(mass.sum()),
    )
    return _guarded(fuser, outputs, truth, score, weights)


def fit_one_coin(
    outputs: Answers,
    truth: Labels,
    *,
    weights: Any = None,
    score: Score | FieldScore | None = None,
    seed: int = 0,
) -> Any:
    """As `fit_naive_bayes` with one number for each member: how often it is right, drawn to the mean.

    weights: (n,) of the rows. seed has no influence. Raises OutputsError, TruthError.

    >>> truth = Labels.of(["y", "y", "n", "n"])
    >>> fit_one_coin({"ann": truth, "bob": truth}, truth)({"ann": truth}).labels().names()
    array(['y', 'y', 'n', 'n'], dtype=object)
    """
    triples, codes, mass = _supervised(outputs, truth, weights)
    skill = np.clip(_accuracies(triples, codes, mass), 1e-4, 1 - 1e-4)
    fuser = _coin_model(triples, codes, mass, skill, _prior(triples, codes, mass))
    return _guarded(fuser, outputs, truth, score, weights)


def fit_dawid_skene(
    outputs: Answers,
    truth: Labels | None = None,
    *,
    weights: Any = None,
    score: Score | FieldScore | None = None,
    seed: int = 0,
    n_iter: int = 100,
    tol: float = 1e-5,
    method: str = "em",
    smoothing: float = 0.5,
    diagonal: float = 1.0,
    initial: WorkerModel | None = None,
) -> Any:
    """`dawid_skene` as a `WorkerModel` to be called on new rows; where truth is known, it is held fast.

    truth: `Labels` of the n rows, answered where known, or None; the other rows are learned from as well
    (semi-supervised). smoothing, diagonal: pseudo answers in each cell, and on the diagonal as well. initial:
    a model to begin with. weights: (n,) of the rows. seed has no influence. Raises OutputsError.

    >>> said = {w: Labels.of(list("yynn")) for w in ("ann", "bob")}
    >>> model = fit_dawid_skene(said)
    >>> model({"bob": Labels.of(["n"], "ny")}).labels().names()
    array(['n'], dtype=object)
    """
    return _semi_supervised(
        outputs,
        truth,
        (weights, score),
        Options(n_iter, tol, method, smoothing, diagonal, "full", "assign"),
        initial,
    )


def fit_one_coin_dawid_skene(
    outputs: Answers,
    truth: Labels | None = None,
    *,
    weights: Any = None,
    score: Score | FieldScore | None = None,
    seed: int = 0,
    n_iter: int = 100,
    tol: float = 1e-5,
    smoothing: float = 0.5,
    diagonal: float = 1.0,
    initial: WorkerModel | None = None,
) -> Any:
    """`one_coin_dawid_skene` as a `WorkerModel`; parameters as of `fit_dawid_skene`.

    >>> said = {w: Labels.of(list("yynn")) for w in ("ann", "bob")}
    >>> fit_one_coin_dawid_skene(said).members
    ('ann', 'bob')
    """
    options = Options(n_iter, tol, "em", smoothing, diagonal, "one_coin", "assign")
    return _semi_supervised(outputs, truth, (weights, score), options, initial)


def _semi_supervised(
    outputs: Answers,
    truth: Labels | None,
    judged: tuple[Any, Any],
    options: Options,
    initial: WorkerModel | None,
) -> Any:
    weights, score = judged
    rows = outputs.rows if isinstance(outputs, Triples) else len(next(iter(outputs.values()), ()))
    mass = None if weights is None else checked_weights(weights, rows)
    fuser, _, _ = fit_workers(outputs, known=truth, initial=initial, row_weights=mass, options=options)
    if truth is None or not bool((truth.answered & (truth.codes >= 0)).any()):
        return fuser
    return _guarded(fuser, outputs, truth, score, weights)


def fit_log_odds_vote(
    outputs: Answers,
    truth: Labels,
    *,
    weights: Any = None,
    score: Score | FieldScore | None = None,
    seed: int = 0,
    penalty: float | None = None,
) -> Any:
    """Log-odds of the members' votes, fitted together: p(c) proportional to exp(b_c + sum_m w_m [l_m = c]).

    Multinomial logistic regression, so members that err together share their weight. Minimised: log-loss +
    penalty / 2 (sum_m (w_m - w)^2 + sum_c b_c^2) / n over w_m, b and the common w. penalty: None chooses
    among 1 to 64 by 5-fold cross-validation with this seed. A `WorkerModel` whose skills are
    e^w / (e^w + K - 1).
    weights: (n,) of the rows. Raises OutputsError, also above 500 members; TruthError.

    >>> truth = Labels.of(["y", "y", "n", "n"])
    >>> fit_log_odds_vote({"ann": truth, "bob": truth}, truth)({"ann": truth}).labels().names()
    array(['y', 'y', 'n', 'n'], dtype=object)
    """
    triples, codes, mass = _supervised(outputs, truth, weights)
    if len(triples.members) > MOST_MEMBERS:
        raise OutputsError(
            f"log_odds_vote takes {MOST_MEMBERS} members, not {len(triples.members)}; take naive_bayes"
        )
    if penalty is None:
        some = _vote_rows(triples, codes, mass, MOST_WORK / 16)
        penalty = _chosen(some, seed) if len(some[1]) >= 10 else PENALTIES[-1]
    elif penalty <= 0:
        raise OutputsError(f"penalty must be above 0, not {penalty}")
    odds, bias = _logistic(*_vote_rows(triples, codes, mass, MOST_WORK), penalty)
    others = max(len(triples.classes) - 1, 1)
    skill = np.clip(1 / (1 + others * np.exp(-odds)), 1e-9, 1 - 1e-9)
    prior = np.exp(bias - bias.max())
    fuser = _coin_model(triples, codes, mass, skill, prior / prior.sum())
    return _guarded(fuser, outputs, truth, score, weights)


def _supervised(outputs: Answers, truth: Labels, weights: Any) -> tuple[Triples, Array, Array]:
    """Triples with the truth's classes, the true class (n,) or -1, and what each row counts (n,)."""
    if not isinstance(truth, Labels):
        kind = truth.kind if isinstance(truth, Output) else type(truth).__name__
        raise TruthError(f"labels are fitted to a truth of labels, not {kind}")
    triples, _ = triples_of(outputs)
    if len(truth) != triples.rows:
        raise TruthError(f"the members answered {triples.rows} rows, the truth has {len(truth)}")
    triples, codes = known_codes(truth, triples)
    mass = np.ones(triples.rows) if weights is None else checked_weights(weights, triples.rows)
    mass = np.where((codes >= 0) & triples.answered, mass, 0.0)
    if not mass.any():
        raise TruthError(
            f"of {triples.rows} rows none has a truth, a weight and an answer: there is nothing to fit to"
        )
    return triples, codes, mass


def _answers(triples: Triples, codes: Array, mass: Array) -> Array:
    """(M, K, K) weight of rows where member m said l and c is true, at [m, c, l]."""
    members, width = len(triples.members), len(triples.classes)
    must_fit(members, width)
    some = mass[triples.tasks] > 0
    key = (triples.workers * width + codes[triples.tasks]) * width + triples.labels
    found = np.bincount(key[some], mass[triples.tasks][some], members * width * width)
    return np.asarray(found.reshape(members, width, width))


def _accuracies(triples: Triples, codes: Array, mass: Array) -> Array:
    """(M,) share of right answers, drawn to the mean of all by 2 answers."""
    weight = mass[triples.tasks]
    hits = np.bincount(
        triples.workers, weight * (codes[triples.tasks] == triples.labels), len(triples.members)
    )
    total = np.bincount(triples.workers, weight, len(triples.members))
    mean = hits.sum() / max(total.sum(), 1e-12)
    return np.asarray((hits + 2 * mean) / (total + 2))


def _prior(triples: Triples, codes: Array, mass: Array) -> Array:
    width = len(triples.classes)
    counts = np.bincount(codes[mass > 0], mass[mass > 0], width) + 1.0
    return np.asarray(counts / counts.sum())


def _coin_model(triples: Triples, codes: Array, mass: Array, skill: Array, prior: Array) -> WorkerModel:
    answers = _answers(triples, codes, mass)
    confusions = coins(skill, len(triples.classes))
    ones = np.ones(len(triples.members))
    return WorkerModel(triples.members, triples.classes, prior, confusions, answers, ones, float(mass.sum()))


def _vote_rows(triples: Triples, codes: Array, mass: Array, work: float) -> tuple[Array, Array, Array, int]:
    """Said labels (n', M), -1 where silent; true classes and weights (n',); K. Rows thinned to this work."""
    at = np.flatnonzero(mass > 0)
    width = len(triples.classes)
    size = len(triples.members) + width
    a_row = width * float(size) * max(size, 200)  # below 200, moving numbers costs more than multiplying
    at = at[:: max(1, int(np.ceil(len(at) * a_row / work)))]
    place = np.full(triples.rows, -1, dtype=np.int64)
    place[at] = np.arange(len(at))
    mine = place[triples.tasks]
    said = np.full((len(at), len(triples.members)), -1, dtype=np.int64)
    said[mine[mine >= 0], triples.workers[mine >= 0]] = triples.labels[mine >= 0]
    return said, codes[at], mass[at], width


def _logistic(said: Array, codes: Array, mass: Array, width: int, penalty: float) -> tuple[Array, Array]:
    """Log-odds (M,) and biases (K,) at the optimum: Newton steps, halved where the loss rises."""
    n, members = said.shape
    votes = np.zeros((width, n, members + 1))
    for k in range(width):
        votes[k, :, :-1] = said == k
        votes[k, :, -1] = votes[k, :, :-1].sum(axis=1)
    size = members + 1 + width
    pull = np.full(size, penalty)
    pull[members] = 1e-6
    x = np.zeros(size)
    x[members] = 1.0
    loss, p = _loss(votes, x, codes, mass, pull)
    for _ in range(50):
        gradient, H = _curvature(votes, p, codes, mass)
        step = np.linalg.solve(H + np.diag(pull), gradient + pull * x)
        rate = 1.0
        while rate > 1e-8:
            new, p_new = _loss(votes, x - rate * step, codes, mass, pull)
            if new <= loss + 1e-12 * abs(loss):
                break
            rate /= 2
        x, fall, loss, p = x - rate * step, loss - new, new, p_new
        if fall < 1e-9 * mass.sum():
            break
    return x[:members] + x[members], x[members + 1 :]


def _loss(votes: Array, x: Array, codes: Array, mass: Array, pull: Array) -> tuple[float, Array]:
    width = len(votes)
    z = np.stack([votes[k] @ x[:-width] + x[len(x) - width + k] for k in range(width)], axis=1)
    z -= z.max(axis=1, keepdims=True)
    total = np.log(np.exp(z).sum(axis=1))
    value = float(mass @ (total - z[np.arange(len(codes)), codes]) + 0.5 * (pull * x**2).sum())
    return value, np.exp(z - total[:, None])


def _curvature(votes: Array, p: Array, codes: Array, mass: Array) -> tuple[Array, Array]:
    """Gradient and Hessian of the log-loss in (weights, common weight, biases)."""
    width, n, inner = votes.shape
    size = inner + width
    gradient, H = np.zeros(size), np.zeros((size, size))
    mean = np.zeros((n, size))
    for k in range(width):
        wide = np.zeros((n, size))
        wide[:, :inner] = votes[k]
        wide[:, inner + k] = 1.0
        share = mass * p[:, k]
        gradient += wide.T @ (share - mass * (codes == k))
        H += wide.T @ (wide * share[:, None])
        mean += wide * p[:, k : k + 1]
    return gradient, H - mean.T @ (mean * mass[:, None])


def _chosen(rows: tuple[Array, Array, Array, int], seed: int) -> float:
    said, codes, mass, width = rows
    fold = np.random.default_rng(seed).permutation(len(codes)) % 5
    losses = np.zeros(len(PENALTIES))
    for f in range(5):
        fit, test = fold != f, fold == f
        for i, penalty in enumerate(PENALTIES):
            odds, bias = _logistic(said[fit], codes[fit], mass[fit], width, penalty)
            z = bias + np.stack([(said[test] == k) @ odds for k in range(width)], axis=1)
            z -= z.max(axis=1, keepdims=True)
            p = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), codes[test]]
            losses[i] += float(mass[test] @ p)
    return PENALTIES[int(losses.argmin())]


def _guarded(fuser: Any, outputs: Answers, truth: Labels, score: Any, weights: Any) -> Any:
    """`guarded` where the outputs are by member; of triples no single worker answers all."""
    return fuser if isinstance(outputs, Triples) else guarded(fuser, outputs, truth, score, weights)
