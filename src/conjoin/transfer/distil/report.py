"""What came of distilling: a frozen record of scores, the share of the gap, speeds and sizes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.outputs import Labels, Output, Probabilities
from conjoin.scores import Score, estimate

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Member
    from conjoin.outputs import Array, Json

RESAMPLES = 2_000
REPEATS = 3
QUICK = 1.0
"""A member that answers all rows in less CPU seconds is timed several times."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One of teacher, student alone, student distilled: its score with a 95 % interval, and what it costs.

    seconds: on the clock, that it took to make; None for the teacher. cpu_seconds_per_row: answering the
    held-out rows together. bytes: packed, None where unknown.
    """

    name: str
    value: float
    standard_error: float
    low: float
    high: float
    cpu_seconds_per_row: float
    bytes: int | None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """How much of the way from the student alone to the teacher the distilled student went.

    size: loss(student alone) - loss(teacher) on the same rows, with a 95 % interval. share: 1 is the teacher,
    0 the student alone, with its interval; None where the gap is not above 0 beyond chance, since a share of
    nothing says nothing. Intervals are from a bootstrap of rows, the same rows for all three.
    """

    size: float
    low: float
    high: float
    share: float | None
    share_low: float | None = None
    share_high: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What came of distilling.

    learner: the student's. kept: "distilled" or "alone", the student that is the answer. metric, better: of
    the scores. teacher, alone, distilled: None where no truth was held out. agreement: of the distilled
    student with the teacher on held-out rows, the share of equal classes, or R^2 of numbers. times_faster,
    times_smaller: the kept student against the teacher. rows: how many were learned from, made, without
    truth, held out, and not answered by the teacher. settings: temperature, hard, augmentation, seed.
    """

    learner: str
    kept: str
    metric: str
    better: str
    teacher: Standing | None
    alone: Standing | None
    distilled: Standing | None
    gap: Gap | None
    agreement: float | None
    times_faster: float | None
    times_smaller: float | None
    rows: Mapping[str, int]
    seconds: float
    cpu_seconds: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """The record as JSON."""
        return cast("dict[str, Json]", asdict(self) | {"notes": list(self.notes)})


@dataclass(frozen=True, slots=True, eq=False)
class Timed:
    """A member's answers to the held-out rows, and its CPU seconds for each."""

    output: Output
    cpu_seconds_per_row: float


def timed(member: Member[Any], batch: Batch) -> Timed:
    """Answer a batch and measure how long it takes; the first row is answered before, so that a graph that
    has to be compiled is. The least of several runs where it is quick.
    """
    n = max(1, len(next(iter(batch.values()), ())))
    member.predict({k: v[:1] for k, v in batch.items()})
    begin = time.process_time()
    output = member.predict(batch)
    taken = [time.process_time() - begin]
    while taken[0] < QUICK and len(taken) < REPEATS:
        begin = time.process_time()
        member.predict(batch)
        taken.append(time.process_time() - begin)
    return Timed(output, min(taken) / n)


def standing(
    member: Member[Any], found: Timed, truth: Output, score: Score, *, seconds: float | None = None
) -> Standing:
    """How a member stands on the held-out rows."""
    e = estimate(score, found.output, truth)
    return Standing(
        member.card.name,
        e.value,
        e.standard_error,
        e.low,
        e.high,
        found.cpu_seconds_per_row,
        member.card.cost.bytes,
        seconds,
    )


def gap_of(
    score: Score, teacher: Output, alone: Output, distilled: Output, truth: Output, *, seed: int = 0
) -> Gap:
    """The gap and the share of it that was closed, with 95 % intervals; rows that the teacher did not answer
    do not count.

    >>> from conjoin.outputs import Values
    >>> from conjoin.scores import score_of
    >>> truth, rng = Values(np.arange(200.0)), np.random.default_rng(0)
    >>> noise = rng.normal(size=200)
    >>> said = [Values(truth.values + noise * s) for s in (0.5, 1.0, 0.75)]
    >>> round(gap_of(score_of("mae"), *said, truth).share, 3)
    0.5
    """
    counted = np.flatnonzero(cast("Any", teacher).answered & cast("Any", truth).answered)
    three = [o.take(counted) for o in (teacher, alone, distilled)]
    truth = truth.take(counted)
    losses = np.array([score.loss(o, truth) for o in three])
    draws = _draws(score, three, truth, seed)
    size = float(losses[1] - losses[0])
    sizes = draws[:, 1] - draws[:, 0]
    low, high = (float(v) for v in np.quantile(sizes, [0.025, 0.975])) if len(sizes) else (np.nan, np.nan)
    if not (size > 0 and low > 0):
        return Gap(size, low, high, None)
    shares = (draws[:, 1] - draws[:, 2]) / sizes
    share_low, share_high = (float(v) for v in np.quantile(shares, [0.025, 0.975]))
    return Gap(size, low, high, float((losses[1] - losses[2]) / size), share_low, share_high)


def _draws(score: Score, outputs: list[Output], truth: Output, seed: int) -> Array:
    """(resamples, 3) losses over resampled rows."""
    rng, n = np.random.default_rng(seed), len(truth)
    rows = [score.rows(o, truth) for o in outputs]
    if n < 2:
        return np.zeros((0, 3))
    if any(r is None for r in rows):
        found = []
        for _ in range(200):
            drawn = rng.integers(0, n, n)
            try:
                found.append([score.loss(o.take(drawn), truth.take(drawn)) for o in outputs])
            except ValueError:
                continue  # a resample on which the score is not defined
        return np.array(found).reshape(-1, 3)
    matrix = np.nan_to_num(np.stack(cast("list[Array]", rows), axis=1))
    return np.stack([rng.multinomial(n, np.full(n, 1 / n)) @ matrix / n for _ in range(RESAMPLES)])


def agreement(teacher: Output, student: Output) -> float | None:
    """The share of rows with the same most probable class, or R^2 of numbers; None where not defined."""
    kept = np.flatnonzero(cast("Any", teacher).answered & cast("Any", student).answered)
    teacher, student = teacher.take(kept), student.take(kept)
    if not len(kept):
        return None
    if isinstance(teacher, Probabilities | Labels):
        first = teacher.labels() if isinstance(teacher, Probabilities) else teacher
        second = cast("Probabilities", student).align(first.classes).labels()
        return float(np.mean(first.codes == second.codes))
    a, b = (np.asarray(cast("Any", o).values, np.float64).reshape(len(kept), -1) for o in (teacher, student))
    spread = float(((a - a.mean(axis=0)) ** 2).sum())
    return 1 - float(((a - b) ** 2).sum()) / spread if spread > 0 else None
