"""Soft targets as weighted rows."""

import numpy as np
import pytest

from conjoin.contracts import Card
from conjoin.errors import TruthError
from conjoin.outputs import Labels, Values
from conjoin.transfer.distil.targets import mixed, softened, truth_numbers, weighted

CLASSES = Card("t", "probabilities", classes=("yes", "no", "maybe"))


def test_classes_are_aligned_by_name():
    truth = Labels.of(["no", None, "yes"], ["no", "yes"])
    found = truth_numbers(truth, CLASSES)
    assert found[[0, 2]].tolist() == [[0, 1, 0], [1, 0, 0]]
    assert np.isnan(found[1]).all()


def test_a_class_that_the_teacher_does_not_know():
    with pytest.raises(TruthError, match="never, which the teacher 't' does not know"):
        truth_numbers(Labels.of(["no", "never"]), CLASSES)


def test_truth_of_another_kind():
    with pytest.raises(TruthError, match="its truth are labels"):
        truth_numbers(Values([1.0]), CLASSES)
    with pytest.raises(TruthError, match="its truth are values"):
        truth_numbers(Labels.of(["a"]), Card("t", "values"))


def test_weighted_rows_have_the_targets_cross_entropy():
    q = np.array([[0.7, 0.3, 0.0], [0.2, 0.5, 0.3], [np.nan] * 3])
    rows = weighted(q, CLASSES)
    scores = np.random.default_rng(0).normal(size=(3, 3))
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    found = -(rows.weight * logs[rows.index, rows.y]).sum()
    assert found == pytest.approx(-(q[:2] * logs[:2]).sum())
    assert set(rows.index.tolist()) == {0, 1}


def test_hard_and_soft():
    teacher, truth = (
        np.array([[0.6, 0.4], [np.nan] * 2, [0.1, 0.9]]),
        np.array([[1, 0.0], [0, 1], [np.nan] * 2]),
    )
    assert mixed(teacher, truth, 0.5).tolist() == [[0.8, 0.2], [0, 1], [0.1, 0.9]]


def test_a_high_temperature_evens_out():
    q = softened(np.array([[0.99, 0.01, 0.0]]), 50.0)
    assert q.sum() == pytest.approx(1)
    assert q.max() < 0.45
    assert (np.diff(q) < 0).all()


def test_quantiles_of_the_weighted_rows_are_the_teachers():
    card = Card("t", "quantiles", levels=(0.1, 0.5, 0.9))
    rows = weighted(np.array([[1.0, 2.0, 7.0]]), card)
    order = np.argsort(rows.y)
    mass = np.cumsum(rows.weight[order])
    for level, value in zip(card.levels, (1.0, 2.0, 7.0), strict=True):
        assert rows.y[order][np.searchsorted(mass, level)] == value
    assert mass[-1] == pytest.approx(1)
    with_truth = weighted(np.array([[1.0, 2.0, 7.0]]), card, truth=np.array([[5.0]]), hard=0.25)
    assert with_truth.weight[with_truth.y == 5.0].tolist() == [0.25]
    assert with_truth.weight.sum() == pytest.approx(1)
