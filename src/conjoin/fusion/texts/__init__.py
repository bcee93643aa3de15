"""Fusers of texts: translations, summaries, transcripts and answers of language models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conjoin.fusion.texts.hypothesis import HypothesisSelection, fit_hypothesis_selection
from conjoin.fusion.texts.rover import rover
from conjoin.fusion.texts.rover_fit import fit_rover

FUSERS: dict[str, Callable[..., Any]] = {
    "rover": rover,
}
"""Fusers without fitting, by name."""

FIT_FUSERS: dict[str, Callable[..., Any]] = {
    "rover": fit_rover,
    "hypothesis_selection": fit_hypothesis_selection,
}
"""Functions (outputs, truth, *, weights, score, seed) that fit a fuser, by name."""

PARTS: dict[str, type] = {"hypothesis_selection": HypothesisSelection}
"""Storable records of this package, by the name under which a bundle keeps them."""

CANDIDATES: tuple[str, ...] = ("rover", "hypothesis_selection")
"""What the automatic choice tries, the simple first."""

TRUSTED = "minimum_bayes_risk"
"""What the field trusts most where there is no truth."""

SCORE = "chrf"
"""The default score."""

__all__ = ["CANDIDATES", "FIT_FUSERS", "FUSERS", "PARTS", "SCORE", "TRUSTED"]
