"""What the target is: classes or numbers, found out or told, checked before any work begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np

from conjoin.contracts import Batch
from conjoin.errors import ColumnError, TruthError, listed, nearest
from conjoin.outputs import Array, Labels, Output, Values

Task = Literal["binary", "multiclass", "regression", "quantile"]
TASKS = ("binary", "multiclass", "classification", "regression", "quantile")

FEW_CLASSES = 10
"""Whole numbers with at most so many distinct values are classes, unless the caller says otherwise."""
MANY_CLASSES = 1_000
"""Above so many classes a target is refused: it is an identifier or a number."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The target of the rows that have one.

    rows: (n,) positions of those rows in the data. y: (n,) int64 codes into `classes`, or float64 values.
    levels: quantile levels, else empty. original: what the column held ("text", "integer", "number",
    "boolean"). notes: what the user should know.
    """

    task: Task
    rows: Array
    y: Array
    original: str
    classes: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def kind(self) -> str:
        """The kind of output that answers this truth."""
        if self.classes:
            return "probabilities"
        return "quantiles" if self.levels else "values"

    @property
    def width(self) -> int:
        """Columns of an answer: classes, levels, or 1."""
        return len(self.classes) or len(self.levels) or 1

    def output(self, rows: Any = slice(None)) -> Output:
        """The truth of these rows as an output: labels or values."""
        return Labels(self.y[rows], self.classes) if self.classes else Values(self.y[rows])


def split(batch: Batch, target: str) -> tuple[dict[str, Array], Array]:
    """The batch without its target column, and that column. Raises TruthError where there is none."""
    if target not in batch:
        raise TruthError(
            f"no column {target!r} for the target{nearest(target, batch)}; the columns are {listed(batch)}"
        )
    features = {k: v for k, v in batch.items() if k != target}
    if not features:
        raise ColumnError(f"the target {target!r} is the only column: there is nothing to learn from")
    return features, np.asarray(batch[target])


def truth_of(
    column: Array, *, target: str = "target", task: str | None = None, levels: tuple[float, ...] = ()
) -> Truth:
    """Classes or numbers of a target column; rows without a target are left out, and a note says so.

    task: one of `TASKS`, or None to find out: text, booleans and whole numbers of at most 10 distinct values
    are classes, other numbers are numbers. Raises TruthError.

    >>> truth_of(np.array(["b", "a", None], dtype=object)).classes
    ('a', 'b')
    >>> truth_of(np.array([0.5, 1.25, 7.0])).task
    'regression'
    """
    _check_task(task, levels)
    if column.ndim != 1 or not len(column):
        raise TruthError(f"target {target!r}: one value for each row is needed, not shape {column.shape}")
    kept, values, original = _plain(column, target)
    notes = []
    if len(kept) < len(column):
        notes.append(f"{len(column) - len(kept):,} rows have no value of {target!r} and were left out")
    rows = np.flatnonzero(kept) if kept.dtype == bool else kept
    if task is None:
        task, note = _guess(values, original, levels)
        notes += [note.format(target=target)] if note else []
    if task in ("regression", "quantile"):
        return _numbers(rows, values, original, target, levels, tuple(notes))
    return _classes(rows, values, original, target, task, tuple(notes))


def _check_task(task: str | None, levels: tuple[float, ...]) -> None:
    if task is not None and task not in TASKS:
        raise TruthError(f"task {task!r} is not known{nearest(task, TASKS)}; known: {listed(TASKS)}")
    if task == "quantile" and not levels:
        raise TruthError("task 'quantile' needs levels: quantiles=(0.1, 0.5, 0.9)")
    if levels and task not in (None, "quantile", "regression"):
        raise TruthError(f"quantiles are for numbers, but task={task!r} was asked for")
    if list(levels) != sorted(set(levels)) or not all(0 < q < 1 for q in levels):
        raise TruthError(f"quantiles must rise and lie between 0 and 1, not {listed(levels)}")


def _plain(column: Array, target: str) -> tuple[Array, Array, str]:
    """Rows that have a target, their values, and what the column holds."""
    if column.dtype.kind == "b":
        return np.arange(len(column)), column, "boolean"
    if column.dtype.kind in "iu":
        return np.arange(len(column)), column, "integer"
    if column.dtype.kind == "f":
        rows = np.flatnonzero(~np.isnan(column))
        _some(rows, target)
        return rows, column[rows], "number"
    if column.dtype.kind in "OUS":
        return _text(column.astype(object), target)
    raise TruthError(f"target {target!r} holds {column.dtype}; classes or numbers are needed")


def _text(column: Array, target: str) -> tuple[Array, Array, str]:
    missing = np.array([v is None or v != v or v == "" for v in column], dtype=bool)
    rows = np.flatnonzero(~missing)
    _some(rows, target)
    values = column[rows]
    kinds = {bool if isinstance(v, (bool, np.bool_)) else type(v) for v in values}
    if kinds == {bool}:
        return rows, values.astype(bool), "boolean"
    if all(issubclass(k, (int, np.integer)) for k in kinds):
        return rows, values.astype(np.int64), "integer"
    if all(issubclass(k, (int, float, np.number)) for k in kinds):
        return rows, values.astype(np.float64), "number"
    return rows, np.array([str(v) for v in values], dtype=object), "text"


def _some(rows: Array, target: str) -> None:
    if not len(rows):
        raise TruthError(f"target {target!r} is missing in every row")


def _guess(values: Array, original: str, levels: tuple[float, ...]) -> tuple[str, str]:
    """The task, and a note where one could see it otherwise."""
    if levels:
        return "quantile", ""
    if original in ("text", "boolean"):
        return "classification", ""
    found = np.unique(values[np.isfinite(values)])
    whole = bool((found == np.round(found)).all())
    if not whole or len(found) > FEW_CLASSES or len(found) == len(values) > 2:
        return "regression", ""
    if len(found) <= 2:
        return "classification", ""
    return "classification", (
        f"{{target!r}} has {len(found)} distinct whole numbers and is taken as classes; "
        "for a number pass task='regression'"
    )


def _numbers(
    rows: Array, values: Array, original: str, target: str, levels: tuple[float, ...], notes: tuple[str, ...]
) -> Truth:
    if original == "text":
        values = _parsed(values, target)
    y = values.astype(np.float64)
    bad = int((~np.isfinite(y)).sum())
    if bad:
        raise TruthError(
            f"target {target!r} is infinite in {bad:,} rows; remove those rows or cap the values"
        )
    if len(y) < 2 or y.min() == y.max():
        raise TruthError(f"target {target!r} has the one value {y[0]:g}: there is nothing to learn")
    return Truth("quantile" if levels else "regression", rows, y, original, (), levels, notes)


def _parsed(values: Array, target: str) -> Array:
    try:
        return values.astype(np.float64)
    except ValueError as error:
        raise TruthError(
            f"target {target!r} holds text, not numbers ({error}); use task='classification'"
        ) from None


def _classes(
    rows: Array, values: Array, original: str, target: str, task: str, notes: tuple[str, ...]
) -> Truth:
    if original == "number":
        _check_whole(values, target)
    found, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    names = tuple(_name(v, original) for v in found)
    if len(names) < 2:
        raise TruthError(f"target {target!r} has one class only, {names[0]!r}: there is nothing to learn")
    if len(names) > MANY_CLASSES:
        raise TruthError(
            f"target {target!r} has {len(names):,} classes, more than {MANY_CLASSES:,}; "
            "an identifier cannot be learned, a number needs task='regression'"
        )
    if len(names) > max(3, len(values) // 2):
        raise TruthError(
            f"target {target!r} has {len(names)} classes in {len(values)} rows: nearly every row is its own"
        )
    if task == "binary" and len(names) > 2:
        raise TruthError(f"task 'binary' needs two classes; {target!r} has {len(names)}: {listed(names, 6)}")
    single = [n for n, c in zip(names, counts, strict=True) if c == 1]
    if single:
        notes += (f"classes of one row are learned from but not validated: {listed(single)}",)
    found_task: Task = "binary" if len(names) == 2 else "multiclass"
    return Truth(found_task, rows, cast(Array, codes.astype(np.int64)), original, names, (), notes)


def _check_whole(values: Array, target: str) -> None:
    found = np.unique(values)
    if not np.isfinite(found).all():
        raise TruthError(f"target {target!r} holds infinite values, which cannot be classes")
    if len(found) > FEW_CLASSES and not (found == np.round(found)).all():
        raise TruthError(
            f"target {target!r} is continuous ({len(found):,} distinct values such as {found[0]:g} and "
            f"{found[-1]:g}) and was asked for as classes; use task='regression'"
        )


def _name(value: Any, original: str) -> str:
    """The name of a class; the number 2.0 is "2"."""
    if original == "number" and float(value) == int(value):
        return str(int(value))
    return str(value)
