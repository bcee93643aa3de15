"""Checks what a foreign model answered, before anybody believes it, and makes an output of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import ConjoinError, InputError, MemberError, listed
from conjoin.outputs import Embeddings, Labels, Output, Probabilities, Quantiles, Values
from conjoin.tables import batch_of

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Card
    from conjoin.outputs import Array

SUM_TOLERANCE = 1e-3
"""How far the probabilities of a row may sum from 1."""

ARRAY_KINDS = ("probabilities", "values", "quantiles", "labels", "embeddings")
"""Kinds that a plain array can be read as; the others come as an Output."""


def rows_of(batch: Batch) -> int:
    """The number of rows of a batch. Raises InputError where it has no column."""
    if not batch:
        raise InputError("the batch has no columns, so nobody knows its rows; give at least one")
    return len(next(iter(batch.values())))


def as_batch(data: Any) -> Batch:
    """A mapping of arrays as it is; anything else that holds a table through `tables.batch_of`."""
    if isinstance(data, Mapping) and all(isinstance(a, np.ndarray) and a.ndim for a in data.values()):
        return data
    return batch_of(data)


def answer_of(raw: Any, card: Card, rows: int) -> Output:
    """The answer of the member with this card as an Output: its rows, kind, classes and numbers are checked.

    raw: an Output of the card's kind, or for the kinds in ARRAY_KINDS an array: probabilities (n, K), or (n,)
    for the second of two classes; values (n,), (n, 1) or (n, H); quantiles (n, Q); labels (n,) of names.
    Raises MemberError naming the member and the first bad row.
    """
    try:
        output = raw if isinstance(raw, Output) else _output_of(raw, card)
    except (ConjoinError, ValueError, TypeError) as error:
        raise MemberError(f"member {card.name!r}: {error}") from error
    check_answer(output, card, rows)
    return output


def check_answer(output: Output, card: Card, rows: int) -> None:
    """Raises MemberError where the output is not what the card promises for this many rows."""
    who = f"member {card.name!r}"
    if len(output) != rows:
        raise MemberError(f"{who} answered {len(output)} rows for a batch of {rows} rows")
    if output.kind != card.kind:
        raise MemberError(f"{who} answered {output.kind}; its card says {card.kind}")
    if isinstance(output, Probabilities | Labels) and card.classes and output.classes != card.classes:
        raise MemberError(
            f"{who} answered the classes {listed(output.classes)}; its card says {listed(card.classes)}"
        )
    if isinstance(output, Probabilities | Values | Quantiles | Embeddings):
        _check_numbers(output, who)


def _check_numbers(output: Probabilities | Values | Quantiles | Embeddings, who: str) -> None:
    if len(output) == 0:
        return
    values = output.values.reshape(len(output), -1)
    _refuse(~np.isfinite(values).all(axis=1), output, f"{who} answered a value that is not finite")
    if isinstance(output, Probabilities):
        outside = (values < -1e-6) | (values > 1 + 1e-6)
        _refuse(outside.any(axis=1), output, f"{who} answered a probability outside 0 to 1")
        far = np.abs(values.sum(axis=1, dtype=np.float64) - 1) > SUM_TOLERANCE
        _refuse(far, output, f"{who} answered probabilities that do not sum to 1")


def _refuse(bad: Any, output: Any, what: str) -> None:
    bad = bad & output.answered
    if bad.any():
        row = int(np.argmax(bad))
        shown = listed((f"{v:.6g}" for v in np.ravel(output.values[row])), most=8)
        raise MemberError(f"{what}: row {row} is [{shown}] ({int(bad.sum())} of {len(bad)} rows are so)")


def _output_of(raw: Any, card: Card) -> Output:
    if card.kind == "labels":
        names = np.asarray(raw, dtype=object)
        if names.ndim != 1:
            raise InputError(f"labels must have shape (n,), not {names.shape}")
        return Labels.of(names.tolist(), card.classes or None)
    if card.kind not in ARRAY_KINDS:
        raise InputError(f"an array cannot be read as {card.kind}; answer an Output of that kind")
    array = np.asarray(raw)
    if array.dtype == object:
        array = array.astype(np.float64)
    if card.kind == "probabilities":
        return Probabilities(_both(array, card), card.classes or tuple(map(str, range(array.shape[-1]))))
    if card.kind == "quantiles":
        return Quantiles(array, card.levels)
    if card.kind == "embeddings":
        return Embeddings(array)
    return Values(array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array)


def _both(array: Array, card: Card) -> Array:
    """One probability, of the second of two classes, becomes two."""
    single = array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)
    if single and len(card.classes) == 2:
        p = array.reshape(-1)
        return np.stack([1 - p, p], axis=1)
    return array


def no_rows(card: Card) -> Output:
    """The answer to a batch of no rows."""
    if card.kind == "probabilities":
        return Probabilities(np.zeros((0, len(card.classes))), card.classes)
    if card.kind == "quantiles":
        return Quantiles(np.zeros((0, len(card.levels))), card.levels)
    if card.kind == "labels":
        return Labels(np.zeros(0, dtype=np.int64), card.classes)
    if card.kind == "embeddings":
        return Embeddings(np.zeros((0, 0)))
    return cast(Output, Values(np.zeros(0)))
