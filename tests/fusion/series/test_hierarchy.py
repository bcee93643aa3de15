"""Reconciliation: sums add up, the formulas of the papers, hierarchicalforecast where it is installed."""

import numpy as np
import pytest

from conjoin.errors import BundleError, InputError, OutputsError, TruthError
from conjoin.fusion.series import Reconciliation, reconciliation, summing_matrix
from conjoin.fusion.series.hierarchy import METHODS
from conjoin.outputs import Values

S, NAMES = summing_matrix([("n", "a"), ("n", "b"), ("s", "c"), ("s", "d"), ("s", "e")])


def made(n=80, seed=0):
    """Forecasts of all eight nodes that do not add up, and the truth."""
    rng = np.random.default_rng(seed)
    y = rng.uniform(1, 10, (n, 5)) @ S.T
    errors = rng.multivariate_normal(np.zeros(8), np.diag([9, 4, 4, 1, 1, 2, 2, 2]) + 0.5, n)
    return Values(y + errors), Values(y)


def test_summing_matrix():
    assert NAMES == ("total", "n", "s", "n/a", "n/b", "s/c", "s/d", "s/e")
    assert S.sum(axis=1).tolist() == [5, 2, 3, 1, 1, 1, 1, 1]
    _, names = summing_matrix([("x",), ("y",)])
    assert names == ("total", "x", "y")
    uneven, names = summing_matrix([("a", "b"), ("c",)])
    assert names == ("total", "a", "a/b", "c")
    assert uneven.tolist() == [[1, 1], [1, 0], [1, 0], [0, 1]]
    for bad in ([], [()], [("a",), ("a",)], [("a",), ("a", "b")]):
        with pytest.raises(InputError):
            summing_matrix(bad)


@pytest.mark.parametrize("method", METHODS)
def test_forecasts_add_up_and_stay_where_they_do_already(method):
    forecasts, truth = made()
    found = reconciliation(S, method=method, output=forecasts, truth=truth)
    values = found(forecasts).values
    assert np.allclose(values, values[:, 3:] @ S.T)
    if method != "top_down":
        assert np.allclose(found.G @ S, np.eye(5), atol=1e-8)
        assert np.allclose(found(truth).values, truth.values)
    again = Reconciliation.unpack(*found.pack(), {})
    assert np.array_equal(again(forecasts).values, values)


def test_methods_are_the_formulas():
    forecasts, truth = made()
    y = forecasts.values
    assert np.allclose(reconciliation(S, method="bottom_up")(forecasts).values, y[:, 3:] @ S.T)
    P = S @ np.linalg.inv(S.T @ S) @ S.T
    assert np.allclose(reconciliation(S)(forecasts).values, y @ P.T)
    W = np.diag(1 / S.sum(axis=1))
    P = S @ np.linalg.inv(S.T @ W @ S) @ S.T @ W
    assert np.allclose(reconciliation(S, method="wls_struct")(forecasts).values, y @ P.T)
    W = np.diag(1 / ((y - truth.values) ** 2).mean(axis=0))
    P = S @ np.linalg.inv(S.T @ W @ S) @ S.T @ W
    found = reconciliation(S, method="wls_var", output=forecasts, truth=truth)
    assert np.allclose(found(forecasts).values, y @ P.T, atol=1e-6)
    down = reconciliation(S, method="top_down", truth=truth)(forecasts).values
    assert np.allclose(down[:, 0], y[:, 0])
    shares = (truth.values[:, 3:] / truth.values[:, :1]).mean(axis=0)
    assert np.allclose(down[:, 3:], y[:, :1] * shares)


def test_reconciling_makes_forecasts_better():
    forecasts, truth = made(60)
    new, outcome = made(400, seed=1)
    before = ((new.values - outcome.values) ** 2).sum(axis=1).mean()
    losses = {}
    for method in ("ols", "wls_var", "mint_shrink"):
        found = reconciliation(S, method=method, output=forecasts, truth=truth)(new)
        losses[method] = ((found.values - outcome.values) ** 2).sum(axis=1).mean()
    assert max(losses.values()) < before
    assert losses["mint_shrink"] < losses["ols"]


