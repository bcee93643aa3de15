"""Errors of forecasts over the error of the naive forecast on the past: series of any size count alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from conjoin.errors import InputError, OutputsError
from conjoin.outputs import Array
from conjoin.scores.numbers import mae_rows, mean_of, mse_rows
from conjoin.scores.score import Case, Score


def naive_scales(histories: Sequence[Any], *, season: int = 1, squared: bool = False) -> Array:
    """(n,): the mean of |x_t - x_(t - season)| over each series' past, or the root of the mean square.

    histories: 1-D, of any length; NaN is left out of the differences. A series without a difference other
    than 0 gets NaN: leave its row out. Raises InputError.

    >>> naive_scales([[1.0, 3.0, 2.0], [5.0]])
    array([1.5, nan])
    """
    if season < 1:
        raise InputError(f"season must be at least 1, not {season}")
    out = np.full(len(histories), np.nan)
    for i, history in enumerate(histories):
        x = np.asarray(history, dtype=np.float64).reshape(-1)
        gaps = np.abs(x[season:] - x[:-season])
        gaps = gaps[np.isfinite(gaps)]
        if gaps.any():
            out[i] = np.sqrt((gaps**2).mean()) if squared else gaps.mean()
    return out


def mase(scales: Any) -> Score:
    """Mean absolute scaled error: |e| / scale of the row, mean over horizons (Hyndman and Koehler 2006).

    scales: (n,), of `naive_scales`, for the same rows as outputs and truth. The score raises OutputsError
    where it is used on another number of rows, and where a scale of a row that counts is not above 0.

    >>> from conjoin.outputs import Values
    >>> mase([2.0, 1.0]).value(Values([[1.0, 1.0], [4.0, 4.0]]), Values([[2.0, 2.0], [1.0, 1.0]]))
    1.75
    """
    given = _checked(scales)

    def rows(case: Case) -> Array:
        return np.asarray(mae_rows(case) / _of(given, case, "mase"))

    return Score("mase", "values", "lower", 0.0, False, mean_of(rows), rows)


def rmsse(scales: Any) -> Score:
    """Root mean squared scaled error: root of the mean over horizons of e^2, over the row's scale.

    The mean over rows is that of the M5 competition without weights. scales: of `naive_scales(...,
    squared=True)`; errors as of `mase`.

    >>> from conjoin.outputs import Values
    >>> rmsse([2.0]).value(Values([[1.0, 7.0]]), Values([[0.0, 0.0]]))
    2.5
    """
    given = _checked(scales)

    def rows(case: Case) -> Array:
        return np.asarray(np.sqrt(mse_rows(case)) / _of(given, case, "rmsse"))

    return Score("rmsse", "values", "lower", 0.0, False, mean_of(rows), rows)


def _checked(scales: Any) -> Array:
    found = np.asarray(scales, dtype=np.float64)
    if found.ndim != 1:
        raise InputError(f"scales are one number a row, not of shape {found.shape}")
    return found


def _of(scales: Array, case: Case, name: str) -> Array:
    if len(scales) != len(case.kept):
        raise OutputsError(f"{name} has {len(scales)} scales, there are {len(case.kept)} rows")
    found = scales[case.kept]
    if not bool((found > 0).all()):
        at = np.flatnonzero(case.kept)[~(found > 0)][:5].tolist()
        raise OutputsError(f"{name} needs a scale above 0 for each row; rows {at} have none: leave them out")
    return found
