"""What every learner is given: features, truth, folds, weights, and the score that counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from conjoin.engine import Local
from conjoin.outputs import Array, Output, Probabilities, Quantiles, Values
from conjoin.train import folds
from conjoin.train.truth import Truth


class Loss(Protocol):
    """A score, lower is better for `loss`."""

    def loss(self, output: Any, truth: Any, weights: Any = None) -> float:
        """How bad the output is."""


@dataclass(frozen=True, eq=False)
class Problem:
    """n rows to learn from.

    x: (n, d) float32, the encoder's features, NaN missing. make_dense: makes the (n, e) float32 dense view.
    y: (n,) int64 codes of classes, or float64 values standardised by `shift` and `scale`.
    fold: (n,) number of the fold in which a row is held out, -1 for never. weights: (n,) float64 or None.
    """

    truth: Truth
    x: Array
    y: Array
    fold: Array
    weights: Array | None
    score: Loss
    engine: Local
    make_dense: Callable[[], Array]
    shift: float = 0.0
    scale: float = 1.0
    memo: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def task(self) -> str:
        """binary, multiclass, regression or quantile."""
        return self.truth.task

    @property
    def width(self) -> int:
        """Columns of an answer."""
        return self.truth.width

    @cached_property
    def splits(self) -> tuple[tuple[Array, Array], ...]:
        """For each fold the rows to learn from and the rows to answer."""
        return folds.splits(self.fold)

    @cached_property
    def scored(self) -> Array:
        """(m,) rows that some fold holds out."""
        return np.flatnonzero(self.fold >= 0)

    @cached_property
    def dense(self) -> Array:
        """(n, e) float32 dense view, made when it is first asked for."""
        return self.make_dense()

    @cached_property
    def scored_truth(self) -> Output:
        """The truth of the scored rows."""
        return self.truth.output(self.scored)

    @cached_property
    def scored_weights(self) -> Array | None:
        """The weights of the scored rows."""
        return None if self.weights is None else self.weights[self.scored]

    def weight(self, rows: Array) -> Array | None:
        """The weights of these rows, None where all are equal."""
        return None if self.weights is None else self.weights[rows]

    def output(self, answers: Array) -> Output:
        """Answers (m, width) as an output of the truth's kind."""
        if self.truth.classes:
            return Probabilities(answers, self.truth.classes)
        if self.truth.levels:
            return Quantiles(answers, self.truth.levels)
        return Values(answers[:, 0])

    def loss(self, answers: Array) -> float:
        """The loss of answers (n, width) on the scored rows."""
        return float(
            self.score.loss(self.output(answers[self.scored]), self.scored_truth, self.scored_weights)
        )

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """`make()`, made the first time only: what several learners of one library share."""
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]

    def empty(self) -> Array:
        """(n, width) float64 of NaN, to be filled fold by fold."""
        return np.full((len(self), self.width), np.nan)


def standard(y: Array, weights: Array | None) -> tuple[Array, float, float]:
    """y with mean 0 and deviation 1, and the shift and scale that undo it: `y * scale + shift`."""
    shift = float(np.average(y, weights=weights))
    scale = float(np.sqrt(np.average((y - shift) ** 2, weights=weights))) or 1.0
    return (y - shift) / scale, shift, scale
