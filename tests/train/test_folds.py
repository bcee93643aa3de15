import numpy as np
import pytest

from conjoin.errors import InputError
from conjoin.train import folds


def test_every_class_is_spread_evenly():
    codes = np.repeat([0, 1, 2], [70, 25, 5])
    fold = folds.stratified(codes, 5, seed=0)
    counts = np.array([[((fold == f) & (codes == c)).sum() for c in range(3)] for f in range(5)])
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert np.ptp(counts.sum(axis=1)) <= 1


def test_the_only_row_of_a_class_is_always_learned_from():
    fold = folds.stratified(np.array([0, 0, 1, 0, 2, 2]), 2, seed=0)
    assert fold[2] == folds.ALWAYS
    assert sorted(fold[[4, 5]]) == [0, 1]
    for learn, held in folds.splits(fold):
        assert 2 in learn
        assert 2 not in held


def test_numbers_are_spread_over_their_range():
    values = np.random.default_rng(0).exponential(size=1003)
    fold = folds.spread(values, 4, seed=1)
    assert np.ptp(np.bincount(fold)) <= 4
    means = [values[fold == f].mean() for f in range(4)]
    assert np.ptp(means) < 0.05 * values.mean()


def test_no_group_is_in_two_folds():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 500)
    fold = folds.grouped(groups, 5, seed=0)
    assert all(len(set(fold[groups == g])) == 1 for g in set(groups))
    assert np.bincount(fold).min() > 80


def test_groups_of_text_and_too_few_of_them():
    fold = folds.grouped(np.array(["a", None, "b", "a"], dtype=object), 5, seed=0)
    assert sorted(set(fold)) == [0, 1, 2]
    with pytest.raises(InputError, match="two groups"):
        folds.grouped(np.array([1, 1, 1]), 5, seed=0)


@pytest.mark.parametrize("make", [folds.stratified, folds.spread])
def test_the_seed_decides(make):
    y = np.arange(100) % 3
    assert (make(y, 4, seed=1) == make(y, 4, seed=1)).all()
    assert (make(y, 4, seed=1) != make(y, 4, seed=2)).any()


@pytest.mark.parametrize("n", [2, 3, 5, 7])
def test_tiny_tables_have_folds_without_gaps(n):
    for fold in (folds.spread(np.arange(n), 6, seed=0), folds.stratified(np.zeros(n, int), 6, seed=0)):
        assert sorted(set(fold)) == list(range(len(set(fold))))
        held = np.sort(np.concatenate([h for _, h in folds.splits(fold)]))
        assert (held == np.arange(n)).all()
