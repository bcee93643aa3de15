"""Masks with a truth: `naive_bayes` with confusion matrices of the members, and the functions that fit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError, TruthError, listed
from conjoin.fusion.applied import Applied
from conjoin.fusion.masks.laid import Laid, labels_of, lay
from conjoin.fusion.masks.patterns import label_patterns
from conjoin.fusion.masks.votes import TIE, mean, mean_argmax, voted
from conjoin.fusion.single import guarded
from conjoin.fusion.stack import Weights
from conjoin.outputs import Array, Masks
from conjoin.scores import checked_weights, default_score

if TYPE_CHECKING:
    from conjoin.contracts import Batch

SURE = 0.999
"""A recall above this counts as it, so that no member is trusted without bound."""
THRESHOLDS = tuple(t / 20 for t in range(1, 20))
"""Probabilities of the foreground that `fit_mean_argmax` tries as a threshold."""


def naive_bayes(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    labels: Sequence[int] = (),
    prior: Sequence[float] = (),
    confusion: Mapping[str, Sequence[Sequence[float]]] | None = None,
) -> Masks:
    """The most probable label, members erring independently: argmax_l prior_l prod_m C_m[l, d_m]^w_m.

    Warfield, Zou and Wells (2004) with known performance; Xu, Krzyzak and Suen (1992). labels: the K labels.
    prior: K probabilities. confusion: for each member (K, K), true by said: for labels 0 and 1 that is
    [[specificity, 1 - specificity], [1 - sensitivity, sensitivity]]. A member without a matrix, and a label
    that is not among `labels`, says nothing. Without `confusion` it is `label_vote`. `fit_naive_bayes` finds
    all three. The answer: labels (n, *spatial); ties go to the first of `labels`. Raises OutputsError.

    >>> from conjoin.outputs import Masks
    >>> sharp, blunt = [[0.9, 0.1], [0.1, 0.9]], [[0.6, 0.4], [0.4, 0.6]]
    >>> masks = {"a": Masks([[1]]), "b": Masks([[0]]), "c": Masks([[0]])}
    >>> matrices = {"a": sharp, "b": blunt, "c": blunt}
    >>> naive_bayes(masks, labels=[0, 1], prior=[0.5, 0.5], confusion=matrices).values
    array([[1]], dtype=uint8)
    """
    laid = lay(outputs, weights)
    known, first, matrices = _options(labels, prior, confusion)
    fused = {}
    for row, who, images in laid.images(labels_of(laid.classes)):
        patterns = label_patterns(images)
        if not len(known):
            fused[row] = patterns.spread_labels(voted(patterns.labels, laid.weights[who], None))
            continue
        total = np.repeat(np.log(first)[None], len(patterns.labels), axis=0)
        for column, m in enumerate(who):
            matrix = matrices.get(laid.names[m])
            if matrix is not None:
                at, told = _positions(known, patterns.labels[:, column])
                total[told] += laid.weights[m] * np.log(matrix)[:, at[told]].T
        best = total.max(axis=1, keepdims=True)
        fused[row] = patterns.spread_labels(known[(total >= best - TIE * abs(best)).argmax(axis=1)])
    return laid.output(fused, None)


def _options(labels: Any, prior: Any, confusion: Any) -> tuple[Array, Array, dict[str, Array]]:
    """Labels, prior and matrices, smallest probability 1e-12. Raises OutputsError."""
    known = np.asarray(labels, dtype=np.int64).reshape(-1)
    given = {n: np.asarray(c, dtype=np.float64) for n, c in dict(confusion or {}).items()}
    if not given and not len(known):
        return known, np.zeros(0), {}
    first = np.asarray(prior, dtype=np.float64).reshape(-1)
    if len(set(known.tolist())) < len(known) or (known < 0).any() or not len(known):
        raise OutputsError(f"labels must be different whole numbers from 0, not {listed(known)}")
    bad = {n: c.shape for n, c in given.items() if c.shape != (len(known), len(known)) or not _fair(c)}
    if bad or first.shape != known.shape or not _fair(first):
        raise OutputsError(
            f"naive_bayes needs a probability in prior for each of {len(known)} labels (given {len(first)}) "
            f"and matrices ({len(known)}, {len(known)}) of probabilities; wrong: "
            f"{listed(f'{n} {s}' for n, s in bad.items()) or 'prior'}"
        )
    return known, np.maximum(first, 1e-12), {n: np.maximum(c, 1e-12) for n, c in given.items()}


def _fair(x: Array) -> bool:
    return bool(np.isfinite(x).all() and (x >= 0).all() and (x <= 1 + 1e-9).all())


def _positions(known: Array, labels: Array) -> tuple[Array, Array]:
    """Where each label stands in `known`, and which stand there."""
    order = np.argsort(known)
    at = order[np.minimum(np.searchsorted(known[order], labels), len(known) - 1)]
    return at, known[at] == labels


def fit_naive_bayes(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    smoothing: float = 1.0,
) -> Any:
    """`naive_bayes` with matrices counted against the truth, over all pixels of all images.

    smoothing: pixels added to each cell of a matrix. weights: (n,) of images. score: of the guard; Dice by
    default. seed has no influence. Where the best single member scores better it is taken. Raises
    OutputsError and TruthError.
    """
    laid, right, mass = _problem(outputs, truth, weights)
    if not smoothing > 0:
        raise OutputsError(f"smoothing must be above 0, not {smoothing!r}")
    known, shares, counts = _counts(laid, right, mass)
    matrices = counts + smoothing
    matrices /= matrices.sum(axis=2, keepdims=True)
    options = {
        "labels": known.tolist(),
        "prior": shares.tolist(),
        "confusion": {n: matrices[m].tolist() for m, n in enumerate(laid.names)},
    }
    fuser = Applied("masks", "naive_bayes", dict.fromkeys(laid.names, 1.0), options)
    return guarded(fuser, outputs, truth, score, weights)


def fit_label_vote(
    outputs: Mapping[str, Any], truth: Any, *, weights: Any = None, score: Any = None, seed: int = 0
) -> Any:
    """`label_vote` with weights from the truth: w_m = mean over labels of log(r / (1 - r)).

    r is the member's recall of the label. The best weights of independent members (Nitzan and Paroush 1982);
    a member no better than chance gets 0. weights: (n,) of images. score: of the guard; Dice by default.
    seed has no influence. Raises OutputsError and TruthError.
    """
    laid, right, mass = _problem(outputs, truth, weights)
    fuser = Applied("masks", "label_vote", _skill(laid, right, mass), {})
    return guarded(fuser, outputs, truth, score, weights)


def fit_mean_argmax(
    outputs: Mapping[str, Any], truth: Any, *, weights: Any = None, score: Any = None, seed: int = 0
) -> Any:
    """`mean_argmax` with equal weights or those of `fit_label_vote`, and a threshold: what scores best.

    Thresholds 0.05, 0.1 ... 0.95; classes need none. Dice is often best below a half. weights: (n,) of
    images. score: Dice by default. seed has no influence. Raises OutputsError and TruthError.
    """
    laid, right, mass = _problem(outputs, truth, weights)
    score = score or default_score(truth)
    found: list[tuple[float, int, Applied]] = []
    for named in (dict.fromkeys(laid.names, 1.0), _skill(laid, right, mass)):
        pooled = None if laid.classes else mean(outputs, weights=named)
        for threshold in (0.5,) if pooled is None else sorted(THRESHOLDS, key=lambda t: abs(t - 0.5)):
            options = {} if threshold == 0.5 else {"threshold": threshold}
            fused = (
                mean_argmax(outputs, weights=named)
                if pooled is None
                else mean_argmax({"mean": pooled}, threshold=threshold)
            )
            loss = score.loss(fused, truth, weights)
            found.append((round(loss, 9), len(found), Applied("masks", "mean_argmax", named, options)))
    return guarded(min(found, key=lambda f: f[:2])[2], outputs, truth, score, weights)


def _problem(outputs: Mapping[str, Any], truth: Any, weights: Any) -> tuple[Laid, Array, Array]:
    """The members, the labels of the truth (n, V) and the weights of the images, 0 without a truth."""
    if not isinstance(truth, Masks):
        raise TruthError(f"masks are fitted to a truth of masks, not {type(truth).__name__}")
    lengths = {n: len(o) for n, o in outputs.items()}
    if set(lengths.values()) - {len(truth)}:
        raise TruthError(f"the members answered {lengths} images, the truth has {len(truth)}")
    laid, own = lay(outputs), lay({"truth": truth})
    if bool(own.classes) != bool(laid.classes):
        raise TruthError("names of classes must be given to the members and to the truth, or to neither")
    if own.shape != laid.shape:
        raise TruthError(f"the members' masks have shape {laid.shape}, the truth's {own.shape}")
    if not truth.answered.any():
        raise TruthError("no image has a truth to learn from")
    part = labels_of(own.classes)
    right = np.array([part(image).reshape(-1) for image in own.values[0]])
    if own.classes != laid.classes:
        names = tuple(dict.fromkeys([*laid.classes, *own.classes]))
        right = np.array([names.index(c) for c in own.classes], dtype=np.int64)[right]
    return laid, right, checked_weights(weights, len(truth)) * truth.answered


def _counts(laid: Laid, right: Array, mass: Array) -> tuple[Array, Array, Array]:
    """The K labels that occur, the weighted share of each in the truth, one pixel added to each, and the
    weighted pixels (M, K, K) by member, true label and said label.
    """
    found = []
    for row, who, images in laid.images(labels_of(laid.classes)):
        if mass[row] > 0:
            patterns = label_patterns([right[row], *images])
            found.append((who, mass[row] * patterns.counts, patterns.labels))
    known = np.unique(np.concatenate([np.zeros(0, np.int64), *(np.unique(f[2]) for f in found)]))
    if not len(known):
        raise TruthError("no image has both a truth and an answer to learn from")
    if len(known) > 256:
        raise OutputsError(f"{len(known)} different labels are too many to learn confusion matrices of")
    size = len(known)
    shares, out = np.ones(size), np.zeros((len(laid.names), size, size))
    for who, pixels, labels in found:
        codes = np.searchsorted(known, labels)
        shares += np.bincount(codes[:, 0], pixels, minlength=size)
        for column, m in enumerate(who, start=1):
            both = codes[:, 0] * size + codes[:, column]
            out[m] += np.bincount(both, pixels, minlength=size * size).reshape(size, size)
    return known, shares / shares.sum(), out


def _skill(laid: Laid, right: Array, mass: Array) -> dict[str, float]:
    known, _, counts = _counts(laid, right, mass)
    occurs = counts.sum(axis=(0, 2)) > 0
    recall = (np.diagonal(counts, axis1=1, axis2=2) + 1.0) / (counts.sum(axis=2) + len(known))
    recall = np.clip(recall[:, occurs], 1 - SURE, SURE)
    odds = np.maximum(np.log(recall / (1.0 - recall)).mean(axis=1), 0.0)
    if not odds.any():
        odds = np.ones(len(odds))
    return dict(zip(laid.names, odds.tolist(), strict=True))
