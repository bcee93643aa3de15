"""Jackknife+ and CV+: conformal intervals that set no rows aside."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, InputError, OutputsError, TruthError
from conjoin.fusion.folds import fold_numbers
from conjoin.fusion.packing import ask, child, number
from conjoin.fusion.series.conformal import checked_confidence
from conjoin.fusion.stack import as_rows, value_truth
from conjoin.outputs import Quantiles

if TYPE_CHECKING:
    from conjoin.contracts import Storable
    from conjoin.outputs import Array, Json

Fit = Callable[..., Any]


@dataclass(frozen=True, slots=True, eq=False)
class CrossConformal:
    """Jackknife+ and CV+: intervals from K fusers, each fitted without a fold (Barber et al. 2021).

    fusers: K records. folds: (n,) the fold of each fitted row. residuals: (n,) |y - v| of each row by the
    fuser that had not seen it. The interval is [k'-th smallest of v_-f(i) - r_i, k-th smallest of v_-f(i) +
    r_i] over fitted rows i; at least 1 - 2 (1 - confidence) of truths lie inside, in practice confidence.
    """

    fusers: tuple[Any, ...]
    folds: Array
    residuals: Array
    confidence: float

    @property
    def levels(self) -> tuple[float, float]:
        """The two levels of the intervals."""
        return (1 - self.confidence) / 2, (1 + self.confidence) / 2

    def __call__(self, outputs: Mapping[str, Any], /) -> Quantiles:
        """The interval of each row, (n, 2), from the members' outputs."""
        answers = [f(outputs) for f in self.fusers]
        answered = np.logical_and.reduce([a.answered for a in answers])
        values = np.array([np.asarray(a.values, dtype=np.float64) for a in answers])
        n, rows = len(self.residuals), values.shape[1]
        k = math.ceil((n + 1) * self.confidence - 1e-9)
        if k > n:
            ends = np.tile([-np.inf, np.inf], (rows, 1))
            return Quantiles(ends, self.levels, answered)
        out = np.empty((rows, 2))
        step = max(1, 4_000_000 // max(n, 1))
        for a in range(0, rows, step):
            at = values[:, a : a + step][self.folds]
            r = self.residuals[:, None]
            out[a : a + step, 0] = np.partition(at - r, n - k, axis=0)[n - k]
            out[a : a + step, 1] = np.partition(at + r, k - 1, axis=0)[k - 1]
        return Quantiles(out, self.levels, answered)

    def children(self) -> Mapping[str, Storable]:
        """The fusers, by number."""
        return {f"fuser.{k}": f for k, f in enumerate(self.fusers)}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Folds and residuals; the confidence as JSON."""
        return {"folds": self.folds, "residuals": self.residuals}, {"confidence": self.confidence}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        residuals = ask(arrays, "residuals", (None,))
        folds = ask(arrays, "folds", (len(residuals),)).astype(np.int64)
        confidence = number(meta, "confidence")
        bad = len(folds) and not (folds.min() >= 0 and folds.max() < len(children))
        if bad or not 0 < confidence < 1:
            raise BundleError("packed cross-conformal intervals do not fit together: folds or confidence")
        fusers = tuple(child(children, f"fuser.{k}") for k in range(len(children)))
        return cls(fusers, folds, residuals, confidence)


def fit_cross_conformal(
    outputs: Mapping[str, Any],
    truth: Any,
    fit: Fit,
    *,
    confidence: float = 0.9,
    folds: int | None = 10,
    seed: int = 0,
    **options: Any,
) -> CrossConformal:
    """CV+ with this many folds, or jackknife+ (folds=None, one fit a row): no row is set aside.

    fit: a fit function of values, one number a row; options go to it. Rows without a truth do not count; at
    least two rows must. Raises InputError, OutputsError and TruthError.
    """
    checked_confidence(confidence)
    y = value_truth(truth, len(next(iter(outputs.values()))) if outputs else 0)
    if as_rows(y.values).shape[1] != 1:
        raise OutputsError("cross-conformal intervals are for one number a row: fit each horizon apart")
    known = np.flatnonzero(y.answered & ~np.isnan(as_rows(y.values)[:, 0]))
    if len(known) < 2:
        raise TruthError(f"cross-conformal intervals need two rows with a truth, not {len(known)}")
    count = len(known) if folds is None else min(folds, len(known))
    if count < 2:
        raise InputError(f"folds must be at least 2, not {folds}")
    number_of = fold_numbers(len(known), count, seed)
    fusers, residuals = [], np.empty(len(known))
    for f in range(count):
        rest, test = known[number_of != f], known[number_of == f]
        fuser = fit({n: o.take(rest) for n, o in outputs.items()}, y.take(rest), seed=seed, **options)
        answer = fuser({n: o.take(test) for n, o in outputs.items()})
        v = as_rows(np.asarray(answer.values, dtype=np.float64))[:, 0]
        residuals[number_of == f] = np.abs(as_rows(y.values)[test, 0] - np.where(answer.answered, v, np.nan))
        fusers.append(fuser)
    kept = ~np.isnan(residuals)
    return CrossConformal(tuple(fusers), number_of[kept], residuals[kept], confidence)
