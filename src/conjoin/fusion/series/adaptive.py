"""Adaptive conformal intervals for series: they learn from each outcome."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, InputError
from conjoin.fusion.packing import ask, number
from conjoin.fusion.series.conformal import checked_confidence, conformal_quantile
from conjoin.outputs import Quantiles, Values

if TYPE_CHECKING:
    from conjoin.contracts import Storable
    from conjoin.outputs import Array, Json


@dataclass(frozen=True, slots=True, eq=False)
class AdaptiveConformal:
    """Adaptive conformal inference for series: the level follows the misses (Gibbs and Candes 2021).

    alpha_{t+1} = alpha_t + rate (1 - confidence - miss_t); the width is the conformal quantile of the last
    `window` scores |y - v| at 1 - alpha_t. Over many steps the share of misses goes to 1 - confidence,
    whatever the series does. rate=0 leaves the sliding window alone: the update of EnbPI (Xu and Xie 2021)
    around any fused answer. confidence, rate, window: as given. alpha: the present level. scores: the last
    ones, oldest first.
    """

    confidence: float = 0.9
    rate: float = 0.01
    window: int = 500
    alpha: float | None = None
    scores: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        checked_confidence(self.confidence)
        if not self.rate >= 0 or self.window < 1:
            raise InputError(f"rate must be at least 0 and window at least 1, not {self.rate}, {self.window}")
        if self.alpha is None:
            object.__setattr__(self, "alpha", 1.0 - self.confidence)

    @property
    def width(self) -> float:
        """Half the width of the next interval: infinite for alpha <= 0, 0 for alpha >= 1."""
        alpha = float(self.alpha or 0.0)
        if alpha <= 0:
            return math.inf
        if alpha >= 1 or not self.scores:
            return 0.0 if alpha >= 1 else math.inf
        return conformal_quantile(np.array(self.scores), 1 - alpha)

    def update(self, value: float, outcome: float) -> Self:
        """The record after a step with this fused value and this outcome; NaN in either changes nothing."""
        score = abs(outcome - value)
        if math.isnan(score):
            return self
        miss = float(score > self.width)
        alpha = float(self.alpha or 0.0) + self.rate * (1 - self.confidence - miss)
        return replace(self, alpha=alpha, scores=(*self.scores, score)[-self.window :])

    def run(self, output: Values, truth: Values) -> tuple[Quantiles, Self]:
        """Intervals of all rows in order, each made before its outcome is seen; the record after them."""
        here, out = self, np.empty((len(output), 2))
        y = np.where(truth.answered, truth.values, np.nan)
        for t, v in enumerate(np.where(output.answered, output.values, np.nan)):
            width = here.width
            out[t] = v - width, v + width
            here = here.update(float(v), float(y[t]))
        return Quantiles(out, ((1 - self.confidence) / 2, (1 + self.confidence) / 2), output.answered), here

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The scores; everything else as JSON."""
        meta: dict[str, Json] = {"confidence": self.confidence, "rate": self.rate, "window": self.window}
        return {"scores": np.array(self.scores, dtype=np.float64)}, {**meta, "alpha": self.alpha}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        found = {k: number(meta, k) for k in ("confidence", "rate", "window", "alpha")}
        try:
            return cls(
                found["confidence"],
                found["rate"],
                int(found["window"]),
                found["alpha"],
                tuple(ask(arrays, "scores", (None,)).tolist()),
            )
        except InputError as error:
            raise BundleError(f"a packed adaptive interval does not make sense: {error}") from error
