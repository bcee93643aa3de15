"""Calibrators: they mend what is known to be wrong, they never harm by much, they bound and guard."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from conjoin.errors import BundleError, OutputsError
from conjoin.fusion import (
    CALIBRATORS,
    PARTS,
    Calibrated,
    calibrated,
    fit_guarded,
    fit_isotonic,
    fit_linear_pool,
    fit_log_pool,
    fit_mean,
    fit_platt,
    fit_temperature,
)
from conjoin.fusion.calibrate import COLDEST, HOTTEST
from conjoin.outputs import Labels, Probabilities, Values
from conjoin.scores import SCORES

from .worlds import numbers, through_onnx, world

LOSS = SCORES["log_loss"].loss


def distorted(power: float, width: int, n: int = 3000, seed: int = 0) -> tuple[Probabilities, Labels]:
    """Honest probabilities, raised to a power; the truth is drawn from the honest ones."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(width), size=n)
    y = (rng.random((n, 1)) > np.cumsum(p, axis=1)).sum(axis=1)
    q = p**power / (p**power).sum(axis=1, keepdims=True)
    classes = tuple("abcd"[:width])
    return Probabilities(q.astype(np.float32), classes), Labels(y.clip(0, width - 1), classes)


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("name", CALIBRATORS)
def test_overconfidence_is_mended_on_new_rows(name: str, width: int) -> None:
    output, truth = distorted(3.0, width)
    fit, new = np.arange(1500), np.arange(1500, 3000)
    made = CALIBRATORS[name](output.take(fit), truth.take(fit))
    honest = LOSS(distorted(1.0, width)[0].take(new), truth.take(new))
    before, after = (LOSS(o, truth.take(new)) for o in (output.take(new), made(output.take(new))))
    assert after < before - 0.8 * (before - honest)
    assert made(output).values.sum(axis=1) == pytest.approx(np.ones(3000))


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("name", CALIBRATORS)
def test_graph_and_storage(name: str, width: int) -> None:
    output, truth = distorted(2.0, width, n=400)
    made = CALIBRATORS[name](output, truth)
    edges = np.eye(width, dtype=np.float32)
    asked = {"it": Probabilities(np.concatenate([output.values, edges]), output.classes)}
    fuser = Calibrated(fit_mean({"it": output}, truth), {"it": made}, None)
    fused = numbers(fuser(asked))
    assert through_onnx(fuser, asked) == pytest.approx(fused, abs=1e-6)
    arrays, meta = made.pack()
    assert (numbers(type(made).unpack(arrays, meta, {})(asked["it"])) == numbers(made(asked["it"]))).all()
    assert PARTS[type(made).__name__] is type(made)


@pytest.mark.parametrize("width", [2, 3])
def test_temperature_is_the_power_that_distorted(width: int) -> None:
    for power in (0.5, 2.0):
        output, truth = distorted(power, width, n=20000)
        assert fit_temperature(output, truth, smoothing=0.0).temperature == pytest.approx(power, rel=0.1)


def test_temperature_is_bounded() -> None:
    right = Probabilities(np.tile([[0.51, 0.49]], (200, 1)), "ab")
    cold = fit_temperature(right, Labels(np.zeros(200, int), "ab"), smoothing=0.0)
    assert cold.temperature >= COLDEST
    wrong = fit_temperature(right, Labels(np.ones(200, int), "ab"), smoothing=0.0)
    assert wrong.temperature <= HOTTEST
    assert np.isfinite(wrong(right).values).all()


def test_smoothing_mends_hard_zeros() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 500)
    sure = np.where(rng.random(500) < 0.9, y, 1 - y)
    output, truth = Probabilities(np.eye(2)[sure], "ab"), Labels(y, "ab")
    made = fit_temperature(output, truth)
    right = float((sure == y).mean())
    least = -(right * np.log(right) + (1 - right) * np.log(1 - right))
    assert LOSS(made(output), truth) == pytest.approx(least, abs=0.03)


