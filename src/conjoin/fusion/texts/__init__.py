"""Fusers of texts: translations, summaries, transcripts and answers of language models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conjoin.fusion.texts.answers import EXTRACTORS, answer_vote, canonical
from conjoin.fusion.texts.answers_fit import fit_answer_vote
from conjoin.fusion.texts.hypothesis import HypothesisSelection, fit_hypothesis_selection
from conjoin.fusion.texts.laid import nbest, system_of
from conjoin.fusion.texts.reranking import FEATURES, rerank
from conjoin.fusion.texts.reranking_fit import fit_rerank
from conjoin.fusion.texts.risk import expected_utilities, minimum_bayes_risk
from conjoin.fusion.texts.risk_fit import fit_minimum_bayes_risk
from conjoin.fusion.texts.rover import rover
from conjoin.fusion.texts.rover_fit import fit_rover
from conjoin.fusion.texts.rover_tags import putative_tags
from conjoin.fusion.texts.sampled import probabilistic_minimum_bayes_risk, pruning_minimum_bayes_risk

FUSERS: dict[str, Callable[..., Any]] = {
    "minimum_bayes_risk": minimum_bayes_risk,
    "pruning_minimum_bayes_risk": pruning_minimum_bayes_risk,
    "probabilistic_minimum_bayes_risk": probabilistic_minimum_bayes_risk,
    "rerank": rerank,
    "answer_vote": answer_vote,
    "rover": rover,
}
"""Fusers without fitting, by name."""

FIT_FUSERS: dict[str, Callable[..., Any]] = {
    "minimum_bayes_risk": fit_minimum_bayes_risk,
    "rerank": fit_rerank,
    "answer_vote": fit_answer_vote,
    "rover": fit_rover,
    "hypothesis_selection": fit_hypothesis_selection,
}
"""Functions (outputs, truth, *, weights, score, seed) that fit a fuser, by name."""

PARTS: dict[str, type] = {"hypothesis_selection": HypothesisSelection}
"""Storable records of this package, by the name under which a bundle keeps them."""

CANDIDATES: tuple[str, ...] = (
    "minimum_bayes_risk",
    "answer_vote",
    "rerank",
    "hypothesis_selection",
    "rover",
)
"""What the automatic choice tries, the simple first."""

SPOKEN: tuple[str, ...] = ("hypothesis_selection", "rover")
"""What it tries for recognised speech, where texts say more of their words."""

TRUSTED = "minimum_bayes_risk"
"""What the field trusts most where there is no truth."""

SCORE = "chrf"
"""The default score."""

__all__ = [
    "CANDIDATES",
    "EXTRACTORS",
    "FEATURES",
    "FIT_FUSERS",
    "FUSERS",
    "PARTS",
    "SCORE",
    "SPOKEN",
    "TRUSTED",
    "HypothesisSelection",
    "answer_vote",
    "canonical",
    "expected_utilities",
    "fit_answer_vote",
    "fit_hypothesis_selection",
    "fit_minimum_bayes_risk",
    "fit_rerank",
    "fit_rover",
    "minimum_bayes_risk",
    "nbest",
    "probabilistic_minimum_bayes_risk",
    "pruning_minimum_bayes_risk",
    "putative_tags",
    "rerank",
    "rover",
    "system_of",
]
