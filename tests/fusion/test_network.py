from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from conjoin.contracts import Column
from conjoin.errors import BundleError, InputError
from conjoin.fusion.network import NetworkFit, NetworkWeights, Recipe, Steps, fit_network
from conjoin.graph.builder import Graph
from conjoin.graph.session import Session

SMALL = Recipe(hidden=(24, 16), members=3, epochs=8, batch=32)
LEVELS = (0.1, 0.5, 0.9)


def _data(n: int = 600, d: int = 5, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Features of very different scales, one binary, one constant; a curved signal."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d + 2))
    X[:, d] = X[:, d] > 0
    X[:, d + 1] = 7.0
    signal = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, d] - 0.5 * X[:, 2] ** 2
    X[:, 1] = 1e6 * X[:, 1] + 3e6
    return X.astype(np.float32), signal


def _fit(task: str, **more: object) -> tuple[np.ndarray, NetworkFit]:
    X, signal = _data()
    if task == "classes":
        y, given = np.digitize(signal, [-1.0, 0.0]), {"n_outputs": 3}
    elif task == "values":
        y, given = 1e4 + 300 * signal, {"n_outputs": 1}
    else:
        y, given = signal, {"n_outputs": 3, "levels": LEVELS}
    held = (X[450:], y[450:], None)
    options = {"seed": 3, "recipe": SMALL, "validation": held} | given | more
    return X, fit_network(X[:450], y[:450], task=task, **options)


def _bytes(fit: NetworkFit) -> bytes:
    arrays, _ = fit.weights.pack()
    return b"".join(arrays[name].tobytes() for name in sorted(arrays))


def _onnx(weights: NetworkWeights, X: np.ndarray) -> np.ndarray:
    graph = Graph()
    x = graph.column(Column("x", "tensor", (X.shape[1],)))
    graph.output("y", weights.emit(graph, x), 1 if weights.task == "classes" else 11)
    return Session(graph.build().SerializeToString()).run({"x": X})[0]


@pytest.mark.parametrize("task", ["classes", "values", "quantiles"])
@pytest.mark.parametrize("recipe", [SMALL, Recipe(hidden=(20,), members=1, bins=0, epochs=2)])
def test_onnxruntime_computes_what_forward_computes(task: str, recipe: Recipe) -> None:
    X, fit = _fit(task, recipe=recipe)
    wild = np.concatenate([X, np.float32([[1e30] * 7, [-1e30] * 7, [0] * 7])])
    ours, theirs = fit.weights.forward(wild), _onnx(fit.weights, wild)
    assert theirs.dtype == ours.dtype
    assert theirs.shape == ours.shape == (len(wild), 1 if task == "values" else 3)
    assert np.isfinite(ours).all()
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)


def test_classes_are_learned_and_probabilities_sum_to_one() -> None:
    X, signal = _data()
    y = np.digitize(signal, [-1.0, 0.0])
    _, fit = _fit("classes", recipe=Recipe(hidden=(64, 32), epochs=40))
    p = fit.weights.forward(X[450:])
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    loss = -np.log(p[np.arange(150), y[450:]]).mean()
    prior = np.bincount(y[:450]) / 450
    assert loss < 0.6 * -np.log(prior[y[450:]]).mean()
    assert fit.loss == pytest.approx(loss, rel=1e-4)


def test_values_are_learned() -> None:
    X, signal = _data()
    _, fit = _fit("values", recipe=Recipe(hidden=(64, 32), epochs=40))
    error = fit.weights.forward(X[450:])[:, 0] - (1e4 + 300 * signal[450:])
    assert np.sqrt(np.mean(error**2)) < 0.45 * 300 * signal[450:].std()


def test_quantiles_are_in_order_and_cover() -> None:
    X, signal = _data()
    _, fit = _fit("quantiles", recipe=Recipe(hidden=(64, 32), epochs=40))
    q = fit.weights.forward(X)
    assert (np.diff(q, axis=1) >= 0).all()
    inside = (signal[450:] >= q[450:, 0]) & (signal[450:] <= q[450:, 2])
    assert 0.6 < inside.mean() <= 1.0


def test_several_values_at_once() -> None:
    X, signal = _data()
    Y = np.stack([signal, -5 * signal + 2], axis=1)
    fit = fit_network(X, Y, task="values", n_outputs=2, seed=0, recipe=Recipe(hidden=(64, 32), epochs=30))
    answer = fit.weights.forward(X)
    assert np.corrcoef(answer[:, 0], Y[:, 0])[0, 1] > 0.9
    assert np.corrcoef(answer[:, 1], Y[:, 1])[0, 1] > 0.9
    assert fit.loss is None


def test_the_least_validation_loss_is_kept_and_can_be_repeated_byte_for_byte() -> None:
    _, fit = _fit("classes")
    X, signal = _data()
    y = np.digitize(signal, [-1.0, 0.0])
    assert 0 < fit.steps.kept <= fit.steps.planned
    again = fit_network(X[:450], y[:450], task="classes", n_outputs=3, seed=3, recipe=SMALL, steps=fit.steps)
    assert _bytes(again) == _bytes(fit)
    assert again.steps == fit.steps
    other = fit_network(X[:450], y[:450], task="classes", n_outputs=3, seed=4, recipe=SMALL, steps=fit.steps)
    assert _bytes(other) != _bytes(fit)


