"""Fusers of texts: translations, summaries, transcripts and answers of language models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FUSERS: dict[str, Callable[..., Any]] = {}
"""Fusers without fitting, by name."""

FIT_FUSERS: dict[str, Callable[..., Any]] = {}
"""Functions (outputs, truth, *, weights, score, seed) that fit a fuser, by name."""

PARTS: dict[str, type] = {}
"""Storable records of this package, by the name under which a bundle keeps them."""

CANDIDATES: tuple[str, ...] = ()
"""What the automatic choice tries, the simple first."""

TRUSTED = "minimum_bayes_risk"
"""What the field trusts most where there is no truth."""

SCORE = "chrf"
"""The default score."""

__all__ = ["CANDIDATES", "FIT_FUSERS", "FUSERS", "PARTS", "SCORE", "TRUSTED"]
