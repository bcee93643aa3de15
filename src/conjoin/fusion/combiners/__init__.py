"""Classical combiners of classifiers, for probabilities and labels: templates, ballots, Borda, pseudo-BMA."""

from __future__ import annotations

from conjoin.fusion.combiners.averaging import fit_pseudo_bma
from conjoin.fusion.combiners.ballots import Ballots, fit_bks, fit_naive_bayes
from conjoin.fusion.combiners.borda import borda_classes
from conjoin.fusion.combiners.templates import Templates, fit_decision_templates, fit_dempster_shafer

FUSERS = {"borda_classes": borda_classes}
"""Combiners without fitting, by name."""

FIT_FUSERS = {
    "decision_templates": fit_decision_templates,
    "dempster_shafer": fit_dempster_shafer,
    "naive_bayes": fit_naive_bayes,
    "bks": fit_bks,
    "pseudo_bma": fit_pseudo_bma,
}
"""Functions (outputs, truth, *, weights, score, seed) that fit a combiner, by name."""

PARTS: dict[str, type] = {"Templates": Templates, "Ballots": Ballots}
"""Storable records of this package, by the name under which a bundle keeps them."""

__all__ = [
    "FIT_FUSERS",
    "FUSERS",
    "PARTS",
    "Ballots",
    "Templates",
    "borda_classes",
    "fit_bks",
    "fit_decision_templates",
    "fit_dempster_shafer",
    "fit_naive_bayes",
    "fit_pseudo_bma",
]
