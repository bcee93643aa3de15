"""What is fitted to annotated images: calibration, weights, thresholds."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conjoin.errors import OutputsError
from conjoin.formats.coco import read
from conjoin.fusion.applied import Applied
from conjoin.fusion.boxes import (
    FIT_FUSERS,
    calibrated,
    fit_calibration,
    fit_probabilistic_ensembling,
    fit_weighted_boxes_fusion,
    weighted_boxes_fusion,
)
from conjoin.fusion.single import fit_single
from conjoin.scores import score_of

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("world_of_boxes", HERE / "world.py")
WORLD = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(WORLD)
AP50 = score_of("ap50", "boxes")
REAL = HERE.parents[3] / "shared" / "data" / "outputs" / "detection" / "dev"
NAMES = ("yolox_nano", "fastestdet", "nanodet_m", "yolo_fastest", "yolo_fastest_xl")


@pytest.fixture(scope="module")
def world():
    return WORLD.world(np.random.default_rng(3), 60)


def test_calibration_keeps_the_order_within_a_class(world):
    outputs, truth = world
    for name, output in outputs.items():
        by = fit_calibration(output, truth)
        scores = calibrated(output, by)
        again = replace(output, scores=scores)
        assert AP50.value(again, truth) == pytest.approx(AP50.value(output, truth)), name
        assert ((scores >= 0) & (scores <= 1)).all()


def test_calibrated_scores_are_chances(world):
    from conjoin.scores.boxes import hits

    outputs, truth = world
    for output in outputs.values():
        spoiled = replace(output, scores=output.scores**3 * 0.1)
        right = hits(spoiled, truth)
        scores = calibrated(spoiled, fit_calibration(spoiled, truth))
        assert scores[right >= 0].mean() == pytest.approx((right == 1).sum() / (right >= 0).sum(), abs=0.02)


def test_scores_of_another_scale_are_calibrated_too(world):
    outputs, truth = world
    p = {n: np.clip(o.scores, 1e-3, 1 - 1e-3) for n, o in outputs.items()}
    logits = {n: replace(o, scores=np.log(p[n] / (1 - p[n]))) for n, o in outputs.items()}
    fuser = fit_weighted_boxes_fusion(logits, truth)
    assert AP50.value(fuser(logits), truth) >= AP50.value(fit_single(outputs, truth)(outputs), truth)
    if isinstance(fuser, Applied):
        assert all(by["of"] == "score" for by in fuser.options["calibration"].values())
    by = fit_calibration(outputs["yolo"], truth)
    with pytest.raises(OutputsError, match="was calibrated on scores of 0 to 1"):
        calibrated(logits["yolo"], by, "yolo")


def test_a_class_with_objects_enough_gets_its_own_shift(world):
    outputs, truth = world
    by = fit_calibration(outputs["yolo"], truth, least=10)
    assert set(by["shifts"]) <= set(outputs["yolo"].classes)
    assert by["shifts"]
    assert not fit_calibration(outputs["yolo"], truth, least=10_000)["shifts"]


def test_rows_of_weight_0_do_not_count(world):
    outputs, truth = world
    kept = np.arange(60) < 40
    some = {n: o.take(kept) for n, o in outputs.items()}
    whole = fit_weighted_boxes_fusion(outputs, truth, weights=kept.astype(float))
    part = fit_weighted_boxes_fusion(some, truth.take(kept), weights=np.ones(40))
    np.testing.assert_allclose(whole(outputs).scores, part(outputs).scores, atol=1e-9)


def test_better_than_the_best_detector_on_other_rows():
    gains = []
    for seed in range(4):
        outputs, truth = WORLD.world(np.random.default_rng(seed), 240)
        half = np.arange(240) < 120
        fitted = {n: o.take(half) for n, o in outputs.items()}
        judged = {n: o.take(~half) for n, o in outputs.items()}
        best = AP50.value(fit_single(fitted, truth.take(half))(judged), truth.take(~half))
        fusers = [
            f(fitted, truth.take(half)) for f in (fit_weighted_boxes_fusion, fit_probabilistic_ensembling)
        ]
        gains += [AP50.value(fuser(judged), truth.take(~half)) - best for fuser in fusers]
    assert np.mean(gains) > 0.02


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real detections are not at {REAL}")
def test_real_detectors():
    found = read({n: REAL / f"{n}.json" for n in NAMES}, REAL / "truth.json")
    assert AP50.value(found.outputs["yolox_nano"], found.truth) == pytest.approx(0.5292, abs=1e-4)
    rows = {"fused": [], "single": [], "equal": []}
    rng = np.random.default_rng(0)
    for _ in range(5):
        order = rng.permutation(64)
        a, b = order[:32], order[32:]
        fitted = {n: o.take(a) for n, o in found.outputs.items()}
        judged = {n: o.take(b) for n, o in found.outputs.items()}
        truth = found.truth.take(b)
        fuser = fit_weighted_boxes_fusion(fitted, found.truth.take(a))
        rows["fused"].append(AP50.value(fuser(judged), truth))
        rows["single"].append(AP50.value(fit_single(fitted, found.truth.take(a))(judged), truth))
        rows["equal"].append(AP50.value(weighted_boxes_fusion(judged), truth))
    ahead = np.subtract(rows["fused"], rows["single"])
    assert ahead.mean() > 0
    assert np.mean(rows["fused"]) > np.mean(rows["equal"])
    assert set(FIT_FUSERS) >= {"weighted_boxes_fusion", "nms"}
