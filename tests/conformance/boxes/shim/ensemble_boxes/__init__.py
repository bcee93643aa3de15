"""The functions of ensemble-boxes over conjoin: lists for each model in, arrays out, corners of 0 to 1."""

import numpy as np

from conjoin.fusion import boxes as fusion
from conjoin.outputs import Boxes


def _members(boxes_list, scores_list, labels_list):
    width = next((len(b[0]) for b in boxes_list if len(b)), 4)
    labels = sorted({int(v) for one in labels_list for v in one})
    code_of = {label: code for code, label in enumerate(labels)}
    members = {}
    for m, (coords, scores, given) in enumerate(zip(boxes_list, scores_list, labels_list, strict=True)):
        codes = [code_of[int(v)] for v in given]
        flat = np.asarray(coords, dtype=float).reshape(-1, width)
        one = Boxes(flat, scores, codes, [0, len(codes)], tuple(labels))
        members[f"{m:06}"] = fusion.tidied(one, bounds=[0] * (width // 2) + [1] * (width // 2))
    return members, np.array(labels)


def _answer(fused, labels):
    return fused.coords, fused.scores, labels[fused.codes] if len(labels) else fused.codes


def weighted_boxes_fusion(
    boxes_list,
    scores_list,
    labels_list,
    weights=None,
    iou_thr=0.55,
    skip_box_thr=0.0,
    conf_type="avg",
    allows_overflow=False,
):
    members, labels = _members(boxes_list, scores_list, labels_list)
    options = {"iou_thr": iou_thr, "skip_box_thr": skip_box_thr, "conf_type": conf_type}
    fused = fusion.weighted_boxes_fusion(members, weights=weights, allows_overflow=allows_overflow, **options)
    return _answer(fused, labels)


weighted_boxes_fusion_1d = weighted_boxes_fusion_3d = weighted_boxes_fusion


def non_maximum_weighted(boxes_list, scores_list, labels_list, weights=None, iou_thr=0.55, skip_box_thr=0.0):
    members, labels = _members(boxes_list, scores_list, labels_list)
    fused = fusion.non_maximum_weighted(members, weights=weights, iou_thr=iou_thr, skip_box_thr=skip_box_thr)
    return _answer(fused, labels)


def nms_method(boxes, scores, labels, method=3, iou_thr=0.5, sigma=0.5, thresh=0.001, weights=None):
    members, names = _members(boxes, scores, labels)
    if method == 3:
        fused = fusion.nms(members, weights=weights, iou_thr=iou_thr)
    else:
        how = {1: "linear", 2: "gaussian"}[method]
        fused = fusion.soft_nms(
            members, weights=weights, iou_thr=iou_thr, method=how, sigma=sigma, thresh=thresh
        )
    coords, found, codes = _answer(fused, names)
    return coords, found if weights is None else found * max(weights) / sum(weights), codes


def nms(boxes, scores, labels, iou_thr=0.5, weights=None):
    return nms_method(boxes, scores, labels, method=3, iou_thr=iou_thr, weights=weights)


def soft_nms(boxes, scores, labels, method=2, iou_thr=0.5, sigma=0.5, thresh=0.001, weights=None):
    return nms_method(boxes, scores, labels, method, iou_thr, sigma, thresh, weights)