def test_missing_nodes_and_rows():
    forecasts, truth = made(6)
    values = truth.values.copy()
    values[0, 0] = values[1, 3] = np.nan
    values[2, 3:5] = np.nan
    values[3, 3:] = np.nan
    given = Values(values, [True] * 5 + [False])
    for method in ("ols", "bottom_up", "wls_var", "mint_shrink"):
        found = reconciliation(S, method=method, output=forecasts, truth=truth)(given)
        assert found.answered.tolist() == [True, True, False, False, True, False]
        assert np.allclose(found.values[:2], truth.values[:2])


def test_bottom_series_are_kept_above_zero():
    values = np.array([[10.0, 2.0, 8.0, -3.0, 1.0, 3.0, 3.0, 3.0]])
    for method in ("ols", "bottom_up"):
        free = reconciliation(S, method=method)(Values(values)).values
        found = reconciliation(S, method=method, nonnegative=True)(Values(values)).values
        assert free[0, 3] < 0
        assert found.min() >= 0
        assert np.allclose(found, found[:, 3:] @ S.T)


def test_few_rows_constant_errors_and_no_errors():
    forecasts, truth = made(2)
    for method in ("wls_var", "mint_shrink"):
        for rows in ([0], [0, 1]):
            one = forecasts.take(rows), truth.take(rows)
            assert np.isfinite(
                reconciliation(S, method=method, output=one[0], truth=one[1])(forecasts).values
            ).all()
        exact = reconciliation(S, method=method, output=truth, truth=truth)
        assert np.allclose(exact(truth).values, truth.values)


def test_bad_input():
    forecasts, _ = made(5)
    with pytest.raises(InputError, match="did you mean 'ols'"):
        reconciliation(S, method="olss")
    with pytest.raises(InputError, match="no nodes of their own"):
        reconciliation([[1.0, 1.0], [1.0, 0.0]])
    with pytest.raises(InputError, match="summing matrix"):
        reconciliation([1.0, 2.0])
    for method in ("wls_var", "mint_shrink", "top_down"):
        with pytest.raises(InputError, match="needs"):
            reconciliation(S, method=method)
    with pytest.raises(InputError, match="sum of all"):
        reconciliation(np.eye(2), method="top_down", truth=Values(np.ones((3, 2))))
    with pytest.raises(TruthError):
        reconciliation(S, method="wls_var", output=forecasts, truth=Values(np.full((5, 8), np.nan)))
    with pytest.raises(TruthError, match="proportions"):
        reconciliation(S, method="top_down", truth=Values(np.zeros((5, 8))))
    with pytest.raises(OutputsError, match="8 nodes"):
        reconciliation(S)(Values(np.ones((2, 3))))
    arrays, meta = reconciliation(S).pack()
    with pytest.raises(BundleError):
        Reconciliation.unpack({**arrays, "covariance": np.eye(3)}, meta, {})


def test_the_same_as_hierarchicalforecast():
    methods = pytest.importorskip("hierarchicalforecast.methods", reason="pip install hierarchicalforecast")
    forecasts, truth = made()
    history, residuals = truth.values.T, (truth.values - forecasts.values).T
    given = {
        "S": S,
        "y_hat": forecasts.values.T,
        "y_insample": history,
        "y_hat_insample": history - residuals,
    }
    for mine, theirs in {"ols": "ols", "wls_struct": "wls_struct", "wls_var": "wls_var"}.items():
        made_by_them = methods.MinTrace(theirs).fit_predict(**given)["mean"].T
        found = reconciliation(S, method=mine, output=forecasts, truth=truth)(forecasts).values
        assert np.allclose(found, made_by_them, rtol=1e-3), mine
