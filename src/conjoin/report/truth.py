"""The truth of rows that a member is to be scored on, in the member's own names of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import TruthError, listed
from conjoin.outputs import Labels, Output, Values

if TYPE_CHECKING:
    from conjoin.outputs import Array

MISSING = -1


def truth_for(column: Array, *, kind: str, classes: Sequence[str], name: str = "target") -> Output:
    """Labels or values (n,) of a column; rows without a truth are unanswered.

    kind, classes: of the member. A class that the member does not know becomes one more class.
    Raises TruthError where nothing is there, or numbers are needed and the column has none.
    """
    column = np.asarray(column)
    if column.ndim != 1:
        raise TruthError(f"{name!r}: one true value for each row is needed, not shape {column.shape}")
    if kind in ("probabilities", "labels"):
        return _labels(column, tuple(classes), name)
    if kind not in ("values", "quantiles"):
        raise TruthError(f"there is no score for {kind} yet")
    return _values(column, name)


def _labels(column: Array, classes: tuple[str, ...], name: str) -> Labels:
    at = {c: k for k, c in enumerate(classes)}
    known: dict[Any, int] = {}
    codes = np.empty(len(column), dtype=np.int64)
    for i, value in enumerate(column.tolist()):
        if value not in known:
            known[value] = _code(value, at)
        codes[i] = known[value]
    if not (codes >= 0).any():
        raise TruthError(f"{name!r} is missing in every row: there is nothing to score")
    if not (codes[codes >= 0] < len(classes)).any():
        found = listed(list(at)[len(classes) :])
        raise TruthError(
            f"{name!r} has the classes {found}; the model knows {listed(classes)}: none is the same"
        )
    return Labels(codes, tuple(at))


def _code(value: Any, at: dict[str, int]) -> int:
    """The code of a class; a new one where it is not known."""
    from conjoin.tables import name_of

    if value is None or value != value or value == "":
        return MISSING
    if isinstance(value, str) and value in at:
        return at[value]
    text = name_of(value)
    return at.setdefault(text, len(at)) if text else MISSING


def _values(column: Array, name: str) -> Values:
    try:
        numbers = cast("Array", column.astype(np.float64))
    except (TypeError, ValueError) as error:
        raise TruthError(f"{name!r} must hold numbers: {error}") from error
    known = np.isfinite(numbers)
    if not known.any():
        raise TruthError(f"{name!r} is missing in every row: there is nothing to score")
    return Values(np.where(known, numbers, 0.0), known)
