"""How the members of a run are fused: a choice, or the repetition of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conjoin.contracts import Cost
from conjoin.outputs import Array, Output
from conjoin.scores import Score


@dataclass(frozen=True, eq=False)
class Fused:
    """The fuser, the members that it uses, JSON on how it was chosen, and what repeats it."""

    fuser: Any
    members: tuple[str, ...]
    choice: Mapping[str, Any]
    plan: Mapping[str, Any]


def fuse(
    outputs: Mapping[str, Output],
    truth: Output,
    *,
    score: Score,
    weights: Array | None,
    costs: Mapping[str, Cost],
    limits: tuple[float | None, int | None],
    seed: int,
    deadline: float,
    repeat: Mapping[str, Any] | None,
) -> Fused:
    """Choose a fuser on out-of-fold answers, or fit the one that a plan names."""
    from conjoin.fusion import fit_linear_pool, fit_log_pool

    make = fit_log_pool if truth.kind == "labels" and score.name == "log_loss" else fit_linear_pool
    kept = tuple(outputs) if repeat is None else tuple(repeat["members"])
    pool = make({n: outputs[n] for n in kept}, truth, weights=weights)
    while repeat is None:
        strong = tuple(n for n in kept if pool.weights[n] > 0.02 * max(pool.weights.values()))
        if strong == kept:
            break
        kept = strong
        pool = make({n: outputs[n] for n in kept}, truth, weights=weights)
    return Fused(pool, kept, {}, {"members": list(kept)})
