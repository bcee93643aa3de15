"""Pools of distributions against mixtures worked by hand, known identities and scipy."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conjoin.errors import BundleError, OutputsError, TruthError
from conjoin.fusion import linear_pool
from conjoin.fusion.problems import value_problem
from conjoin.fusion.series import (
    DistributionPool,
    Emos,
    QuantileRegression,
    at_levels,
    beta_transformed_pool,
    distribution_pool,
    fit_beta_transformed_pool,
    fit_distribution_pool,
    fit_emos,
    fit_quantile_averaging,
    fit_quantile_regression_averaging,
    fit_spread_adjusted_pool,
    product_of_experts,
    quantile_averaging,
    spread_adjusted_pool,
)
from conjoin.fusion.series.distributions import between, crps_weights, likeliest_beta
from conjoin.fusion.series.gaussian import normal_cdf
from conjoin.fusion.series.quantile import mixture_at
from conjoin.fusion.stack import stack
from conjoin.outputs import Quantiles, Values
from conjoin.scores import SCORES

from .world import world

LEVELS = tuple((np.arange(1, 40) / 40).tolist())
Z = np.array([NormalDist().inv_cdf(q) for q in LEVELS])
PINBALL = SCORES["pinball"]


def normal(means, deviations):
    means, deviations = np.broadcast_arrays(np.asarray(means, float), np.asarray(deviations, float))
    return Quantiles(means[:, None] + deviations[:, None] * Z, LEVELS)


def test_vincentised_normals_are_normal():
    fused = quantile_averaging({"a": normal([0.0], 1.0), "b": normal([4.0], 3.0)}, weights=[3, 1])
    assert fused.values == pytest.approx(normal([1.0], 1.5).values)
    with pytest.raises(OutputsError, match="fuses quantiles"):
        quantile_averaging({"a": Values([1.0])})


def test_a_pool_of_two_uniform_distributions():
    levels = (0.25, 0.5, 0.75)
    a = Quantiles([[1.0, 2.0, 3.0]], levels)  # uniform on [0, 4] between its levels
    b = Quantiles([[11.0, 12.0, 13.0]], levels)
    fused = distribution_pool({"a": a, "b": b}).values[0]
    assert fused[0] == pytest.approx(2.0, abs=1e-3)  # half of a's median, none of b
    assert fused[2] == pytest.approx(12.0, abs=1e-3)
    near = distribution_pool({"a": a, "b": Quantiles([[1.5, 2.5, 3.5]], levels)}).values[0]
    assert near[1] == pytest.approx(2.25)


def test_the_pool_of_normals_is_the_mixture():
    stats = pytest.importorskip("scipy.stats")
    fused = distribution_pool({"a": normal([0.0], 1.0), "b": normal([2.0], 2.0)}, weights=[1, 3]).values[0]
    F = 0.25 * stats.norm.cdf(fused) + 0.75 * stats.norm.cdf(fused, 2, 2)
    assert pytest.approx(np.array(LEVELS), abs=0.004) == F


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 6))
@example(271186, 3, 2)
def test_the_pool_inverts_its_distribution_function(seed, members, width):
    rng = np.random.default_rng(seed)
    levels = tuple(np.sort(rng.choice(np.arange(1, 50), width, replace=False)) / 50)
    scale = 10.0 ** rng.integers(-3, 6)
    outputs = {
        f"m{m}": Quantiles(np.sort(rng.integers(-4, 5, (4, width)) * scale, axis=1), levels)
        for m in range(members)
    }
    laid, w = stack(outputs), rng.uniform(0.1, 1, members)
    fused = distribution_pool(outputs, weights=dict(zip(laid.names, w, strict=True)))
    for k, q in enumerate(levels):
        x = fused.values[:, k]
        at = mixture_at(laid, w, x)
        below = mixture_at(laid, w, x - 1e-9 * scale)
        assert (at >= q - 1e-9).all()
        assert (below <= q + 1e-6).all()
    assert (np.diff(fused.values, axis=1) >= 0).all()


def test_one_member_ties_and_crossing():
    one = Quantiles([[3.0, 3.0, 3.0], [1.0, 2.0, 5.0]], (0.1, 0.5, 0.9))
    assert np.array_equal(distribution_pool({"a": one}).values, one.values)
    crossed = Quantiles([[2.0, 1.0, 5.0]], (0.1, 0.5, 0.9))
    assert distribution_pool({"a": crossed}).values.tolist() == [[1.0, 2.0, 5.0]]
    wide = normal([0.0], 1.0)
    same = distribution_pool({"a": wide, "b": wide, "c": wide})
    assert same.values == pytest.approx(wide.values, abs=1e-12)


def test_beta_transform_sharpens_and_moves():
    outputs = {"a": normal([0.0], 1.0), "b": normal([0.0], 2.0)}
    plain = distribution_pool(outputs).values[0]
    sharp = beta_transformed_pool(outputs, alpha=2.0, beta=2.0).values[0]
    assert np.ptp(sharp) < np.ptp(plain)
    assert sharp[19] == pytest.approx(plain[19], abs=1e-9)
    moved = beta_transformed_pool(outputs, alpha=2.0, beta=1.0).values[0]
    assert (moved > plain).all()
    assert np.array_equal(beta_transformed_pool(outputs).values[0], plain)
    with pytest.raises(OutputsError, match="above 0"):
        beta_transformed_pool(outputs, alpha=0.0)


def test_spread_about_the_median():
    one = {"a": normal([5.0], 2.0)}
    assert spread_adjusted_pool(one, spread=0.5).values == pytest.approx(normal([5.0], 1.0).values)
    uneven = {"a": Quantiles([[0.0, 10.0]], (0.25, 0.75))}
    assert spread_adjusted_pool(uneven, spread=0.5).values.tolist() == [[2.5, 7.5]]
    low = {"a": Quantiles([[0.0, 10.0]], (0.1, 0.2))}
    assert spread_adjusted_pool(low, spread=2.0).values.tolist() == [[-10.0, 10.0]]
    with pytest.raises(OutputsError, match="spread"):
        spread_adjusted_pool(one, spread=float("nan"))


def test_other_levels():
    q = Quantiles([[0.0, 4.0]], (0.25, 0.75))
    found = at_levels(q, (0.1, 0.25, 0.5, 0.75, 0.9)).values[0]
    assert found[1:4].tolist() == [0.0, 2.0, 4.0]
    assert found[0] < 0
    assert found[4] > 4
    assert found[0] + found[4] == pytest.approx(4.0)
    with pytest.raises(OutputsError, match="levels"):
        at_levels(q, (0.5, 0.1))


def test_distance_between_points():
    rng = np.random.default_rng(0)
    a, b = np.sort(rng.normal(size=(5, 7))), np.sort(rng.normal(size=(5, 7)) + 1)
    wanted = np.abs(a[:, :, None] - b[:, None, :]).mean(axis=(1, 2))
    assert between(a, b) == pytest.approx(wanted)
    assert between(a, a) == pytest.approx(np.abs(a[:, :, None] - a[:, None, :]).mean(axis=(1, 2)))


def made(n=600, seed=0):
    """The truth is a mixture of two members in shares 0.7 and 0.3; the third is far off."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=n) * 3
    y = np.where(rng.random(n) < 0.7, mean + rng.normal(size=n), mean + 6 + rng.normal(size=n))
    outputs = {"a": normal(mean, 1.0), "b": normal(mean + 6, 1.0), "c": normal(mean - 30, 1.0)}
    return outputs, Values(y)


