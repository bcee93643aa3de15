"""Conformal intervals around any fused output: their coverage holds for rows that can change places.

The truth of a new row lies in the interval with probability at least `confidence`, whatever the fuser is, if
the rows that calibrate were not used to fit it and are exchangeable with the new ones. The width comes from
the k-th smallest of n scores, k = ceil((n + 1) confidence): the exact finite-sample quantile. With too few
rows it is infinite. Intervals are `Quantiles` at the levels (1 - confidence) / 2 and (1 + confidence) / 2.

    calibrated = conformal(fuser(calibration), truth, confidence=0.9)
    intervals = calibrated(fuser(new))
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, InputError, OutputsError, TruthError
from conjoin.fusion.packing import ask, number, text
from conjoin.fusion.stack import as_rows, value_truth
from conjoin.outputs import Quantiles, Values

if TYPE_CHECKING:
    from conjoin.contracts import Storable
    from conjoin.outputs import Array, Json

SCORES = ("absolute", "normalised", "cqr")


def conformal_quantile(scores: Array, confidence: float) -> float:
    """The ceil((n + 1) confidence)-th smallest of n scores; infinite where there are too few.

    NaN does not count.

    >>> conformal_quantile(np.arange(1.0, 10.0), 0.9), conformal_quantile(np.arange(1.0, 9.0), 0.9)
    (9.0, inf)
    """
    checked_confidence(confidence)
    scores = np.sort(scores[~np.isnan(scores)])
    k = math.ceil((len(scores) + 1) * confidence - 1e-9)
    return float(scores[max(k, 1) - 1]) if k <= len(scores) else math.inf


def checked_confidence(confidence: float) -> float:
    """The confidence, in (0, 1). Raises InputError."""
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie in (0, 1), not {confidence}")
    return float(confidence)


@dataclass(frozen=True, slots=True, eq=False)
class Conformal:
    """Intervals of one confidence around answers of one kind.

    confidence: the share of truths inside. score: "absolute" (answer -+ width), "normalised" (answer -+
    width x scale of the row) or "cqr" (outermost quantiles moved by width). widths: (H,), one per target.
    rows: how many calibrated it.
    """

    confidence: float
    score: str
    widths: Array
    rows: int

    @property
    def levels(self) -> tuple[float, float]:
        """The two levels of the intervals."""
        return (1 - self.confidence) / 2, (1 + self.confidence) / 2

    def __call__(self, output: Any, /, *, scale: Any = None, target: int = 0) -> Quantiles:
        """The interval of each row, (n, 2). scale: (n,) for "normalised". target: which of H numbers a row.

        Raises OutputsError where the output is not of the kind it was calibrated to.
        """
        low, high = _ends(output, self.score, target)
        if not 0 <= target < len(self.widths):
            raise OutputsError(f"there are {len(self.widths)} targets, no number {target}")
        width = self.widths[target] * _scales(scale, self.score, len(output))
        with np.errstate(invalid="ignore"):
            ends = np.stack([low - width, high + width], axis=1)
        if self.score == "cqr":  # a negative width may turn narrow intervals inside out
            middle = (low + high) / 2
            ends = np.stack([np.minimum(ends[:, 0], middle), np.maximum(ends[:, 1], middle)], axis=1)
        return Quantiles(ends, self.levels, output.answered)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Widths; everything else as JSON. An infinite width is packed as -1."""
        widths = np.where(np.isinf(self.widths), 0.0, self.widths)
        meta: dict[str, Json] = {"confidence": self.confidence, "score": self.score, "rows": self.rows}
        return {"widths": widths, "infinite": np.isinf(self.widths).astype(np.int64)}, meta

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        widths = ask(arrays, "widths", (None,))
        widths = np.where(ask(arrays, "infinite", (len(widths),)) > 0, np.inf, widths)
        confidence = number(meta, "confidence")
        if not 0 < confidence < 1:
            raise BundleError(f"packed intervals have a confidence of {confidence}, not within (0, 1)")
        return cls(confidence, text(meta, "score", SCORES), widths, int(number(meta, "rows")))


