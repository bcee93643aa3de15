"""How the members of a run are fused: a choice, or the repetition of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from conjoin.contracts import Cost
from conjoin.errors import InputError, listed
from conjoin.fusion.choose import choose
from conjoin.fusion.contest import CONTENDERS, fitted
from conjoin.fusion.problems import problem
from conjoin.fusion.threads import one_thread
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
    groups: Array | None,
    costs: Mapping[str, Cost],
    limits: tuple[float | None, int | None],
    seed: int,
    deadline: float,
    repeat: Mapping[str, Any] | None,
) -> Fused:
    """Choose a fuser on out-of-fold answers, or fit the one that a plan names."""
    if repeat is not None:
        return _again(outputs, truth, score=score, weights=weights, repeat=repeat)
    choice = choose(
        outputs,
        truth,
        score=score,
        weights=weights,
        groups=groups,
        costs=costs,
        max_latency=limits[0],
        max_size=limits[1],
        seed=seed,
        deadline=deadline,
    )
    plan = {"name": choice.name, "members": list(choice.members), "seed": seed, "every": choice.every}
    return Fused(choice.fuser, choice.members, choice.to_json(), plan)


def _again(
    outputs: Mapping[str, Output],
    truth: Output,
    *,
    score: Score,
    weights: Array | None,
    repeat: Mapping[str, Any],
) -> Fused:
    """The fuser of a plan, fitted to the same members. Raises InputError where it is not known."""
    rows = problem(outputs, truth, weights)
    names = tuple(map(str, repeat["members"]))
    found = [c for c in CONTENDERS[rows.stack.kind] if c.name == repeat["name"]]
    if not found or not set(names) <= set(outputs):
        raise InputError(f"the plan fuses {listed(names)} by {repeat['name']!r}, which this version cannot")
    used, every = rows.only(names), int(repeat.get("every", 1))
    if every > 1:
        used = used.rows(np.arange(0, len(used.shares), every))
    with one_thread():
        fuser = fitted(found[0], used, score, int(repeat["seed"]), None)
    choice = {"name": repeat["name"], "score": score.name, "members": list(names), "repeated": True}
    return Fused(fuser, names, choice, dict(repeat))
