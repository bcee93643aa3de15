"""Scaled errors of forecasts."""

import numpy as np
import pytest

from conjoin.errors import InputError, OutputsError
from conjoin.outputs import Values
from conjoin.scores import estimate
from conjoin.scores.scaled import mase, naive_scales, rmsse

NAN = float("nan")


def test_scales():
    found = naive_scales([[1.0, 2.0, 4.0], [1.0, 9.0, 2.0, 7.0], [5.0, 5.0, 5.0], [], [1.0, NAN, 2.0, 5.0]])
    assert found[:2].tolist() == [1.5, pytest.approx(20 / 3)]
    assert np.isnan(found[2:4]).all()
    assert found[4] == 3
    assert naive_scales([[1.0, 9.0, 2.0, 7.0]], season=2).tolist() == [1.5]
    assert naive_scales([[0.0, 3.0, 7.0]], squared=True)[0] == pytest.approx(np.sqrt(12.5))
    with pytest.raises(InputError, match="season"):
        naive_scales([[1.0]], season=0)


def test_mase_and_rmsse():
    answer, truth = Values([[1.0, 3.0], [0.0, 0.0]]), Values([[2.0, 5.0], [4.0, 4.0]])
    assert mase([2.0, 4.0]).value(answer, truth) == pytest.approx((0.75 + 1) / 2)
    assert rmsse([1.0, 2.0]).value(answer, truth) == pytest.approx((np.sqrt(2.5) + 2) / 2)
    assert mase([2.0, 4.0]).value(answer, truth, [1, 3]) == pytest.approx((0.75 + 3) / 4)
    assert mase([2.0, 4.0]).rows(answer, truth).tolist() == [0.75, 1.0]
    assert estimate(mase([2.0, 4.0]), answer, truth).value == pytest.approx(0.875)


def test_rows_without_a_scale():
    answer, truth = Values([1.0, 2.0]), Values([0.0, NAN])
    assert mase([2.0, NAN]).value(answer, truth) == 0.5
    with pytest.raises(OutputsError, match=r"rows \[1\]"):
        mase([2.0, NAN]).value(answer, Values([0.0, 0.0]))
    with pytest.raises(OutputsError, match="3 scales"):
        mase([1.0, 1.0, 1.0]).value(answer, truth)
    with pytest.raises(InputError, match="one number a row"):
        mase([[1.0]])
