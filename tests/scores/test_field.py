"""Scores of the fields: their values, their linearised rows, their tests."""

import numpy as np
import pytest

from conjoin.errors import OutputsError
from conjoin.outputs import Values
from conjoin.scores import FieldScore, estimate, mean_of_rows, paired

ERRORS = FieldScore(
    "wer",
    "values",
    "lower",
    0.0,
    lambda o, t: np.stack([np.abs(o.values - t.values), t.values], axis=1),
    lambda s: float(s[0] / s[1]),
)
WHOLE = FieldScore(
    "whole", "values", "higher", 1.0, measure=lambda o, t: float((o.values == t.values).mean())
)


def made(n=400, seed=0):
    rng = np.random.default_rng(seed)
    truth = Values(rng.integers(1, 9, n).astype(float))
    return Values(truth.values + rng.integers(0, 3, n)), Values(truth.values + rng.integers(0, 2, n)), truth


def test_rows_have_the_loss_as_their_mean_and_the_error_of_a_bootstrap():
    a, _, truth = made()
    assert ERRORS.rows(a, truth).mean() == pytest.approx(ERRORS.value(a, truth), rel=1e-9)
    rng = np.random.default_rng(1)
    draws = [ERRORS.value(a.take(i), truth.take(i)) for i in (rng.integers(0, 400, 400) for _ in range(600))]
    assert estimate(ERRORS, a, truth).standard_error == pytest.approx(np.std(draws), rel=0.1)


def test_paired_difference():
    a, b, truth = made()
    gap = paired(ERRORS, a, b, truth)
    assert gap.mean == pytest.approx(ERRORS.loss(a, truth) - ERRORS.loss(b, truth), rel=1e-9)
    assert gap.p_value < 1e-6


def test_rows_without_statistics_and_weights():
    a, _, truth = made(10)
    some = FieldScore(
        "some",
        "values",
        "lower",
        0.0,
        lambda o, t: np.where(np.arange(len(t))[:, None] < 5, [[1.0, 1.0]], np.nan) * [[2.0, 1.0]],
        mean_of_rows,
    )
    assert some.value(a, truth) == 2.0
    assert np.isnan(some.rows(a, truth)[5:]).all()
    assert np.isnan(some.value(a, truth, np.r_[np.zeros(5), np.ones(5)]))
    with pytest.raises(OutputsError, match="3 answers but 10 truths"):
        some.value(a.take(slice(3)), truth)


def test_a_measure_of_the_whole_is_bootstrapped():
    a, b, truth = made(60)
    assert WHOLE.rows(a, truth) is None
    assert WHOLE.loss(a, truth) == 1 - WHOLE.value(a, truth)
    assert 0 < estimate(WHOLE, a, truth).standard_error < 0.2
    assert paired(WHOLE, b, a, truth).mean == pytest.approx(WHOLE.value(a, truth) - WHOLE.value(b, truth))
