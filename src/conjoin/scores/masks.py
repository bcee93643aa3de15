"""Scores of masks: Dice, IoU, mean IoU, pixel accuracy, Hausdorff distance.

Probabilities count as their most probable class, or as foreground above a half. An image with a truth but no
answer counts as one where everything is background (0).
"""

from __future__ import annotations

import math

import numpy as np

from conjoin.errors import OutputsError
from conjoin.kernels.masks import distance_to
from conjoin.outputs import Array, Masks
from conjoin.scores.field import FieldScore


def _labels(masks: Masks) -> Array:
    values = masks.values
    if values.dtype.kind == "f":
        clean = np.nan_to_num(values, nan=0.0)
        values = clean.argmax(axis=-1) if masks.classes else (clean > 0.5).view(np.uint8)
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    return values


def _both(output: Masks, truth: Masks) -> tuple[Array, Array]:
    """Labels of the answer and of the truth, in the truth's numbers."""
    for what, masks in (("the answer", output), ("the truth", truth)):
        if not isinstance(masks, Masks):
            raise OutputsError(f"{what} of a score of masks must be masks, not {type(masks).__name__}")
    mine, right = _labels(output), _labels(truth)
    for what, labels in (("the answer", mine), ("the truth", right)):
        if labels.size and labels.min() < 0:
            raise OutputsError(f"labels of {what} must not be negative; the least is {labels.min()}")
    if mine.shape != right.shape:
        raise OutputsError(f"the answer's masks have shape {mine.shape[1:]}, the truth's {right.shape[1:]}")
    if output.classes and truth.classes and output.classes != truth.classes:
        at = {c: k for k, c in enumerate(truth.classes)}
        spare = len(truth.classes)  # labels that the truth lacks are wrong wherever they are answered
        most = max(int(mine.max(initial=0)) + 1, len(output.classes))
        named = dict(enumerate(output.classes))
        table = np.array([at.get(named.get(k, ""), spare + k) for k in range(most)])
        mine = table[mine]
    if not output.answered.all():
        mine = np.where(output.answered.reshape(-1, *[1] * (mine.ndim - 1)), mine, 0)
    return mine, right


def _pairs(mine: Array, right: Array) -> tuple[Array, Array]:
    """Labels (L,) of one image, and the pixels of each (truth, answer) as (L, L)."""
    if mine.size > 4096 and mine.max() < 256 and right.max() < 256:
        codes = right.reshape(-1).astype(np.int64) * 256 + mine.reshape(-1)
        full = np.bincount(codes, minlength=65536).reshape(256, 256)
        known = np.flatnonzero(full.sum(axis=0) + full.sum(axis=1))
        return known, full[np.ix_(known, known)]
    known = np.union1d(np.unique(mine), np.unique(right))
    size = len(known)
    codes = np.searchsorted(known, right).reshape(-1) * size + np.searchsorted(known, mine).reshape(-1)
    return known, np.bincount(codes, minlength=size * size).reshape(size, size)


def _overlaps(output: Masks, truth: Masks, *, iou: bool) -> Array:
    """(n, 2): mean overlap over the image's foreground labels, and 1."""
    mine, right = _both(output, truth)
    out = np.full((len(mine), 2), np.nan)
    for row in np.flatnonzero(truth.answered):
        known, table = _pairs(mine[row], right[row])
        hit, sizes = np.diag(table), table.sum(axis=0) + table.sum(axis=1)
        each = hit / (sizes - hit) if iou else 2.0 * hit / sizes
        front = each[known > 0]
        out[row] = float(front.mean()) if len(front) else 1.0, 1.0
    return out


def dice_rows(output: Masks, truth: Masks) -> Array:
    """(n, 2): 2 |A and B| / (|A| + |B|), the mean over labels above 0 in truth or answer (Dice 1945), and 1.

    An image in which neither has foreground counts 1.
    """
    return _overlaps(output, truth, iou=False)


def iou_rows(output: Masks, truth: Masks) -> Array:
    """(n, 2): |A and B| / |A or B| (Jaccard 1912), the mean over labels as of `dice_rows`, and 1."""
    return _overlaps(output, truth, iou=True)


def pixel_rows(output: Masks, truth: Masks) -> Array:
    """(n, 2): right pixels and all pixels."""
    mine, right = _both(output, truth)
    out = np.full((len(mine), 2), np.nan)
    known = truth.answered
    flat = (mine == right).reshape(len(mine), -1)
    out[known] = np.column_stack([flat.sum(axis=1), np.full(len(flat), flat.shape[1])])[known]
    return out


def pooled_rows(output: Masks, truth: Masks) -> Array:
    """(n, 3 L): for each label the pixels of the intersection, of the answer and of the truth."""
    mine, right = _both(output, truth)
    spoken = truth.answered
    known = np.union1d(np.unique(mine[spoken]), np.unique(right[spoken]))
    out = np.full((len(mine), 3 * max(len(known), 1)), np.nan)
    for row in np.flatnonzero(spoken):
        labels, table = _pairs(mine[row], right[row])
        sums = np.zeros((3, len(known)))
        sums[:, np.searchsorted(known, labels)] = np.diag(table), table.sum(axis=0), table.sum(axis=1)
        out[row] = sums.reshape(-1)
    return out


def mean_iou_of(sums: Array) -> float:
    """The mean over labels (0 too) of pooled IoU; labels that never occur do not count."""
    hit, answer, truth = sums.reshape(3, -1)
    union = answer + truth - hit
    return float((hit[union > 0] / union[union > 0]).mean()) if (union > 0).any() else math.nan


def hausdorff_rows(output: Masks, truth: Masks) -> Array:
    """(n, 2): the greatest distance from a foreground pixel of one to the nearest of the other, and 1.

    In pixels, of labels above 0 together (Huttenlocher, Klanderman and Rucklidge 1993). Where only one of
    them has foreground it is the image's diagonal, where neither has it is 0.
    """
    mine, right = _both(output, truth)
    out = np.full((len(mine), 2), np.nan)
    steps = np.ones(mine.ndim - 1)
    for row in np.flatnonzero(truth.answered):
        a, b = mine[row] > 0, right[row] > 0
        if a.any() and b.any():
            away = max(float(distance_to(b, steps)[a].max()), float(distance_to(a, steps)[b].max()))
        else:
            away = math.sqrt(sum(s * s for s in a.shape)) if a.any() or b.any() else 0.0
        out[row] = away, 1.0
    return out


def _ratio(sums: Array) -> float:
    return float(sums[0] / sums[1]) if sums[1] > 0 else math.nan


SCORES: dict[str, FieldScore] = {
    s.name: s
    for s in (
        FieldScore("dice", "masks", "higher", 1.0, dice_rows, _ratio),
        FieldScore("iou", "masks", "higher", 1.0, iou_rows, _ratio),
        FieldScore("mean_iou", "masks", "higher", 1.0, pooled_rows, mean_iou_of),
        FieldScore("pixel_accuracy", "masks", "higher", 1.0, pixel_rows, _ratio, decisions=True),
        FieldScore("hausdorff", "masks", "lower", 0.0, hausdorff_rows, _ratio),
    )
}
"""Scores of masks by name."""