def test_crps_weights_find_the_mixture():
    outputs, truth = made()
    w = crps_weights(value_problem(outputs, truth))
    assert w == pytest.approx([0.7, 0.3, 0.0], abs=0.06)
    pool = fit_distribution_pool(outputs, truth)
    assert PINBALL.loss(pool(outputs), truth) < PINBALL.loss(
        fit_quantile_averaging(outputs, truth)(outputs), truth
    )


def test_vincentization_is_the_pool_of_conjoin():
    outputs, truth = world(np.random.default_rng(0), 60, "quantiles")
    found = fit_quantile_averaging(outputs, truth)
    assert np.array_equal(found(outputs).values, linear_pool(outputs, weights=found.weights).values)


def test_beta_fit_and_spread_fit_mend_a_pool_that_is_too_wide():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=500) * 3
    truth = Values(mean + rng.normal(size=500) * 0.5)
    outputs = {"a": normal(mean, 1.5), "b": normal(mean + 0.1, 1.6)}
    plain = PINBALL.loss(fit_distribution_pool(outputs, truth)(outputs), truth)
    beta, spread = fit_beta_transformed_pool(outputs, truth), fit_spread_adjusted_pool(outputs, truth)
    assert beta.alpha > 2
    assert spread.spread == pytest.approx(0.33, abs=0.07)
    assert PINBALL.loss(beta(outputs), truth) < 0.9 * plain
    assert PINBALL.loss(spread(outputs), truth) < 0.9 * plain
    for pool in (beta, spread):
        again = DistributionPool.unpack(*pool.pack(), {})
        assert np.array_equal(again(outputs).values, pool(outputs).values)
    with pytest.raises(BundleError):
        DistributionPool.unpack(
            *(
                {"weights": np.ones(1), "levels": np.ones(1)},
                {"members": ["a"], "spread": -1, "alpha": 1, "beta": 1},
            ),
            {},
        )


def test_likeliest_beta_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    u = stats.beta.rvs(2.5, 0.8, size=2000, random_state=0)
    a, b = likeliest_beta(np.log(u).mean(), np.log1p(-u).mean())
    wanted = stats.beta.fit(u, floc=0, fscale=1)
    assert (a, b) == pytest.approx(wanted[:2], rel=1e-4)


