"""Fusers of spans: entities and events that several systems mark in the same texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conjoin.fusion.spans.fitted import SpanPosterior, fit_span_posterior, fit_span_vote
from conjoin.fusion.spans.plain import span_vote, token_vote, weighted_boxes_fusion

FUSERS: dict[str, Callable[..., Any]] = {
    "span_vote": span_vote,
    "token_vote": token_vote,
    "weighted_boxes_fusion": weighted_boxes_fusion,
}
"""Fusers without fitting, by name."""

FIT_FUSERS: dict[str, Callable[..., Any]] = {
    "span_vote": fit_span_vote,
    "span_posterior": fit_span_posterior,
}
"""Functions (outputs, truth, *, weights, score, seed) that fit a fuser, by name."""

PARTS: dict[str, type] = {"span_posterior": SpanPosterior}
"""Storable records of this package, by the name under which a bundle keeps them."""

CANDIDATES: tuple[str, ...] = ("token_vote", "weighted_boxes_fusion", "span_vote", "span_posterior")
"""What the automatic choice tries, the simple first."""

TRUSTED = "span_vote"
"""What the field trusts most where there is no truth."""

SCORE = "f1"
"""The default score."""

__all__ = [
    "CANDIDATES",
    "FIT_FUSERS",
    "FUSERS",
    "PARTS",
    "SCORE",
    "TRUSTED",
    "SpanPosterior",
    "fit_span_posterior",
    "fit_span_vote",
    "span_vote",
    "token_vote",
    "weighted_boxes_fusion",
]
