"""Fitting minimum Bayes risk: its utility and the weights of systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from conjoin.fusion.applied import Applied
from conjoin.fusion.single import guarded
from conjoin.fusion.texts.judging import Judged, judged, side_by_side
from conjoin.fusion.texts.laid import Laid, best_slots, system_of
from conjoin.fusion.texts.risk import pair_utilities, weighted
from conjoin.outputs import Array
from conjoin.scores.sentence import PAIRS

SHARPNESS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""How steeply weight falls with loss, in units of the median distance of two systems' losses."""
LEAST_SHARE = 1e-4
"""Weights below this share of the greatest become 0."""


def fit_minimum_bayes_risk(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    utilities: Sequence[str] | None = None,
) -> Any:
    """`minimum_bayes_risk` with the utility and the weights of systems that score best on the truth.

    A system's weight is exp(-k (its loss - the least) / spread), shared by its samples "a#1", "a#2"; spread
    is the median distance of two systems' losses and k one of `SHARPNESS`, from equal weights to the best
    system nearly alone. utilities: by default that of the score, if there is one, chrf and bleu. weights:
    (n,) of rows. seed has no influence. Gives way to the best member where that scores better on the truth.
    Raises OutputsError and TruthError.
    """
    case = judged(outputs, truth, weights, score)
    laid, owner = side_by_side(case)
    names = [u for u in (case.score.name, "chrf", "bleu") if u in PAIRS] if utilities is None else utilities
    ways = _member_weights(case)
    best, least = ways[0], np.inf
    utility = str(names[0])
    for name in dict.fromkeys(names):
        for way, chosen in zip(ways, _choices(laid, name, [*ways]), strict=True):
            loss = case.loss(np.where(chosen >= 0, owner[chosen], -1))
            if loss < least - 1e-9 * max(1.0, abs(loss)):
                best, least, utility = way, loss, name
    fuser = Applied(
        "texts", "minimum_bayes_risk", dict(zip(case.names, best, strict=True)), {"utility": utility}
    )
    return guarded(fuser, outputs, truth, case.score, weights)


def _member_weights(case: Judged) -> list[list[float]]:
    """For each sharpness the members' weights, in the order of their names."""
    losses = np.array([case.losses[system_of(n)] for n in case.names])
    losses = np.where(np.isnan(losses), np.nanmax(losses) if not np.isnan(losses).all() else 0.0, losses)
    each = np.array(sorted(case.losses[s] for s in case.losses if not np.isnan(case.losses[s])))
    gaps = np.abs(each[:, None] - each)[np.triu_indices(len(each), 1)]
    spread = float(np.median(gaps)) if len(gaps) and np.median(gaps) > 0 else 1.0
    systems = [system_of(n) for n in case.names]
    samples = np.array([systems.count(s) for s in systems])
    out = []
    for sharpness in SHARPNESS:
        found = np.exp(-sharpness * (losses - losses.min()) / spread)
        found[found < LEAST_SHARE] = 0.0
        out.append((found / samples).tolist())
    return out


def _choices(laid: Laid, utility: str, ways: Sequence[Sequence[float]]) -> list[Array]:
    """For each way to weigh the members (n,) the slots that are chosen."""
    shares = [laid.shares(laid.summed(np.array(way)[laid.owner])) for way in ways]
    found = np.empty((len(ways), len(laid.group.members)))
    compare = pair_utilities(utility)
    for here, group in laid.blocks():
        pairs = compare(group)
        for k, share in enumerate(shares):
            found[k, here] = weighted(group, pairs, share[here])
    has = [laid.summed(np.array(way)[laid.owner]) > 0 for way in ways]
    each = zip(found, shares, has, strict=True)
    return [best_slots(laid, np.where(some, values, -np.inf), share) for values, share, some in each]
