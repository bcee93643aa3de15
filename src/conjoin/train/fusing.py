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
    from conjoin.fusion.linear import fit_linear_pool

    pool = fit_linear_pool(outputs, truth, weights=weights)
    kept = tuple(n for n, w in pool.weights.items() if w > 1e-3)
    pool = fit_linear_pool({n: outputs[n] for n in kept}, truth, weights=weights)
    return Fused(pool, kept, {}, {})