def test_isotonic_is_that_of_sklearn_in_the_large() -> None:
    output, truth = distorted(2.0, 2, n=5000)
    x = output.values[:, 1].astype(np.float64)
    peer = IsotonicRegression(out_of_bounds="clip").fit(x, truth.codes).predict(x)
    mine = fit_isotonic(output, truth)(output).values[:, 1]
    assert np.abs(mine - peer).mean() < 0.005
    assert (np.diff(mine[np.argsort(x)]) >= -1e-12).all()


def test_guard_leaves_honest_answers_alone_and_small_samples() -> None:
    output, truth = distorted(1.0, 2, n=300)
    kept = [fit_guarded(f, output, truth) for f in CALIBRATORS.values()]
    assert sum(k is None for k in kept) >= 2
    few, some = distorted(3.0, 2, n=40)
    assert fit_guarded(fit_temperature, few, some) is None
    bold, truth = distorted(4.0, 2, n=400)
    assert fit_guarded(fit_temperature, bold, truth) is not None


@pytest.mark.parametrize("name", CALIBRATORS)
def test_before_and_after(name: str) -> None:
    output, truth = distorted(3.0, 3, n=600)
    other, _ = distorted(0.4, 3, n=600)
    outputs = {"bold": output, "shy": other}
    fit = calibrated(fit_linear_pool, before=CALIBRATORS[name], after=CALIBRATORS[name])
    fuser = fit(outputs, truth)
    assert LOSS(fuser(outputs), truth) < LOSS(fit_linear_pool(outputs, truth)(outputs), truth)
    assert "bold" in fuser.before
    assert through_onnx(fuser, outputs) == pytest.approx(numbers(fuser(outputs)), abs=1e-6)
    arrays, meta = fuser.pack()
    back = Calibrated.unpack(arrays, meta, fuser.children())
    assert (numbers(back(outputs)) == numbers(fuser(outputs))).all()
    with pytest.raises(BundleError, match="lacks its part"):
        Calibrated.unpack(arrays, meta, {})
    skipped = {**outputs, "shy": Probabilities(other.values, other.classes, np.arange(600) > 2)}
    assert np.isfinite(numbers(fuser(skipped))).all()


def test_nothing_to_calibrate_leaves_the_fuser() -> None:
    outputs, truth = world("binary", n=30)
    fuser = calibrated(partial(fit_log_pool, shrink=2.0), before=fit_platt)(outputs, truth)
    assert fuser.before == {}
    assert fuser.members == fuser.fuser.members
    assert numbers(fuser(outputs)) == pytest.approx(
        numbers(fit_log_pool(outputs, truth, shrink=2.0)(outputs))
    )


def test_weights_of_rows_count() -> None:
    output, truth = distorted(3.0, 2, n=400)
    counts = np.random.default_rng(0).integers(0, 3, 400)
    rows = np.repeat(np.arange(400), counts)
    for name, fit in CALIBRATORS.items():
        weighted = fit(output, truth, weights=counts)
        repeated = fit(output.take(rows), truth.take(rows))
        gap = np.abs(weighted(output).values - repeated(output).values).max()
        assert gap < (0.12 if name == "isotonic" else 0.02)


def test_one_class_and_values() -> None:
    sure = Probabilities(np.ones((60, 1)), ["only"])
    for name, fit in CALIBRATORS.items():
        made = fit(sure, Labels(np.zeros(60, int), ["only"]))
        assert made(sure).values == pytest.approx(np.ones((60, 1))), name
    with pytest.raises(OutputsError, match="only probabilities"):
        fit_temperature(Values([1.0]), Labels([0], "a"))
    with pytest.raises(BundleError, match="makes no sense"):
        PARTS["Temperature"].unpack({}, {"temperature": -1.0, "smoothing": 0.0}, {})
    with pytest.raises(BundleError, match="rise"):
        PARTS["Isotonic"].unpack(
            {"knots": np.array([[1.0, 0.0]]), "heights": np.zeros((1, 2))}, {"classes": ["a"]}, {}
        )
