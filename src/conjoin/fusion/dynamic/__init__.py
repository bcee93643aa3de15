"""Dynamic selection: for each row, the members that did well on the rows nearest to it.

For probabilities and labels; input-dependent: rows lie near or far by columns of the batch, by neighbours
that the batch gives, or by the members' outputs alone.
"""

from __future__ import annotations

from conjoin.fusion.dynamic.fit import (
    fit_des_knn,
    fit_des_p,
    fit_dynamic,
    fit_knop,
    fit_knora_e,
    fit_knora_u,
    fit_lca,
    fit_mcb,
    fit_meta_des,
    fit_mla,
    fit_ola,
    fit_rank,
)
from conjoin.fusion.dynamic.options import Options
from conjoin.fusion.dynamic.record import DynamicSelection

FIT_FUSERS = {
    "knora_e": fit_knora_e,
    "knora_u": fit_knora_u,
    "des_p": fit_des_p,
    "des_knn": fit_des_knn,
    "knop": fit_knop,
    "meta_des": fit_meta_des,
    "ola": fit_ola,
    "lca": fit_lca,
    "mla": fit_mla,
    "mcb": fit_mcb,
    "rank": fit_rank,
}
"""Functions (outputs, truth, *, batch, k, ...) that fit a dynamic selection, by name."""

PARTS: dict[str, type] = {"DynamicSelection": DynamicSelection}
"""Storable records of this package, by the name under which a bundle keeps them."""

__all__ = [
    "FIT_FUSERS",
    "PARTS",
    "DynamicSelection",
    "Options",
    "fit_des_knn",
    "fit_des_p",
    "fit_dynamic",
    "fit_knop",
    "fit_knora_e",
    "fit_knora_u",
    "fit_lca",
    "fit_mcb",
    "fit_meta_des",
    "fit_mla",
    "fit_ola",
    "fit_rank",
]
