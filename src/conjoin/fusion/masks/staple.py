"""STAPLE for one foreground label: expectation and maximisation over patterns of decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.masks.laid import Laid, labels_of, lay
from conjoin.fusion.masks.patterns import binary_patterns
from conjoin.fusion.stack import Weights
from conjoin.kernels.masks import staple_rounds
from conjoin.outputs import Array, Masks

if TYPE_CHECKING:
    from conjoin.contracts import Batch

CONVERGED = 1e-7
"""EM ends when no sensitivity and no specificity moves by more than this."""
MOST_ITERATIONS = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Performance:
    """What STAPLE learned of the members, image by image.

    members: M names, sorted. sensitivity, specificity: (n, M): shares of the true foreground and background
    that the member marked so; NaN where it did not answer the image or there is no such pixel.
    iterations: (n,) rounds of EM. prior: (n,) the share of foreground that was assumed.
    """

    members: tuple[str, ...]
    sensitivity: Array
    specificity: Array
    iterations: Array
    prior: Array


def staple(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    foreground_value: int = 1,
    confidence_weight: float = 1.0,
    maximum_iterations: int = MOST_ITERATIONS,
) -> Masks:
    """Simultaneous truth and performance level estimation (Warfield, Zou and Wells 2004).

    Each member has a sensitivity p_m and a specificity q_m; the truth is unknown. EM finds them and the
    probability of the foreground at each pixel,
    W = g a / (g a + (1 - g) b) with a = prod_m p_m^d_m (1 - p_m)^(1 - d_m) and
    b = prod_m (1 - q_m)^d_m q_m^(1 - d_m), d_m = 1 where member m says `foreground_value`.
    It starts from the mean of the decisions; g is their mean times `confidence_weight`. Each image is worked
    out by itself. weights are exponents of the members' factors. The answer is W: float64 (n, *spatial)
    without classes. As SimpleITK's STAPLE, with which it agrees; but where nobody marks a pixel the answer is
    0 (there NaN), and where all mark all it is 1. `performance` gives p_m and q_m. Raises OutputsError.

    >>> from conjoin.outputs import Masks
    >>> a, b, c = Masks([[1, 1, 0, 0]]), Masks([[1, 1, 0, 0]]), Masks([[1, 0, 0, 1]])
    >>> staple({"a": a, "b": b, "c": c}).values.round(6)
    array([[1., 1., 0., 0.]])
    """
    laid = lay(outputs, weights)
    fused = {
        row: patterns.spread(found.truth)
        for row, _, patterns, found in _each(laid, foreground_value, confidence_weight, maximum_iterations)
    }
    return laid.output(fused, np.float64, ())


def performance(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    foreground_value: int = 1,
    confidence_weight: float = 1.0,
    maximum_iterations: int = MOST_ITERATIONS,
) -> Performance:
    """Sensitivities and specificities that `staple` finds; the parameters are the same.

    >>> from conjoin.outputs import Masks
    >>> a, b, c = Masks([[1, 1, 0, 0]]), Masks([[1, 1, 0, 0]]), Masks([[1, 0, 0, 1]])
    >>> performance({"a": a, "b": b, "c": c}).sensitivity.round(3)
    array([[1. , 1. , 0.5]])
    """
    laid = lay(outputs, weights)
    p = np.full((laid.rows, len(laid.names)), np.nan)
    q, prior, iterations = p.copy(), np.full(laid.rows, np.nan), np.zeros(laid.rows, dtype=np.int64)
    for row, who, _, found in _each(laid, foreground_value, confidence_weight, maximum_iterations):
        p[row, who], q[row, who] = found.sensitivity, found.specificity
        prior[row], iterations[row] = found.prior, found.iterations
    return Performance(laid.names, p, q, iterations, prior)


def _each(laid: Laid, foreground_value: int, confidence_weight: float, maximum_iterations: int) -> Any:
    if int(foreground_value) != foreground_value or foreground_value < 0:
        raise OutputsError(
            f"foreground_value must be a label (a whole number from 0), not {foreground_value!r}"
        )
    if not 0 < confidence_weight <= 1:
        raise OutputsError(f"confidence_weight must lie above 0 and at most be 1, not {confidence_weight!r}")
    if maximum_iterations < 1:
        raise OutputsError(f"maximum_iterations must be at least 1, not {maximum_iterations!r}")
    for row, who, images in laid.images(labels_of(laid.classes)):
        patterns = binary_patterns(images, foreground_value)
        found = _maximise(
            patterns.labels, patterns.counts, laid.weights[who], confidence_weight, maximum_iterations
        )
        yield row, who, patterns, found


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """truth (P,): the probability of the foreground in each pattern."""

    truth: Array
    sensitivity: Array
    specificity: Array
    prior: float
    iterations: int


def _maximise(labels: Array, counts: Array, weights: Array, confidence: float, most: int) -> _Found:
    """EM. labels (P, M) of 0 and 1, counts (P,), weights (M,)."""
    shares = counts / max(counts.sum(), 1)
    truth = labels @ (weights / weights.sum())
    prior = float(truth @ shares) * confidence
    if not 0 < prior < 1:  # nobody marks a pixel, or all mark all
        sure, unknown = np.ones(labels.shape[1]), np.full(labels.shape[1], np.nan)
        p, q = (sure, unknown) if prior >= 1 else (unknown, sure)
        return _Found(np.full(len(labels), float(prior >= 1)), p, q, prior, 1)
    p, q = np.full(labels.shape[1], -10.0), np.full(labels.shape[1], -10.0)
    decisions = np.ascontiguousarray(labels.astype(np.uint8))
    rounds = staple_rounds(decisions, shares, weights, prior, truth, p, q, CONVERGED, int(most))
    return _Found(truth, p, q, prior, rounds)
