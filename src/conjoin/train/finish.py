"""From fitted members to one ensemble: costs, the choice of the fuser, the record of how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from conjoin.compose import Ensemble
from conjoin.contracts import Card, Cost
from conjoin.members.portable import Portable, portable
from conjoin.outputs import Array, Json, Output
from conjoin.scores import Score, estimate
from conjoin.train.budget import Clock
from conjoin.train.fusing import Fused, fuse
from conjoin.train.learners import LEARNERS
from conjoin.train.measure import cost_of
from conjoin.train.plan import versions
from conjoin.train.prepare import Prepared
from conjoin.train.run import Tried


@dataclass(frozen=True, slots=True)
class Limits:
    """What the ensemble may cost: CPU seconds of one row, bytes."""

    latency: float | None = None
    size: int | None = None


def finish(
    prepared: Prepared,
    tried: Sequence[Tried],
    *,
    limits: Limits,
    clock: Clock,
    seed: int,
    repeat: Mapping[str, Any] | None = None,
) -> tuple[Ensemble, Fused]:
    """The ensemble of the members that the chosen fuser uses.

    repeat: the fusion of a plan, to be done again without a choice.
    """
    problem = prepared.problem
    outputs = {t.entry.name: problem.output(t.fitted.answers[problem.scored]) for t in tried}
    costs = {t.entry.name: _cost(prepared, t) for t in tried}
    fused = fuse(
        outputs,
        problem.scored_truth,
        score=prepared.score,
        weights=problem.scored_weights,
        costs=costs,
        limits=(limits.latency, limits.size),
        seed=seed,
        deadline=clock.deadline,
        repeat=repeat,
    )
    members = {
        t.entry.name: _member(prepared, t, costs[t.entry.name])
        for t in tried
        if t.entry.name in fused.members
    }
    return Ensemble(members, fused.fuser), fused


def _features(prepared: Prepared, tried: Tried) -> Array:
    return prepared.problem.dense if LEARNERS[tried.entry.learner].dense else prepared.problem.x


def _cost(prepared: Prepared, tried: Tried) -> Cost:
    classes = bool(prepared.problem.truth.classes)
    return cost_of(tried.fitted.model, _features(prepared, tried), probabilities=classes)


def _member(prepared: Prepared, tried: Tried, cost: Cost) -> Portable:
    truth = prepared.problem.truth
    provenance = {"learner": tried.entry.learner, "settings": dict(tried.entry.settings), "seed": tried.seed,
                  "record": dict(tried.fitted.record)}  # fmt: skip
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


def score_rows(
    prepared: Prepared, tried: Sequence[Tried], fused: Fused, costs: Mapping[str, Cost]
) -> list[Json]:
    """A row for each member tried: its out-of-fold score with interval, cost, and whether it was kept."""
    problem = prepared.problem
    rows: list[Json] = []
    for t in tried:
        name = t.entry.name
        output = problem.output(t.fitted.answers[problem.scored])
        row = _scored(name, prepared.score, output, problem.scored_truth, problem.scored_weights)
        row |= {"learner": t.entry.learner, "kept": name in fused.members, "fit_seconds": round(t.seconds, 3)}
        row |= _priced(costs.get(name))
        rows.append(row)
    return rows


def _scored(name: str, score: Score, output: Output, truth: Output, weights: Array | None) -> dict[str, Json]:
    found = estimate(score, output, truth, weights)
    return {
        "name": name,
        "score": score.name,
        "value": found.value,
        "standard_error": found.standard_error,
        "low": found.low,
        "high": found.high,
        "loss": score.turned(found.value),
    }


def _priced(cost: Cost | None) -> dict[str, Json]:
    if cost is None:
        return {}
    return {"cpu_seconds_per_row": cost.cpu_seconds_per_row, "bytes": cost.bytes}


def with_provenance(ensemble: Ensemble, name: str, provenance: Mapping[str, Any]) -> Ensemble:
    """The ensemble under this name, with its record."""
    whole = {**provenance, "versions": versions()}
    return replace(ensemble, name=name, card=replace(ensemble.card, name=name, provenance=whole))
