"""Boxes that make no sense, weights that do not fit, and rows and files with nothing in them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from conjoin.errors import OutputsError, TruthError
from conjoin.fusion.boxes import FIT_FUSERS, FUSERS, soft_nms, tidied, weighted_boxes_fusion
from conjoin.outputs import Boxes, Values

SPEC = importlib.util.spec_from_file_location("world_of_boxes", Path(__file__).parent / "world.py")
WORLD = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(WORLD)
boxes = WORLD.boxes
GOOD = [([0, 0, 2, 2], 0.8, 0)]
every = pytest.mark.parametrize("fuser", FUSERS.values(), ids=FUSERS)


@every
@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (([5, 0, 2, 2], 0.8, 0), "below the lower corner"),
        (([0, np.nan, 2, 2], 0.8, 0), "not all finite"),
        (([0, 0, np.inf, 2], 0.8, 0), "not all finite"),
        (([0, 0, 2, 2], np.nan, 0), "score is nan"),
        (([0, 0, 2, 2], -0.1, 0), "score is -0.1"),
    ],
)
def test_boxes_without_sense_are_named(fuser, bad, told):
    outputs = {"first": boxes([GOOD, GOOD, []]), "名 two": boxes([[], GOOD, [*GOOD, bad]])}
    with pytest.raises(OutputsError, match=f"member '名 two', row 2, box 1: .*{told}.*tidied"):
        fuser(outputs)


@every
def test_scores_above_1(fuser):
    high = {"a": boxes([[], [([0, 0, 2, 2], 7.5, 0)]])}
    with pytest.raises(OutputsError, match=r"member 'a', row 1: a box has the score 7.5"):
        fuser(high)
    hair = {"a": boxes([[([0, 0, 2, 2], 1 + 1e-9, 0)]])}
    assert fuser(hair).scores[0] <= 1


@every
def test_no_box_at_all(fuser):
    fused = fuser({"a": boxes([[], []]), "b": boxes([[], []], answered=[True, False])})
    assert len(fused.scores) == 0
    assert fused.answered.all()
    silent = fuser({"a": boxes([[]], answered=[False])})
    assert not silent.answered.any()
    none = Boxes(np.zeros((0, 4)), [], [], [0], ())
    assert len(fuser({"a": none, "b": none})) == 0


@every
def test_rows_that_were_not_answered_do_not_count(fuser):
    fused = fuser({"a": boxes([GOOD, GOOD], answered=[False, True])})
    assert fused.offsets.tolist() == [0, 0, 1]
    assert fused.answered.tolist() == [False, True]


@every
@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"a": -1, "b": 1}, "negative"),
        ({"a": 0, "b": 0}, "all weights are 0"),
        ([1], "1 weights for 2 members"),
        ({"a": 1, "bb": 1}, "did you mean 'b'"),
        ({"a": 1}, "no weight for b"),
        ({"a": np.nan, "b": 1}, "finite"),
    ],
)
def test_weights_that_do_not_fit(fuser, weights, told):
    with pytest.raises(OutputsError, match=told):
        fuser({"a": boxes([GOOD]), "b": boxes([GOOD])}, weights=weights)


@every
def test_a_weight_of_0_is_absent_exactly(fuser):
    a, b = boxes([GOOD, []]), boxes([[([0, 0, 2, 2.1], 0.9, 1)], GOOD], classes=("only b", "a"))
    with_it, without = fuser({"a": a, "b": b}, weights={"a": 1, "b": 0}), fuser({"a": a})
    assert with_it.classes == without.classes
    np.testing.assert_array_equal(with_it.coords, without.coords)
    assert np.isfinite(with_it.coords).all()


@every
def test_outputs_that_do_not_fit(fuser):
    with pytest.raises(OutputsError, match="there are no outputs"):
        fuser({})
    with pytest.raises(OutputsError, match="answered with values"):
        fuser({"a": Values([1.0])})
    with pytest.raises(OutputsError, match="same rows"):
        fuser({"a": boxes([GOOD]), "b": boxes([GOOD, GOOD])})
    with pytest.raises(OutputsError, match="same dimension"):
        fuser({"a": boxes([GOOD]), "b": boxes([[([0, 1], 0.5, 0)]])})


def test_outside_the_image():
    one = boxes([[([-5, -5, 10, 10], 0.8, 0), ([200, 200, 300, 300], 0.7, 0)]])
    kept = weighted_boxes_fusion({"a": one})
    assert len(kept.scores) == 2
    cut = weighted_boxes_fusion({"a": one}, bounds=(0, 0, 100, 100))
    assert cut.coords.tolist() == [[0, 0, 10, 10]]
    with pytest.raises(OutputsError, match="bounds must be 4 numbers"):
        weighted_boxes_fusion({"a": one}, bounds=(0, 0, 0, 100))
    with pytest.raises(OutputsError, match="bounds must be 4 numbers"):
        weighted_boxes_fusion({"a": one}, bounds=(0, 1))


def test_boxes_without_area_are_left_out():
    one = boxes([[([1, 1, 1, 5], 0.9, 0), ([0, 0, 2, 2], 0.8, 0)]])
    assert weighted_boxes_fusion({"a": one}).scores.tolist() == [0.8]


def test_scores_of_0_do_not_divide_by_0():
    zero = boxes([[([0, 0, 2, 2], 0.0, 0)]])
    fused = weighted_boxes_fusion({"a": zero, "b": zero})
    assert fused.coords.tolist() == [[0, 0, 2, 2]]
    assert fused.scores.tolist() == [0]


def test_tidied():
    rows = [[([5, 1, 2, 0], 1.5, 0), ([0, 0, np.nan, 2], 0.8, 0)], [([0, 0, 0, 2], 0.8, 0), *GOOD]]
    fine = tidied(boxes(rows))
    assert fine.coords.tolist() == [[2, 0, 5, 1], [0, 0, 2, 2]]
    assert fine.scores.tolist() == [1.0, 0.8]
    assert fine.offsets.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"conf_type": "average"}, "no conf_type 'average'"),
        ({"iou_thr": 1.5}, "iou_thr must lie in 0 to 1"),
        ({"iou_thr": np.nan}, "iou_thr must lie in 0 to 1"),
        ({"calibration": {"a": {"slope": 1}}}, "calibration of 'a'"),
        ({"calibration": {"a": {"of": "logit", "slope": -1.0, "intercept": 0}}}, "calibration of 'a'"),
        ({"calibration": {"a": 3}}, "calibration of 'a'"),
        ({"calibration": [1]}, "calibration must be"),
        ({"iou_thr": "half"}, "iou_thr must lie in 0 to 1, not 'half'"),
        ({"skip_box_thr": "x"}, "skip_box_thr must lie in 0 to 1"),
        ({"class_weights": {"a": 2}}, "class_weights must be"),
        ({"class_weights": {"a": {"a": "much"}}}, "weights are finite"),
        ({"bounds": "abcd"}, "bounds must be 4 numbers"),
    ],
)
def test_options_that_do_not_fit(options, told):
    with pytest.raises(OutputsError, match=told):
        weighted_boxes_fusion({"a": boxes([GOOD])}, **options)


def test_options_of_soft_nms():
    with pytest.raises(OutputsError, match="did you mean 'linear'"):
        soft_nms({"a": boxes([GOOD])}, method="linea")
    with pytest.raises(OutputsError, match="sigma must be above 0"):
        soft_nms({"a": boxes([GOOD])}, sigma=0)


fits = pytest.mark.parametrize("fit", FIT_FUSERS.values(), ids=FIT_FUSERS)


@pytest.mark.parametrize("fit", [f for n, f in FIT_FUSERS.items() if n != "best_single"])
def test_a_truth_that_does_not_fit(fit):
    outputs = {"a": boxes([GOOD]), "b": boxes([GOOD])}
    with pytest.raises(TruthError, match="a truth of boxes, not values"):
        fit(outputs, Values([1.0]))
    with pytest.raises(TruthError, match="the truth has 2"):
        fit(outputs, boxes([GOOD, GOOD]))
    with pytest.raises(TruthError, match="no object"):
        fit(outputs, boxes([[]]))
    with pytest.raises(TruthError, match="no member knows any class"):
        fit(outputs, boxes([GOOD], classes=("zebra", "gnu")))
    with pytest.raises(OutputsError, match="weights of rows"):
        fit(outputs, boxes([GOOD]), weights=[-1.0])


@fits
def test_fits_on_one_row_and_on_detectors_that_find_nothing(fit):
    truth = boxes([GOOD])
    assert fit({"a": boxes([GOOD]), "b": boxes([[]])}, truth)(
        {"a": boxes([GOOD]), "b": boxes([[]])}
    ).answered.all()
    blank = {"a": boxes([[]]), "b": boxes([[]])}
    assert len(fit(blank, truth)(blank).scores) == 0
