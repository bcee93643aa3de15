"""Fusion of rankings: retrieval, recommendation, candidates of knowledge graphs.

`FUSERS` take member name -> Ranking (and weights); `FIT_FUSERS` fit weights and options, or chances of
relevance by position, to judgements. Rankings come from dictionaries by `from_dicts`, from TREC files by
`conjoin.formats.trec`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conjoin.fusion.ranking.dicts import from_dict, from_dicts, queries_of, to_dict
from conjoin.fusion.ranking.norms import NORMS, normalise
from conjoin.fusion.ranking.platt import PlattSum, fit_platt
from conjoin.fusion.ranking.pool import Pool, by_score, distinct, pool
from conjoin.fusion.ranking.positions import (
    Positions,
    fit_bayesfuse,
    fit_mapfuse,
    fit_posfuse,
    fit_probfuse,
    fit_segfuse,
    fit_slidefuse,
)
from conjoin.fusion.ranking.ranks import borda, condorcet, isr, log_isr, logn_isr, rbc, rrf
from conjoin.fusion.ranking.sums import (
    comb_anz,
    comb_gmnz,
    comb_max,
    comb_med,
    comb_min,
    comb_mnz,
    comb_sum,
    mixed,
    weighted_sum,
    wmnz,
)
from conjoin.fusion.ranking.weights import FITS, fit_rrf, fit_weighted_sum, fit_weights

FUSERS: dict[str, Callable[..., Any]] = {
    "rrf": rrf,
    "weighted_sum": weighted_sum,
    "comb_sum": comb_sum,
    "comb_mnz": comb_mnz,
    "comb_gmnz": comb_gmnz,
    "comb_anz": comb_anz,
    "comb_max": comb_max,
    "comb_min": comb_min,
    "comb_med": comb_med,
    "wmnz": wmnz,
    "mixed": mixed,
    "isr": isr,
    "log_isr": log_isr,
    "logn_isr": logn_isr,
    "rbc": rbc,
    "borda": borda,
    "condorcet": condorcet,
}
"""Operators without fitting, by name. All take weights: weighted RRF is `rrf(runs, weights=...)`."""

FIT_FUSERS: dict[str, Callable[..., Any]] = {
    **FITS,
    "probfuse": fit_probfuse,
    "segfuse": fit_segfuse,
    "slidefuse": fit_slidefuse,
    "posfuse": fit_posfuse,
    "mapfuse": fit_mapfuse,
    "bayesfuse": fit_bayesfuse,
    "platt": fit_platt,
}
"""Functions (outputs, truth, *, weights, score, seed) that fit a fuser, by name."""

PARTS: dict[str, type] = {"Positions": Positions, "PlattSum": PlattSum}
"""Records of this package, by the name under which a bundle keeps them."""

TRUSTED = "rrf"
"""What the field takes where there are no judgements."""

SCORE = "ndcg@10"
"""The default score."""

CANDIDATES = ("comb_mnz", "rrf", "weighted_sum")
"""What the automatic choice tries, simple first."""

__all__ = [
    "CANDIDATES",
    "FIT_FUSERS",
    "FUSERS",
    "NORMS",
    "PARTS",
    "SCORE",
    "TRUSTED",
    "PlattSum",
    "Pool",
    "Positions",
    "borda",
    "by_score",
    "comb_anz",
    "comb_gmnz",
    "comb_max",
    "comb_med",
    "comb_min",
    "comb_mnz",
    "comb_sum",
    "condorcet",
    "distinct",
    "fit_bayesfuse",
    "fit_mapfuse",
    "fit_platt",
    "fit_posfuse",
    "fit_probfuse",
    "fit_rrf",
    "fit_segfuse",
    "fit_slidefuse",
    "fit_weighted_sum",
    "fit_weights",
    "from_dict",
    "from_dicts",
    "isr",
    "log_isr",
    "logn_isr",
    "mixed",
    "normalise",
    "pool",
    "queries_of",
    "rbc",
    "rrf",
    "to_dict",
    "weighted_sum",
    "wmnz",
]
