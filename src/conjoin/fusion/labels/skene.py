"""Dawid-Skene and its relatives: one-coin, fast (hard) and Bayesian (IBCC)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conjoin.fusion.labels.em import (
    PLAIN,
    Options,
    Strategy,
    expectation_maximisation,
    laid,
    model_of,
    pairs_of,
)
from conjoin.fusion.labels.model import WorkerModel, must_fit
from conjoin.fusion.labels.triples import Answers, fused
from conjoin.outputs import Array, Labels, Probabilities

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.fusion.stack import Weights


def dawid_skene(
    outputs: Answers,
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    known: Labels | None = None,
    initial: WorkerModel | None = None,
    initial_error_strategy: Strategy = "assign",
    n_iter: int = 100,
    tol: float = 1e-5,
    smoothing: float = 0.0,
    diagonal: float = 0.0,
) -> Probabilities:
    """Each worker has a confusion matrix; EM finds them and the true classes together (Dawid and Skene 1979).

    p_i(c) proportional to pi_c prod_w e_w[c, l_iw]; e_w[c, l] = sum_i p_i(c) [l_iw = l] / sum_i p_i(c);
    pi_c = mean_i p_i(c). It starts from the majority vote. Memory grows with the answers.

    outputs: `Labels` by member, or `Triples`. weights: of members; one of weight 2 counts twice.
    known: `Labels` of the n tasks; where they are answered, the class is fixed (a task without any answer
    stays unanswered). initial: a fitted
    `WorkerModel` to begin with; initial_error_strategy: "assign" takes its confusions for the first E step,
    "addition" adds its answers to the first M step's, "evidence" to every M step's.
    n_iter: steps at most. tol: the rise of the log-likelihood per answer at which it stops.
    smoothing, diagonal: pseudo answers added to every cell and to the diagonal; with neither these are the
    numbers of crowd-kit. For many classes, or few answers a worker, `ibcc` is better.

    It learns from all rows together: rows in chunks give other answers. Raises OutputsError.

    >>> from conjoin.outputs import Labels
    >>> said = {"ann": "yyn", "bob": "yyn", "eve": "nyy"}
    >>> dawid_skene({w: Labels.of(list(s)) for w, s in said.items()}).labels().names()
    array(['y', 'y', 'n'], dtype=object)
    """
    options = Options(n_iter, tol, "em", smoothing, diagonal, "full", initial_error_strategy)
    return _posterior(outputs, weights, known, initial, options)


def ibcc(
    outputs: Answers,
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    known: Labels | None = None,
    n_iter: int = 100,
    tol: float = 1e-5,
    smoothing: float = 0.5,
    diagonal: float = 1.0,
) -> Probabilities:
    """Independent Bayesian classifier combination: Dawid-Skene with priors (Kim and Ghahramani 2012).

    Rows of the confusion matrices are Dirichlet(smoothing, and diagonal more for the right label), the class
    shares Dirichlet(1); variational Bayes: e_w[c, l] = exp(digamma(n_wcl) - digamma(sum_l n_wcl)) with the
    expected counts and the prior's in n. Other parameters as of `dawid_skene`. Few answers a worker do not
    lead it astray, so this is what is taken where nothing is known. Raises OutputsError.

    It learns from all rows together: rows in chunks give other answers.

    >>> from conjoin.outputs import Labels
    >>> said = {"ann": "yyn", "bob": "yyn", "eve": "nyy"}
    >>> ibcc({w: Labels.of(list(s)) for w, s in said.items()}).labels().names()
    array(['y', 'y', 'n'], dtype=object)
    """
    return _posterior(outputs, weights, known, None, Options(n_iter, tol, "vb", smoothing, diagonal))


def one_coin_dawid_skene(
    outputs: Answers,
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    known: Labels | None = None,
    initial: WorkerModel | None = None,
    n_iter: int = 100,
    tol: float = 1e-5,
    smoothing: float = 0.0,
    diagonal: float = 0.0,
) -> Probabilities:
    """`dawid_skene` with one number for each worker, the chance to be right (Zhang et al. 2016).

    e_w[c, l] = s_w where l = c, else (1 - s_w) / (K - 1). diagonal, smoothing: pseudo answers as in a
    matrix of that many in each cell. For few answers a worker. Raises OutputsError.

    >>> from conjoin.outputs import Labels
    >>> said = {"ann": "yyn", "bob": "yyn", "eve": "nyy"}
    >>> one_coin_dawid_skene({w: Labels.of(list(s)) for w, s in said.items()}).labels().names()
    array(['y', 'y', 'n'], dtype=object)
    """
    options = Options(n_iter, tol, "em", smoothing, diagonal, "one_coin")
    return _posterior(outputs, weights, known, initial, options)


def fast_dawid_skene(
    outputs: Answers,
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    known: Labels | None = None,
    n_iter: int = 100,
    tol: float = 1e-5,
    smoothing: float = 0.0,
) -> Probabilities:
    """`dawid_skene` with hard decisions in each E step: fewer steps (Sinha, Rao and Balasubramanian 2018).

    >>> from conjoin.outputs import Labels
    >>> fast_dawid_skene({w: Labels.of(list("yyn")) for w in ("ann", "bob")}).values[:, 0]
    array([0., 0., 1.])
    """
    options = Options(n_iter, tol, "hard", smoothing)
    return _posterior(outputs, weights, known, None, options)


def fit_workers(
    outputs: Answers,
    /,
    *,
    weights: Weights = None,
    known: Labels | None = None,
    initial: WorkerModel | None = None,
    row_weights: Array | None = None,
    options: Options = PLAIN,
) -> tuple[WorkerModel, Probabilities, tuple[float, ...]]:
    """EM as in `dawid_skene`: the model of the workers, the posterior, the log-likelihoods per answer.

    row_weights: (n,), how much each task counts. Raises OutputsError.
    """
    triples, mass, codes, initial = laid(outputs, weights, known, initial)
    must_fit(len(triples.members), len(triples.classes))
    pairs = pairs_of(triples, initial)
    state = expectation_maximisation(triples, pairs, mass, codes, initial, options, row_weights)
    model = model_of(triples, pairs, mass, state, initial, options)
    return model, fused(state.post, triples), state.history


def extended(
    model: WorkerModel, outputs: Answers, /, *, known: Labels | None = None, n_iter: int = 10
) -> WorkerModel:
    """The model with new answers added, without the old ones at hand: they count by `model.answers`.

    EM over the new tasks alone, the old expected answers added in every M step. New workers may come, new
    classes not. n_iter: steps; 1 is one pass. Raises OutputsError.

    >>> from conjoin.outputs import Labels
    >>> old = fit_workers({w: Labels.of(list("ynyn")) for w in ("ann", "bob")})[0]
    >>> new = extended(old, {"ann": Labels.of(["y"], "ny"), "cem": Labels.of(["y"], "ny")})
    >>> new.members, round(new.skill["cem"])
    (('ann', 'bob', 'cem'), 1)
    """
    options = Options(n_iter, 1e-6, strategy="evidence", smoothing=1e-3)
    return fit_workers(outputs, known=known, initial=model, options=options)[0]


def _posterior(
    outputs: Answers, weights: Weights, known: Labels | None, initial: WorkerModel | None, options: Options
) -> Probabilities:
    triples, mass, codes, initial = laid(outputs, weights, known, initial)
    state = expectation_maximisation(triples, pairs_of(triples, initial), mass, codes, initial, options)
    return fused(state.post, triples)
