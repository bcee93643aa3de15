"""A batch becomes the feeds of a graph: one array (n, 1) per column, in the types of `graph.builder`."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from conjoin.contracts import Column, ColumnType
from conjoin.errors import ColumnError, listed, nearest
from conjoin.tables.batch import batch_of, column_of, moment
from conjoin.tables.words import FALSE, GONE, GONE_NUMBER, TRUE, name_of

if TYPE_CHECKING:
    from conjoin.outputs import Array

MISSING_DATE = int(np.iinfo(np.int64).min)
_EPOCH = dt.datetime(1970, 1, 1)


def conform(batch: Any, columns: Iterable[Column]) -> dict[str, Array]:
    """The feeds of a graph with these columns: name -> array (n, 1), (n, *shape) for a tensor.

    batch: a mapping of arrays, lists or scalars (a scalar is one row), or anything that `batch_of` takes.
    Other columns are ignored. Numbers and booleans become float64 with NaN, categories and texts become str
    with "" where missing, dates become int64 seconds since 1970 with the least int64 where missing.

    Columns of another type than asked for are read where that is possible without loss: texts that spell
    numbers, dates or booleans; numbers and booleans as categories (3, 3.0, "3" and "3.0" are one category);
    numbers as dates (seconds, or milli-, micro-, nanoseconds where they are too large to be seconds).

    Raises ColumnError on a missing column, on unequal lengths, and on a value that cannot be read.

    >>> conform({"age": ["31", ""]}, [Column("age", "number")])["age"]
    array([[31.],
           [nan]])
    >>> conform({"job": ["cook", None]}, [Column("job", "category")])["job"]
    array([['cook'],
           ['']], dtype=object)
    """
    table: Mapping[str, Any] = batch if isinstance(batch, Mapping) else batch_of(batch)
    feeds: dict[str, Array] = {}
    for column in columns:
        name = column.name
        try:
            values = table[name]
        except KeyError:
            raise missing_columns([c.name for c in columns], table) from None
        feeds[name] = _FEEDS[column.type](values, column)
    lengths = set(map(len, feeds.values()))
    if len(lengths) > 1:
        raise ColumnError(f"columns must be equally long: { {n: len(v) for n, v in feeds.items()} }")
    return feeds


def missing_columns(wanted: Sequence[str], table: Iterable[str]) -> ColumnError:
    """The error that says which of the wanted columns a table lacks, and which it has."""
    there = [str(k) for k in table]
    gone = [n for n in wanted if n not in there]
    hint = nearest(gone[0], [k for k in there if k not in wanted])
    what = f"column {gone[0]!r} is" if len(gone) == 1 else f"columns {listed(map(repr, gone))} are"
    return ColumnError(
        f"{what} missing; needed are {listed(wanted)}; there are {listed(there) or 'none'}{hint}"
    )


def _flat(values: Any, name: str) -> list[Any]:
    """The values of a column as Python objects, whatever holds them."""
    if type(values) is list or type(values) is tuple:
        return list(values)
    if type(values) is np.ndarray:
        return values.ravel().tolist() if values.dtype.kind not in "M" else list(values.ravel())
    if values is None or isinstance(values, str | int | float | bool | np.generic | dt.date):
        return [values]
    return _flat(column_of(values, name), name)


def _column(values: list[Any], dtype: type | str) -> Array:
    if len(values) == 1:
        one = np.empty((1, 1), dtype=dtype)
        one[0, 0] = values[0]
        return one
    out = np.empty(len(values), dtype=dtype)
    out[:] = values
    return out.reshape(-1, 1)


def _numbers(values: Any, column: Column) -> Array:
    if type(values) is np.ndarray and values.dtype.kind in "fiub":
        if values.size != len(values):
            _wrong(column, f"an array of shape {values.shape}", 0)
        return values.astype(np.float64, copy=False).reshape(-1, 1)
    flat = _flat(values, column.name)
    try:
        return _column([v if type(v) is float else _number(v) for v in flat], np.float64)
    except ValueError:
        row = next(i for i, v in enumerate(flat) if _readable(_number, v) is None)
        _wrong(column, flat[row], row)


def _number(value: Any) -> float:
    if type(value) is str:
        found = number_of(value)
        if found is None:
            raise ValueError(value)
        return found
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return math.nan
    if isinstance(value, np.datetime64 | np.timedelta64 | dt.date | dict | list):
        raise ValueError(value)
    try:
        return float(value)
    except TypeError as error:
        raise ValueError(value) from error
    except OverflowError:
        return math.inf if value > 0 else -math.inf


_NUMERIC = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|Inf|INF|infinity|Infinity)")


def number_of(text: str) -> float | None:
    """The number that a text spells, NaN for a word that means "missing", None for anything else."""
    text = text.strip()
    if text in GONE_NUMBER:
        return math.nan
    return float(text) if _NUMERIC.fullmatch(text) else None


def _booleans(values: Any, column: Column) -> Array:
    if type(values) is np.ndarray and values.dtype.kind in "fiub":
        return _numbers(values, column)
    flat = _flat(values, column.name)
    try:
        return _column([_truth(v) for v in flat], np.float64)
    except ValueError:
        row = next(i for i, v in enumerate(flat) if _readable(_truth, v) is None)
        _wrong(column, flat[row], row)


def _truth(value: Any) -> float:
    if type(value) is not str:
        return _number(value)
    word = value.strip()
    if word in GONE_NUMBER:
        return math.nan
    word = word.casefold()
    if word in TRUE or word in FALSE:
        return float(word in TRUE)
    raise ValueError(value)


class _Names(dict[Any, str]):
    """Value -> its spelling; texts are remembered, so each distinct one is worked out once."""

    def __missing__(self, value: Any) -> str:
        name = name_of(value)
        if type(value) is str and len(self) < 100_000:
            self[value] = name
        return name


def _categories(values: Any, column: Column) -> Array:
    flat = _flat(values, column.name)
    if len(flat) == 1:
        return _column([name_of(flat[0])], object)
    try:
        return _column(list(map(_Names().__getitem__, flat)), object)
    except TypeError:  # a list or another value that cannot be looked up
        return _column([name_of(v) for v in flat], object)


def _texts(values: Any, column: Column) -> Array:
    flat = _flat(values, column.name)
    return _column([_text(v) for v in flat], object)


def _text(value: Any) -> str:
    if type(value) is not str:
        return name_of(value)
    return "" if value in GONE else " ".join(value.split())


def _dates(values: Any, column: Column) -> Array:
    if type(values) is np.ndarray and values.dtype.kind == "M":
        return values.astype("datetime64[s]").astype(np.int64).reshape(-1, 1)
    flat = _flat(values, column.name)
    try:
        return _column([_seconds(v) for v in flat], np.int64)
    except (ValueError, OverflowError):
        row = next(i for i, v in enumerate(flat) if _readable(_seconds, v) is None)
        _wrong(column, flat[row], row)


def _seconds(value: Any) -> int:
    if type(value) is str:
        found = seconds_of(value)
        if found is None:
            raise ValueError(value)
        return found
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return MISSING_DATE
    if isinstance(value, dt.date | np.datetime64):
        return int(moment(value).astype("datetime64[s]").astype(np.int64))
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        raise ValueError(value)
    return MISSING_DATE if value == MISSING_DATE else _from_epoch(float(value))


def _from_epoch(number: float) -> int:
    """Seconds since 1970 from a count of seconds, or of smaller units where it is too large for that."""
    if number != number:
        return MISSING_DATE
    for most, unit in ((1e11, 1), (1e14, 1_000), (1e17, 1_000_000), (1e20, 1_000_000_000)):
        if abs(number) < most:
            return math.floor(number / unit)
    raise ValueError(number)


_DATE = re.compile(
    r"(?:(\d{4})([-/.])(\d{1,2})\2(\d{1,2})|(\d{1,2})\.(\d{1,2})\.(\d{4}))"
    r"(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)? ?(Z|UTC|[+-]\d{2}(?::?\d{2})?)?)?"
)


def seconds_of(text: str) -> int | None:
    """Seconds since 1970 of a date such as 2024-03-01, 2024/3/1, 1.3.2024, 2024-03-01T12:30:00+01:00.

    A word that means "missing" gives `MISSING_DATE`, anything else None. Dates with slashes that begin with
    the day or the month are not read, because nobody can tell which it is.
    """
    text = text.strip()
    if text in GONE_NUMBER:
        return MISSING_DATE
    found = _DATE.fullmatch(text)
    if not found:
        return None
    y, _, m, d, d2, m2, y2, hour, minute, second, zone = found.groups()
    try:
        at = dt.datetime(
            int(y or y2), int(m or m2), int(d or d2), int(hour or 0), int(minute or 0), int(second or 0)
        )
    except ValueError:
        return None
    return round((at - _EPOCH).total_seconds()) - _offset(zone)


def _offset(zone: str | None) -> int:
    if zone is None or zone in ("Z", "UTC"):
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if zone[0] == "-" else seconds


def _tensors(values: Any, column: Column) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        _wrong(column, f"an array of {array.dtype}", 0)
    if array.shape == column.shape:
        array = array[None]
    if array.shape[1:] != column.shape:
        raise ColumnError(
            f"column {column.name!r} must have shape (rows, {listed(column.shape)}), not {array.shape}"
        )
    return array.astype(np.float32, copy=False)


def _readable(read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except (ValueError, OverflowError):
        return None


def _wrong(column: Column, value: Any, row: int) -> NoReturn:
    raise ColumnError(f"column {column.name!r} must be a {column.type}; row {row} holds {value!r}")


_FEEDS: dict[ColumnType, Callable[[Any, Column], Array]] = {
    "number": _numbers,
    "boolean": _booleans,
    "category": _categories,
    "text": _texts,
    "date": _dates,
    "tensor": _tensors,
}
