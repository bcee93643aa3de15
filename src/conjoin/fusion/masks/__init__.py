"""Fusers of masks: votes, means, STAPLE for one and for many labels, SIMPLE, shape-based averaging.

Masks (n, *spatial) hold a label or the probability of the foreground per pixel; with K classes, probabilities
are (n, *spatial, K). Each image is fused by itself. Labels are fused by patterns: what is costly is done once
for each distinct tuple of the members' labels, not for each pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conjoin.fusion.masks.fitted import fit_label_vote, fit_mean_argmax, fit_naive_bayes, naive_bayes
from conjoin.fusion.masks.multilabel import multilabel_staple
from conjoin.fusion.masks.shape import shape_average
from conjoin.fusion.masks.staple import Performance, performance, staple
from conjoin.fusion.masks.votes import label_vote, mean, mean_argmax, simple

FUSERS: dict[str, Callable[..., Any]] = {
    "label_vote": label_vote,
    "mean": mean,
    "mean_argmax": mean_argmax,
    "staple": staple,
    "multilabel_staple": multilabel_staple,
    "simple": simple,
    "shape_average": shape_average,
    "naive_bayes": naive_bayes,
}
"""Operators without fitting, by name."""

FIT_FUSERS: dict[str, Callable[..., Any]] = {
    "label_vote": fit_label_vote,
    "mean_argmax": fit_mean_argmax,
    "naive_bayes": fit_naive_bayes,
}
"""Functions that fit an operator to a truth, by name."""

PARTS: dict[str, type] = {}
"""Records of this package's own: none; what is fitted is an `Applied`."""

TRUSTED = "multilabel_staple"
SCORE = "dice"
CANDIDATES = ("label_vote", "mean_argmax", "multilabel_staple", "simple", "naive_bayes")

__all__ = [
    "CANDIDATES",
    "FIT_FUSERS",
    "FUSERS",
    "PARTS",
    "SCORE",
    "TRUSTED",
    "Performance",
    "fit_label_vote",
    "fit_mean_argmax",
    "fit_naive_bayes",
    "label_vote",
    "mean",
    "mean_argmax",
    "multilabel_staple",
    "naive_bayes",
    "performance",
    "shape_average",
    "simple",
    "staple",
]
