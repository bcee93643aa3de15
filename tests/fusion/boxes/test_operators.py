"""Formulas of box fusers: against ensemble-boxes' answers, a slow reference, and worked by hand."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.errors import OutputsError
from conjoin.fusion.boxes import (
    FUSERS,
    nms,
    non_maximum_weighted,
    probabilistic_ensembling,
    soft_nms,
    weighted_boxes_fusion,
)
from conjoin.outputs import Boxes

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("world_of_boxes", HERE / "world.py")
WORLD = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(WORLD)
boxes = WORLD.boxes
PEER = json.loads((HERE / "peer_values.json").read_text())


def peer_cases():
    for case in PEER["cases"]:
        for answer in case["answers"]:
            D = len(case["boxes"][0][0]) // 2
            options = answer["options"]
            rule = options.get("conf_type") or options.get("method") or ""
            told = (
                f"{answer['operator']}-{D}D-{rule}-{options.get('allows_overflow', '')}-{answer['weights']}"
            )
            yield pytest.param(case, answer, id=told)


@pytest.mark.parametrize(("case", "answer"), list(peer_cases()))
def test_as_ensemble_boxes(case, answer):
    outputs = {}
    for m, (coords, scores, codes) in enumerate(
        zip(case["boxes"], case["scores"], case["labels"], strict=True)
    ):
        outputs[f"m{m}"] = Boxes(coords, scores, codes, [0, len(scores)], ("x", "y"))
    fused = FUSERS[answer["operator"]](outputs, weights=answer["weights"], **answer["options"])
    scores = np.array(answer["scores"])
    if answer["operator"] == "weighted_boxes_fusion" and not answer["options"]["allows_overflow"]:
        scores = np.minimum(scores, 1.0)  # the peer goes above 1 with unlike weights
    mine, theirs = in_order(fused.coords, fused.scores), in_order(np.array(answer["coords"]), scores)
    np.testing.assert_allclose(fused.scores[mine], scores[theirs], atol=1e-6)
    np.testing.assert_allclose(fused.coords[mine], np.array(answer["coords"])[theirs], atol=1e-6)
    assert (fused.codes[mine] == np.array(answer["codes"])[theirs]).all()


def in_order(coords, scores):
    return np.lexsort((*coords.T.round(4), -scores.round(5)))


def slow_iou(a, b):
    D = len(a) // 2
    inter = np.prod(np.clip(np.minimum(a[D:], b[D:]) - np.maximum(a[:D], b[:D]), 0, None))
    return inter / (np.prod(a[D:] - a[:D]) + np.prod(b[D:] - b[:D]) - inter)


def slow_fusion(members, weights, iou):
    """Weighted boxes fusion of one row and class by the definition; (box, score) of each cluster."""
    every = [(w * s, m, c) for m, (w, one) in enumerate(zip(weights, members, strict=True)) for c, s in one]
    clusters = []
    for strength, m, c in sorted(every, key=lambda e: -e[0]):
        means = [np.average([x for _, _, x in g], axis=0, weights=[s for s, _, _ in g]) for g in clusters]
        near = [slow_iou(mean, c) for mean in means]
        if near and max(near) > iou:
            clusters[int(np.argmax(near))].append((strength, m, c))
        else:
            clusters.append([(strength, m, c)])
    out = []
    for group in clusters:
        box = np.average([x for _, _, x in group], axis=0, weights=[s for s, _, _ in group])
        mean = np.mean([s for s, _, _ in group])
        out.append((box, min(1.0, mean * min(len(members), len(group)) / sum(weights))))
    return out


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 5))
def test_against_the_definition(seed, D, M):
    rng = np.random.default_rng(seed)
    weights, members, outputs = rng.random(M) + 0.1, [], {}
    for m in range(M):
        lower = rng.random((rng.integers(0, 30), D)) * 3
        coords = np.concatenate([lower, lower + 0.5 + rng.random(lower.shape)], axis=1)
        scores = rng.random(len(coords)) * 0.9 + 0.05
        members.append(list(zip(coords, scores, strict=True)))
        outputs[f"{m}"] = Boxes(
            coords.reshape(-1, 2 * D), scores, np.zeros(len(coords), int), [0, len(coords)], "k"
        )
    fused = weighted_boxes_fusion(outputs, weights=list(weights), iou_thr=0.3)
    slow = slow_fusion(members, weights, 0.3)
    slow.sort(key=lambda e: -e[1])
    np.testing.assert_allclose(fused.scores, [s for _, s in slow], atol=1e-9)
    for box, score in slow:
        at = np.isclose(fused.scores, score, atol=1e-9)
        assert np.abs(fused.coords[at] - box).max(axis=1).min() < 1e-9


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(FUSERS)))
def test_far_boxes_stay_as_they_are(seed, name):
    rng = np.random.default_rng(seed)
    corners = np.arange(8)[:, None] * 10.0 + rng.random((8, 1)) + [0.0, 0.0, 5.0, 5.0]
    scores = np.sort(rng.random(8))[::-1] * 0.8 + 0.1
    one = boxes([[(c, s, 0) for c, s in zip(corners, scores, strict=True)]])
    fused = FUSERS[name]({"only": one})
    np.testing.assert_allclose(fused.coords, one.coords, rtol=1e-12)
    np.testing.assert_allclose(fused.scores, one.scores, atol=1e-9)


def test_hand_worked_rules():
    a = boxes([[([0, 0, 10, 10], 0.8, 0), ([0, 0, 10, 9], 0.4, 0)]])
    b = boxes([[([0, 0, 10, 11], 0.6, 0)]])
    weights = {"a": 2.0, "b": 1.0, "quiet": 1.0}
    outputs = {"a": a, "b": b, "quiet": boxes([[]])}

    def score(rule, **options):
        return weighted_boxes_fusion(outputs, weights=weights, conf_type=rule, **options).scores

    total, boxes_weight, models = 1.6 + 0.8 + 0.6, 5.0, 3.0
    np.testing.assert_allclose(score("avg"), [total / 4])
    np.testing.assert_allclose(score("avg", allows_overflow=True), [total / 4])
    np.testing.assert_allclose(score("max"), [1.6 / 2])
    np.testing.assert_allclose(score("box_and_model_avg"), [total / boxes_weight * models / 4])
    np.testing.assert_allclose(score("absent_model_aware_avg"), [total / (boxes_weight + 1)])
    fused = weighted_boxes_fusion(outputs, weights=weights)
    np.testing.assert_allclose(fused.coords, [[0, 0, 10, (1.6 * 10 + 0.8 * 9 + 0.6 * 11) / 3]])


def test_probabilistic_ensembling_adds_evidence():
    a, b = boxes([[([0, 0, 2, 2], 0.8, 0)]]), boxes([[([0, 0, 2, 2], 0.6, 0), ([0, 0, 2, 2.1], 0.5, 0)]])
    odds = 4.0 * 1.5  # of 0.8 and 0.6; the second box of b adds nothing
    np.testing.assert_allclose(probabilistic_ensembling({"a": a, "b": b}).scores, [odds / (1 + odds)])
    low = probabilistic_ensembling({"a": a, "b": b}, prior=0.2).scores
    np.testing.assert_allclose(low, [odds / 0.25 / (1 + odds / 0.25)])
    certain = boxes([[([0, 0, 2, 2], 1.0, 0)]])
    assert np.isfinite(probabilistic_ensembling({"a": certain, "b": certain}).scores).all()


def test_soft_nms_gives_the_lowered_scores():
    one = boxes([[([0, 0, 10, 10], 0.9, 0), ([0, 0, 10, 8], 0.8, 0), ([20, 0, 21, 1], 0.5, 0)]])
    np.testing.assert_allclose(soft_nms({"a": one}, method="linear").scores, [0.9, 0.5, 0.8 * 0.2])
    gauss = soft_nms({"a": one}, sigma=0.5).scores
    np.testing.assert_allclose(gauss[0], 0.9)
    np.testing.assert_allclose(sorted(gauss)[0], 0.8 * np.exp(-0.64 / 0.5))
    assert len(soft_nms({"a": one}, thresh=0.4).scores) == 2
    assert len(nms({"a": one}).scores) == 2


def test_a_member_that_does_not_answer_is_absent_and_one_without_boxes_is_not():
    a = boxes([[([0, 0, 2, 2], 0.8, 0)]])
    silent, nothing = boxes([[]], answered=[False]), boxes([[]])
    np.testing.assert_allclose(weighted_boxes_fusion({"a": a, "b": silent}).scores, [0.8])
    np.testing.assert_allclose(weighted_boxes_fusion({"a": a, "b": nothing}).scores, [0.4])
    other = boxes([[]], classes=("z",))  # does not know the class at all
    np.testing.assert_allclose(weighted_boxes_fusion({"a": a, "b": other}).scores, [0.8])


def test_weight_of_a_class():
    a, b = boxes([[([0, 0, 2, 2], 0.8, 0)]]), boxes([[([0, 0, 2, 2.2], 0.6, 0), ([5, 5, 6, 6], 0.5, 1)]])
    fused = weighted_boxes_fusion({"a": a, "b": b}, class_weights={"b": {"a": 0}, "a": {"b": 0}})
    np.testing.assert_allclose(fused.scores, [0.8, 0.5])
    with pytest.raises(OutputsError, match="no member knows the class 'bb'"):
        weighted_boxes_fusion({"a": a}, class_weights={"a": {"bb": 1}})
    with pytest.raises(OutputsError, match="finite and >= 0"):
        weighted_boxes_fusion({"a": a}, class_weights={"a": {"b": -1}})


def test_more_members_than_bits_in_a_word():
    M = 130
    outputs = {f"m{m:03}": boxes([[([0, 0, 2, 2], 0.5, 0)]]) for m in range(M)}
    for rule in ("avg", "max", "box_and_model_avg", "absent_model_aware_avg"):
        np.testing.assert_allclose(weighted_boxes_fusion(outputs, conf_type=rule).scores, [0.5])
    some = {**outputs, **{f"q{m}": boxes([[]]) for m in range(M)}}
    np.testing.assert_allclose(weighted_boxes_fusion(some, conf_type="absent_model_aware_avg").scores, [0.25])
    np.testing.assert_allclose(non_maximum_weighted(some).scores, [0.5])


def test_many_boxes_of_one_class():
    rng = np.random.default_rng(0)
    lower = rng.random((5000, 2)) * 1000
    coords = np.concatenate([lower, lower + 5 + rng.random((5000, 2)) * 20], axis=1)
    big = Boxes(coords, rng.random(5000), np.zeros(5000, int), [0, 5000], ("cat",))
    for fuser in FUSERS.values():
        fused = fuser({"a": big, "b": big})
        assert 0 < len(fused.scores) <= 10_000
        assert (np.diff(fused.scores) <= 0).all()