def conformal(
    output: Any, truth: Any, *, confidence: float = 0.9, score: str | None = None, scale: Any = None
) -> Conformal:
    """Split conformal prediction: calibrate intervals on rows that the fuser was not fitted to.

    output: fused `Values` (n,) or (n, H), or `Quantiles`. truth: Values of the same rows; rows without a
    truth or an answer do not count. score: of values "absolute", |y - v| (Lei et al. 2018), or "normalised",
    |y - v| / scale; of quantiles "cqr", max(low - y, y - high) of the outermost levels (Romano et al. 2019).
    By default that of the kind. scale: (n,) numbers above 0 that say how hard a row is, such as the spread of
    the members. Raises InputError, OutputsError and TruthError.

    >>> found = conformal(Values(np.zeros(99)), Values(np.arange(99.0)), confidence=0.9)
    >>> found.widths, found(Values([5.0])).values
    (array([89.]), array([[-84.,  94.]]))
    """
    checked_confidence(confidence)
    score = score or (
        "cqr" if isinstance(output, Quantiles) else "normalised" if scale is not None else "absolute"
    )
    if score not in SCORES:
        raise InputError(f"score must be one of {', '.join(SCORES)}, not {score!r}")
    y = as_rows(np.asarray(value_truth(truth, len(output)).values, dtype=np.float64))
    scales = _scales(scale, score, len(output))
    widths = []
    for target in range(y.shape[1]):
        low, high = _ends(output, score, target)
        missing = ~(output.answered & truth.answered)
        found = np.maximum(low - y[:, target], y[:, target] - high) / scales
        found = np.where(missing, np.nan, found)
        widths.append(conformal_quantile(found, confidence))
        if np.isnan(found).all():
            raise TruthError("no row has both an answer and a truth: there is nothing to calibrate with")
    return Conformal(confidence, score, np.array(widths), int((~np.isnan(found)).sum()))


def _ends(output: Any, score: str, target: int) -> tuple[Array, Array]:
    """Lower and upper end of each row before it is widened."""
    if score == "cqr":
        if not isinstance(output, Quantiles) or not output.levels:
            raise OutputsError(f"cqr calibrates quantiles, not {output.kind}")
        ordered = np.sort(np.asarray(output.values, dtype=np.float64), axis=1)
        return ordered[:, 0], ordered[:, -1]
    if not isinstance(output, Values):
        raise OutputsError(f"{score} intervals are made around values, not {output.kind}")
    values = as_rows(np.asarray(output.values, dtype=np.float64))
    if not 0 <= target < values.shape[1]:
        raise OutputsError(f"the output has {values.shape[1]} numbers a row, no number {target}")
    return values[:, target], values[:, target]


def _scales(scale: Any, score: str, n: int) -> Array:
    if score != "normalised":
        if scale is not None:
            raise InputError(f"scale is for normalised intervals; these are {score}")
        return np.ones(n)
    if scale is None:
        raise InputError("normalised intervals need scale=, a number above 0 for each row")
    found = np.asarray(scale, dtype=np.float64)
    if found.shape != (n,) or not bool((found[~np.isnan(found)] > 0).all()):
        raise InputError(f"scale must be {n} numbers above 0, not shape {found.shape}")
    return found


def members_spread(outputs: Mapping[str, Values], *, floor: float = 1e-9) -> Array:
    """(n,): the standard deviation of the members' answers, for `scale`.

    floor: added, above 0; take about the size of noise that does not matter. Raises OutputsError.

    >>> members_spread({"a": Values([0.0, 1.0]), "b": Values([2.0, 1.0])}, floor=0.5)
    array([1.5, 0.5])
    """
    if not floor > 0:
        raise InputError(f"floor must be above 0, not {floor}")
    values = np.array([np.where(o.answered, o.values.T, np.nan) for _, o in sorted(outputs.items())])
    if values.ndim != 2:
        raise OutputsError("the spread of members needs one value a row")
    some = ~np.isnan(values)
    count = np.maximum(some.sum(axis=0), 1)
    centre = np.where(some, values, 0.0).sum(axis=0) / count
    return np.asarray(np.sqrt((np.where(some, values - centre, 0.0) ** 2).sum(axis=0) / count) + floor)
