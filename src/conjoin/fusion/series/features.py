"""Numbers that describe a time series, as columns of a batch: for `fit_fforma`, or a gate on the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError

if TYPE_CHECKING:
    from conjoin.outputs import Array

FEATURES = ("length", "trend", "slope", "seasonality", "acf1", "acf_season", "diff_acf1", "spread", "entropy")


def series_features(histories: Sequence[Any], *, season: int = 1) -> dict[str, Array]:
    """A batch with a row for each series: (n,) columns by the names in FEATURES.

    histories: the known past of each series, 1-D, of any length; NaN is left out. season: rows in a season, 1
    for none. length: log(1 + n). trend, seasonality: the share of variance that a straight line, or the means
    of the seasons after it, explain. slope: of the line over the whole, in standard deviations. acf1,
    acf_season, diff_acf1: autocorrelations at 1, at `season`, and at 1 of the differences. spread: standard
    deviation over mean size. entropy: of the spectrum, 0 to 1. A constant or very short series has zeros.
    Raises InputError.

    >>> made = series_features([np.arange(20.0), np.ones(5)], season=4)
    >>> made["trend"].round(6), made["acf1"][1]
    (array([1., 0.]), np.float64(0.0))
    """
    if season < 1:
        raise InputError(f"season must be at least 1, not {season}")
    table = np.array([_described(np.asarray(h, dtype=np.float64), season) for h in histories])
    table = table.reshape(len(histories), len(FEATURES))
    return {name: table[:, k] for k, name in enumerate(FEATURES)}


def _described(x: Array, season: int) -> list[float]:
    x = x.reshape(-1)
    x = x[np.isfinite(x)]
    n = len(x)
    size = float(np.abs(x).mean()) if n else 0.0
    variance = float(x.var()) if n else 0.0
    if n < 3 or variance <= 1e-24 * max(size, 1e-150) ** 2:
        return [float(np.log1p(n)), *[0.0] * (len(FEATURES) - 1)]
    z = (x - x.mean()) / np.sqrt(variance)
    t = np.arange(n) - (n - 1) / 2
    slope = float(t @ z) / float(t @ t)
    rest = z - slope * t
    left = float(rest.var())
    seasonal = 0.0
    if season > 1 and n >= 2 * season and left > 1e-12:
        means = np.array([rest[k::season].mean() for k in range(season)])[np.arange(n) % season]
        seasonal = 1.0 - float((rest - means).var()) / left
    far = _autocorrelation(z, season) if season > 1 else 0.0
    return [
        float(np.log1p(n)),
        1.0 - left,
        slope * n,
        seasonal,
        _autocorrelation(z, 1),
        far,
        _autocorrelation(np.diff(z), 1),
        float(np.sqrt(variance)) / max(size, 1e-150),
        _entropy(z),
    ]


def _autocorrelation(z: Array, lag: int) -> float:
    z = z - z.mean()
    total = float(z @ z)
    return float(z[lag:] @ z[:-lag]) / total if len(z) > lag and total > 1e-12 else 0.0


def _entropy(z: Array) -> float:
    power = np.abs(np.fft.rfft(z)[1:]) ** 2
    share = power[power > 0] / power.sum() if power.sum() > 0 else power
    return float(-(share * np.log(share)).sum() / np.log(len(power))) if len(power) > 1 else 0.0
