"""Boxes beside ensemble-boxes and pycocotools: five detectors see the same objects, each a little aside."""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections.abc import Callable
from typing import Any

import ensemble_boxes as peer
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from conjoin.fusion.boxes import nms, non_maximum_weighted, soft_nms, weighted_boxes_fusion
from conjoin.outputs import Boxes
from conjoin.scores.boxes import coco_summary

PEER = "ensemble-boxes 1.0.9"
IMAGES, MEMBERS, BOXES, CLASSES = 1000, 5, 100, 80
REPEATS = 3
Array = np.ndarray[Any, Any]


def detectors(images: int, seed: int = 0) -> dict[str, Boxes]:
    """Boxes of five detectors for the same objects: corners aside by 5 % of the sides, scores at random."""
    rng = np.random.default_rng(seed)
    count = images * BOXES
    lower, sides = rng.random((count, 2)) * 0.75, 0.02 + rng.random((count, 2)) * 0.18
    codes, names = rng.integers(0, CLASSES, count), tuple(f"class {k}" for k in range(CLASSES))
    out = {}
    for m in range(MEMBERS):
        low = lower + rng.normal(0, 0.05, lower.shape) * sides
        high = lower + sides + rng.normal(0, 0.05, lower.shape) * sides
        corners = np.clip(np.concatenate([low, np.maximum(high, low + 0.001)], axis=1), 0, 1)
        corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 1e-4)
        offsets = np.arange(images + 1) * BOXES
        out[f"m{m}"] = Boxes(corners, rng.random(count), codes, offsets, names)
    return out


def per_image(outputs: dict[str, Boxes], images: int) -> list[tuple[list[Array], list[Array], list[Array]]]:
    """What the peer takes: for each image a list of arrays of the members."""
    cuts = [slice(i * BOXES, (i + 1) * BOXES) for i in range(images)]
    members = list(outputs.values())
    return [
        ([o.coords[c] for o in members], [o.scores[c] for o in members], [o.codes[c] for o in members])
        for c in cuts
    ]


def interleaved(mine: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[float, float, Any, Any]:
    """Least CPU seconds of each over the repeats, and their answers; both are warm."""
    times: tuple[list[float], list[float]] = ([], [])
    answers: list[Any] = [None, None]
    mine()
    for _ in range(REPEATS):
        for k, call in enumerate((mine, theirs)):
            begin = time.process_time()
            answers[k] = call()
            times[k].append(time.process_time() - begin)
    return min(times[0]), min(times[1]), *answers


def apart(mine: Boxes, theirs: list[tuple[Array, Array, Array]], *, scores: bool) -> str:
    """The largest difference, over images where both have as many boxes."""
    worst, other = 0.0, 0
    for row, (coords, found, codes) in enumerate(theirs):
        cut = slice(mine.offsets[row], mine.offsets[row + 1])
        a = np.column_stack([mine.codes[cut], mine.scores[cut] * scores, mine.coords[cut]])
        b = np.column_stack([codes, found * scores, coords])
        if len(a) != len(b):
            other += 1
            continue
        a, b = (x[np.lexsort((*x[:, 2:].T.round(5), x[:, 0]))] for x in (a, b))
        worst = max(worst, float(np.abs(a - b).max()))
    what = "boxes and scores" if scores else "boxes (the peer gives scores before they are lowered)"
    return f"{what} within {worst:.0e}; another number of boxes in {other} of {len(theirs)} images"


def fusion_row(
    name: str, mine: Callable[..., Boxes], theirs: Callable[..., Any], asked: str, *, scores: bool = True
) -> dict[str, Any]:
    """A line of the table."""
    outputs = detectors(IMAGES)
    data = per_image(outputs, IMAGES)
    theirs(*data[0])  # the peer compiles a part
    ours, others, a, b = interleaved(lambda: mine(outputs), lambda: [theirs(*one) for one in data])
    told = f"{MEMBERS} models x {BOXES} boxes x {CLASSES} classes, {IMAGES} images"
    return line(name, told, PEER, (ours, others), apart(a, b, scores=scores), asked)


def line(
    operator: str, workload: str, other: str, measured: tuple[float, float], same: str, asked: str
) -> dict[str, Any]:
    """The fields of a line."""
    mine, theirs = measured
    return {
        "operator": operator,
        "workload": workload,
        "peer": other,
        "conjoin_cpu": mine,
        "peer_cpu": theirs,
        "ratio": theirs / mine,
        "same": same,
        "asked": asked,
    }


def score_row(images: int = 300) -> dict[str, Any]:
    """COCO's twelve numbers."""
    outputs = detectors(images, seed=1)
    found, other = outputs["m0"], outputs["m1"]
    scale = 640.0
    found = Boxes(found.coords * scale, found.scores, found.codes, found.offsets, found.classes)
    some = np.arange(len(other.scores)) % BOXES < 20
    offsets = np.arange(images + 1) * 20
    truth = Boxes(other.coords[some] * scale, np.ones(some.sum()), other.codes[some], offsets, other.classes)
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": k} for k in range(CLASSES)],
        "annotations": entries(truth, scored=False),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        results = coco.loadRes(entries(found, scored=True))

        def theirs() -> Array:
            run = COCOeval(coco, results, "bbox")
            run.evaluate()
            run.accumulate()
            run.summarize()
            return np.asarray(run.stats)

        ours, others, a, b = interleaved(lambda: coco_summary(found, truth), theirs)
    worst = float(np.nanmax(np.abs(np.array(list(a.values())) - np.where(b == -1, np.nan, b))))
    told = f"{images} images x {BOXES} boxes, {CLASSES} classes, twelve numbers"
    same = f"all twelve within {worst:.0e}"
    return line("average precision", told, "pycocotools 2.0.11", (ours, others), same, "")


def entries(boxes: Boxes, *, scored: bool) -> list[dict[str, Any]]:
    """COCO's entries of boxes."""
    rows = np.repeat(np.arange(len(boxes)), np.diff(boxes.offsets))
    out = []
    for p, row in enumerate(rows.tolist()):
        x, y, right, top = boxes.coords[p].tolist()
        one: dict[str, Any] = {"image_id": row, "category_id": int(boxes.codes[p]), "id": p + 1, "iscrowd": 0}
        one |= {"bbox": [x, y, right - x, top - y], "area": (right - x) * (top - y)}
        out.append(one | ({"score": float(boxes.scores[p])} if scored else {}))
    return out


def run() -> list[dict[str, Any]]:
    """All lines."""
    warnings.simplefilter("ignore")
    return [
        fusion_row("weighted_boxes_fusion", weighted_boxes_fusion, peer.weighted_boxes_fusion, "200"),
        fusion_row("non_maximum_weighted", non_maximum_weighted, peer.non_maximum_weighted, "50"),
        fusion_row("soft_nms (gaussian)", soft_nms, peer.soft_nms, "50", scores=False),
        fusion_row("nms", nms, peer.nms, ""),
        score_row(),
    ]
