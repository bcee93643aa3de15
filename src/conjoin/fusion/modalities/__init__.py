"""Modalities: members that see different things of a row (image, text, table) and give embeddings or answers.

The outputs are embeddings, values, labels or probabilities by name, of several kinds side by side; truth and
answer are classes or numbers. Any modality may be missing in any row, while fitting and later.
"""

from __future__ import annotations

from conjoin.fusion.modalities.early import EarlyFusion, fit_early
from conjoin.fusion.modalities.gated import GatedFusion, fit_gated
from conjoin.fusion.modalities.late import LateFusion, fit_late
from conjoin.fusion.modalities.tensor import LowRankFusion, fit_low_rank

FIT_FUSERS = {"late": fit_late, "early": fit_early, "gated": fit_gated, "low_rank": fit_low_rank}
"""Functions (outputs, truth, *, weights, score, seed) that fit a fusion of modalities, by name."""

PARTS: dict[str, type] = {
    "LateFusion": LateFusion,
    "EarlyFusion": EarlyFusion,
    "GatedFusion": GatedFusion,
    "LowRankFusion": LowRankFusion,
}
"""Storable records of this package, by the name under which a bundle keeps them."""

__all__ = [
    "FIT_FUSERS",
    "PARTS",
    "EarlyFusion",
    "GatedFusion",
    "LateFusion",
    "LowRankFusion",
    "fit_early",
    "fit_gated",
    "fit_late",
    "fit_low_rank",
]
