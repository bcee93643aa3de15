"""Votes and means: `label_vote`, `mean`, `mean_argmax` and `simple`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.masks.laid import HALF, Laid, labels_of, lay
from conjoin.fusion.masks.patterns import Patterns, label_patterns
from conjoin.fusion.stack import Weights
from conjoin.outputs import Array, Masks

if TYPE_CHECKING:
    from conjoin.contracts import Batch

TIE = 1e-12
"""Votes that differ by less than this share tie."""


def label_vote(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    label_for_undecided_pixels: int | None = None,
) -> Masks:
    """The label with the most weight of votes at each pixel: argmax_l sum_m w_m [d_m = l].

    Masks (n, *spatial) of labels; probabilities vote for their most probable class.
    label_for_undecided_pixels: for pixels where the first place is shared; None gives them the least of the
    tied labels. ITK's LabelVoting takes the greatest label + 1. Raises OutputsError.

    >>> from conjoin.outputs import Masks
    >>> label_vote({"a": Masks([[0, 1]]), "b": Masks([[2, 1]]), "c": Masks([[2, 0]])}).values
    array([[2, 1]], dtype=uint8)
    """
    laid = lay(outputs, weights)
    check_undecided(label_for_undecided_pixels)
    fused = {}
    for row, who, images in laid.images(labels_of(laid.classes)):
        patterns = label_patterns(images)
        fused[row] = patterns.spread_labels(
            voted(patterns.labels, laid.weights[who], label_for_undecided_pixels)
        )
    return laid.output(fused, None)


def check_undecided(undecided: Any) -> None:
    """Raises OutputsError unless it is None or a label."""
    if undecided is not None and (
        isinstance(undecided, bool) or int(undecided) != undecided or undecided < 0
    ):
        raise OutputsError(
            f"label_for_undecided_pixels must be a label (a whole number from 0) or None, not {undecided!r}"
        )


def voted(labels: Array, weights: Array, undecided: int | None) -> Array:
    """(P,) the label with the most weight in each pattern. labels (P, M), weights (M,)."""
    known = np.unique(labels)
    best = np.full(len(labels), -1.0)
    chosen, tied = np.zeros(len(labels), dtype=np.int64), np.zeros(len(labels), dtype=bool)
    margin = TIE * float(weights.sum())
    for label in known:
        votes = ((labels == label) * weights).sum(axis=1)
        ahead = votes > best + margin
        tied = np.where(ahead, False, tied | (votes >= best - margin))
        chosen[ahead], best[ahead] = label, votes[ahead]
    if undecided is not None:
        chosen[tied] = undecided
    return chosen


def mean(outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None) -> Masks:
    """Weighted mean of probabilities: sum_m w_m p_m / sum_m w_m, over the members that answered the image.

    Without classes a mask (n, *spatial) is the probability of the foreground (labels 0 and 1 are 0 and 1);
    with K classes it is (n, *spatial, K), and labels count as probability 1. The answer is float64 in this
    form. Raises OutputsError.

    >>> from conjoin.outputs import Masks
    >>> mean({"a": Masks([[0.2, 1.0]]), "b": Masks([[0.4, 0.5]])}).values
    array([[0.3 , 0.75]])
    """
    laid = lay(outputs, weights)
    return _shaped(laid, _means(laid))


def mean_argmax(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    threshold: float = HALF,
) -> Masks:
    """The most probable class of the `mean`: labels (n, *spatial). A tie goes to the first class.

    threshold: without classes a pixel is foreground (1) where its mean probability is above it.
    Raises OutputsError.

    >>> from conjoin.outputs import Masks
    >>> mean_argmax({"a": Masks([[0.2, 1.0]]), "b": Masks([[0.4, 0.5]])}).values
    array([[0, 1]], dtype=uint8)
    """
    laid = lay(outputs, weights)
    if not 0 <= threshold < 1:
        raise OutputsError(f"threshold must lie in 0 to 1 (1 excluded), not {threshold!r}")
    width = max(len(laid.classes), 1)
    fused = {}
    for row, image in _means(laid).items():
        if laid.classes:
            kind = np.uint8 if width <= 256 else np.int64
            fused[row] = image.reshape(-1, width).argmax(axis=1).astype(kind)
        else:
            fused[row] = (image > threshold).view(np.uint8)
    return laid.output(fused, None)


def _means(laid: Laid) -> dict[int, Array]:
    """The mean of each image, flat: (V,) or (V * K,)."""
    fused = {}
    for row, who, images in laid.images(lambda image: image):
        total = None
        for m, image in zip(who, images, strict=True):
            part = _probabilities(laid, m, image) * laid.weights[m]
            total = part if total is None else np.add(total, part, out=total)
        fused[row] = cast(Array, total) / laid.weights[who].sum()
    return fused


def _probabilities(laid: Laid, m: int, image: Array) -> Array:
    if image.dtype.kind == "f":
        return image.astype(np.float64, copy=False)
    if laid.classes:
        return cast(Array, (image[:, None] == np.arange(len(laid.classes))).astype(np.float64).reshape(-1))
    most = int(image.max(initial=0))
    if most > 1:
        raise OutputsError(
            f"member {laid.names[m]!r} gave label {most}; a mean of labels beyond 0 and 1 needs names of "
            "classes: Masks(values, classes)"
        )
    return image.astype(np.float64)


def _shaped(laid: Laid, fused: Mapping[int, Array]) -> Masks:
    if not laid.classes:
        return laid.output(fused, np.float64)
    answered = np.zeros(laid.rows, dtype=bool)
    answered[list(fused)] = True
    out = np.full((laid.rows, *laid.shape, len(laid.classes)), np.nan)
    for row, image in fused.items():
        out[row] = image.reshape(out.shape[1:])
    return Masks(out, laid.classes, answered)


def simple(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    alpha: float = 1.5,
    rounds: int = 25,
    label_for_undecided_pixels: int | None = None,
) -> Masks:
    """SIMPLE: vote, leave out members whose Dice with the vote is low, vote again (Langerak et al. 2010).

    In each round f_m is the mean Dice of member m with the present vote over the foreground labels of the
    vote; members with f_m < mean(f) - alpha * sd(f) leave, and votes count w_m * f_m. It ends when nobody
    leaves and the vote stays, or after `rounds`. Members are judged image by image.
    label_for_undecided_pixels: as of `label_vote`. Raises OutputsError.

    >>> from conjoin.outputs import Masks
    >>> right, wrong = Masks([[0, 1, 1, 0]]), Masks([[1, 0, 0, 1]])
    >>> simple({"a": right, "b": right, "c": wrong}).values
    array([[0, 1, 1, 0]], dtype=uint8)
    """
    laid = lay(outputs, weights)
    check_undecided(label_for_undecided_pixels)
    if not alpha >= 0 or rounds < 1:
        raise OutputsError(f"alpha must not be negative and rounds at least 1, not {alpha!r} and {rounds!r}")
    fused = {}
    for row, who, images in laid.images(labels_of(laid.classes)):
        patterns = label_patterns(images)
        chosen = _select(patterns, laid.weights[who], alpha, rounds, label_for_undecided_pixels)
        fused[row] = patterns.spread_labels(chosen)
    return laid.output(fused, None)


def _select(patterns: Patterns, weights: Array, alpha: float, rounds: int, undecided: int | None) -> Array:
    kept, mass = np.ones(len(weights), dtype=bool), weights
    chosen = voted(patterns.labels, weights, None)
    for _ in range(rounds):
        skill = np.array([_dice(patterns, m, chosen) for m in range(len(weights))])
        bar = skill[kept].mean() - alpha * skill[kept].std()
        still = kept & (skill >= bar - TIE)
        mass = np.where(still, weights * skill, 0.0)
        if not mass.any():  # nobody overlaps with the vote
            mass = weights
        now = voted(patterns.labels, mass, None)
        done = bool((still == kept).all() and (now == chosen).all())
        kept, chosen = still, now
        if done:
            break
    return chosen if undecided is None else voted(patterns.labels, mass, undecided)


def _dice(patterns: Patterns, member: int, chosen: Array) -> float:
    """Mean over the vote's foreground labels; 1 where neither has any."""
    own, counts = patterns.labels[:, member], patterns.counts
    labels = np.unique(chosen[chosen > 0])
    if not len(labels):
        return float(not (own > 0).any())
    found = [
        2.0 * counts[(own == k) & (chosen == k)].sum() / (counts[own == k].sum() + counts[chosen == k].sum())
        for k in labels
    ]
    return float(np.mean(found))
