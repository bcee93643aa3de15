"""From fitted members to one ensemble: costs, the choice of the fuser, the record of how it came about."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from conjoin.compose import Ensemble
from conjoin.contracts import Card, Cost
from conjoin.members.portable import Portable, portable
from conjoin.outputs import Array, Json
from conjoin.scores import estimate
from conjoin.train.budget import Clock
from conjoin.train.fusing import Fused, fuse
from conjoin.train.learners import LEARNERS
from conjoin.train.measure import cost_of
from conjoin.train.prepare import Prepared
from conjoin.train.run import Tried


@dataclass(frozen=True, slots=True)
class Limits:
    """What the members together may cost: CPU seconds of one row, bytes.

    asked: somebody asked for it, so that it is an error where no member keeps it.
    """

    latency: float | None = None
    size: int | None = None
    asked: bool = True

    def within(self, costs: Mapping[str, Cost]) -> Limits:
        """These limits, without those that nobody asked for and that every member breaks."""
        if self.asked:
            return self
        known = costs.values()
        quick = any((c.cpu_seconds_per_row or 0) <= (self.latency or math.inf) for c in known)
        small = any((c.bytes or 0) <= (self.size or math.inf) for c in known)
        return Limits(self.latency if quick else None, self.size if small else None, asked=False)


PRESET_LIMITS = {
    "fast": Limits(3e-4, 5_000_000, asked=False),
    "balanced": Limits(7e-4, 15_000_000, asked=False),
    "best": Limits(None, None, asked=False),
}
"""What the members together may cost where the caller did not say."""
STOPPED = 5.0
"""Seconds that an interrupted run has for the choice of the fuser."""
CHOOSING = 0.6
"""The share of the time left that the choice may take; the rest is for fitting the winner and for packing."""


@dataclass(frozen=True, eq=False)
class Finished:
    """The ensemble, the members that were tried with their costs, and the fuser with how it was chosen."""

    ensemble: Ensemble
    tried: Sequence[Tried]
    costs: Mapping[str, Cost]
    fused: Fused


def finish(
    prepared: Prepared,
    tried: Sequence[Tried],
    *,
    limits: Limits,
    clock: Clock,
    seed: int,
    repeat: Mapping[str, Any] | None = None,
    costs: Mapping[str, Cost] | None = None,
) -> Finished:
    """The ensemble of the members that the chosen fuser uses.

    repeat: the fusion of a plan, to be done again without a choice. costs: of the members, where known.
    """
    problem = prepared.problem
    outputs = {t.entry.name: problem.output(t.fitted.answers[problem.scored]) for t in tried}
    costs = costs or {t.entry.name: _cost(prepared, t) for t in tried}
    limits = limits.within(costs)
    fused = fuse(
        outputs,
        problem.scored_truth,
        score=prepared.score,
        weights=problem.scored_weights,
        groups=None if prepared.groups is None else prepared.groups[problem.scored],
        costs=costs,
        limits=(limits.latency, limits.size),
        seed=seed,
        deadline=_choose_until(clock),
        repeat=repeat,
    )
    kept = {t.entry.name: t for t in tried if t.entry.name in fused.members}
    members = {n: _member(prepared, t, costs[n]) for n, t in kept.items()}
    return Finished(Ensemble(members, fused.fuser), tried, costs, fused)


def _choose_until(clock: Clock) -> float:
    """When the choice should end: a stopped run still gets a few seconds for it."""
    left = max(0.0, clock.deadline - time.monotonic())
    return time.monotonic() + CHOOSING * (min(left, STOPPED) if clock.stopped.is_set() else left)


def _features(prepared: Prepared, tried: Tried) -> Array:
    return prepared.problem.dense if LEARNERS[tried.entry.learner].dense else prepared.problem.x


def _cost(prepared: Prepared, tried: Tried) -> Cost:
    classes = bool(prepared.problem.truth.classes)
    return cost_of(tried.fitted.model, _features(prepared, tried), probabilities=classes)


def _member(prepared: Prepared, tried: Tried, cost: Cost) -> Portable:
    truth = prepared.problem.truth
    provenance = {
        "learner": tried.entry.learner,
        "settings": dict(tried.entry.settings),
        "seed": tried.seed,
        "record": dict(tried.fitted.record),
    }
    card = Card(
        tried.entry.name,
        truth.kind,
        classes=truth.classes,
        levels=truth.levels,
        cost=cost,
        provenance=cast("Mapping[str, Json]", provenance),
    )
    view = prepared.view() if LEARNERS[tried.entry.learner].dense else None
    return portable(card, prepared.encoder, tried.fitted.model, view=view)


def measured_of(prepared: Prepared, done: Finished) -> dict[str, Json]:
    """What is recorded of a run: scores of all members tried with their costs, how the fuser was chosen."""
    return {"scores": [_row(prepared, t, done) for t in done.tried], "choice": dict(done.fused.choice)}


def _row(prepared: Prepared, tried: Tried, done: Finished) -> Json:
    """A member's out-of-fold score with its interval, its cost, and whether it was kept."""
    problem, name = prepared.problem, tried.entry.name
    output = problem.output(tried.fitted.answers[problem.scored])
    found = estimate(prepared.score, output, problem.scored_truth, problem.scored_weights)
    return {
        "name": name,
        "learner": tried.entry.learner,
        "kept": name in done.fused.members,
        "score": prepared.score.name,
        "value": found.value,
        "standard_error": found.standard_error,
        "low": found.low,
        "high": found.high,
        "loss": prepared.score.turned(found.value),
        "fit_seconds": round(tried.seconds, 3),
        "cpu_seconds_per_row": done.costs[name].cpu_seconds_per_row,
        "bytes": done.costs[name].bytes,
    }
