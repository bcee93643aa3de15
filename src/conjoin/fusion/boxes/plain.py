"""Fusers of boxes without fitting: of 2D boxes, 1D stretches and 3D boxes alike.

    fuser(outputs, /, *, weights=None, batch=None, iou_thr=..., skip_box_thr=0.0, class_weights=None,
          calibration=None, bounds=None, ...)

outputs: name of member -> `Boxes`, absolute corners in any unit. weights: one per member; 0 is absent.
class_weights: {member: {class: factor}}; a member is absent, too, in classes that it does not know, and in
rows that it did not answer. A member that answers a row without boxes says that there is nothing.
iou_thr: intersection over union above which two boxes show one thing. skip_box_thr: boxes with a lower
score are left out; so are boxes without area. calibration: {member: map}, see `scales.calibrated`.
bounds: (x1, y1, x2, y2) to which boxes are cut first; None cuts nothing.

Boxes fuse within a row and a class. The answer has the classes of all members, and each row's boxes with the
best first. Scores must lie in 0 to 1. All raise OutputsError where outputs, weights or regions do not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError, listed, nearest
from conjoin.fusion.boxes.laid import Bounds, Calibration, ClassWeights, lay_out
from conjoin.fusion.stack import Weights
from conjoin.kernels import boxes as kernel
from conjoin.outputs import Boxes

if TYPE_CHECKING:
    from conjoin.contracts import Batch

CONF_TYPES = {
    "avg": kernel.AVG,
    "max": kernel.MAX,
    "box_and_model_avg": kernel.BOX_AND_MODEL_AVG,
    "absent_model_aware_avg": kernel.ABSENT_MODEL_AWARE_AVG,
}
METHODS = {"linear": kernel.LINEAR, "gaussian": kernel.GAUSSIAN}
_EDGE = 1e-6


def weighted_boxes_fusion(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    iou_thr: float = 0.55,
    skip_box_thr: float = 0.0,
    conf_type: str = "avg",
    allows_overflow: bool = False,
    class_weights: ClassWeights = None,
    calibration: Calibration = None,
    bounds: Bounds = None,
) -> Boxes:
    """Weighted boxes fusion (Solovyev, Wang and Gabruseva 2021).

    The strongest box first, each joins the cluster whose mean box it overlaps most, above `iou_thr`, else
    begins one. Corners: sum w s x / sum w s over the cluster. Score, with W the sum of the weights of the
    members present, B the boxes of the cluster and T the number of members present:

        avg                      sum_B w s / W x min(T, |B|) / |B|, at most 1; without min and limit where
                                 `allows_overflow`
        max                      max_B w s / max w
        box_and_model_avg        sum_B w s / sum_B w x (sum of w of members in the cluster) / W
        absent_model_aware_avg   sum_B w s / (sum_B w + sum of w of members that are not in the cluster)

    >>> a = Boxes([[0, 0, 2, 2]], [0.6], [0], [0, 1], ("cat",))
    >>> b = Boxes([[0, 0, 2, 2.2]], [0.2], [0], [0, 1], ("cat",))
    >>> fused = weighted_boxes_fusion({"a": a, "b": b})
    >>> fused.coords.round(6), fused.scores.round(6)
    (array([[0.  , 0.  , 2.  , 2.05]]), array([0.4]))
    """
    if conf_type not in CONF_TYPES:
        known = listed(CONF_TYPES)
        raise OutputsError(f"no conf_type {conf_type!r}{nearest(str(conf_type), CONF_TYPES)}; known: {known}")
    _check(iou_thr=iou_thr, skip_box_thr=skip_box_thr)
    laid = lay_out(
        outputs, weights, class_weights=class_weights, calibration=calibration, bounds=bounds,
        skip_box_thr=skip_box_thr,
    )  # fmt: skip
    return laid.clustered(iou_thr, CONF_TYPES[conf_type], capped=not allows_overflow)[0]


def non_maximum_weighted(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    iou_thr: float = 0.55,
    skip_box_thr: float = 0.0,
    class_weights: ClassWeights = None,
    calibration: Calibration = None,
    bounds: Bounds = None,
) -> Boxes:
    """Non-maximum weighted, NMW (Zhou, Li and Huang 2017).

    Clusters are around their strongest box; corners: sum w s IoU x / sum w s IoU, IoU with that box, whose
    score, times w / max w, is the cluster's.

    >>> a = Boxes([[0, 0, 2, 2], [0, 0, 2, 1]], [0.6, 0.4], [0, 0], [0, 2], ("cat",))
    >>> non_maximum_weighted({"a": a}, iou_thr=0.4).coords
    array([[0.  , 0.  , 2.  , 1.75]])
    """
    _check(iou_thr=iou_thr, skip_box_thr=skip_box_thr)
    laid = lay_out(
        outputs, weights, class_weights=class_weights, calibration=calibration, bounds=bounds,
        skip_box_thr=skip_box_thr,
    )  # fmt: skip
    return laid.clustered(iou_thr, kernel.NMW)[0]


def probabilistic_ensembling(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    iou_thr: float = 0.5,
    skip_box_thr: float = 0.0,
    prior: float = 0.5,
    class_weights: ClassWeights = None,
    calibration: Calibration = None,
    bounds: Bounds = None,
) -> Boxes:
    """ProbEn (Chen et al. 2022): members of a cluster are independent witnesses.

    logit p = logit prior + sum_m w_m (logit s_m - logit prior), s_m the best score of member m in the
    cluster, w_m = 1 by default. Corners: sum w s x / sum w s. prior: the chance of a true box before anybody
    looked; 0.5 is the paper's without a background class. A member that has no box in the cluster says
    nothing. Clusters are around their strongest box. Scores are cut to [1e-6, 1 - 1e-6].

    >>> a = Boxes([[0, 0, 2, 2]], [0.8], [0], [0, 1], ("cat",))
    >>> probabilistic_ensembling({"a": a, "b": a}).scores.round(6)
    array([0.941176])
    """
    _check(iou_thr=iou_thr, skip_box_thr=skip_box_thr, prior=prior)
    laid = lay_out(
        outputs, weights, class_weights=class_weights, calibration=calibration, bounds=bounds,
        skip_box_thr=skip_box_thr,
    )  # fmt: skip
    cut = float(np.clip(prior, _EDGE, 1 - _EDGE))
    return laid.clustered(iou_thr, kernel.LOG_ODDS, prior=float(np.log(cut / (1 - cut))))[0]


def nms(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    iou_thr: float = 0.5,
    skip_box_thr: float = 0.0,
    class_weights: ClassWeights = None,
    calibration: Calibration = None,
    bounds: Bounds = None,
) -> Boxes:
    """Non-maximum suppression: of boxes that overlap above `iou_thr`, the best stays.

    Scores count times w / max w, w the weights of the members present.

    >>> a = Boxes([[0, 0, 2, 2], [0, 0, 2, 1.5]], [0.6, 0.9], [0, 0], [0, 2], ("cat",))
    >>> nms({"a": a}).scores
    array([0.9])
    """
    _check(iou_thr=iou_thr, skip_box_thr=skip_box_thr)
    laid = lay_out(
        outputs, weights, class_weights=class_weights, calibration=calibration, bounds=bounds,
        skip_box_thr=skip_box_thr,
    )  # fmt: skip
    return laid.suppressed(iou_thr, kernel.HARD)


def soft_nms(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    iou_thr: float = 0.5,
    skip_box_thr: float = 0.0,
    method: str = "gaussian",
    sigma: float = 0.5,
    thresh: float = 0.001,
    class_weights: ClassWeights = None,
    calibration: Calibration = None,
    bounds: Bounds = None,
) -> Boxes:
    """Soft-NMS (Bodla et al. 2017): boxes that overlap a better one get a lower score.

    method "linear": times 1 - IoU above `iou_thr`; "gaussian": times exp(-IoU^2 / sigma). Boxes whose score
    does not stay above `thresh` are left out. Scores count times w / max w, as of `nms`.

    >>> a = Boxes([[0, 0, 2, 2], [0, 0, 2, 1.5]], [0.6, 0.9], [0, 0], [0, 2], ("cat",))
    >>> soft_nms({"a": a}, method="linear").scores
    array([0.9 , 0.15])
    """
    if method not in METHODS:
        raise OutputsError(
            f"no method {method!r}{nearest(str(method), METHODS)}; there are {listed(METHODS)}"
        )
    _check(iou_thr=iou_thr, skip_box_thr=skip_box_thr, thresh=thresh)
    if not _number(sigma) > 0:
        raise OutputsError(f"sigma must be above 0, not {sigma!r:.60}")
    laid = lay_out(
        outputs, weights, class_weights=class_weights, calibration=calibration, bounds=bounds,
        skip_box_thr=skip_box_thr,
    )  # fmt: skip
    return laid.suppressed(iou_thr, METHODS[method], sigma, thresh)


def _check(**options: float) -> None:
    for name, value in options.items():
        if not 0.0 <= _number(value) <= 1.0:
            raise OutputsError(f"{name} must lie in 0 to 1, not {value!r:.60}")


def _number(value: object) -> float:
    try:
        return float("nan") if isinstance(value, str) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")
