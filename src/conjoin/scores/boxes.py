"""Scores of boxes: COCO's average precision and recall (Lin et al. 2014), as pycocotools counts them.

The truth is `Boxes`: a box of score 0 is a crowd, a region where boxes are neither right nor wrong; any other
is an object. A row that has a truth and no answer counts as one without boxes. Where scores tie across rows,
the earlier row comes first; pycocotools goes by image id. Sizes small, medium and large are those of boxes,
where COCO takes the area of the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from conjoin.errors import OutputsError, TruthError
from conjoin.kernels import average_precision as kernel
from conjoin.outputs import Array, Boxes, Output
from conjoin.scores.field import FieldScore

LEVELS = np.linspace(0.5, 0.95, 10)
"""COCO's levels of intersection over union."""
PLACES = np.linspace(0.0, 1.0, 101)
"""COCO's recalls at which precision is read."""
SIZES = {
    "all": (0.0, np.inf),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, np.inf),
}
"""COCO's ranges of volume, in square pixels."""


def precision_and_recall(
    output: Output,
    truth: Output,
    *,
    levels: Sequence[float] | Array = LEVELS,
    most: int = 100,
    size: str = "all",
) -> tuple[Array, Array]:
    """Average precision and greatest recall, (T, K) both, for each level and each of the truth's classes.

    levels: T of intersection over union. most: boxes of a row and class that count, the best first. size: key
    of SIZES. NaN for a class without objects. Raises OutputsError, TruthError.

    >>> truth = Boxes([[0, 0, 9, 9]], [1.0], [0], [0, 1], ("cat",))
    >>> found = Boxes([[0, 0, 9, 6]], [0.3], [0], [0, 1], ("cat",))
    >>> precision_and_recall(found, truth, levels=[0.5, 0.75])[1]
    array([[1.],
           [0.]])
    """
    found, true = _checked(output, truth)
    flags, needed, codes = _matched(found, true, np.asarray(levels, np.float64), most, SIZES[size])
    order = np.lexsort((-found.scores, codes))  # ties stay in the order of the rows
    bounds = np.searchsorted(codes[order], np.arange(len(needed) + 1))
    precision = np.full((len(flags), len(needed)), np.nan)
    recall = precision.copy()
    curve = np.empty((2, len(codes) + 1))
    kernel.average(order, bounds, flags, needed, PLACES, curve, precision, recall)
    return precision, recall


def hits(output: Boxes, truth: Boxes, *, level: float = 0.5) -> Array:
    """(t,) int8 for each box: 1 right, 0 wrong, -1 ignored (in a crowd, class or row without a truth).

    A true box is found once, by the best box of its row and class that overlaps it by `level`.
    """
    found, true = _checked(output, truth)
    whole = (0.0, np.inf)
    return cast(Array, _matched(found, true, np.array([level]), np.iinfo(np.int64).max, whole)[0][0])


def _matched(
    found: Boxes, true: Boxes, levels: Array, most: int, volumes: tuple[float, float]
) -> tuple[Array, Array, Array]:
    """Flags (T, t), numbers of objects (K,), and codes (t,) of the boxes found in the truth's classes."""
    code_of = {c: k for k, c in enumerate(true.classes)}
    lookup = np.array([code_of.get(c, -1) for c in found.classes], np.int64)
    counts = true.answered & found.answered
    codes = np.where(np.repeat(counts, np.diff(found.offsets)), lookup[found.codes], -1)
    kept = np.repeat(true.answered, np.diff(true.offsets))
    offsets = np.concatenate([[0], np.cumsum(kept)])[true.offsets]
    objects, true_codes = true.coords[kept], true.codes[kept]
    crowd = true.scores[kept] == 0
    ignored = crowd | ~_within(objects, volumes)
    flags = np.full((len(levels), len(codes)), kernel.IGNORED, np.int8)
    K = len(true.classes)
    kernel.match(
        tuple(range(found.coords.shape[1] // 2)), found.coords, found.scores, codes, found.offsets,
        objects, crowd, ignored, true_codes, offsets, levels, most, _within(found.coords, volumes),
        np.zeros((len(levels), len(crowd)), np.bool_), np.zeros(K, np.int64),
        np.empty((2, len(codes) + 1), np.int64), flags,
    )  # fmt: skip
    return flags, np.bincount(true_codes[~ignored], minlength=K), codes


def _within(coords: Array, volumes: tuple[float, float]) -> Array:
    """(t,) bool: regions whose volume lies in this range, ends included."""
    D = coords.shape[1] // 2
    volume = (coords[:, D:] - coords[:, :D]).prod(axis=1)
    return cast(Array, (volume >= volumes[0]) & (volume <= volumes[1]))


def coco_summary(output: Output, truth: Output) -> dict[str, float]:
    """The twelve numbers of COCO by the names of this table.

    >>> box = Boxes([[0, 0, 50, 50]], [1.0], [0], [0, 1], ("cat",))
    >>> round(coco_summary(box, box)["ap"], 6)
    1.0
    """
    return {name: score.value(output, truth) for name, score in SCORES.items()}


def average_precision(output: Output, truth: Output, *, levels: Array = LEVELS, size: str = "all") -> float:
    """The mean over levels and classes of the average precision; NaN without objects."""
    return _mean(precision_and_recall(output, truth, levels=levels, size=size)[0])


def average_recall(output: Output, truth: Output, *, most: int = 100, size: str = "all") -> float:
    """The mean over COCO's levels and classes of the greatest recall; NaN without objects."""
    return _mean(precision_and_recall(output, truth, most=most, size=size)[1])


def _mean(table: Array) -> float:
    kept = table[~np.isnan(table)]
    return float(kept.mean()) if len(kept) else float("nan")


def _checked(output: Output, truth: Output) -> tuple[Boxes, Boxes]:
    if not isinstance(truth, Boxes):
        raise TruthError(f"boxes are scored against a truth of boxes, not {truth.kind}")
    if not isinstance(output, Boxes):
        raise OutputsError(f"average precision is of boxes, not of {output.kind}")
    if output.coords.shape[1] != truth.coords.shape[1]:
        raise OutputsError(
            f"boxes of {output.coords.shape[1]} numbers cannot be scored against {truth.coords.shape[1]}"
        )
    for what, boxes in (("the answers", output), ("the truth", truth)):
        if not bool(np.isfinite(boxes.coords).all() and np.isfinite(boxes.scores).all()):
            raise OutputsError(f"{what} hold NaN or infinite numbers")
    return output, truth


def _ap(name: str, *, level: float | None = None, size: str = "all") -> FieldScore:
    levels = LEVELS if level is None else np.array([level])

    def measure(output: Output, truth: Output) -> float:
        return average_precision(output, truth, levels=levels, size=size)

    return FieldScore(name, "boxes", "higher", 1.0, measure=measure)


def _ar(name: str, *, most: int = 100, size: str = "all") -> FieldScore:
    def measure(output: Output, truth: Output) -> float:
        return average_recall(output, truth, most=most, size=size)

    return FieldScore(name, "boxes", "higher", 1.0, measure=measure)


SCORES: dict[str, FieldScore] = {
    s.name: s
    for s in (
        _ap("ap"),
        _ap("ap50", level=0.5),
        _ap("ap75", level=0.75),
        _ap("ap_small", size="small"),
        _ap("ap_medium", size="medium"),
        _ap("ap_large", size="large"),
        _ar("ar1", most=1),
        _ar("ar10", most=10),
        _ar("ar100"),
        _ar("ar_small", size="small"),
        _ar("ar_medium", size="medium"),
        _ar("ar_large", size="large"),
    )
}
"""Scores of boxes by name."""
