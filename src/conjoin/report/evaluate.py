"""How good a member is on rows whose truth is known: every member inside it, every fusion, the whole."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.compose import Ensemble
from conjoin.errors import ColumnError, InputError, OutputsError, listed, nearest
from conjoin.fusion.plain import log_pool, mean, median
from conjoin.report.truth import truth_for
from conjoin.scores import Score, default_score, estimate, paired, score_of, user_score
from conjoin.tables import batch_of

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Member
    from conjoin.outputs import Array, Output

Metric = str | Score | Callable[..., float] | None


def evaluate(
    member: Member[Any],
    data: Any,
    *,
    target: str | None = None,
    truth: Output | None = None,
    metric: Metric = None,
    weights: Any = None,
) -> dict[str, Any]:
    """Score a member on rows whose truth is known, as a JSON record.

    data: anything that holds a table. target: the column with the truth; by default the one that the
    member was trained on. truth: Labels or Values (n,) instead of a column. metric: a name of
    `conjoin.scores.SCORES`, a Score, or a callable (truth, answer) -> float; by default the one that the
    fit used, else log-loss, RMSE or pinball loss. weights: of rows, (n,), or the name of a column.

    The record: `metric`, `better` ("lower" or "higher"), `rows` that were scored, `model`, `notes`, `choice`
    (the fusions that the fit compared by cross-validation, as `fusion.choose` records them), and
    `leaderboard`: the fused model, then members and simple fusions, best first. Each row has `name`, `role`
    ("fused", "member", "fusion"), `value`, `standard_error`, `low`, `high` (95 %), `difference` to the fused
    model (`mean`, `standard_error`, `p_value`; of losses on the same rows, above 0 is worse),
    `cpu_seconds_per_row`, `bytes`.

    Raises ColumnError, TruthError, OutputsError, InputError, MemberError.
    """
    batch = batch_of(data)
    card = member.card
    weights = _column(batch, weights, "weights") if isinstance(weights, str) else weights
    if truth is None:
        name = target or _trained_on(card.provenance)
        if name is None:
            raise InputError(
                "the model does not say what its target is called; give it: target=... (--target)"
            )
        truth = truth_for(_column(batch, name, "the target"), kind=card.kind, classes=card.classes, name=name)
    answers = _answers(member, batch)
    score = _score(metric, card.provenance, answers[0].output)
    rows = [_scored(a, answers[0], truth, score, weights) for a in answers]
    rows[1:] = sorted(rows[1:], key=lambda r: _order(score, r["value"]))
    return {
        "metric": score.name,
        "better": score.better,
        "rows": int((cast(Any, truth).answered).sum()),
        "model": card.name,
        "leaderboard": rows,
        "choice": dict(_choice(card.provenance)),
        "notes": _notes(answers[0].output, truth),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """What one of the leaderboard answered, and what it costs."""

    name: str
    role: str
    output: Output
    seconds: float | None
    bytes: int | None


def _answers(member: Member[Any], batch: Batch) -> list[_Answer]:
    member.predict({n: a[:1] for n, a in batch.items()})  # compiles its graph, which is not a cost of rows
    begin = time.process_time()
    fused = member.predict(batch)
    seconds = (time.process_time() - begin) / max(1, len(fused))
    found = [_Answer(member.card.name, "fused", fused, seconds, member.card.cost.bytes)]
    if not isinstance(member, Ensemble):
        return found
    outputs = member.outputs(batch)
    for name, output in outputs.items():
        cost = member.members[name].card.cost
        found.append(_Answer(name, "member", output, cost.cpu_seconds_per_row, cost.bytes))
    if len(outputs) > 1:
        rules = (mean, log_pool) if member.card.kind == "probabilities" else (mean, median)
        found += [_Answer(r.__name__, "fusion", r(outputs), None, None) for r in rules]
    return found


def _scored(answer: _Answer, fused: _Answer, truth: Output, score: Score, weights: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"name": answer.name, "role": answer.role}
    try:
        row |= asdict(estimate(score, answer.output, truth, weights))
        if answer is not fused:
            row["difference"] = asdict(paired(score, answer.output, fused.output, truth, weights))
    except OutputsError:
        if answer is fused:
            raise
        row |= {"value": None}
    return {**row, "cpu_seconds_per_row": answer.seconds, "bytes": answer.bytes}


def _order(score: Score, value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else score.turned(value)


def _score(metric: Metric, provenance: Mapping[str, Any], output: Output) -> Score:
    if isinstance(metric, Score):
        return metric
    if callable(metric):
        kind = cast(Any, output.kind if output.kind != "labels" else "probabilities")
        return user_score(metric, kind=kind, decisions=output.kind == "labels")
    if metric is not None:
        return score_of(metric)
    plan = provenance.get("plan")
    used = plan.get("metric") if isinstance(plan, Mapping) else None
    try:
        return score_of(str(used)) if used else default_score(output)
    except InputError:  # a callable of the fit, which no name stands for
        return cast(Score, default_score(output))


def _trained_on(provenance: Mapping[str, Any]) -> str | None:
    data = provenance.get("data")
    found = data.get("target") if isinstance(data, Mapping) else None
    return str(found) if found is not None else None


def _column(batch: Batch, name: str, what: str) -> Array:
    if name not in batch:
        raise ColumnError(f"no column {name!r} for {what}{nearest(name, batch)}; there are {listed(batch)}")
    return np.asarray(batch[name])


def _choice(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    found = provenance.get("choice")
    return found if isinstance(found, Mapping) else {}


def _notes(output: Output, truth: Output) -> list[str]:
    notes = []
    lost = int((~cast(Any, output).answered).sum())
    if lost:
        notes.append(f"{lost} rows have no answer and are not scored")
    gone = int((~cast(Any, truth).answered).sum())
    if gone:
        notes.append(f"{gone} rows have no truth and are not scored")
    known = set(getattr(output, "classes", ()))
    strange = [c for c in getattr(truth, "classes", ()) if known and c not in known]
    if strange:
        notes.append(f"the model does not know the classes {listed(strange)}; it gives them no probability")
    return notes
