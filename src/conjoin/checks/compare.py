"""LawBroken, and how two outputs are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import ConjoinError

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array, Output


class LawBroken(ConjoinError, AssertionError):  # noqa: N818  nothing went wrong here: a law is not kept
    """A law is not kept. law: its name. subject: by what. row: the first row that shows it, None for all."""

    def __init__(self, law: str, subject: str, what: str, *, row: int | None = None) -> None:
        where = "" if row is None else f", first at row {row}"
        super().__init__(f"{subject} breaks the law '{law}'{where}: {what}")
        self.law, self.subject, self.row = law, subject, row


def first_difference(a: Output, b: Output, tolerance: float = 0.0) -> int | None:
    """The first row in which two outputs differ by more than the tolerance, None where none does.

    tolerance: absolute and relative, for numbers. Outputs of different kinds or classes differ at row 0.
    """
    if len(a) != len(b):
        return min(len(a), len(b))
    if type(a) is not type(b) or a.pack()[1] != b.pack()[1]:
        return 0
    if a.ragged:
        pairs = ((a.take([row]).arrays(), b.take([row]).arrays()) for row in range(len(a)))
        bad = np.array([not _same(mine, theirs, tolerance) for mine, theirs in pairs], dtype=bool)
    else:
        mine, theirs = a.arrays(), b.arrays()
        bad = np.zeros(len(a), dtype=bool)
        for name in mine:
            bad |= _differ(mine[name], theirs[name], tolerance)
    return int(np.argmax(bad)) if bad.any() else None


def _same(a: Mapping[str, Array], b: Mapping[str, Array], tolerance: float) -> bool:
    return all(a[n].shape == b[n].shape and not _differ(a[n], b[n], tolerance).any() for n in a)


def _differ(a: Array, b: Array, tolerance: float) -> Array:
    """(n,) bool: rows of two arrays that differ."""
    if not len(a) and not len(b):
        return np.zeros(0, dtype=bool)
    if a.shape != b.shape:
        return np.ones(len(a), dtype=bool)
    if a.dtype.kind == "f":
        same = np.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
    else:
        same = np.asarray(a == b)
    return cast("Array", ~same.reshape(len(a), -1).all(axis=1))


def must_match(law: str, subject: str, a: Output, b: Output, what: str, *, tolerance: float = 0.0) -> None:
    """Raises LawBroken at the first row that differs."""
    row = first_difference(a, b, tolerance)
    if row is not None:
        raise LawBroken(law, subject, what, row=row)


def copied(batch: Batch) -> dict[str, Array]:
    """The batch with arrays of its own."""
    return {n: a.copy() for n, a in batch.items()}


def chosen(batch: Batch, rows: Any) -> dict[str, Array]:
    """These rows of a batch, in arrays of their own."""
    return {n: a[rows].copy() for n, a in batch.items()}


def same_batch(a: Batch, b: Batch) -> bool:
    """Whether two batches hold the same columns in the same order."""
    return list(a) == list(b) and not any(_differ(np.asarray(a[n]), np.asarray(b[n]), 0.0).any() for n in a)


def rows_in(batch: Batch) -> int:
    """The number of rows of a batch."""
    return len(next(iter(batch.values())))


def call_name(thing: Any) -> str:
    """How a function or record is called in a message."""
    return str(getattr(thing, "__name__", type(thing).__name__))
