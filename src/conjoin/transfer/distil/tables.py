"""`distil`: any member teaches any learner of tables.

A teacher that answers rows from which it learned is too sure of them: a forest knows them by heart. So most
of what the student learns from are rows that were made (`augment.py`) or that have no truth, which nobody
learned from; where answers of the teacher exist that it gave before it learned from the rows, `soft` takes
them. What the report compares was measured on rows that no student saw.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.contracts import Card, Learner, Member
from conjoin.errors import InputError, MemberError, listed, need
from conjoin.members.portable import Portable
from conjoin.scores import Score, default_score, score_of
from conjoin.train.budget import Clock
from conjoin.train.progress import Progress, silent
from conjoin.transfer.distil.asking import check_teacher
from conjoin.transfer.distil.augment import check_augment
from conjoin.transfer.distil.data import Data, data_of
from conjoin.transfer.distil.lesson import ENDLESS, How, Lesson, lesson_of
from conjoin.transfer.distil.report import Report, agreement, gap_of, standing, timed
from conjoin.transfer.distil.school import Named, Own, School, task_of
from conjoin.transfer.distil.students import STUDENTS, student_of

if TYPE_CHECKING:
    from conjoin.outputs import Output

HARD = 0.1
"""The share of the truth in the targets of rows that have one."""
FACTOR = 10.0
"""Rows made for each row of the table, ..."""
MOST_ROWS = 100_000
"""... so many at most, together with the table's own."""


@dataclass(frozen=True, slots=True)
class Distilled:
    """The student that is the answer (the better one on held-out rows), and what came of distilling."""

    student: Member[Any]
    report: Report


def distil(
    teacher: Member[Any],
    learner: str | Learner[Any],
    batch: Any,
    *,
    target: str | None = None,
    truth: Any = None,
    unlabelled: Any = None,
    holdout: Any = 0.2,
    soft: Output | None = None,
    temperature: float = 1.0,
    hard: float = HARD,
    augment: str = "munge",
    factor: float = FACTOR,
    most_rows: int = MOST_ROWS,
    metric: str | Score | None = None,
    time_limit: float | None = 60.0,
    threads: int = 0,
    seed: int = 0,
    name: str | None = None,
    progress: Progress = silent,
) -> Distilled:
    """A learner learns of a table what a member answers. Same data and seed: same bytes, if time suffices.

    teacher: any member that answers probabilities, labels, values or quantiles: an ensemble, a wrapped or a
    remote model. learner: a name of `STUDENTS` ("lightgbm", "tree", "linear", "mlp", ...), or a Learner: it
    is given the rows and an output of the teacher's kind as their truth, and for the student alone labels or
    values.
    batch: anything that holds a table. target: its column with the truth, by default the one that the teacher
    was trained on, where the table has it. truth: Labels, Values or a sequence (n,) instead. Without a truth
    the student learns from the teacher alone, and nothing is scored.
    unlabelled: more rows, without a truth. holdout: rows for the report that no student sees: a share of
    those with a truth, 0 for none, or a table. soft: the teacher's answers to the batch from before it
    learned from it (out-of-fold answers).
    temperature: softens probabilities, see `targets.py`. hard: the share of the truth in the targets, 0 to 1.
    augment: "munge", "spunge" or "none". factor: rows made for each row; most_rows: of all rows learned from.
    metric: a score by name, for the report. time_limit: seconds on the clock, None for none. threads: 0 is
    one for each core. name: of the student.

    Raises InputError and its kinds on bad data or arguments, a student that cannot express the teacher's
    answers among them; MemberError where the teacher answers no row.
    """
    begin = time.monotonic()
    limit = ENDLESS if time_limit is None else time_limit
    label = learner if isinstance(learner, str) else type(learner).__name__
    how = How(
        *(learner, float(temperature), float(hard), augment, float(factor), int(most_rows), metric, threads),
        *(seed, name or label, progress, Clock.seconds(limit if limit > 0 else 0.0), begin),
        cpu=time.process_time(),
    )
    _check(how, limit, teacher.card)
    data = data_of(
        teacher.card,
        batch,
        target=target,
        truth=truth,
        unlabelled=unlabelled,
        holdout=holdout,
        soft=soft,
        seed=seed,
    )
    with need("threadpoolctl").threadpool_limits(1):
        return _distil(teacher, data, how)


