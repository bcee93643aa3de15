"""Scores of boxes: as pycocotools counts them."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.errors import OutputsError, TruthError
from conjoin.outputs import Boxes, Values
from conjoin.scores import score_of
from conjoin.scores.boxes import SCORES, coco_summary, hits, precision_and_recall

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
NAMES += ("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")
CLASSES = ("a", "b", "c", "never true")


def random_case(seed, rows=6, most=12):
    """Objects of three classes, some of them crowds, and boxes near them and elsewhere; scores tie."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most, rows)
    lower = rng.integers(0, 200, (counts.sum(), 2)).astype(float)
    side = rng.choice([10.0, 40.0, 150.0], (counts.sum(), 1)) * (0.5 + rng.random((counts.sum(), 2)))
    objects = np.concatenate([lower, lower + side], axis=1)
    codes = rng.integers(0, 3, counts.sum())
    truth = Boxes(
        objects, rng.random(len(codes)) > 0.15, codes, np.concatenate([[0], np.cumsum(counts)]), CLASSES
    )
    row = np.repeat(np.arange(rows), counts)
    near = rng.choice(len(codes), 3 * len(codes)) if len(codes) else np.zeros(0, int)
    coords = objects[near] + rng.normal(0, 0.15, (len(near), 4)) * np.tile(side[near], 2)
    coords[:, 2:] = np.maximum(coords[:, 2:], coords[:, :2] + 0.5)
    order = np.argsort(row[near], kind="stable")
    kinds = np.where(rng.random(len(near)) < 0.8, codes[near], rng.integers(0, 4, len(near)))
    offsets = np.searchsorted(row[near][order], np.arange(rows + 1))
    scores = rng.random(len(near)).round(1)
    return Boxes(coords[order], scores[order], kinds[order], offsets, CLASSES), truth


def by_pycocotools(output, truth):
    tools = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    from pycocotools.cocoeval import COCOeval

    def entries(boxes, scored):
        out = []
        for row in range(len(boxes)):
            for p in range(boxes.offsets[row], boxes.offsets[row + 1]):
                x, y, right, top = boxes.coords[p].tolist()
                one = {
                    "image_id": row,
                    "category_id": int(boxes.codes[p]),
                    "bbox": [x, y, right - x, top - y],
                }
                one |= {"area": (right - x) * (top - y), "id": len(out) + 1}
                one |= {"score": float(boxes.scores[p])} if scored else {"iscrowd": int(boxes.scores[p] == 0)}
                out.append(one)
        return out

    with contextlib.redirect_stdout(io.StringIO()):
        coco = tools.COCO()
        coco.dataset = {
            "images": [{"id": r} for r in range(len(truth))],
            "categories": [{"id": k} for k in range(len(CLASSES))],
            "annotations": entries(truth, False),
        }
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(entries(output, True)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return dict(zip(NAMES, np.where(run.stats == -1, np.nan, run.stats), strict=True))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_as_pycocotools(seed):
    output, truth = random_case(seed)
    if len(output.scores):
        mine, theirs = coco_summary(output, truth), by_pycocotools(output, truth)
        np.testing.assert_allclose([mine[n] for n in NAMES], [theirs[n] for n in NAMES], atol=1e-9)


def test_more_boxes_than_count():
    rng = np.random.default_rng(0)
    lower = rng.random((300, 2)) * 100
    output = Boxes(
        np.concatenate([lower, lower + 20], 1), rng.random(300), np.zeros(300, int), [0, 300], CLASSES
    )
    truth = Boxes(output.coords[:40] + 1, np.ones(40), np.zeros(40, int), [0, 40], CLASSES)
    mine, theirs = coco_summary(output, truth), by_pycocotools(output, truth)
    np.testing.assert_allclose([mine[n] for n in NAMES], [theirs[n] for n in NAMES], atol=1e-9)


def test_hand_worked():
    truth = Boxes([[0, 0, 10, 10], [20, 0, 30, 10]], [1, 1], [0, 0], [0, 2], ("a",))
    found = Boxes([[0, 0, 10, 10], [50, 0, 60, 10], [20, 0, 30, 6]], [0.9, 0.8, 0.7], [0] * 3, [0, 3], ("a",))
    # recall 1/2 at precision 1, then 1 at precision 2/3: 51 of the 101 places lie at or below 1/2
    assert score_of("ap50", "boxes").value(found, truth) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert score_of("ap75", "boxes").value(found, truth) == pytest.approx(51 / 101)
    assert score_of("ar100", "boxes").value(found, truth) == pytest.approx((2 * 3 + 7) / 20)
    assert hits(found, truth).tolist() == [1, 0, 1]


def test_rows_without_truth_and_rows_without_answer():
    output, truth = random_case(4)
    part = np.arange(6) != 2
    hidden = Boxes(truth.coords, truth.scores, truth.codes, truth.offsets, CLASSES, part)
    mine = coco_summary(output, hidden)["ap"]
    assert mine == pytest.approx(coco_summary(output.take(part), truth.take(part))["ap"])
    skipped = Boxes(output.coords, output.scores, output.codes, output.offsets, CLASSES, part)
    lengths = np.diff(output.offsets) * part
    kept = np.repeat(part, np.diff(output.offsets))
    blank = Boxes(
        output.coords[kept],
        output.scores[kept],
        output.codes[kept],
        np.concatenate([[0], np.cumsum(lengths)]),
        CLASSES,
    )
    assert coco_summary(skipped, truth)["ap"] == pytest.approx(coco_summary(blank, truth)["ap"])


def test_classes_are_aligned_by_name():
    output, truth = random_case(5)
    order = np.array([3, 1, 0, 2])
    turned = Boxes(
        output.coords,
        output.scores,
        np.argsort(order)[output.codes],
        output.offsets,
        tuple(CLASSES[k] for k in order),
    )
    assert coco_summary(turned, truth) == coco_summary(output, truth)
    strange = Boxes([[0, 0, 1, 1]], [0.5], [0], [0, 1, 1, 1, 1, 1, 1], ("zebra",))
    assert coco_summary(strange, truth)["ap"] == 0


def test_other_dimensions():
    for D in (1, 3):
        box = Boxes([[0.0] * D + [2.0] * D], [1.0], [0], [0, 1], ("a",))
        assert SCORES["ap"].value(box, box) == pytest.approx(1.0)
    flat = Boxes([[0, 0, 1, 1]], [1.0], [0], [0, 1], ("a",))
    with pytest.raises(OutputsError, match="boxes of 4 numbers"):
        SCORES["ap"].value(flat, Boxes([[0, 1]], [1.0], [0], [0, 1], ("a",)))


def test_what_cannot_be_scored():
    box = Boxes([[0, 0, 1, 1]], [1.0], [0], [0, 1], ("a",))
    with pytest.raises(TruthError, match="a truth of boxes"):
        SCORES["ap"].value(box, Values([1.0]))
    with pytest.raises(OutputsError, match="NaN"):
        SCORES["ap"].value(Boxes([[0, 0, np.nan, 1]], [1.0], [0], [0, 1], ("a",)), box)
    empty = Boxes(np.zeros((0, 4)), [], [], [0, 0], ("a",))
    assert np.isnan(SCORES["ap"].value(box, empty))
    assert SCORES["ap"].value(empty, box) == 0
    assert precision_and_recall(empty, box, levels=[0.5])[0].shape == (1, 1)
