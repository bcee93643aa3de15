"""Anything that holds a table becomes a batch: named numpy arrays of equal length."""

from __future__ import annotations

import datetime as dt
import json
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import ColumnError, InputError, listed
from conjoin.tables.words import name_of

if TYPE_CHECKING:
    from conjoin.outputs import Array

EXACT = 2**53
"""Integers up to here are exact in float64."""


class TableWarning(UserWarning):
    """Something about a table was changed while it was read; the text says what."""


def batch_of(data: Any) -> dict[str, Array]:
    """Named columns of equal length, from whatever holds a table.

    data: a dataframe of pandas, polars, pyarrow or anything else that narwhals knows; a mapping of arrays,
    lists or, for one row, scalars; a 2-D array (columns x0, x1, ...); a list of rows as mappings.

    Integers and floats stay what they are (an integer column with gaps becomes float with NaN); texts,
    categories, bytes, and columns of mixed types become object arrays of str with None where missing;
    booleans stay, with gaps they become "True", "False" and None; dates become datetime64, in UTC where they
    had a time zone; durations become seconds; decimals become float. Integers beyond 2**53 that float64 could
    not tell apart become text, with a TableWarning: they are names, not amounts. A column without a name is
    called column0, column1, ... after its place.

    Raises ColumnError on doubled names, unequal lengths and columns that hold no values of a table.

    >>> batch_of({"age": [31, None], "job": ["clerk", "cook"]})["age"]
    array([31., nan])
    >>> sorted(batch_of(np.zeros((3, 2))))
    ['x0', 'x1']
    """
    if isinstance(data, Mapping):
        return _of_mapping(data)
    if isinstance(data, np.ndarray):
        return _of_array(data)
    if isinstance(data, list | tuple):
        return _of_rows(data)
    return _of_frame(data)


def column_of(values: Any, name: str) -> Array:
    """One column of a batch from an array, a series or a sequence; `name` is for messages."""
    if isinstance(values, np.ma.MaskedArray):
        values = _unmask(values)
    if not isinstance(values, np.ndarray):
        if isinstance(values, str | bytes):
            raise ColumnError(f"column {name!r} is one string, not a column: wrap it in a list")
        values = _sequence(values, name)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        return _tensor(values, name)
    handle = _BY_KIND.get(values.dtype.kind)
    if handle is None:
        raise ColumnError(f"column {name!r} holds {values.dtype}; a table holds numbers, texts or dates")
    return handle(values, name)


def _of_mapping(data: Mapping[Any, Any]) -> dict[str, Array]:
    names = _distinct([str(k) for k in data])
    values = list(data.values())
    if values and all(map(_plain, values)):
        values = [[v] for v in values]
    batch = {n: column_of(v, n) for n, v in zip(names, values, strict=True)}
    lengths = {n: len(v) for n, v in batch.items()}
    if len(set(lengths.values())) > 1:
        usual = max(lengths.values(), key=list(lengths.values()).count)
        odd = [f"{n!r} has {k}" for n, k in lengths.items() if k != usual]
        raise ColumnError(f"columns must be equally long: {listed(odd)}, the others {usual} rows")
    return batch


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | bytes | int | float | np.generic | dt.date | Decimal)


def _of_array(data: Array) -> dict[str, Array]:
    if data.dtype.names:
        return _of_mapping({n: data[n] for n in data.dtype.names})
    if data.ndim != 2:
        raise InputError(f"a table has 2 axes (rows, columns), not shape {data.shape}")
    return {f"x{j}": column_of(data[:, j], f"x{j}") for j in range(data.shape[1])}


def _of_rows(rows: Sequence[Any]) -> dict[str, Array]:
    odd = next((i for i, r in enumerate(rows) if not isinstance(r, Mapping)), None)
    if odd is not None:
        given = type(rows[odd]).__name__
        raise InputError(f"a list of rows needs a mapping (name -> value) per row; row {odd} is a {given}")
    names = dict.fromkeys(k for row in rows for k in row)
    return _of_mapping({n: [row.get(n) for row in rows] for n in names})


def _of_frame(data: Any) -> dict[str, Array]:
    import narwhals as nw

    try:
        frame: Any = nw.from_native(data)
    except nw.exceptions.DuplicateError as error:
        doubled = re.findall(r"- (.+) \d+ times", str(error))
        raise ColumnError(f"column names must differ; doubled: {listed(doubled)}") from error
    except TypeError as error:
        raise InputError(
            f"a {type(data).__name__} is no table; give a dataframe, a mapping of columns, a 2-D array or a "
            "list of rows"
        ) from error
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    names = _distinct([str(n) for n in frame.columns])
    columns = zip(names, frame.iter_columns(), strict=True)
    return {n: _of_series(series, n) for n, series in columns}


