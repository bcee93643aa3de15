"""The convex solvers against scipy and against their own certificates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, nnls

from conjoin.errors import OutputsError
from conjoin.fusion import loglinear
from conjoin.fusion.simplex import (
    least_pinball_mixture,
    least_quadratic,
    least_squares_mixture,
    likeliest_mixture,
    row_shares,
)


@pytest.mark.parametrize("seed", range(25))
def test_non_negative_quadratic_is_that_of_lawson_and_hanson(seed: int) -> None:
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, 25))
    A, b = rng.normal(size=(k + 5 if seed % 4 else max(1, k // 2), k)), rng.normal(size=k)
    if seed % 3 == 0:
        A[:, -1] = A[:, 0]
    b = rng.normal(size=len(A))
    x = least_quadratic(A.T @ A, -A.T @ b, np.abs(rng.normal(size=k)) if seed % 2 else None)
    assert (x >= 0).all()
    assert ((A @ x - b) ** 2).sum() <= ((A @ nnls(A, b)[0] - b) ** 2).sum() * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("seed", range(10))
def test_sum_to_one_keeps_the_conditions_of_optimality(seed: int) -> None:
    rng = np.random.default_rng(seed)
    A, b = rng.normal(size=(30, 12)), rng.normal(size=30)
    x = least_quadratic(A.T @ A, -A.T @ b, total=1.0)
    slope = A.T @ (A @ x - b)
    assert x.sum() == pytest.approx(1.0)
    assert (x >= 0).all()
    assert slope @ x - slope.min() < 1e-9 * np.abs(slope).max()


def mixtures(members: int, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(rng.beta(2, 1 + rng.random((members, 1)), size=(members, n)), 1e-15, 1)


@pytest.mark.parametrize(("members", "n"), [(1, 1), (2, 1), (3, 40), (40, 3000), (200, 12000), (30, 7)])
def test_mixture_optimum_is_certified(members: int, n: int) -> None:
    P = mixtures(members, n, 0)
    rng = np.random.default_rng(1)
    for shares in (np.full(n, 1 / n), row_shares(rng.random(n) + 1e-3, n)):
        found = likeliest_mixture(P, shares, tolerance=1e-8)
        mixed = found.weights @ P
        assert found.weights.sum() == pytest.approx(1.0)
        assert (found.weights >= 0).all()
        assert found.loss == pytest.approx(-shares @ np.log(mixed))
        assert float((P @ (shares / mixed)).max()) - 1 <= found.gap + 1e-12 <= 1.1e-8


def test_mixture_optimum_is_that_of_a_general_solver() -> None:
    P = mixtures(5, 400, 3)
    shares = np.full(400, 1 / 400)

    def loss(z: np.ndarray) -> float:
        w = np.exp(z - z.max())
        return -float(shares @ np.log((w / w.sum()) @ P))

    peer = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-9})
    assert likeliest_mixture(P, shares).loss == pytest.approx(peer.fun, abs=1e-6)


def test_zero_probabilities_duplicates_and_a_perfect_member() -> None:
    P = mixtures(6, 500, 4)
    P[1] = P[0]
    P[2, ::3] = 1e-15
    P[3] = 1.0
    found = likeliest_mixture(P, np.full(500, 1 / 500))
    assert found.weights[3] == pytest.approx(1.0)
    assert found.loss == pytest.approx(0.0, abs=1e-9)
    useless = likeliest_mixture(np.full((3, 10), 1e-15), np.full(10, 0.1))
    assert useless.gap < 1e-7


def test_least_squares_mixture_has_no_gap() -> None:
    rng = np.random.default_rng(0)
    R = rng.normal(size=(50, 400)) * rng.uniform(0.5, 2, (50, 1)) + rng.normal(size=400)
    R[7] = R[3]
    found = least_squares_mixture(R @ R.T / 400)
    assert found.gap < 1e-9
    assert found.loss <= min((R**2).mean(axis=1))
    perfect = least_squares_mixture(np.diag([0.0, 1.0]))
    assert perfect.loss < 1e-12
    assert least_squares_mixture(np.zeros((3, 3))).weights.sum() == pytest.approx(1.0)


def test_pinball_mixture_is_certified_and_beats_the_members() -> None:
    rng = np.random.default_rng(0)
    n, levels = 800, np.array([0.1, 0.5, 0.9])
    y = rng.normal(size=n)
    at = np.array([-1.28, 0.0, 1.28])
    V = np.stack([0.5 * y[:, None] + rng.normal(size=(n, 1)) * s + at * s for s in (0.4, 0.6, 0.9, 1.5)])
    shares = np.full(n, 1 / n)
    found = least_pinball_mixture(V, y, levels, shares)
    e = y[:, None] - np.tensordot(found.weights, V, axes=1)
    assert found.loss == pytest.approx(np.maximum(levels * e, (levels - 1) * e).mean())
    assert 0 <= found.gap <= 2e-3 * found.loss
    singles = [np.maximum(levels * (y[:, None] - v), (levels - 1) * (y[:, None] - v)).mean() for v in V]
    assert found.loss <= min(singles) + 1e-9


@pytest.mark.parametrize("width", [2, 4])
@pytest.mark.parametrize("signed", [True, False])
def test_log_linear_fit_is_at_its_optimum(width: int, signed: bool) -> None:
    rng = np.random.default_rng(width)
    F, y = rng.normal(size=(5, 150, width)), rng.integers(0, width, 150)
    F[0, np.arange(150), y] += 0.7
    F[1, np.arange(150), y] -= 0.5
    shares = row_shares(rng.random(150) + 0.1, 150)
    centre, penalty = rng.random(5), np.full(5, 0.02)
    found = loglinear.fit(
        loglinear.relative(F, y, shares),
        centre=centre,
        penalty=penalty,
        signed=signed,
        intercept_penalty=0.01,
    )

    def cost(x: np.ndarray) -> float:
        z = np.tensordot(x[:5], F, axes=1) + x[5:]
        loss = np.log(np.exp(z).sum(axis=1)) - z[np.arange(150), y]
        return float(shares @ loss + 0.01 * ((x[:5] - centre) ** 2).sum() + 0.005 * (x[5:] ** 2).sum())

    bounds = [(None if signed else 0, None)] * 5 + [(None, None)] * width
    peer = minimize(cost, np.r_[centre, np.zeros(width)], bounds=bounds, method="L-BFGS-B")
    mine = cost(np.r_[found.theta, found.intercepts])
    assert mine == pytest.approx(peer.fun, abs=1e-6)
    assert signed or (found.theta >= 0).all()


def test_weights_of_rows_that_are_all_zero_are_refused() -> None:
    with pytest.raises(OutputsError, match="all weights of rows are 0"):
        row_shares(np.zeros(3), 3)
