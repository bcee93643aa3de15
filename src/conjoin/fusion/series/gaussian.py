"""Normal distributions: the product of experts, and EMOS, which makes one of point forecasts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, OutputsError
from conjoin.fusion.affine import present
from conjoin.fusion.descent import descend
from conjoin.fusion.packing import ask, members_of, number
from conjoin.fusion.problems import ValueProblem, finite_tensor, value_problem
from conjoin.fusion.series.averaging import LEVELS, checked_levels, levels_of
from conjoin.fusion.stack import Weights, named_weights, stack
from conjoin.fusion.threads import one_thread
from conjoin.outputs import Quantiles

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json
    from conjoin.scores import Score

MOST = 400_000
"""Numbers that a fit looks at; of more rows every second, third ... is taken."""


def product_of_experts(
    outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None
) -> Quantiles:
    """The product of normal distributions: s^-2 = sum_m b_m s_m^-2, mean = s^2 sum_m b_m s_m^-2 mean_m.

    Each member's quantiles are taken for a normal distribution, whose mean and deviation are the line through
    them over the normal scores. weights b_m: 1 for each is the product (Hinton 2002; right for independent
    members), a sum of 1 the normalised product (Deisenroth and Ng 2015; the default). Members need two
    levels. A deviation of 0 wins over all others. Raises OutputsError.

    >>> a, b = Quantiles([[-1.0, 1.0]], (0.25, 0.75)), Quantiles([[2.0, 4.0]], (0.25, 0.75))
    >>> product_of_experts({"a": a, "b": b}, weights=[0.5, 0.5]).values
    array([[0.5, 2.5]])
    """
    laid = stack(outputs)
    if laid.kind != "quantiles" or laid.width < 2:
        raise OutputsError(f"product_of_experts fuses quantiles of two or more levels, not {laid.kind}")
    named = named_weights(outputs, weights, default=1.0 / len(outputs))
    w = np.array([named[n] for n in laid.names])[:, None] * laid.answers()
    scores = normal_scores(laid.levels)
    tensor = np.where(laid.answers()[:, :, None], laid.tensor(), 0.0)
    if not np.isfinite(tensor).all():
        finite_tensor(laid)
    tensor.sort(axis=2)
    means = tensor.mean(axis=2)
    centred = scores - scores.mean()
    spreads = tensor @ centred / float(centred @ centred)
    means = means - spreads * scores.mean()
    tiny = np.maximum(1e-12 * np.abs(means).max(axis=0, initial=0.0), 1e-150)
    precision = w / np.maximum(spreads, tiny) ** 2
    total = precision.sum(axis=0)
    safe = np.where(total > 0, total, 1.0)
    centre = (precision * means).sum(axis=0) / safe
    if weights is None and not laid.complete:
        safe = safe / np.where(total > 0, w.sum(axis=0), 1.0)
    values = centre[:, None] + scores / np.sqrt(safe)[:, None]
    values[total <= 0] = np.nan
    return Quantiles(values, laid.levels, total > 0)


@lru_cache(maxsize=64)
def _scores(levels: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(NormalDist().inv_cdf(q) for q in levels)


def normal_scores(levels: Sequence[float]) -> Array:
    """(Q,): quantiles of the standard normal distribution."""
    return np.array(_scores(tuple(levels)))


@dataclass(frozen=True, slots=True, eq=False)
class Emos:
    """Quantiles of N(a + sum_m w_m v_m, c + d S^2), S^2 the variance of the members in the row.

    members: M names, sorted. weights (M,), at least 0. intercept a, constant c, slope d; c and d at least 0.
    levels: of the answer. Where a member did not answer, the mean of those who did stands in for it.
    """

    members: tuple[str, ...]
    weights: Array
    intercept: float
    constant: float
    slope: float
    levels: tuple[float, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members: all count in the spread."""
        return self.members

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Quantiles:
        """Fuse. Raises OutputsError on a member it was not fitted to, and on more than one number a row."""
        laid, parts, answered = present(self.members, outputs)
        if laid.kind != "values" or laid.width != 1:
            raise OutputsError(f"this fuser was fitted to one value a row, not {laid.width} {laid.kind}")
        X = np.array(parts, dtype=np.float64)[:, :, 0]
        centre = self.intercept + self.weights @ X
        deviation = np.sqrt(self.constant + self.slope * X.var(axis=0))
        values = centre[:, None] + deviation[:, None] * normal_scores(self.levels)
        return Quantiles(values, self.levels, answered)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Weights and levels as arrays, the rest as JSON."""
        meta: dict[str, Json] = {"members": list(self.members), "intercept": self.intercept}
        meta |= {"constant": self.constant, "slope": self.slope}
        return {"weights": self.weights, "levels": np.array(self.levels)}, meta

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names = members_of(meta)
        a, c, d = (number(meta, k) for k in ("intercept", "constant", "slope"))
        if c < 0 or d < 0:
            raise BundleError(f"a packed variance must not be negative, not {c} + {d} S^2")
        return cls(names, ask(arrays, "weights", (len(names),)), a, c, d, levels_of(arrays))


def fit_emos(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    levels: Sequence[float] = LEVELS,
) -> Emos:
    """Ensemble model output statistics, of least CRPS (Gneiting, Raftery, Westveld and Goldman 2005).

    Members answer one value a row; the fused answer is quantiles at `levels` of a normal distribution whose
    mean is their weighted sum and whose variance follows their spread. Weights, c and d are kept at 0 or
    above as squares. score and seed have no influence. Raises OutputsError and TruthError.
    """
    wanted = checked_levels(levels)
    rows = value_problem(outputs, truth, weights).thinned_to(MOST)
    if rows.stack.kind != "values" or rows.stack.width != 1:
        raise OutputsError(f"emos takes one value a row, not {rows.stack.width} {rows.stack.kind}")
    with one_thread():
        X, y = finite_tensor(rows.stack)[:, :, 0], rows.target[:, 0]
        shift = float(rows.shares @ y)
        scale = math.sqrt(float(rows.shares @ (y - shift) ** 2)) or 1.0
        theta = _least_crps((X - shift) / scale, (y - shift) / scale, rows)
    w, a = theta[:-3] ** 2, float(theta[-3])
    c, d = float(theta[-2] ** 2 * scale**2), float(theta[-1] ** 2)
    return Emos(rows.stack.names, w, a * scale + shift * (1 - float(w.sum())), c, d, wanted)


def _least_crps(X: Array, y: Array, rows: ValueProblem) -> Array:
    """theta: roots of weights (M,), intercept, roots of constant and slope, by L-BFGS from equal weights."""
    members, share = len(X), rows.shares
    spread = X.var(axis=0)

    def loss(theta: Array) -> tuple[float, Array]:
        mean = theta[:-3] ** 2 @ X + theta[-3]
        variance = theta[-2] ** 2 + theta[-1] ** 2 * spread + 1e-12
        s = np.sqrt(variance)
        z = (y - mean) / s
        density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        inside = normal_cdf(z)
        crps = s * (z * (2 * inside - 1) + 2 * density - 1 / math.sqrt(math.pi))
        by_mean = -(2 * inside - 1) * share
        by_s = (2 * density - 1 / math.sqrt(math.pi)) * share
        tail = [by_mean.sum(), by_s @ (theta[-2] / s), by_s @ (theta[-1] * spread / s)]
        return float(share @ crps), np.concatenate([2 * theta[:-3] * (X @ by_mean), tail])

    error = y - X.mean(axis=0)
    start = np.concatenate(
        [np.full(members, members**-0.5), [0.0, max(math.sqrt(float(share @ error**2)), 1e-3), 0.1]]
    )
    return descend(loss, start, slope=1e-8)


def normal_cdf(z: Array) -> Array:
    """Elementwise P(Z <= z), to 1e-15.

    >>> normal_cdf(np.array([0.0, 1.959964])).round(6)
    array([0.5  , 0.975])
    """
    flat = [math.erfc(-v / math.sqrt(2)) / 2 for v in np.asarray(z, np.float64).reshape(-1).tolist()]
    return np.array(flat).reshape(np.shape(z))
