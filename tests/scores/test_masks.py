"""Scores of masks, by hand and by sklearn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, jaccard_score

from conjoin.errors import OutputsError
from conjoin.outputs import Labels, Masks
from conjoin.scores import estimate, paired, score_of


def value(name, answer, truth, **more):
    return score_of(name, "masks").value(answer, truth, **more)


def test_overlaps_by_hand():
    truth = Masks(np.array([[0, 1, 1, 2], [0, 0, 0, 0]]))
    answer = Masks(np.array([[0, 1, 2, 2], [0, 0, 0, 0]]))
    assert value("dice", answer, truth) == pytest.approx((2 / 3 + 1) / 2)
    assert value("iou", answer, truth) == pytest.approx((1 / 2 + 1) / 2)
    assert value("pixel_accuracy", answer, truth) == pytest.approx(7 / 8)
    assert value("mean_iou", answer, truth) == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert value("hausdorff", answer, truth) == 0
    wrong = Masks(np.array([[0, 3, 3, 3], [0, 1, 0, 0]]))
    assert value("dice", wrong, truth) == 0
    assert value("hausdorff", wrong, truth) == pytest.approx(2.0)


@pytest.mark.parametrize("shape", [(5, 6, 7), (2, 70, 80)])
def test_sklearn_gives_the_same(shape):
    rng = np.random.default_rng(0)
    truth, answer = (rng.integers(0, 4, shape) for _ in range(2))
    a, t = Masks(answer), Masks(truth)
    assert value("mean_iou", a, t) == pytest.approx(
        jaccard_score(truth.ravel(), answer.ravel(), average="macro"), abs=1e-12
    )
    assert value("pixel_accuracy", a, t) == pytest.approx(accuracy_score(truth.ravel(), answer.ravel()))
    each = [
        jaccard_score(x.ravel(), y.ravel(), average="macro", labels=[1, 2, 3])
        for x, y in zip(truth, answer, strict=True)
    ]
    assert value("iou", a, t) == pytest.approx(np.mean(each), abs=1e-12)


def test_probabilities_classes_and_missing_rows():
    truth = Masks(np.array([[1, 0], [1, 1]]), ["ground", "cat"])
    soft = Masks(np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.6, 0.4]]]), ["cat", "ground"])
    assert value("dice", soft, truth) == 1
    strange = Masks(np.array([[0, 1], [0, 0]]), ["dog", "ground"])
    assert value("dice", strange, truth) == 0
    half = Masks(soft.values, soft.classes, [True, False])
    assert value("dice", half, truth) == pytest.approx(0.5)
    unknown = Masks(truth.values, truth.classes, [True, False])
    assert value("dice", half, unknown) == 1
    assert np.isnan(value("dice", half, Masks(truth.values, truth.classes, [False, False])))
    binary = Masks(np.array([[0.6, 0.5], [0.7, 0.9]]))
    assert value("pixel_accuracy", binary, Masks(np.array([[1, 0], [1, 1]]))) == 1


def test_hausdorff_is_the_greatest_distance():
    a, b = np.zeros((2, 9, 9), int), np.zeros((2, 9, 9), int)
    a[0, 1, 1], b[0, 1, 1], b[0, 4, 5] = 1, 1, 1
    a[1, 0, 0] = 1
    assert value("hausdorff", Masks(a[:1]), Masks(b[:1])) == pytest.approx(5)
    assert value("hausdorff", Masks(a[1:]), Masks(b[1:])) == pytest.approx(np.sqrt(162))


def test_estimates_and_pairs_work():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (20, 5, 5))
    good, bad = (Masks(np.where(rng.random(truth.shape) < p, truth, 1 - truth)) for p in (0.9, 0.6))
    for name in ("dice", "iou", "mean_iou", "pixel_accuracy", "hausdorff"):
        score = score_of(name, "masks")
        found = estimate(score, good, Masks(truth))
        assert found.low < score.value(good, Masks(truth)) < found.high
        assert paired(score, good, bad, Masks(truth)).mean < 0


def test_what_cannot_be_scored_is_told():
    with pytest.raises(OutputsError, match="shape"):
        value("dice", Masks(np.zeros((1, 2))), Masks(np.zeros((1, 3))))
    with pytest.raises(OutputsError, match="negative"):
        value("dice", Masks(np.array([[0, -1]])), Masks(np.array([[0, 1]])))
    with pytest.raises(OutputsError, match="must be masks, not Labels"):
        value("dice", Masks(np.zeros((1, 2))), Labels.of(["a"]))
