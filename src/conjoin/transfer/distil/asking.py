"""Asking a teacher: in parts, watching the clock, and going on where it fails on some rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import ColumnError, InputError, MemberError, OutputsError, listed
from conjoin.members.answers import check_answer
from conjoin.outputs import Labels, Output, Probabilities, Quantiles, Values

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Card, Member
    from conjoin.outputs import Array

PART = 4_096
"""Rows that a teacher is asked at once."""
FAILURES = 64
"""After so many rows that fail one by one, with no answer in between, the rest is not asked."""
KINDS = ("probabilities", "labels", "values", "quantiles")


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What a teacher answered: numbers (m, width) of the rows (m,) that it answered; how many it did not.

    Numbers are probabilities (labels are rows of 0 and 1), values or quantiles. reached: rows that were asked
    before the time was over. seconds: CPU of all calls. failure: what it raised last, "" where nothing.
    """

    rows: Array
    numbers: Array
    reached: int
    seconds: float
    failure: str = ""

    @property
    def failed(self) -> int:
        """Rows that were asked and not answered."""
        return self.reached - len(self.rows)


def check_teacher(card: Card) -> None:
    """Raises InputError where no student of a table can learn what this member answers."""
    if card.kind not in KINDS:
        raise InputError(
            f"the teacher {card.name!r} answers {card.kind}; a student of a table learns {listed(KINDS)}"
        )
    if card.kind in ("probabilities", "labels") and len(card.classes) < 2:
        raise InputError(
            f"the teacher {card.name!r} knows {len(card.classes)} classes ({listed(card.classes)}); "
            "a student needs at least two: name them with wrap(..., classes=[...])"
        )


def ask(teacher: Member[Any], batch: Batch, *, over: Callable[[], bool] = lambda: False) -> Asked:
    """Ask the teacher for all rows, part by part, until the time is over.

    Where it raises MemberError or answers nonsense, the part is halved down to the rows that are to blame.
    Raises ColumnError where columns do not fit, MemberError where no row gets an answer.
    """
    n = len(next(iter(batch.values()), ()))
    found: list[tuple[Array, Array]] = []
    state = _State()
    begin = time.process_time()
    reached = 0
    for a in range(0, n, PART):
        if a and over():
            break
        reached = min(n, a + PART)
        _halved(teacher, batch, np.arange(a, reached), found, state)
    seconds = time.process_time() - begin
    if n and not found:
        raise MemberError(f"the teacher {teacher.card.name!r} answered none of {n:,} rows: {state.why}")
    rows = np.concatenate([r for r, _ in found]) if found else np.zeros(0, dtype=np.int64)
    numbers = np.concatenate([v for _, v in found]) if found else np.zeros((0, width_of(teacher.card)))
    return Asked(rows, numbers, reached, seconds, state.why)


@dataclass(slots=True)
class _State:
    """How the asking goes: single rows that failed in a row, and what was raised last."""

    failures: int = 0
    why: str = ""


def _halved(
    teacher: Member[Any], batch: Batch, rows: Array, found: list[tuple[Array, Array]], state: _State
) -> None:
    if state.failures >= FAILURES:
        return
    try:
        output = teacher.predict({name: column[rows] for name, column in batch.items()})
        check_answer(output, teacher.card, len(rows))
        numbers, answered = numbers_of(output, teacher.card)
    except ColumnError:
        raise
    except (MemberError, OutputsError) as error:
        state.why = str(error)
        if len(rows) == 1:
            state.failures += 1
            return
        for half in np.array_split(rows, 2):
            _halved(teacher, batch, half, found, state)
        return
    if not answered.all():
        state.why = state.why or "rows are marked as not answered"
    if answered.any():
        state.failures = 0
        found.append((rows[answered], numbers[answered]))


def width_of(card: Card) -> int:
    """Numbers of an answer: classes, quantile levels, or 1."""
    return len(card.classes) or len(card.levels) or 1


def numbers_of(output: Output, card: Card) -> tuple[Array, Array]:
    """(n, width) float64 in the order of the card, and (n,) which rows are answered.

    Raises InputError for values of several columns.
    """
    if isinstance(output, Labels):
        return output.align(card.classes).one_hot(), output.answered & (output.codes >= 0)
    if isinstance(output, Probabilities):
        values = np.clip(np.asarray(output.align(card.classes).values, dtype=np.float64), 0.0, 1.0)
        total = values.sum(axis=1, keepdims=True)
        return values / np.where(total > 0, total, 1.0), output.answered & (total[:, 0] > 0)
    values = np.asarray(cast("Values | Quantiles", output).values, dtype=np.float64)
    if values.ndim == 2 and isinstance(output, Values) and values.shape[1] > 1:
        raise InputError(
            f"the teacher {card.name!r} answers {values.shape[1]} values a row; "
            "a student of a table learns one"
        )
    values = values.reshape(len(output), -1)
    return values, np.asarray(cast(Any, output).answered & np.isfinite(values).all(axis=1))
