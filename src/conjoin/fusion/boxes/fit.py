"""Fits of box fusers to annotated rows: calibration of each detector's scores, weights and thresholds.

    fit_...(outputs, truth, *, weights=None, score=None, seed=0, <options>) -> Applied, or Single

outputs: name of member -> `Boxes`; scores of any finite scale. truth: `Boxes`, a score of 0 marks a crowd.
weights: (n,) of rows. score: a score of boxes, "ap50" by default. The fuser gives way to the best single
member where that does better on the same rows. Raise OutputsError and TruthError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.applied import Applied
from conjoin.fusion.boxes import plain
from conjoin.fusion.boxes.laid import checked_boxes, lay_out
from conjoin.fusion.boxes.scales import (
    checked_truth,
    fit_calibration,
    logistic,
    row_mass,
    scale_of,
)
from conjoin.fusion.folds import fold_numbers
from conjoin.fusion.single import guarded
from conjoin.kernels import boxes as kernel
from conjoin.outputs import Array, Boxes, Json, Output, concat
from conjoin.scores import default_score

SHARPNESS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Exponents that are tried: a member's weight is (its score / the best member's score)^sharpness."""
OVERLAPS = (0.5, 0.55, 0.6)
"""Thresholds of intersection over union that are tried."""
SKIPS = (0.0, 0.01, 0.03)
"""Thresholds of the calibrated score that are tried."""
_RIDGE = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """Rows with a truth to fit to. mass: (n,) of rows."""

    outputs: Mapping[str, Boxes]
    truth: Boxes
    mass: Array | None
    score: Any
    seed: int

    def take(self, rows: Array) -> _Task:
        """The task of these rows."""
        some = {n: o.take(rows) for n, o in self.outputs.items()}
        mass = None if self.mass is None else self.mass[rows]
        return _Task(some, self.truth.take(rows), mass, self.score, self.seed)

    def calibration(self) -> dict[str, Json]:
        """A map for each member's scores."""
        return {
            n: fit_calibration(o, self.truth, weights=self.mass, level=0.5) for n, o in self.outputs.items()
        }

    def merits(self) -> dict[str, float]:
        """Each member's score, divided by the best member's; 1 for all where none has any."""
        loss = {n: self.score.loss(o, self.truth, self.mass) for n, o in self.outputs.items()}
        if self.score.better == "higher":
            merit = {n: self.score.turned(v) for n, v in loss.items()}
        else:
            merit = {n: 1 / max(v, 1e-12) for n, v in loss.items()}
        merit = {n: v if np.isfinite(v) and v > 0 else 0.0 for n, v in merit.items()}
        top = max(merit.values())
        return {n: v / top if top > 0 else 1.0 for n, v in merit.items()}


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Rows that are judged, and what was fitted without them."""

    rows: Array
    outputs: Mapping[str, Boxes]
    calibration: Mapping[str, Json]
    merits: Mapping[str, float]


def fit_weighted_boxes_fusion(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    conf_type: str = "max",
    folds: int = 4,
) -> Any:
    """Weighted boxes fusion with calibrated scores, weights and thresholds that do best on rows left out.

    Each member's scores are calibrated (`fit_calibration`); its weight is (its score / the best member's)^e;
    e, iou_thr and skip_box_thr are chosen one after another by `folds`-fold cross-validation over rows, in
    which calibration and weights are fitted without the rows that are judged. With conf_type "max", unlike
    detectors keep the best one's order, and the others add what it missed; where detectors are equals,
    "avg" counts how many agree.

    >>> truth = Boxes([[0, 0, 9, 9]], [1.0], [0], [0, 1], ("cat",))
    >>> found = Boxes([[0, 0, 9, 8]], [0.3], [0], [0, 1], ("cat",))
    >>> fit_weighted_boxes_fusion({"a": found, "b": found}, truth).needs
    ('a', 'b')
    """
    if conf_type not in plain.CONF_TYPES:
        raise OutputsError(f"no conf_type {conf_type!r}; there are {', '.join(plain.CONF_TYPES)}")
    return _fit(
        "weighted_boxes_fusion", outputs, truth, weights, score, seed, folds, {"conf_type": conf_type}
    )


def fit_non_maximum_weighted(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    folds: int = 4,
) -> Any:
    """NMW with calibrated scores, weights and thresholds fitted as by `fit_weighted_boxes_fusion`.

    >>> truth = Boxes([[0, 0, 9, 9]], [1.0], [0], [0, 1], ("cat",))
    >>> found = Boxes([[0, 0, 9, 8]], [0.3], [0], [0, 1], ("cat",))
    >>> fit_non_maximum_weighted({"a": found, "b": found}, truth).needs
    ('a', 'b')
    """
    return _fit("non_maximum_weighted", outputs, truth, weights, score, seed, folds, {})


def fit_nms(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    folds: int = 4,
) -> Any:
    """NMS with calibrated scores, weights and thresholds fitted as by `fit_weighted_boxes_fusion`.

    >>> truth = Boxes([[0, 0, 9, 9]], [1.0], [0], [0, 1], ("cat",))
    >>> found = Boxes([[0, 0, 9, 8]], [0.3], [0], [0, 1], ("cat",))
    >>> fit_nms({"a": found, "b": found}, truth).needs
    ('a', 'b')
    """
    return _fit("nms", outputs, truth, weights, score, seed, folds, {})


def fit_soft_nms(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    method: str = "gaussian",
    folds: int = 4,
) -> Any:
    """Soft-NMS with calibrated scores, weights and thresholds fitted as by `fit_weighted_boxes_fusion`.

    >>> truth = Boxes([[0, 0, 9, 9]], [1.0], [0], [0, 1], ("cat",))
    >>> found = Boxes([[0, 0, 9, 8]], [0.3], [0], [0, 1], ("cat",))
    >>> fit_soft_nms({"a": found, "b": found}, truth).needs
    ('a', 'b')
    """
    return _fit("soft_nms", outputs, truth, weights, score, seed, folds, {"method": method})


def fit_probabilistic_ensembling(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    iou_thr: float = 0.55,
) -> Any:
    """ProbEn whose evidence is fitted: logistic regression of whether a cluster is a true box.

    logit p = b + sum over members in the cluster (a_m x_m + c_m), x_m the logit of the member's best
    calibrated score there: witnesses that repeat each other get small a_m. a_m, c_m have ridges towards 0.5
    and 1. The fuser is `probabilistic_ensembling` with b as the prior and a_m, c_m in its calibration.

    >>> truth = Boxes([[0, 0, 9, 9]], [1.0], [0], [0, 1], ("cat",))
    >>> found = Boxes([[0, 0, 9, 8]], [0.3], [0], [0, 1], ("cat",))
    >>> fit_probabilistic_ensembling({"a": found, "b": found}, truth).needs
    ('a', 'b')
    """
    task = _task(outputs, truth, weights, score, seed)
    calibration: dict[str, Any] = dict(task.calibration())
    laid = lay_out(task.outputs, None, calibration=calibration)
    fused, assigned = laid.clustered(iou_thr, kernel.LOG_ODDS, prior=-3.0, follow=True)
    X, present = _evidence(laid.given, assigned, len(fused.scores))
    b, slopes, extras = _weigh_evidence(task, fused, X, present)
    members: dict[str, Json] = {}
    for m, name in enumerate(laid.names):
        by = calibration[name]
        a = float(slopes[m])
        shifts = {c: a * v for c, v in by["shifts"].items()}
        moved = a * by["intercept"] + float(extras[m]) + b
        members[name] = {"of": by["of"], "slope": a * by["slope"], "intercept": moved, "shifts": shifts}
    options: dict[str, Json] = {
        "calibration": members,
        "prior": float(1 / (1 + np.exp(-b))),
        "iou_thr": float(iou_thr),
    }
    fuser = Applied("boxes", "probabilistic_ensembling", dict.fromkeys(laid.names, 1.0), options)
    return guarded(fuser, outputs, truth, task.score, weights)


def _fit(
    name: str,
    outputs: Mapping[str, Any],
    truth: Any,
    weights: Any,
    score: Any,
    seed: int,
    folds: int,
    fixed: Mapping[str, Json],
) -> Any:
    task = _task(outputs, truth, weights, score, seed)
    parts, operator = _parts(task, folds), getattr(plain, name)

    def loss(sharpness: float, overlap: float, skip: float) -> float:
        return _held_out(
            task, parts, operator, sharpness, {**fixed, "iou_thr": overlap, "skip_box_thr": skip}
        )

    grid = np.array([[loss(e, i, 0.0) for i in OVERLAPS] for e in SHARPNESS])
    sharpness = SHARPNESS[int(np.argmin(grid.mean(axis=1)))]
    overlap = OVERLAPS[int(np.argmin(grid.mean(axis=0)))]
    skips = [loss(sharpness, overlap, skip) for skip in SKIPS]
    options: dict[str, Json] = {
        **fixed,
        "calibration": task.calibration(),
        "iou_thr": overlap,
        "skip_box_thr": max(skip for skip, one in zip(SKIPS, skips, strict=True) if one == min(skips)),
    }
    shares = {n: v**sharpness for n, v in task.merits().items()}
    return guarded(Applied("boxes", name, shares, options), outputs, truth, task.score, weights)


def _parts(task: _Task, folds: int) -> list[_Part]:
    """The rows cut into folds; where there are too few, one part that is fitted to its own rows."""
    n = len(task.truth)
    number = fold_numbers(n, max(1, min(folds, n // 2)), task.seed)
    parts = []
    for fold in range(int(number.max()) + 1):
        inside = number == fold
        judged = task.take(np.flatnonzero(inside))
        fitted = judged if inside.all() else task.take(np.flatnonzero(~inside))
        parts.append(_Part(np.flatnonzero(inside), judged.outputs, fitted.calibration(), fitted.merits()))
    return parts


def _held_out(
    task: _Task,
    parts: Sequence[_Part],
    operator: Callable[..., Any],
    sharpness: float,
    options: Mapping[str, Any],
) -> float:
    """The loss on rows that calibration and weights were not fitted to; infinite where it is not defined."""
    answers: list[Output] = []
    for part in parts:
        shares = {m: v**sharpness for m, v in part.merits.items()}
        fused = operator(part.outputs, weights=shares, calibration=part.calibration, **options)
        answers.append(_all_classes(fused, task))
    rows = np.concatenate([part.rows for part in parts])
    loss = float(task.score.loss(concat(answers).take(np.argsort(rows)), task.truth, task.mass))
    return loss if np.isfinite(loss) else float("inf")


def _all_classes(fused: Boxes, task: _Task) -> Boxes:
    """The same boxes with all members' classes, whichever members have a weight."""
    classes = tuple(dict.fromkeys(c for o in task.outputs.values() for c in o.classes))
    code_of = {c: k for k, c in enumerate(classes)}
    codes = np.array([code_of[c] for c in fused.classes], np.int64)[fused.codes]
    return Boxes(fused.coords, fused.scores, codes, fused.offsets, classes, fused.answered)


