"""STAPLE for any number of labels: a confusion matrix for each member, by EM over patterns of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.masks.laid import labels_of, lay
from conjoin.fusion.masks.patterns import label_patterns
from conjoin.fusion.masks.votes import TIE, check_undecided, voted
from conjoin.fusion.stack import Weights
from conjoin.kernels.masks import confusion_rounds
from conjoin.outputs import Array, Masks

if TYPE_CHECKING:
    from conjoin.contracts import Batch

MOST_ITERATIONS = 10_000


def multilabel_staple(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    prior_probabilities: Sequence[float] | None = None,
    termination_update_threshold: float = 1e-5,
    maximum_iterations: int = MOST_ITERATIONS,
    label_for_undecided_pixels: int | None = None,
) -> Masks:
    """STAPLE for many labels (Rohlfing, Russakoff and Maurer 2003; Warfield, Zou and Wells 2004).

    Each member has a confusion matrix C_m[said, true]. EM finds the matrices and
    P(true = l) proportional to prior_l prod_m C_m[d_m, l] at each pixel. The matrices start from the pixels
    that a vote decides. Each image is worked out by itself. weights are exponents of the members' factors.

    prior_probabilities: of each label from 0; None takes the shares of the labels in all masks of the image.
    termination_update_threshold: it ends when no element of a matrix moves by as much. The answer is the
    label (n, *spatial) with the greatest probability. label_for_undecided_pixels: for pixels where it is
    shared, or where no label is possible; None takes the least of the tied labels, or the vote's. As
    SimpleITK's MultiLabelSTAPLE, whose label for undecided pixels is the greatest + 1 by default, in double
    precision. Raises OutputsError.

    >>> from conjoin.outputs import Masks
    >>> right, wrong = Masks([[0, 1, 2, 2]]), Masks([[0, 1, 1, 1]])
    >>> multilabel_staple({"a": right, "b": right, "c": wrong}).values
    array([[0, 1, 2, 2]], dtype=uint8)
    """
    laid = lay(outputs, weights)
    check_undecided(label_for_undecided_pixels)
    if maximum_iterations < 1 or not termination_update_threshold >= 0:
        raise OutputsError(
            "maximum_iterations must be at least 1 and termination_update_threshold not negative, not "
            f"{maximum_iterations!r} and {termination_update_threshold!r}"
        )
    fused = {}
    for row, who, images in laid.images(labels_of(laid.classes)):
        if not images[0].size:
            fused[row] = images[0]
            continue
        patterns = label_patterns(images)
        known = np.unique(patterns.labels)
        codes = np.searchsorted(known, patterns.labels)
        shares = patterns.counts / max(patterns.counts.sum(), 1)
        log_prior = _log(_prior(prior_probabilities, known, codes, patterns.counts))
        problem = _Problem(codes, shares, laid.weights[who], log_prior)
        sure = voted(patterns.labels, laid.weights[who], -1)[:, None] == known
        table = _maximise(problem, sure.astype(np.float64), termination_update_threshold, maximum_iterations)
        chosen = _decided(
            table, known, label_for_undecided_pixels, voted(patterns.labels, laid.weights[who], None)
        )
        fused[row] = patterns.spread_labels(chosen)
    return laid.output(fused, None)


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """One image. codes (P, M): labels as positions among L of them; shares (P,): of the pixels."""

    codes: Array
    shares: Array
    weights: Array
    log_prior: Array

    @property
    def labels(self) -> int:
        """L."""
        return len(self.log_prior)

    def posterior(self, logs: Array) -> Array:
        """(P, L) logarithms, up to a constant a row. logs (M, L, L) of the matrices."""
        total = np.repeat(self.log_prior[None], len(self.codes), axis=0)
        for m in range(len(logs)):
            total += self.weights[m] * logs[m][self.codes[:, m]]
        return total


def _prior(prior: Sequence[float] | None, known: Array, codes: Array, counts: Array) -> Array:
    if prior is None:
        mass = np.bincount(codes.ravel(), np.repeat(counts, codes.shape[1]), minlength=len(known))
        return cast(Array, mass / max(mass.sum(), 1))
    given = np.asarray(prior, dtype=np.float64)
    if given.ndim != 1 or not np.isfinite(given).all() or (given < 0).any() or not given.any():
        raise OutputsError(
            f"prior_probabilities must hold a probability for each label from 0, not {prior!r:.80}"
        )
    if len(known) and known[-1] >= len(given):
        raise OutputsError(
            f"prior_probabilities holds {len(given)} probabilities; the greatest label is {known[-1]}"
        )
    return cast(Array, given[known])


def _maximise(problem: _Problem, sure: Array, termination: float, most: int) -> Array:
    """(P, L): logarithms of the labels' probabilities in each pattern, up to a constant a row.

    sure (P, L): 1 at the label that the vote decides.
    """
    mass = sure * problem.shares[:, None]
    matrices = np.zeros((problem.codes.shape[1], problem.labels, problem.labels))
    for m in range(len(matrices)):
        np.add.at(matrices[m], problem.codes[:, m], mass)
    total = matrices.sum(axis=2, keepdims=True)  # rows sum to 1 in the first round, as in ITK
    np.divide(matrices, total, out=matrices, where=total > 0)
    p = problem
    confusion_rounds(p.codes, p.shares, p.weights, p.log_prior, matrices, float(termination), int(most))
    return problem.posterior(_log(matrices))


def _log(x: Array) -> Array:
    with np.errstate(divide="ignore"):
        return cast(Array, np.log(x))


def _decided(logs: Array, known: Array, undecided: int | None, vote: Array) -> Array:
    top = logs.max(axis=1, keepdims=True)
    possible = np.isfinite(top[:, 0])
    at_top = logs >= np.where(np.isfinite(top), top - TIE * np.maximum(1.0, abs(top)), 0.0)
    chosen = known[at_top.argmax(axis=1)]
    if undecided is None:
        return cast(Array, np.where(possible, chosen, vote))
    return cast(Array, np.where(possible & (at_top.sum(axis=1) == 1), chosen, undecided))
