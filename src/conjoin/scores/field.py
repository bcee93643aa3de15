"""Scores of the fields: of rankings, boxes, texts and other kinds whose rows do not have one true number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from conjoin.errors import OutputsError
from conjoin.outputs import Array, Output
from conjoin.scores.score import checked_weights

Statistics = Callable[[Any, Any], Array]
Total = Callable[[Array], float]
STEP = 1e-6


@dataclass(frozen=True, slots=True)
class FieldScore:
    """How good answers of one kind are, by the measure of their field. The interface of `Score`.

    name, kind, better, best: as of `Score`; loss = best - value where higher is better.
    statistics: (output, truth) -> (n, P) float64 that add up over rows: errors and words for a word error
    rate, (value, 1) for a mean. NaN in rows that do not count. total: (P,) weighted sums -> value; NaN
    where it is not defined. measure: (output, truth) -> value, for scores that do not add up (COCO's AP).
    Either statistics and total are given, or measure.
    """

    name: str
    kind: str
    better: Literal["lower", "higher"]
    best: float
    statistics: Statistics | None = None
    total: Total | None = None
    measure: Callable[[Any, Any], float] | None = None
    decisions: bool = False

    def value(self, output: Output, truth: Output, weights: Any = None) -> float:
        """The score of the rows that have a truth; NaN where there are none.

        A row that has a truth and no answer counts as an empty answer wherever the field says so (an image
        without boxes, a query without documents). weights: (n,) of rows; scores with `measure` take 0 and 1.
        Raises OutputsError.
        """
        mass = self._mass(output, truth, weights)
        if self.statistics is None or self.total is None:
            return self._measured(output, truth, mass)
        sums, _ = _sums(self.statistics(output, truth), mass)
        return math.nan if sums is None else float(self.total(sums))

    def loss(self, output: Output, truth: Output, weights: Any = None) -> float:
        """The score turned so that lower is better."""
        return self.turned(self.value(output, truth, weights))

    def turned(self, value: float) -> float:
        """From value to loss and from loss to value."""
        return self.best - value if self.better == "higher" else value

    def rows(self, output: Output, truth: Output, weights: Any = None) -> Array | None:
        """(n,) losses whose weighted mean is `loss`: the loss plus the influence of the row (the gradient of
        `total` times the row's distance from the mean row). NaN in rows that do not count; None for
        `measure`.
        """
        if self.statistics is None or self.total is None:
            return None
        mass = self._mass(output, truth, weights)
        table = self.statistics(output, truth)
        sums, kept = _sums(table, mass)
        out = np.full(len(table), np.nan)
        if sums is None:
            return out
        count = mass[kept].sum()
        slope = _gradient(self.total, sums)
        value = float(self.total(sums))
        influence = (table[kept] * count - sums) @ slope
        out[kept] = self.turned(value) + (-influence if self.better == "higher" else influence)
        return out

    def _mass(self, output: Output, truth: Output, weights: Any) -> Array:
        if len(output) != len(truth):
            raise OutputsError(f"{self.name}: {len(output)} answers but {len(truth)} truths")
        return checked_weights(weights, len(truth))

    def _measured(self, output: Output, truth: Output, mass: Array) -> float:
        if self.measure is None:
            raise OutputsError(f"the score {self.name} has neither statistics nor a measure")
        kept = mass > 0
        if not kept.all():
            output, truth = output.take(kept), truth.take(kept)
        return float(self.measure(output, truth)) if len(truth) else math.nan


def mean_of_rows(sums: Array) -> float:
    """`total` of statistics (value, 1): the mean over rows.

    >>> mean_of_rows(np.array([3.0, 4.0]))
    0.75
    """
    return float(sums[0] / sums[1]) if sums[1] else math.nan


def _sums(table: Array, mass: Array) -> tuple[Array | None, Array]:
    """Weighted sums over rows that count, and which these are."""
    kept = ~np.isnan(table).any(axis=1) & (mass > 0)
    if not kept.any():
        return None, kept
    return cast(Array, mass[kept] @ table[kept]), kept


def _gradient(total: Total, sums: Array) -> Array:
    """Central differences of `total` at the sums."""
    slope = np.zeros(len(sums))
    for k in range(len(sums)):
        step = STEP * max(1.0, abs(sums[k]))
        ends = []
        for sign in (1.0, -1.0):
            moved = sums.copy()
            moved[k] += sign * step
            ends.append(total(moved))
        slope[k] = (ends[0] - ends[1]) / (2 * step)
    return np.nan_to_num(slope)
