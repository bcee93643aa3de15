"""Fusers of embeddings: concatenation, means, common spaces, similarities.

Vectors are (n, D) or (n, P, D), P vectors a row such as pairs of sentences; members may differ in D. All
operators normalise vectors to length 1 first. Fused similarities are `Values`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conjoin.fusion.embeddings.aligned import fit_gcca, fit_pca, fit_procrustes, gcca, pca, procrustes
from conjoin.fusion.embeddings.fitted import fit_concat, fit_rank_mean, fit_similarity
from conjoin.fusion.embeddings.plain import concat, mean, rank_mean, similarity
from conjoin.fusion.embeddings.projected import Projected
from conjoin.fusion.embeddings.ranks import RankMean

FUSERS: dict[str, Callable[..., Any]] = {
    "concat": concat,
    "mean": mean,
    "procrustes": procrustes,
    "pca": pca,
    "gcca": gcca,
    "similarity": similarity,
    "rank_mean": rank_mean,
}
"""Operators without fitting, by name."""

FIT_FUSERS: dict[str, Callable[..., Any]] = {
    "concat": fit_concat,
    "similarity": fit_similarity,
    "rank_mean": fit_rank_mean,
    "procrustes": fit_procrustes,
    "pca": fit_pca,
    "gcca": fit_gcca,
}
"""Functions that fit an operator, by name; Procrustes, PCA and GCCA need no truth."""

PARTS: dict[str, type] = {"Projected": Projected, "RankMean": RankMean}
"""Storable records of this package, by the name under which a bundle keeps them."""

TRUSTED = "concat"
SCORE = "spearman"
CANDIDATES = ("concat", "mean")

__all__ = [
    "CANDIDATES",
    "FIT_FUSERS",
    "FUSERS",
    "PARTS",
    "SCORE",
    "TRUSTED",
    "Projected",
    "RankMean",
    "concat",
    "fit_concat",
    "fit_gcca",
    "fit_pca",
    "fit_procrustes",
    "fit_rank_mean",
    "fit_similarity",
    "gcca",
    "mean",
    "pca",
    "procrustes",
    "rank_mean",
    "similarity",
]