def _task(outputs: Mapping[str, Any], truth: Any, weights: Any, score: Any, seed: int) -> _Task:
    found = checked_boxes(outputs)
    answers = checked_truth(found, truth)
    mass = row_mass(weights, len(answers))
    kept = np.flatnonzero(answers.answered & (mass > 0))
    task = _Task(found, answers, mass, score or default_score(answers), seed).take(kept)
    return task if weights is not None else _Task(task.outputs, task.truth, None, task.score, seed)


def _evidence(given: kernel.Given, assigned: Array, clusters: int) -> tuple[Array, Array]:
    """(clusters, M): the logit of each member's best score in a cluster, 0 where it is not; and who is."""
    lengths = given.offsets[:, -1] - given.offsets[:, 0]
    member = np.repeat(np.arange(len(lengths)), lengths)
    kept = assigned >= 0
    best = np.full((clusters, len(lengths)), -np.inf)
    np.maximum.at(best, (assigned[kept], member[kept]), scale_of(given.scores[kept], "logit"))
    present = np.isfinite(best)
    return np.where(present, best, 0.0), present


def _weigh_evidence(task: _Task, fused: Boxes, X: Array, present: Array) -> tuple[float, Array, Array]:
    """The intercept b, and a_m, c_m of each member."""
    from conjoin.scores.boxes import hits

    flags = hits(fused, task.truth)
    mass = np.ones(len(task.truth)) if task.mass is None else task.mass
    mass = np.repeat(mass, np.diff(fused.offsets))
    kept = flags >= 0
    M = X.shape[1]
    design = np.column_stack([X, present, np.ones(len(X))])[kept]
    ridges = np.array([*[_RIDGE] * (2 * M), 1e-3])
    centre = np.array([*[0.5] * M, *[1.0] * M, -5.0])
    found = logistic(design, (flags[kept] == 1).astype(np.float64), mass[kept], ridges, centre)
    return float(found[-1]), np.maximum(found[:M], 0.0), found[M : 2 * M]