def _of_series(series: Any, name: str) -> Array:
    import narwhals as nw

    kind = series.dtype
    if kind in (nw.Categorical, nw.Enum) or isinstance(kind, nw.Enum):
        return _objects(np.array([None if _gone(v) else name_of(v) for v in series.to_list()], object), name)
    if kind.is_integer() and series.null_count() and (series.abs().max() or 0) > EXACT:
        return _objects(np.array(series.to_list(), dtype=object), name)
    return column_of(series.to_numpy(), name)


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        doubled = sorted({repr(n) for n in names if names.count(n) > 1})
        raise ColumnError(f"column names must differ; doubled: {listed(doubled)}")
    return [n or f"column{k}" for k, n in enumerate(names)]


def _sequence(values: Any, name: str) -> Array:
    if isinstance(values, list | tuple):
        if set(map(type, values)) <= {float}:
            return np.array(values, dtype=np.float64)
        out = np.empty(len(values), dtype=object)
        out[:] = values
        return out
    if isinstance(values, np.generic) or (np.ndim(values) == 0 and _plain(values)):
        raise ColumnError(f"column {name!r} is one value and other columns hold several: wrap it in a list")
    import narwhals as nw

    series: Any = nw.from_native(values, series_only=True, pass_through=True)
    if isinstance(series, nw.Series):
        return _of_series(series, name)
    if isinstance(values, Iterable) and not isinstance(values, Mapping):
        array = np.asarray(values)
        return array if array.ndim else _sequence(list(values), name)
    raise ColumnError(f"column {name!r} is a {type(values).__name__}, not an array or a list")


def _unmask(values: Any) -> Array:
    mask = np.ma.getmaskarray(values)
    if not mask.any():
        return cast("Array", values.data)
    if values.dtype.kind == "M":
        return cast("Array", np.where(mask, np.datetime64("NaT"), values.data))
    if values.dtype.kind == "f" or (values.dtype.kind in "iu" and np.abs(values).max() <= EXACT):
        return cast("Array", np.where(mask, np.nan, values.data))
    return cast("Array", np.where(mask, None, values.data.astype(object)))


def _tensor(values: Array, name: str) -> Array:
    if values.ndim == 0 or values.dtype.kind not in "fiub":
        raise ColumnError(f"column {name!r} has shape {values.shape} and holds {values.dtype}, not numbers")
    return values.astype(np.float32, copy=False)


def _floats(values: Array, name: str) -> Array:
    return values if values.dtype.itemsize in (4, 8) else values.astype(np.float64)


def _integers(values: Array, name: str) -> Array:
    if values.dtype.itemsize < 8 or not len(values) or _exact(values):
        return values
    warnings.warn(
        f"column {name!r} holds integers beyond 2**53 that differ by less than float64 can tell; "
        "it is read as text",
        TableWarning,
        stacklevel=2,
    )
    return values.astype(str).astype(object)


def _exact(values: Array) -> bool:
    """Whether float64 tells these integers apart."""
    if max(int(values.max()), -int(values.min())) <= EXACT:
        return True
    return len(np.unique(values.astype(np.float64))) == len(np.unique(values))


def _bools(values: Array, name: str) -> Array:
    return values


def _strings(values: Array, name: str) -> Array:
    return values.astype(object)


def _byte_strings(values: Array, name: str) -> Array:
    return _objects(values.astype(object), name)


def _dates(values: Array, name: str) -> Array:
    return values if np.datetime_data(values.dtype)[0] != "generic" else values.astype("datetime64[s]")


def _durations(values: Array, name: str) -> Array:
    seconds = values.astype("timedelta64[us]").astype(np.float64) / 1e6
    return cast("Array", np.where(np.isnat(values), np.nan, seconds))


_BY_KIND: dict[str, Callable[[Array, str], Array]] = {
    "f": _floats,
    "i": _integers,
    "u": _integers,
    "b": _bools,
    "U": _strings,
    "T": _strings,
    "S": _byte_strings,
    "M": _dates,
    "m": _durations,
}


