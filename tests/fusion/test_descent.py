"""Isotonic regression and limited-memory BFGS against scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from conjoin.fusion.columns import _objective
from conjoin.fusion.descent import descend
from conjoin.fusion.isotonic import rising
from conjoin.fusion.problems import class_problem
from conjoin.outputs import Labels, Probabilities

optimize = pytest.importorskip("scipy.optimize")


@settings(deadline=None, max_examples=100)
@given(
    arrays(np.float64, st.integers(1, 40), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0])),
    st.integers(0, 9),
)
def test_rising_is_isotonic_regression(y, seed):
    weights = np.random.default_rng(seed).uniform(0.1, 2, len(y))
    assert np.allclose(rising(y, weights), optimize.isotonic_regression(y, weights=weights).x, atol=1e-12)


def test_rising_of_many_and_of_none():
    rng = np.random.default_rng(0)
    y, weights = rng.normal(size=5000) + np.linspace(0, 3, 5000), rng.uniform(0.1, 2, 5000)
    assert np.allclose(rising(y, weights), optimize.isotonic_regression(y, weights=weights).x, atol=1e-12)
    assert len(rising(np.empty(0), np.empty(0))) == 0


def test_descend_finds_the_optimum_of_class_weights():
    rng = np.random.default_rng(3)
    classes = [f"c{k}" for k in range(4)]
    codes = rng.integers(0, 4, 300)
    outputs = {}
    for m in range(5):
        z = rng.normal(size=(300, 4)) + (0.5 + 0.3 * m) * np.eye(4)[codes]
        outputs[f"m{m}"] = Probabilities(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), classes)
    rows = class_problem(outputs, Labels(codes, classes))
    logs = np.log(rows.stack.tensor())
    start = np.concatenate([np.full(20, 0.2), np.zeros(4)])
    loss = _objective(rows, logs, start, 0.1)
    theirs = optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 2000}
    )
    mine = descend(loss, start)
    assert loss(mine)[0] <= theirs.fun + 1e-9
    assert np.allclose(mine, theirs.x, atol=1e-4)


def test_descend_through_a_curved_valley():
    x = descend(
        lambda x: (optimize.rosen(x), optimize.rosen_der(x)), np.array([-1.2, 1.0]), slope=1e-9, fall=0
    )
    assert np.allclose(x, 1, atol=1e-6)


def test_descend_at_the_optimum_and_of_nothing():
    def bowl(x):
        return float(x @ x), 2 * x

    assert np.array_equal(descend(bowl, np.zeros(3)), np.zeros(3))
    assert len(descend(bowl, np.empty(0))) == 0