def test_product_of_normals():
    a, b = normal([0.0, 0.0], [1.0, 1.0]), normal([3.0, 3.0], [2.0, 2.0])
    fused = product_of_experts({"a": a, "b": b}, weights=[1, 1])
    assert fused.values == pytest.approx(normal([0.6, 0.6], np.sqrt(0.8)).values)
    assert product_of_experts({"a": a}).values == pytest.approx(a.values)
    half = product_of_experts({"a": a, "b": Quantiles(b.values, LEVELS, [True, False])})
    assert half.values[1] == pytest.approx(a.values[1])
    sure = product_of_experts({"a": a, "b": normal([5.0, 5.0], [0.0, 0.0])})
    assert sure.values == pytest.approx(np.full((2, len(LEVELS)), 5.0), abs=1e-6)
    with pytest.raises(OutputsError, match="two or more levels"):
        product_of_experts({"a": Quantiles([[1.0]], (0.5,))})


def test_quantile_regression_averaging_of_forecasts_covers():
    rng = np.random.default_rng(0)
    y = rng.normal(size=4000) * 5
    outputs = {
        c: Values(y + s * rng.standard_t(4, size=4000) + 1) for c, s in zip("ab", (1.0, 2.0), strict=True)
    }
    truth, rows = Values(y), np.arange(4000)
    fit_at, test_at = rows[:2000], rows[2000:]
    fuser = fit_quantile_regression_averaging(
        {n: o.take(fit_at) for n, o in outputs.items()}, truth.take(fit_at)
    )
    fused = fuser({n: o.take(test_at) for n, o in outputs.items()})
    inside = (y[test_at, None] <= fused.values).mean(axis=0)
    assert inside == pytest.approx(np.array(fused.levels), abs=0.04)
    assert (np.diff(fused.values, axis=1) >= 0).all()
    again = QuantileRegression.unpack(*fuser.pack(), {})
    assert np.array_equal(again(outputs).values, fuser(outputs).values)
    with pytest.raises(OutputsError, match="each horizon apart"):
        fit_quantile_regression_averaging({"a": Values(np.ones((4, 2)))}, Values(np.ones((4, 2))))
    with pytest.raises(BundleError):
        QuantileRegression.unpack({"levels": np.array([2.0])}, {"members": []}, {})


def test_penalty_of_quantile_regression_averaging_draws_to_equal_weights():
    rng = np.random.default_rng(0)
    y = rng.normal(size=100) * 5
    outputs = {c: Values(y + rng.normal(size=100)) for c in "abcd"}
    far = fit_quantile_regression_averaging(outputs, Values(y), levels=[0.5], penalty=1e4)
    assert far.weights[:, 0] == pytest.approx([0.25] * 4, abs=1e-4)
    with pytest.raises(OutputsError, match="penalty"):
        fit_quantile_regression_averaging(outputs, Values(y), penalty=-1)


def test_emos_recovers_a_normal_truth():
    rng = np.random.default_rng(0)
    n = 3000
    base = rng.normal(size=n) * 4
    outputs = {c: Values(base + rng.normal(size=n) * s) for c, s in zip("abc", (1, 1.5, 2), strict=True)}
    truth = Values(2 + base + rng.normal(size=n))
    emos = fit_emos(outputs, truth)
    fused = emos(outputs)
    inside = (truth.values[:, None] <= fused.values).mean(axis=0)
    assert inside == pytest.approx(np.array(fused.levels), abs=0.02)
    assert emos.intercept == pytest.approx(2, abs=0.2)
    assert emos.weights[0] > emos.weights[1] > emos.weights[2]
    again = Emos.unpack(*emos.pack(), {})
    assert np.array_equal(again(outputs).values, fused.values)
    with pytest.raises(OutputsError, match="one value a row"):
        fit_emos({"a": Values(np.ones((4, 2)))}, Values(np.ones((4, 2))))
    assert normal_cdf(np.array([[0.0]])).tolist() == [[0.5]]


def test_bad_input():
    outputs, truth = world(np.random.default_rng(0), 20, "quantiles")
    other = {**outputs, "x": Quantiles(np.ones((20, 2)), (0.1, 0.9))}
    with pytest.raises(OutputsError, match=r"levels|targets"):
        distribution_pool(other)
    holes = {"a": Quantiles([[1.0, np.nan]], (0.1, 0.9))}
    with pytest.raises(OutputsError, match="NaN"):
        distribution_pool(holes)
    for fit in (fit_distribution_pool, fit_beta_transformed_pool, fit_spread_adjusted_pool):
        with pytest.raises(TruthError):
            fit(outputs, Values(np.full(20, np.nan)))
        with pytest.raises(OutputsError):
            fit({"a": Values([1.0])}, Values([1.0]))
        one = {n: o.take([0]) for n, o in outputs.items()}
        assert np.isfinite(fit(one, truth.take([0]))({n: one[n] for n in one}).values).all()
    for weights in ([1, 2], {"nobody": 1}, [-1, 1, 1, 1], [0, 0, 0, 0]):
        with pytest.raises(OutputsError):
            distribution_pool(outputs, weights=weights)
