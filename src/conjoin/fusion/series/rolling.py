"""Time order: weights that forget, and forecasts by weights that knew the past alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError, OutputsError, TruthError
from conjoin.fusion.linear import fit_inverse_error
from conjoin.fusion.problems import finite_tensor, value_problem
from conjoin.fusion.series.cells import with_gaps
from conjoin.outputs import Output, concat
from conjoin.scores import checked_weights

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.scores import Score

Fit = Callable[..., Any]


def recency(n: int, *, half_life: float | None = None, window: int | None = None) -> Array:
    """(n,) weights of rows in time order, the newest 1: halved every `half_life` rows, 0 beyond `window`.

    >>> recency(4, half_life=1.0), recency(4, window=2)
    (array([0.125, 0.25 , 0.5  , 1.   ]), array([0., 0., 1., 1.]))
    """
    age = np.arange(n)[::-1]
    if half_life is not None and not half_life > 0:
        raise InputError(f"half_life must be above 0 rows, not {half_life}")
    if window is not None and window < 1:
        raise InputError(f"window must be at least 1 row, not {window}")
    out = np.ones(n) if half_life is None else 0.5 ** (age / half_life)
    return np.asarray(out if window is None else np.where(age < window, out, 0.0))


@with_gaps
def fit_recent_inverse_error(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    half_life: float | None = None,
    window: int | None = None,
) -> Any:
    """w_m proportional to 1 / sum_t d^(T - t) e_mt^2: recent errors count more (Bates and Granger 1969).

    Rows are in time order. half_life: rows after which an error counts half; window: only the last rows
    count. By default a quarter of the rows is the half-life. Raises InputError, OutputsError and TruthError.
    """
    n = len(truth)
    life = max(1.0, n / 4) if half_life is None and window is None else half_life
    mass = recency(n, half_life=life, window=window)
    mass = mass if weights is None else mass * checked_weights(weights, n)
    rows = value_problem(outputs, truth, mass)
    finite_tensor(rows.stack)
    if not rows.stack.width:
        raise OutputsError("the members' quantiles have no levels: there is nothing to weigh")
    return fit_inverse_error(outputs, truth, weights=mass, score=score, seed=seed)


@dataclass(frozen=True, slots=True, eq=False)
class Rolled:
    """What a rolling origin gives. output: fused answers; rows before `first` are not answered.

    fuser: the last one. origins: how many rows each fit knew.
    """

    output: Output
    fuser: Any
    first: int
    origins: tuple[int, ...]


def rolling_origin(
    fit: Fit,
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    first: int,
    step: int = 1,
    gap: int = 0,
    window: int | None = None,
    half_life: float | None = None,
    **options: Any,
) -> Rolled:
    """Fuse each row by weights fitted to earlier rows alone: an honest look back (Tashman 2000).

    Rows are in time order. At each origin t = first, first + step, ... the fit sees the rows before t - gap
    (the last `window` of them, their weights halved every `half_life` rows), and its fuser answers rows
    t to t + step - 1. gap: how many rows before an origin have no truth yet, h - 1 for forecasts h steps
    ahead. options go to fit. Raises InputError, OutputsError and TruthError.

    >>> from conjoin.outputs import Values
    >>> y = np.arange(6.0)
    >>> outputs = {"a": Values(y), "b": Values(y + 9)}
    >>> rolled = rolling_origin(fit_recent_inverse_error, outputs, Values(y), first=3)
    >>> rolled.output.values.round(6), rolled.origins
    (array([nan, nan, nan,  3.,  4.,  5.]), (3, 4, 5))
    """
    n = len(truth)
    if first - gap < 1 or step < 1 or gap < 0:
        raise InputError(
            f"first - gap and step must be at least 1, gap at least 0; first={first}, step={step}, gap={gap}"
        )
    if first >= n:
        raise TruthError(f"there are {n} rows; the first origin is at {first}: nothing is left to answer")
    parts: list[Any] = []
    origins = []
    fuser: Any = None
    for t in range(first, n, step):
        past, new = np.arange(t - gap), np.arange(t, min(t + step, n))
        mass = recency(len(past), half_life=half_life, window=window)
        known = {m: o.take(past) for m, o in outputs.items()}
        fuser = fit(known, truth.take(past), weights=mass, **options)
        parts.append(fuser({m: o.take(new) for m, o in outputs.items()}))
        origins.append(t - gap)
    shown = concat([_unanswered(parts[0], first), *parts])
    return Rolled(shown, fuser, first, tuple(origins))


def _unanswered(like: Any, n: int) -> Output:
    """n rows of this kind that nobody answered."""
    blank: Output = replace(like.take(np.zeros(n, dtype=np.int64)), answered=np.zeros(n, dtype=bool))
    return blank
