"""Student's t distribution against scipy."""

import math

import numpy as np
import pytest

from conjoin.errors import InputError
from conjoin.scores.beta import beta_cdf, beta_quantile
from conjoin.scores.student import MANY, student_cdf, student_quantile

special = pytest.importorskip("scipy.special")
FREEDOMS = (0.5, 1, 2, 3, 5, 10, 30, 99, 199, 1000, MANY - 1, MANY, MANY + 1, 1e5, 1e6, 1e9, 1e12)


@pytest.mark.parametrize("freedom", FREEDOMS)
def test_distribution_is_that_of_scipy(freedom):
    for t in (0.0, 1e-3, 0.1, 0.5, 1.0, 1.5, math.sqrt(3), 2.0, 3.0, 5.0, 10.0, 20.0, 1e3):
        for signed in (-t, t):
            wanted = float(special.stdtr(freedom, signed))
            assert student_cdf(signed, freedom) == pytest.approx(wanted, rel=1e-10, abs=1e-250)


@pytest.mark.parametrize("freedom", FREEDOMS)
def test_quantiles_are_those_of_scipy(freedom):
    for share in (1e-10, 1e-3, 0.025, 0.3, 0.4999, 0.7, 0.975, 0.9999):
        wanted = float(special.stdtrit(freedom, share))
        assert student_quantile(share, freedom) == pytest.approx(wanted, rel=1e-10)


def test_near_zero_the_cauchy_distribution_is_exact():
    for t in (1e-12, 1e-9, 1e-6, 0.3):
        assert student_cdf(t, 1) - 0.5 == pytest.approx(math.atan(t) / math.pi, rel=1e-3, abs=1e-15)


def test_ends():
    assert student_cdf(-np.inf, 3) == 0
    assert student_cdf(np.inf, 3) == 1
    assert math.isnan(student_cdf(math.nan, 3))
    assert student_cdf(1e200, 2) == 1
    assert student_quantile(0, 3) == -np.inf
    assert student_quantile(1, 3) == np.inf
    assert student_quantile(0.5, 3) == 0


@pytest.mark.parametrize(
    ("share", "freedom"), [(0.5, 0), (0.5, math.nan), (-0.1, 3), (1.1, 3), (math.nan, 3)]
)
def test_bad_arguments(share, freedom):
    with pytest.raises(InputError, match="degrees of freedom"):
        student_quantile(share, freedom)


def test_no_freedom():
    with pytest.raises(InputError, match="above 0"):
        student_cdf(1.0, 0)


@pytest.mark.parametrize(
    ("a", "b"), [(0.3, 0.3), (0.5, 2), (1, 1), (1, 5), (2, 0.7), (3, 3), (40, 7), (900, 1100)]
)
def test_beta_distribution_is_that_of_scipy(a, b):
    for x in (0.0, 1e-9, 1e-3, 0.1, 0.45, 0.5, 0.9, 1 - 1e-6, 1.0):
        assert beta_cdf(x, a, b) == pytest.approx(float(special.betainc(a, b, x)), rel=1e-10, abs=1e-300)
    for share in (0.0, 1e-6, 0.025, 0.3, 0.5, 0.9, 0.999, 1.0):
        assert beta_quantile(share, a, b) == pytest.approx(float(special.betaincinv(a, b, share)), rel=1e-9)


def test_bad_beta():
    with pytest.raises(InputError, match="above 0"):
        beta_cdf(0.5, 0, 1)
    with pytest.raises(InputError, match="share"):
        beta_quantile(1.5, 1, 1)
    assert math.isnan(beta_cdf(math.nan, 1, 1))
