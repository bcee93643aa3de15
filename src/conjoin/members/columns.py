"""What foreign models were fitted on, made from a batch: a matrix by names or by position, or a dataframe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.contracts import Column
from conjoin.errors import ColumnError, listed, nearest

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array


def numbered(count: int) -> tuple[Column, ...]:
    """The columns of a model fitted on an array: x0, x1, ...

    >>> [c.name for c in numbered(2)]
    ['x0', 'x1']
    """
    return tuple(Column(f"x{i}", "number") for i in range(count))


def require(batch: Batch, names: Sequence[str]) -> None:
    """Raises ColumnError where a column is missing: it says which, and which there are."""
    missing = [n for n in names if n not in batch]
    if missing:
        hint = nearest(missing[0], batch) if len(missing) == 1 else ""
        word = "column" if len(missing) == 1 else "columns"
        quoted = listed(repr(n) for n in missing)
        raise ColumnError(
            f"{word} {quoted} missing; the model reads {listed(names)}; the data has {listed(batch)}{hint}"
        )


def matrix(batch: Batch, names: Sequence[str]) -> Array:
    """(n, d) float64: these columns side by side; missing is NaN. Raises ColumnError."""
    require(batch, names)
    return _join([_numbers(batch[n], n) for n in names])


def by_position(batch: Batch, count: int | None) -> Array:
    """(n, count) float64 for a model fitted on an array.

    The columns x0, x1, ... where all are there, else all columns of numbers in order, whose number must fit.
    A count of None takes whatever there is.
    """
    names = [f"x{i}" for i in range(count or 0)]
    if names and all(n in batch for n in names):
        return matrix(batch, names)
    numeric = {n: a for n, a in batch.items() if a.dtype.kind in "fiub" and a.ndim in (1, 2)}
    width = sum(a.shape[1] if a.ndim == 2 else 1 for a in numeric.values())
    if width == 0:
        raise ColumnError(f"the batch has no columns of numbers; it has {listed(batch)}")
    if count is not None and width != count:
        raise ColumnError(
            f"the model was fitted on an array of {count} columns; the batch has {width} columns of numbers "
            f"({listed(numeric)}). Give it columns x0 to x{count - 1}, or say which it reads: "
            "wrap(..., columns=[...])"
        )
    return _join([_numbers(a, n) for n, a in numeric.items()])


def objects(batch: Batch, names: Sequence[str]) -> Array:
    """(n, d) of objects: text stays text, missing text is NaN. Raises ColumnError."""
    require(batch, names)
    out = np.empty((len(batch[names[0]]), len(names)), dtype=object)
    for k, name in enumerate(names):
        out[:, k] = _plain(batch[name])
    return out


def frame(batch: Batch, names: Sequence[str], categories: Sequence[str] = ()) -> Any:
    """A pandas dataframe with these columns in this order; an array of objects where pandas is not installed.

    categories: columns of pandas' category type. Raises ColumnError.
    """
    require(batch, names)
    try:
        import pandas as pd
    except ModuleNotFoundError:
        numeric = all(batch[n].dtype.kind in "fiub" for n in names)
        return matrix(batch, names) if numeric else objects(batch, names)
    table = pd.DataFrame({n: _plain(batch[n]) for n in names})
    return table.astype(dict.fromkeys(categories, "category")) if categories else table


def texts(array: Array) -> Array:
    """(n,) of str: whole numbers without a point, missing as an empty string."""
    out = np.empty(len(array), dtype=object)
    out[:] = [_text(v) for v in array.tolist()]
    return out


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _plain(array: Array) -> Array:
    """None becomes NaN, as in the dataframes that models are fitted on."""
    if array.dtype != object:
        return array
    out = array.copy()
    out[[v is None for v in array]] = np.nan
    return out


def _numbers(array: Array, name: str) -> Array:
    if array.dtype.kind in "fiub":
        return array
    if array.dtype.kind in "OU":
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError):
            bad = next((v for v in array.tolist() if not _is_number(v)), None)
            raise ColumnError(f"column {name!r} must hold numbers; it has {bad!r}") from None
    raise ColumnError(f"column {name!r} must hold numbers, not {array.dtype}")


def _is_number(value: Any) -> bool:
    try:
        float(np.nan if value is None else value)
    except (TypeError, ValueError):
        return False
    return True


def _join(arrays: Sequence[Array]) -> Array:
    parts = [a.reshape(len(a), -1) for a in arrays]
    return cast("Array", np.concatenate(parts, axis=1, dtype=np.float64, casting="unsafe"))
