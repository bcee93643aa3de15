"""Which type each column of a batch has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conjoin.contracts import Batch, Column, ColumnType
from conjoin.tables.conform import number_of, seconds_of
from conjoin.tables.words import GONE, GONE_NUMBER

if TYPE_CHECKING:
    from conjoin.outputs import Array

TEXT_DISTINCT = 20
"""A column of free text has at least so many distinct values, ..."""
TEXT_SHARE = 0.05
"""... at least this share of its values is distinct, ..."""
TEXT_WORDS = 2.5
"""... and they have on average at least so many words."""


def columns_of(batch: Batch) -> tuple[Column, ...]:
    """The columns of a batch with their types, in its order.

    boolean: bool arrays, and texts that are all true or false. number: other numeric arrays, and texts that
    are all numbers but for words that mean "missing", such as "?" (texts that are numbers throughout stay
    categories: somebody wanted them to be texts). date: datetime64, and texts that are all ISO dates. text:
    many distinct texts of several words. category: all other texts. tensor: arrays with more than one axis.

    >>> import numpy as np
    >>> [c.type for c in columns_of({"a": np.arange(3), "b": np.array(["x", None, "y"], dtype=object)})]
    ['number', 'category']
    """
    return tuple(_column(str(name), values) for name, values in batch.items())


def _column(name: str, values: Array) -> Column:
    if values.ndim > 1 and values.shape[1:] != (1,):
        return Column(name, "tensor", tuple(int(k) for k in values.shape[1:]))
    kinds: dict[str, ColumnType] = {"b": "boolean", "M": "date", "O": "category", "U": "category"}
    kind = kinds.get(values.dtype.kind, "number")
    return Column(name, _type_of_texts(values) if kind == "category" else kind)


def _type_of_texts(values: Array) -> ColumnType:
    distinct = {v for v in set(values.ravel().tolist()) if type(v) is str}
    known = {v for v in distinct if v.strip() not in GONE}
    if not known:
        return "category"
    if {v.strip().casefold() for v in known} <= {"true", "false"}:
        return "boolean"
    real = {v for v in known if v.strip() not in GONE_NUMBER}
    if real and len(distinct) > len(real) and all(number_of(v) is not None for v in real):
        return "number"
    if real and all(seconds_of(v) is not None for v in real):
        return "date"
    words = sum(len(v.split()) for v in known) / len(known)
    many = len(known) >= max(TEXT_DISTINCT, TEXT_SHARE * len(values))
    return "text" if many and words >= TEXT_WORDS else "category"
