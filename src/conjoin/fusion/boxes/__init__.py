"""Fusion of boxes: detections in images (2D), stretches of time (1D), volumes (3D).

`FUSERS` take member name -> Boxes; `FIT_FUSERS` fit calibration of scores, weights and thresholds to
annotated rows. Boxes come from COCO's JSON by `conjoin.formats.coco`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conjoin.fusion.boxes.fit import (
    fit_nms,
    fit_non_maximum_weighted,
    fit_probabilistic_ensembling,
    fit_soft_nms,
    fit_weighted_boxes_fusion,
)
from conjoin.fusion.boxes.laid import tidied
from conjoin.fusion.boxes.plain import (
    nms,
    non_maximum_weighted,
    probabilistic_ensembling,
    soft_nms,
    weighted_boxes_fusion,
)
from conjoin.fusion.boxes.scales import calibrated, fit_calibration
from conjoin.fusion.single import fit_single

FUSERS: dict[str, Callable[..., Any]] = {
    "weighted_boxes_fusion": weighted_boxes_fusion,
    "non_maximum_weighted": non_maximum_weighted,
    "probabilistic_ensembling": probabilistic_ensembling,
    "nms": nms,
    "soft_nms": soft_nms,
}
"""Operators without fitting, by name."""

FIT_FUSERS: dict[str, Callable[..., Any]] = {
    "best_single": fit_single,
    "weighted_boxes_fusion": fit_weighted_boxes_fusion,
    "non_maximum_weighted": fit_non_maximum_weighted,
    "probabilistic_ensembling": fit_probabilistic_ensembling,
    "nms": fit_nms,
    "soft_nms": fit_soft_nms,
}
"""Functions (outputs, truth, *, weights, score, seed) that fit an operator, by name."""

PARTS: dict[str, type] = {}
"""Records of this package: none, since fitted operators are `Applied` or `Single`."""

TRUSTED = "weighted_boxes_fusion"
"""What the field takes where there is no truth."""

SCORE = "ap50"
"""The score where nobody asks for one."""

CANDIDATES: tuple[str, ...] = (
    "weighted_boxes_fusion",
    "non_maximum_weighted",
    "probabilistic_ensembling",
)
"""What an automatic choice tries, simple first."""

__all__ = [
    "CANDIDATES",
    "FIT_FUSERS",
    "FUSERS",
    "PARTS",
    "SCORE",
    "TRUSTED",
    "calibrated",
    "fit_calibration",
    "fit_nms",
    "fit_non_maximum_weighted",
    "fit_probabilistic_ensembling",
    "fit_soft_nms",
    "fit_weighted_boxes_fusion",
    "nms",
    "non_maximum_weighted",
    "probabilistic_ensembling",
    "soft_nms",
    "tidied",
    "weighted_boxes_fusion",
]