def test_a_run_cut_by_its_deadline_can_be_repeated() -> None:
    X, signal = _data(4000)
    given = {"task": "values", "n_outputs": 1, "seed": 0}
    recipe = Recipe(hidden=(24, 16), members=3, batch=128, epochs=4000)
    began = time.monotonic()
    cut = fit_network(X, signal, recipe=recipe, deadline=began + 1.0, **given)
    assert time.monotonic() - began < 5
    assert cut.steps.kept <= cut.steps.planned < 4000 * (4000 // 128)
    again = fit_network(X, signal, recipe=recipe, steps=cut.steps, **given)
    assert _bytes(again) == _bytes(cut)


def test_stop_ends_training_with_a_usable_network() -> None:
    X, fit = _fit("values", stop=lambda: True, recipe=Recipe(epochs=1000))
    assert fit.steps.kept <= 8
    assert np.isfinite(fit.weights.forward(X)).all()


def test_a_deadline_that_has_passed_still_gives_a_network() -> None:
    X, fit = _fit("classes", deadline=time.monotonic() - 1)
    assert fit.steps.kept >= 1
    assert np.isfinite(fit.weights.forward(X)).all()


_THREADS = """
import hashlib, numpy as np
from conjoin.fusion.network import Recipe, fit_network
rng = np.random.default_rng(0)
X = rng.normal(size=(3000, 40)).astype(np.float32)
y = (X[:, 0] * X[:, 1] > 0).astype(int)
fit = fit_network(X, y, task="classes", n_outputs=2, seed=0, recipe=Recipe(epochs=2, batch=250))
arrays, _ = fit.weights.pack()
print(hashlib.sha256(b"".join(arrays[k].tobytes() for k in sorted(arrays))).hexdigest())
"""


def test_the_number_of_threads_does_not_change_a_byte() -> None:
    source = str(Path(__file__).parents[2] / "src")
    digests = set()
    for threads in ("1", "2"):
        env = {
            **os.environ,
            "OPENBLAS_NUM_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            "PYTHONPATH": source,
        }
        run = subprocess.run([sys.executable, "-c", _THREADS], env=env, capture_output=True, check=True)
        digests.add(run.stdout)
    assert len(digests) == 1


def test_fits_in_parallel_threads_give_the_bytes_of_fits_one_by_one() -> None:
    X, signal = _data(2000)
    recipe = Recipe(epochs=2, batch=256)

    def fit(seed: int) -> bytes:
        return _bytes(fit_network(X, signal, task="values", n_outputs=1, seed=seed, recipe=recipe))

    alone = [fit(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(fit, range(3))) == alone


def test_weights_count_as_rows() -> None:
    X, _ = _data(400)
    y = np.zeros(400, dtype=int)
    y[::2] = 1  # no signal: what is answered is the weighted share
    w = np.where(y == 1, 9.0, 1.0)
    recipe = Recipe(hidden=(16,), epochs=20, bins=0, dropout=0.0, learning_rate=0.02)
    fit = fit_network(X, y, task="classes", n_outputs=2, seed=0, recipe=recipe, weights=w)
    assert fit.weights.forward(X)[:, 1].mean() == pytest.approx(0.9, abs=0.06)


@pytest.mark.parametrize("task", ["classes", "values", "quantiles"])
def test_packed_and_unpacked_answers_the_same(task: str) -> None:
    X, fit = _fit(task)
    arrays, meta = fit.weights.pack()
    again = NetworkWeights.unpack(arrays, meta, {})
    assert again.forward(X).tobytes() == fit.weights.forward(X).tobytes()


@pytest.mark.parametrize("name", ["entry", "bias.1", "source", "head", "scale"])
def test_damaged_weights_are_refused(name: str) -> None:
    _, fit = _fit("values")
    arrays, meta = fit.weights.pack()
    with pytest.raises(BundleError, match="lacks"):
        NetworkWeights.unpack({k: v for k, v in arrays.items() if k != name}, meta, {})
    with pytest.raises(BundleError, match="packed network"):
        NetworkWeights.unpack(arrays | {name: arrays[name][..., :-1]}, meta, {})
    bad = arrays[name] + 99 if name == "source" else arrays[name] * np.float32(np.nan)
    with pytest.raises(BundleError, match=r"feature that does not exist|not finite"):
        NetworkWeights.unpack(arrays | {name: bad}, meta, {})
    with pytest.raises(BundleError, match="says task"):
        NetworkWeights.unpack(arrays, {"task": "words", "layers": 2}, {})


def test_clear_errors() -> None:
    X, signal = _data(50)
    given = {"n_outputs": 1, "seed": 0, "recipe": SMALL}
    with pytest.raises(InputError, match="finite"):
        fit_network(np.where(X == 7, np.nan, X), signal, task="values", **given)
    with pytest.raises(InputError, match="class codes"):
        fit_network(X, np.full(50, 3), task="classes", **given)
    with pytest.raises(InputError, match="shape"):
        fit_network(X, signal[:-1], task="values", **given)
    with pytest.raises(InputError, match="weights"):
        fit_network(X, signal, task="values", weights=-np.ones(50), **given)
    with pytest.raises(InputError, match="levels"):
        fit_network(X, signal, task="quantiles", **given)
    with pytest.raises(InputError, match="7\\) features"):
        fit_network(X, signal, task="values", **given).weights.forward(X[:, 1:])


def test_one_row_and_one_class_are_survived() -> None:
    one = fit_network(np.ones((1, 2)), np.array([5.0]), task="values", n_outputs=1, seed=0, steps=Steps(3, 3))
    assert one.weights.forward(np.ones((1, 2)))[0, 0] == pytest.approx(5, abs=0.5)
    assert one.weights.forward(np.zeros((0, 2))).shape == (0, 1)
