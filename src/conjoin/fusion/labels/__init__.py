"""Labels of annotators, labelling functions or models: votes, models of workers, comparisons in pairs.

Operators take `Labels` by member, or `Triples` (task, worker, label), whose memory grows with the answers;
they give `Probabilities`. Importing this loads the compiled loops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conjoin.fusion.labels.fits import (
    fit_dawid_skene,
    fit_log_odds_vote,
    fit_naive_bayes,
    fit_one_coin,
    fit_one_coin_dawid_skene,
    fit_weighted_vote,
)
from conjoin.fusion.labels.glad import GladFit, fit_glad_model, glad
from conjoin.fusion.labels.label_model import fit_label_model, label_model
from conjoin.fusion.labels.mace import MaceFit, fit_mace_model, mace
from conjoin.fusion.labels.model import WorkerModel
from conjoin.fusion.labels.pairs import Comparisons, Strengths, bradley_terry, noisy_bradley_terry
from conjoin.fusion.labels.skene import (
    dawid_skene,
    extended,
    fast_dawid_skene,
    fit_workers,
    ibcc,
    one_coin_dawid_skene,
)
from conjoin.fusion.labels.spectral import kos, m_msr
from conjoin.fusion.labels.triples import Triples
from conjoin.fusion.labels.votes import (
    binary_relevance,
    majority_vote,
    wawa,
    weighted_vote,
    worker_skill,
    zero_based_skill,
)

FUSERS: dict[str, Callable[..., Any]] = {
    "majority_vote": majority_vote,
    "weighted_vote": weighted_vote,
    "wawa": wawa,
    "zero_based_skill": zero_based_skill,
    "dawid_skene": dawid_skene,
    "ibcc": ibcc,
    "one_coin_dawid_skene": one_coin_dawid_skene,
    "fast_dawid_skene": fast_dawid_skene,
    "glad": glad,
    "mace": mace,
    "label_model": label_model,
    "kos": kos,
    "m_msr": m_msr,
}
"""Operators without truth, by name."""

FIT_FUSERS: dict[str, Callable[..., Any]] = {
    "weighted_vote": fit_weighted_vote,
    "one_coin": fit_one_coin,
    "naive_bayes": fit_naive_bayes,
    "dawid_skene": fit_dawid_skene,
    "one_coin_dawid_skene": fit_one_coin_dawid_skene,
    "log_odds_vote": fit_log_odds_vote,
}
"""Functions (outputs, truth, *, weights, score, seed) that fit a fuser, by name."""

PARTS: dict[str, type] = {"WorkerModel": WorkerModel}
"""Storable records of this package, by the name under which a bundle keeps them."""

CANDIDATES: tuple[str, ...] = (
    "majority_vote",
    "weighted_vote",
    "naive_bayes",
    "one_coin_dawid_skene",
    "log_odds_vote",
)
"""What an automatic choice tries, simple first."""

TRUSTED = "ibcc"
"""Bayesian Dawid-Skene: right at least as often as the plain one, with few answers a worker far more so."""

SCORE = "accuracy"

__all__ = [
    "CANDIDATES",
    "FIT_FUSERS",
    "FUSERS",
    "PARTS",
    "SCORE",
    "TRUSTED",
    "Comparisons",
    "GladFit",
    "MaceFit",
    "Strengths",
    "Triples",
    "WorkerModel",
    "binary_relevance",
    "bradley_terry",
    "dawid_skene",
    "extended",
    "fast_dawid_skene",
    "fit_dawid_skene",
    "fit_glad_model",
    "fit_label_model",
    "fit_log_odds_vote",
    "fit_mace_model",
    "fit_naive_bayes",
    "fit_one_coin",
    "fit_one_coin_dawid_skene",
    "fit_weighted_vote",
    "fit_workers",
    "glad",
    "ibcc",
    "kos",
    "label_model",
    "m_msr",
    "mace",
    "majority_vote",
    "noisy_bradley_terry",
    "one_coin_dawid_skene",
    "wawa",
    "weighted_vote",
    "worker_skill",
    "zero_based_skill",
]
