"""Combining forecasts against formulas worked in another way, and with hostile inputs."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conjoin.errors import BundleError, InputError, OutputsError, TruthError
from conjoin.fusion import fit_linear_pool, mean
from conjoin.fusion.affine import AffinePool
from conjoin.fusion.series import (
    CANDIDATES,
    FIT_FUSERS,
    KINDS,
    ByCell,
    ByHorizon,
    cellwise,
    each_horizon,
    fit_bates_granger,
    fit_constrained_least_squares,
    fit_granger_ramanathan,
    fit_lad,
    fit_recent_inverse_error,
    recency,
    rolling_origin,
    winsorised_mean,
)
from conjoin.fusion.series.covariance import best_shrinkage, shrunk_covariance
from conjoin.fusion.series.regression import quantile_regression
from conjoin.fusion.single import Single
from conjoin.outputs import Probabilities, Quantiles, Values
from conjoin.scores import SCORES

from .world import world

NAN = float("nan")
OF_VALUES = [n for n, kinds in KINDS.items() if "values" in kinds and n in FIT_FUSERS]
DATA = Path(__file__).parents[4] / "shared/data/outputs/tabular_regression/dev"


def three(n=300, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n) * 5
    E = rng.multivariate_normal([0, 0, 0], [[1, 0.8, 0], [0.8, 2, 0], [0, 0, 3]], n)
    return {c: Values(y + e) for c, e in zip("abc", E.T, strict=True)}, Values(y)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12), st.sampled_from([0.0, 0.1, 0.2, 0.34, 0.49]))
def test_winsorised_mean_is_that_of_scipy(numbers, trim):
    mstats = pytest.importorskip("scipy.stats.mstats")
    outputs = {f"m{i:02}": Values([v]) for i, v in enumerate(numbers)}
    wanted = float(np.mean(mstats.winsorize(np.array(numbers), limits=(trim + 1e-12, trim + 1e-12))))
    assert winsorised_mean(outputs, trim=trim).values[0] == pytest.approx(wanted, rel=1e-9, abs=1e-6)


def test_winsorised_mean_of_probabilities_and_quantiles():
    p = {
        c: Probabilities([[x, 1 - x]], "no") for c, x in zip("abcde", (0.1, 0.5, 0.5, 0.6, 0.99), strict=True)
    }
    assert winsorised_mean(p, trim=0.2).values == pytest.approx(np.array([[0.54, 0.46]]))
    q = {c: Quantiles([[x, x + 1]], (0.1, 0.9)) for c, x in zip("abc", (1.0, 2.0, 50.0), strict=True)}
    assert winsorised_mean(q, trim=0.34).values.tolist() == [[2.0, 3.0]]
    with pytest.raises(OutputsError, match="trim"):
        winsorised_mean(p, trim=0.5)


def test_winsorised_mean_with_weights_and_silence():
    outputs = {"a": Values([0.0, 0.0]), "b": Values([10.0, NAN], [True, False]), "c": Values([2.0, 4.0])}
    assert winsorised_mean(outputs, trim=0.34).values.tolist() == [2.0, 2.0]
    assert winsorised_mean(outputs, weights={"a": 1, "b": 0, "c": 3}, trim=0.1).values.tolist() == [1.5, 3.0]


def test_bates_granger_is_the_formula():
    outputs, truth = three()
    E = np.array([outputs[c].values - truth.values for c in "abc"])
    w = np.linalg.solve(E @ E.T, np.ones(3))
    assert fit_bates_granger(outputs, truth, shrink=0.0).weights == pytest.approx(w / w.sum(), abs=1e-6)
    inverse = 1 / (E**2).mean(axis=1)
    found = fit_bates_granger(outputs, truth, shrink=1.0)
    assert found.weights == pytest.approx(inverse / inverse.sum(), abs=1e-6)
    assert found.weights.sum() == pytest.approx(1)


def test_shrinkage_falls_with_rows_and_is_1_for_one_row():
    rng = np.random.default_rng(0)
    E = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 5000).T
    found = [best_shrinkage(E[:, :n], np.full(n, 1 / n)) for n in (1, 10, 100, 5000)]
    assert found[0] == 1
    assert sorted(found, reverse=True) == found
    assert found[-1] < 0.01
    assert best_shrinkage(rng.normal(size=(6, 20)), np.full(20, 0.05)) > 0.4
    with pytest.raises(InputError, match="shrink"):
        shrunk_covariance(E, np.ones(5000), shrink=1.5)


def test_granger_ramanathan_is_least_squares():
    outputs, truth = three()
    X = np.stack([outputs[c].values for c in "abc"], axis=1)
    full = np.linalg.lstsq(np.c_[X, np.ones(len(X))], truth.values, rcond=None)[0]
    found = fit_granger_ramanathan(outputs, truth)
    assert found.weights == pytest.approx(full[:3])
    assert found.intercepts == pytest.approx(full[3:])
    free = fit_granger_ramanathan(outputs, truth, constant=False)
    assert free.weights == pytest.approx(np.linalg.lstsq(X, truth.values, rcond=None)[0])
    far = fit_granger_ramanathan(outputs, Values(truth.values + 7), penalty=1e9)
    assert far.weights == pytest.approx([1 / 3] * 3, abs=1e-4)
    assert far.intercepts == pytest.approx([7], abs=0.3)
    with pytest.raises(OutputsError, match="penalty"):
        fit_granger_ramanathan(outputs, truth, penalty=-1)


def test_row_weights_count():
    outputs, truth = three()
    mass = np.random.default_rng(1).integers(0, 3, 300)
    again = {n: o.take(np.repeat(np.arange(300), mass)) for n, o in outputs.items()}
    doubled = truth.take(np.repeat(np.arange(300), mass))
    for fit in (fit_granger_ramanathan, fit_lad, fit_constrained_least_squares):
        one, two = fit(outputs, truth, weights=mass), fit(again, doubled)
        assert one(outputs).values == pytest.approx(two(outputs).values, abs=1e-4)


def test_constrained_least_squares_is_the_pool_and_takes_a_common_bias_away():
    outputs, truth = three()
    assert fit_constrained_least_squares(outputs, truth).weights == fit_linear_pool(outputs, truth).weights
    shifted = {n: Values(o.values + 4) for n, o in outputs.items()}
    found = fit_constrained_least_squares(shifted, truth, constant=True)
    assert found.intercepts == pytest.approx([-4], abs=0.3)
    assert found.weights.sum() == pytest.approx(1)
    assert found.weights.min() >= 0


def test_lad_is_not_moved_by_wild_truths():
    outputs, truth = three()
    wild = truth.values.copy()
    wild[::30] += 1e4
    found = fit_lad(outputs, Values(wild))
    rows = np.ones(300, dtype=bool)
    rows[::30] = False
    assert np.abs(found(outputs).values - truth.values)[rows].mean() < 1


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 4), st.floats(0.02, 0.98), st.integers(0, 99))
def test_quantile_regression_is_the_linear_programme(n, p, level, seed):
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(seed)
    X = np.c_[np.ones(n), rng.integers(-3, 4, size=(n, p))].astype(float)
    y, s = rng.integers(-5, 6, n).astype(float), rng.integers(0, 3, n).astype(float)
    s[0] = 1
    b = quantile_regression(X, y, np.full(n, level), s)
    A = np.c_[X, -X, np.eye(n), -np.eye(n)]
    costs = np.concatenate([np.zeros(2 * X.shape[1]), level * s, (1 - level) * s])
    wanted = optimize.linprog(costs, A_eq=A, b_eq=y, method="highs").fun
    e = y - X @ b
    assert (s * np.maximum(level * e, (level - 1) * e)).sum() <= wanted + 1e-6 * max(1.0, wanted)


def test_members_that_are_alike_and_more_members_than_rows():
    rng = np.random.default_rng(0)
    y = rng.normal(size=6)
    alike = {f"m{i}": Values(y + 1) for i in range(4)}
    many = {f"m{i:02}": Values(y + rng.normal(size=6)) for i in range(20)}
    for name in OF_VALUES:
        for outputs in (alike, many):
            fused = FIT_FUSERS[name](outputs, Values(y))(outputs)
            assert np.isfinite(fused.values).all(), name
    assert fit_bates_granger(alike, Values(y)).weights == pytest.approx([0.25] * 4)


@pytest.mark.parametrize("name", OF_VALUES)
def test_one_row_constant_series_and_missing_truth(name):
    one = {"a": Values([1.0]), "b": Values([3.0])}
    assert np.isfinite(FIT_FUSERS[name](one, Values([2.0]))(one).values).all()
    flat = {"a": Values(np.ones(9)), "b": Values(np.ones(9))}
    assert np.isfinite(FIT_FUSERS[name](flat, Values(np.ones(9)))(flat).values).all()
    outputs, truth = world(np.random.default_rng(0), 40)
    holes = Values(np.where(np.arange(40) % 3 == 0, NAN, truth.values))
    fused = FIT_FUSERS[name](outputs, holes)(outputs)
    assert np.isfinite(fused.values[fused.answered]).all()
    if name not in ("boa", "ml_poly", "fixed_share", "exponential_weights"):
        with pytest.raises(TruthError):
            FIT_FUSERS[name](one, Values([NAN]))
    with pytest.raises((TruthError, OutputsError)):
        FIT_FUSERS[name](one, Values([np.inf]))
    with pytest.raises((TruthError, OutputsError)):
        FIT_FUSERS[name](one, Values([1.0, 2.0]))


@pytest.mark.parametrize("name", ["bates_granger", "lad", "granger_ramanathan", "constrained_least_squares"])
def test_forecasts_of_several_horizons_with_gaps(name):
    outputs, truth = world(np.random.default_rng(0), 60, width=3)
    whole = FIT_FUSERS[name](outputs, truth)
    assert whole(outputs).values.shape == (60, 3)
    short = dict(outputs)
    values = outputs["ets"].values.copy()
    values[:, 2] = NAN  # this member does not reach the last horizon
    short["ets"] = Values(values, outputs["ets"].answered)
    gapped = FIT_FUSERS[name](short, truth)
    assert isinstance(gapped, ByCell)
    fused = gapped(short)
    assert np.isfinite(fused.values[fused.answered]).all()
    again = ByCell.unpack(*gapped.pack(), gapped.children())
    assert np.array_equal(again(short).values, fused.values, equal_nan=True)
    only = gapped({"ets": short["ets"]})
    assert np.isnan(only.values[:, 2]).all()
    apart = each_horizon(FIT_FUSERS[name])(short, truth)
    assert isinstance(apart, ByHorizon)
    assert apart(short).values.shape == (60, 3)
    back = ByHorizon.unpack(*apart.pack(), apart.children())
    assert np.array_equal(back(short).values, apart(short).values, equal_nan=True)
    with pytest.raises(BundleError):
        ByHorizon.unpack({}, {"horizons": 9}, {})
    with pytest.raises(OutputsError, match="horizons"):
        apart({"ets": Values(np.ones((2, 5)))})


def test_a_horizon_without_truth_is_named():
    outputs, truth = world(np.random.default_rng(0), 20, width=2)
    holes = Values(np.c_[truth.values[:, 0], np.full(20, NAN)])
    with pytest.raises(TruthError, match="horizon 1"):
        each_horizon(fit_bates_granger)(outputs, holes)


def test_a_nan_of_a_forecast_of_one_number_is_missing_too():
    outputs, truth = world(np.random.default_rng(0), 30, skip=0.0)
    values = outputs["ets"].values.copy()
    values[::4] = NAN
    marked = {**outputs, "ets": Values(values, ~np.isnan(values))}
    given = {**outputs, "ets": Values(values)}
    mine, theirs = fit_bates_granger(given, truth), fit_bates_granger(marked, truth)
    assert np.array_equal(mine(given).values, theirs(marked).values)


def test_cellwise_mean():
    outputs = {"a": Values([[1.0, NAN], [NAN, NAN]]), "b": Values([[3.0, 5.0], [NAN, NAN]])}
    fused = cellwise(mean, outputs)
    assert fused.values[0].tolist() == [2.0, 5.0]
    assert fused.answered.tolist() == [True, False]
    flat = {"a": Values([1.0, NAN]), "b": Values([3.0, 4.0])}
    assert cellwise(mean, flat).values.tolist() == [2.0, 4.0]


def test_quantiles_and_probabilities_are_refused():
    quantiles, truth = world(np.random.default_rng(0), 20, "quantiles")
    with pytest.raises(OutputsError, match="combines values"):
        fit_bates_granger(quantiles, truth)


def test_recent_errors_count_more():
    y = np.zeros(100)
    a, b = Values(np.r_[np.full(80, 9.0), np.full(20, 0.1)]), Values(np.ones(100))
    assert fit_recent_inverse_error({"a": a, "b": b}, Values(y), window=10).weights["a"] > 0.9
    assert fit_recent_inverse_error({"a": a, "b": b}, Values(y), half_life=1e9).weights["a"] < 0.1
    assert recency(3).tolist() == [1, 1, 1]
    assert recency(0).tolist() == []
    with pytest.raises(InputError):
        recency(3, half_life=0)
    with pytest.raises(InputError):
        recency(3, window=0)


def test_rolling_origin_never_looks_ahead():
    outputs, truth = world(np.random.default_rng(0), 40)
    rolled = rolling_origin(fit_bates_granger, outputs, truth, first=10, step=7, gap=2)
    assert rolled.origins == (8, 15, 22, 29, 36)
    assert not rolled.output.answered[:10].any()
    changed = Values(np.r_[truth.values[:22], truth.values[22:] + 100])
    again = rolling_origin(fit_bates_granger, outputs, changed, first=10, step=7, gap=2)
    assert np.array_equal(rolled.output.values[:24], again.output.values[:24], equal_nan=True)
    assert not np.array_equal(rolled.output.values[24:], again.output.values[24:], equal_nan=True)
    with pytest.raises(InputError):
        rolling_origin(fit_bates_granger, outputs, truth, first=2, gap=2)
    with pytest.raises(TruthError):
        rolling_origin(fit_bates_granger, outputs, truth, first=40)


def test_where_a_fit_is_worse_the_best_member_is_given():
    y = np.arange(10.0)
    outputs = {"good": Values(y), "bad": Values(y[::-1].copy())}
    assert isinstance(fit_granger_ramanathan(outputs, Values(y), penalty=1e9), Single)


@pytest.mark.parametrize("table", ["california_housing", "diamonds"])
@pytest.mark.parametrize("name", CANDIDATES)
def test_better_than_the_best_member_on_real_tables(table, name):
    path = DATA / f"{table}.npz"
    if not path.exists():
        pytest.skip(f"{path} is not here: real outputs lie beside the project in ../shared/data")
    found = np.load(path)
    y = Values(found["y"].astype(float))
    outputs = {str(n): Values(x.astype(float)) for n, x in zip(found["names"], found["oof"], strict=True)}
    gains = []
    for seed in range(5):
        rows = np.random.default_rng(seed).permutation(len(y))
        fit_at, test_at = rows[: len(y) // 2], rows[len(y) // 2 :]
        some = {n: o.take(fit_at) for n, o in outputs.items()}
        rest = {n: o.take(test_at) for n, o in outputs.items()}
        score = SCORES["rmse"]
        best = min(some, key=lambda n: score.loss(some[n], y.take(fit_at)))
        fuser = FIT_FUSERS[name](some, y.take(fit_at))
        gains.append(score.loss(rest[best], y.take(test_at)) - score.loss(fuser(rest), y.take(test_at)))
    assert min(gains) > 0


def test_fits_of_values_have_an_onnx_form():
    outputs, truth = three()
    assert isinstance(fit_bates_granger(outputs, truth), AffinePool)