def _gone(value: Any) -> bool:
    """Whether a Python value says that nothing is there: None, NaN, NaT, pandas' NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating | np.datetime64 | np.timedelta64) and bool(value != value)


_WHOLE = (int, np.integer)
_NUMBER = (int, float, np.number, Decimal)
_DATE = (dt.date, np.datetime64)
_TIME = (dt.time,)
_SPAN = (dt.timedelta, np.timedelta64)


def _objects(values: Array, name: str) -> Array:
    """A column from Python values of whatever types."""
    given = values.tolist()
    types = set(map(type, given))
    if types in ({str}, {str, type(None)}):
        return values
    gone = [type(v) is not str and _gone(v) for v in given]
    if any(gone):
        given = [None if g else v for v, g in zip(given, gone, strict=True)]
        types = set(map(type, given)) - {type(None)}
    for accepted, make in _BY_TYPE:
        if types and all(issubclass(t, accepted) for t in types):
            return make(given, name, any(gone))
    if not types:
        return np.full(len(given), np.nan)
    return _texts(given, name, any(gone))


_BY_KIND["O"] = _objects


def _texts(given: list[Any], name: str, gaps: bool) -> Array:
    out = np.empty(len(given), dtype=object)
    out[:] = [v if v is None or type(v) is str else name_of(v) for v in given]
    return out


def _truths(given: list[Any], name: str, gaps: bool) -> Array:
    return _texts(given, name, gaps) if gaps else np.array(given, dtype=bool)


def _wholes(given: list[Any], name: str, gaps: bool) -> Array:
    known = [int(v) for v in given if v is not None]
    most = max(map(abs, known))
    if most > EXACT and (most >= 2**63 or len(set(map(float, known))) < len(set(known))):
        return _integers_as_text(given, name)
    if not gaps:
        return np.array(known, dtype=np.int64)
    return np.array([np.nan if v is None else float(v) for v in given])


def _integers_as_text(given: list[Any], name: str) -> Array:
    warnings.warn(
        f"column {name!r} holds integers beyond 2**53 that float64 could not tell apart; it is read as text",
        TableWarning,
        stacklevel=2,
    )
    return _texts([None if v is None else int(v) for v in given], name, True)


def _numbers(given: list[Any], name: str, gaps: bool) -> Array:
    try:
        return np.array([np.nan if v is None else float(v) for v in given])
    except (TypeError, OverflowError) as error:
        raise ColumnError(f"column {name!r} holds a value that is no number: {error}") from error


def _moments(given: list[Any], name: str, gaps: bool) -> Array:
    out = np.full(len(given), np.datetime64("NaT"), dtype="datetime64[us]")
    for i, v in enumerate(given):
        if v is not None:
            out[i] = moment(v)
    return out


def moment(value: Any) -> np.datetime64:
    """A date or time as datetime64 in microseconds, in UTC where it had a time zone."""
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(dt.UTC).replace(tzinfo=None)
    return np.datetime64(value, "us")


def _clock(given: list[Any], name: str, gaps: bool) -> Array:
    def seconds(v: dt.time) -> float:
        return v.hour * 3600 + v.minute * 60 + v.second + v.microsecond / 1e6

    return np.array([np.nan if v is None else seconds(v) for v in given])


def _spans(given: list[Any], name: str, gaps: bool) -> Array:
    return np.array([np.nan if v is None else np.timedelta64(v, "us").astype(float) / 1e6 for v in given])


def _decoded(given: list[Any], name: str, gaps: bool) -> Array:
    return _texts([None if v is None else bytes(v).decode(errors="replace") for v in given], name, gaps)


def _vectors(given: list[Any], name: str, gaps: bool) -> Array:
    shapes = {np.shape(v) for v in given}
    if len(shapes) == 1 and not gaps and np.asarray(given[0]).dtype.kind in "fiub":
        return np.array(given, dtype=np.float32)
    return _texts([None if v is None else json.dumps(v, default=_listed) for v in given], name, gaps)


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


_BY_TYPE: tuple[tuple[tuple[type, ...], Callable[[list[Any], str, bool], Array]], ...] = (
    ((str,), _texts),
    ((bool, np.bool_), _truths),
    (_WHOLE, _wholes),
    (_NUMBER, _numbers),
    (_DATE, _moments),
    (_TIME, _clock),
    (_SPAN, _spans),
    ((bytes, bytearray, memoryview), _decoded),
    ((list, tuple, np.ndarray), _vectors),
)
