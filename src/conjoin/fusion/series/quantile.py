"""Combining predictive distributions that are given by their quantiles.

Two ways to average: across quantiles (Vincentization: sharper, keeps the family) and across probabilities
(the linear pool: wider than its members on average). A member's distribution is straight between its
quantiles and has exponential tails beyond them. Quantiles that cross are sorted first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, OutputsError
from conjoin.fusion.packing import ask, known, members_of, number
from conjoin.fusion.plain import linear_pool
from conjoin.fusion.problems import finite_tensor
from conjoin.fusion.stack import Stack, Weights, checked, named_weights, stack
from conjoin.outputs import Quantiles
from conjoin.scores.beta import beta_quantile

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json


def quantile_averaging(
    outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None
) -> Any:
    """Vincentization: Q(tau) = sum_m w_m Q_m(tau) / sum_m w_m (Vincent 1912; Lichtendahl et al. 2013).

    >>> a, b = Quantiles([[0.0, 1.0]], (0.1, 0.9)), Quantiles([[2.0, 5.0]], (0.1, 0.9))
    >>> quantile_averaging({"a": a, "b": b}).values
    array([[1., 3.]])
    """
    _only_quantiles(stack(outputs))
    return linear_pool(outputs, weights=weights)


def distribution_pool(
    outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None
) -> Quantiles:
    """The linear pool of distributions: the quantiles of F(x) = sum_m w_m F_m(x) (Stone 1961).

    >>> a, b = Quantiles([[0.0, 1.0, 2.0]], (0.1, 0.5, 0.9)), Quantiles([[2.0, 3.0, 4.0]], (0.1, 0.5, 0.9))
    >>> distribution_pool({"a": a, "b": b}).values[0, 1]
    np.float64(2.0)
    """
    return _pooled(outputs, named_weights(outputs, weights), 1.0, 1.0, 1.0)


def beta_transformed_pool(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> Quantiles:
    """The quantiles of F(x) = B(sum_m w_m F_m(x)), B a beta distribution (Ranjan and Gneiting 2010).

    alpha = beta > 1 sharpens the pool, which is too wide where the members are calibrated; alpha and beta
    that differ move it. 1 and 1 give `distribution_pool`. Raises OutputsError.
    """
    return _pooled(outputs, named_weights(outputs, weights), 1.0, alpha, beta)


def spread_adjusted_pool(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    spread: float = 1.0,
) -> Quantiles:
    """The linear pool of members whose distances from their own medians are multiplied by `spread`.

    F(x) = sum_m w_m F_m(median_m + (x - median_m) / spread) (Glahn et al. 2009; Gneiting and Ranjan 2013).
    spread < 1 sharpens. The median is interpolated where 0.5 is not a level. Raises OutputsError.
    """
    return _pooled(outputs, named_weights(outputs, weights), spread, 1.0, 1.0)


def at_levels(output: Quantiles, levels: Sequence[float]) -> Quantiles:
    """The same distributions at other levels: members of different levels can be fused after that.

    Straight between the levels given, exponential tails beyond them.

    >>> at_levels(Quantiles([[0.0, 4.0]], (0.25, 0.75)), (0.25, 0.5)).values
    array([[0., 2.]])
    """
    laid = stack({"it": output})
    _only_quantiles(laid)
    blank = Quantiles(np.zeros((0, len(levels))), tuple(levels))
    out = mixed(laid, np.ones(1), np.array(blank.levels))
    return Quantiles(out, blank.levels, output.answered)


def _only_quantiles(laid: Stack) -> None:
    if laid.kind != "quantiles":
        raise OutputsError(f"this operator fuses quantiles, not {laid.kind}")


def _positive(**given: float) -> None:
    bad = {n: v for n, v in given.items() if not (math.isfinite(v) and v > 0)}
    if bad:
        raise OutputsError(f"these must be finite and above 0: {bad}")


def _pooled(
    outputs: Mapping[str, Any], weights: Mapping[str, float], spread: float, alpha: float, beta: float
) -> Quantiles:
    _positive(spread=spread, alpha=alpha, beta=beta)
    laid = stack(outputs)
    _only_quantiles(laid)
    laid = laid.only([n for n in laid.names if weights[n] != 0] or laid.names)
    mass = np.array([weights[n] for n in laid.names])
    wanted = np.array(laid.levels)
    if (alpha, beta) != (1.0, 1.0):
        wanted = np.array([beta_quantile(q, alpha, beta) for q in laid.levels])
    values = mixed(laid, mass, wanted, spread=spread)
    return Quantiles(values, laid.levels, np.asarray(~np.isnan(values).any(axis=1)))


def mixed(laid: Stack, weights: Array, wanted: Array, *, spread: float = 1.0) -> Array:
    """(n, P) quantiles of the mixture at the levels wanted; NaN in rows that nobody answered."""
    from conjoin.kernels.series import mixture_quantiles

    values, mass, levels = laid_out(laid, weights, spread)
    out = np.empty((laid.rows, len(wanted)))
    if len(levels):
        mixture_quantiles(values, mass, levels, np.ascontiguousarray(wanted, dtype=np.float64), out)
    return out


def mixture_at(laid: Stack, weights: Array, x: Array, *, spread: float = 1.0) -> Array:
    """(n,): P(X <= x_i) under the mixture of row i."""
    from conjoin.kernels.series import mixture_cdf

    values, mass, levels = laid_out(laid, weights, spread)
    out = np.empty(laid.rows)
    mixture_cdf(values, mass, levels, np.ascontiguousarray(x, dtype=np.float64), out)
    return out


def laid_out(laid: Stack, weights: Array, spread: float) -> tuple[Array, Array, Array]:
    """Values (M, n, Q) rising, mass (M, n) that sums to 1 over those who answered, levels (Q,)."""
    answers = laid.answers()
    values = laid.tensor()
    values[~answers] = 0.0
    if not np.isfinite(values).all():
        finite_tensor(laid)  # names the members
    values.sort(axis=2)
    levels = np.array(laid.levels)
    if spread != 1.0 and len(levels):
        centre = medians(values, levels)[:, :, None]
        values = centre + spread * (values - centre)
    mass = weights[:, None] * answers
    total = mass.sum(axis=0)
    return values, np.ascontiguousarray(mass / np.where(total > 0, total, 1.0)), levels


def medians(values: Array, levels: Array) -> Array:
    """(M, n): medians of rising quantiles (M, n, Q); the nearest level where all lie on one side of 0.5."""
    k = int(np.clip(np.searchsorted(levels, 0.5, side="right") - 1, 0, len(levels) - 1))
    if levels[k] >= 0.5 or k == len(levels) - 1:
        return np.asarray(values[:, :, k])
    part = (0.5 - levels[k]) / (levels[k + 1] - levels[k])
    return np.asarray(values[:, :, k] + part * (values[:, :, k + 1] - values[:, :, k]))


@dataclass(frozen=True, slots=True, eq=False)
class DistributionPool:
    """A fitted pool of distributions: F(x) = B(sum_m w_m F_m(median_m + (x - median_m) / spread)).

    weights: by member name, scaled to sum 1. alpha, beta: of the beta distribution B. levels: those it was
    fitted to. Called with fewer members, or with rows that some did not answer, the weights of the others
    count.
    """

    weights: Mapping[str, float]
    levels: tuple[float, ...]
    spread: float = 1.0
    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        found = checked({str(n): float(w) for n, w in sorted(self.weights.items())})
        total = sum(found.values())
        object.__setattr__(self, "weights", {n: w / total for n, w in found.items()})
        _positive(spread=self.spread, alpha=self.alpha, beta=self.beta)

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members it knows."""
        return tuple(self.weights)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members with weight."""
        return tuple(n for n, w in self.weights.items() if w > 0)

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Quantiles:
        """Fuse. Raises OutputsError on a member it was not fitted to."""
        known(self.members, outputs)
        weights = {n: self.weights[n] for n in outputs}
        if outputs and not any(weights.values()):
            first = stack(outputs)
            blank = np.full((first.rows, first.width), np.nan)
            return Quantiles(blank, first.levels, np.zeros(first.rows, dtype=bool))
        return _pooled(outputs, weights, self.spread, self.alpha, self.beta)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Weights and levels as arrays; names and parameters as JSON."""
        arrays = {"weights": np.array(list(self.weights.values())), "levels": np.array(self.levels)}
        meta: dict[str, Json] = {"members": list(self.weights)}
        meta |= {"spread": self.spread, "alpha": self.alpha, "beta": self.beta}
        return arrays, meta

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names = members_of(meta)
        weights = dict(zip(names, ask(arrays, "weights", (len(names),)).tolist(), strict=True))
        levels = tuple(ask(arrays, "levels", (None,)).tolist())
        try:
            return cls(weights, levels, number(meta, "spread"), number(meta, "alpha"), number(meta, "beta"))
        except OutputsError as error:
            raise BundleError(f"a packed pool of distributions does not make sense: {error}") from error