def _check(how: How, limit: float, card: Card) -> None:
    check_teacher(card)
    check_augment(how.augment)
    if isinstance(how.learner, str) and how.learner not in STUDENTS:
        student_of(how.learner, task_of(card), 1, len(card.classes))
    if not limit > 0:
        raise InputError(f"time_limit is in seconds and must be above 0, not {limit!r}")
    if not 0 <= how.hard <= 1:
        raise InputError(f"hard is a share and must lie between 0 and 1, not {how.hard:g}")
    if not 0 < how.temperature < 1e3:
        raise InputError(f"temperature must be above 0 and below 1000, not {how.temperature:g}")
    if not 0 <= how.factor < 1e6 or how.most_rows < 1:
        raise InputError("factor must be 0 or more, most_rows 1 or more")
    if how.threads < 0:
        raise InputError(f"threads must be 0 (one per core) or more, not {how.threads}")
    if how.metric is not None:
        score = score_of(how.metric) if isinstance(how.metric, str) else how.metric
        kind = "probabilities" if card.classes else card.kind
        if score.kind != kind or (card.kind == "labels" and not score.decisions):
            raise InputError(
                f"the metric {score.name!r} scores {score.kind}; the teacher answers {card.kind}"
            )
    if how.temperature == 1:
        return
    if card.kind != "probabilities":
        raise InputError(f"a temperature softens probabilities; the teacher answers {card.kind}")
    if isinstance(how.learner, str) and not STUDENTS[how.learner].scored:
        able = [n for n, s in STUDENTS.items() if s.scored]
        raise InputError(
            f"a student {how.learner!r} has no scores, so it learns at temperature 1 only; "
            f"students that can: {listed(able)}"
        )


def _distil(teacher: Member[Any], data: Data, how: How) -> Distilled:
    lesson = lesson_of(teacher, data, how)
    school: School = Named(lesson, how) if isinstance(how.learner, str) else Own(lesson, how, how.learner)
    made: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    if data.held is not None:
        how.tell("fitting the student alone")
        made["alone"], seconds["alone"] = _clocked(school.alone)
    how.tell(f"teaching the student {len(lesson.target):,} rows")
    made["distilled"], seconds["distilled"] = _clocked(school.taught)
    how.tell("scoring on held-out rows", "fuse")
    hurried = [role for role, member in made.items() if member.card.provenance.get("hurried")]
    if hurried:
        why = f"the time was too short for the student {' and '.join(hurried)}: it has a few rounds only"
        lesson = replace(lesson, notes=(*lesson.notes, why))
    report = _report(teacher, made, seconds, lesson, how)
    student = made[report.kept]
    known = {**student.card.provenance, "distillation": report.to_json(), "data": data.provenance()}
    if isinstance(student, Portable):
        student = replace(student, card=replace(student.card, provenance=known))
    how.tell(f"the student {report.kept} is the answer", "done")
    return Distilled(student, report)


def _clocked(make: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.monotonic()
    return make(), time.monotonic() - begin


def _report(
    teacher: Member[Any], made: Mapping[str, Any], seconds: Mapping[str, float], lesson: Lesson, how: How
) -> Report:
    data = lesson.data
    rows = {
        "learned_from": int(np.isfinite(lesson.target).all(axis=1).sum()),
        "table": lesson.count,
        "unlabelled": len(lesson.target) - lesson.count - lesson.made,
        "made": lesson.made,
        "held_out": 0 if data.held is None else len(data.held.truth),
        "not_answered": lesson.failed,
    }
    settings = {
        "temperature": how.temperature,
        "hard": how.hard,
        "augment": how.augment,
        "factor": how.factor,
        "seed": how.seed,
    }
    label = how.learner if isinstance(how.learner, str) else type(how.learner).__name__
    plain = Report(
        *(label, "distilled", "", "lower", None, None, None, None, None, None, None, rows, 0.0),
        settings=settings,
        notes=lesson.notes,
    )
    if data.held is not None:
        plain = _scored(plain, teacher, made, seconds, data, how)
    return replace(plain, seconds=time.monotonic() - how.begin, cpu_seconds=time.process_time() - how.cpu)


def _scored(
    plain: Report,
    teacher: Member[Any],
    made: Mapping[str, Any],
    seconds: Mapping[str, float],
    data: Data,
    how: How,
) -> Report:
    held = cast(Any, data.held)
    try:
        found = {"teacher": timed(teacher, held.batch)}
    except MemberError as error:
        why = f"the teacher could not be scored on the held-out rows: {error}"
        return replace(plain, notes=(*plain.notes, why))
    found |= {role: timed(member, held.batch) for role, member in made.items()}
    first = found["distilled"].output
    score = cast(Score, default_score(found["teacher"].output) if how.metric is None else how.metric)
    score = score_of(score) if isinstance(score, str) else score
    members = {"teacher": teacher, **made}
    stands = {
        role: standing(members[role], f, held.truth, score, seconds=seconds.get(role))
        for role, f in found.items()
    }
    losses = {role: score.turned(s.value) for role, s in stands.items()}
    kept = "alone" if losses["alone"] < losses["distilled"] else "distilled"
    notes = plain.notes
    if kept == "alone":
        notes += (
            "the student alone is better than the distilled one on the held-out rows, so it is the answer",
        )
    a, b, c = (found[k].output for k in ("teacher", "alone", "distilled"))
    mine, theirs = stands[kept], stands["teacher"]
    return replace(
        plain,
        kept=kept,
        metric=score.name,
        better=score.better,
        teacher=stands["teacher"],
        alone=stands["alone"],
        distilled=stands["distilled"],
        gap=gap_of(score, a, b, c, held.truth, seed=how.seed),
        agreement=agreement(found["teacher"].output, first),
        times_faster=_ratio(theirs.cpu_seconds_per_row, mine.cpu_seconds_per_row),
        times_smaller=_ratio(theirs.bytes, mine.bytes),
        notes=notes,
    )


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a and b else None


__all__ = ["Distilled", "distil"]
