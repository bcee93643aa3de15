"""The parts that learners make beside trees and networks: their graph against numpy, packing, damage."""

import numpy as np
import pytest

from conjoin.errors import BundleError, InputError
from conjoin.graph.average import Average
from conjoin.graph.linear import Linear
from conjoin.graph.neighbours import Neighbours, search
from conjoin.train.measure import cost_of, run_part

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 4)).astype(np.float32)
W = RNG.normal(size=(4, 3)).astype(np.float32)
B = RNG.normal(size=3).astype(np.float32)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def again(part):
    arrays, meta = part.pack()
    return type(part).unpack(arrays, meta, part.children())


def neighbours(values=False, k=7):
    rows = RNG.normal(size=(200, 4)).astype(np.float32)
    weight = np.array([1, 2, 0.5, 1], np.float32)
    if values:
        table, codes, prior = RNG.normal(size=(200, 1)), np.arange(200), [0.0]
    else:
        table, codes, prior = np.eye(3), RNG.integers(0, 3, 200), [0.2, 0.3, 0.5]
    return Neighbours(
        rows * weight,
        weight,
        codes.astype(np.int32),
        np.asarray(table, np.float32),
        np.asarray(prior, np.float32),
        k,
        0.5,
        values=values,
        scale=3.0 if values else 1.0,
        shift=10.0 if values else 0.0,
    )


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Linear(W, B, "softmax"), softmax(X @ W + B)),
        (Linear(W[:, :1], B[:1], "sigmoid"), softmax(np.hstack([np.zeros((300, 1)), X @ W[:, :1] + B[:1]]))),
        (Linear(W[:, :1], B[:1], "values", 5.0, 2.0), (X @ W[:, :1] + B[:1]) * 5.0 + 2.0),
        (Linear(W, B, "rising", 5.0, 2.0), np.sort(X @ W + B, axis=1) * 5.0 + 2.0),
    ],
)
def test_linear_is_what_it_says(part, expected):
    classes = part.link in ("softmax", "sigmoid")
    np.testing.assert_allclose(run_part(part, X, probabilities=classes), expected, rtol=1e-4, atol=1e-5)
    assert (run_part(again(part), X, probabilities=classes) == run_part(part, X, probabilities=classes)).all()


def test_the_mean_of_linear_models():
    parts = [Linear(W * k, B * k, "softmax") for k in (1, 3)]
    np.testing.assert_allclose(Linear.mean(parts).coefficients, W * 2, rtol=1e-6)
    with pytest.raises(InputError, match="no mean"):
        Linear.mean([Linear(W, B, "softmax"), Linear(W, B, "rising")])


@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("k", [1, 7, 200])
def test_neighbours_in_the_graph_are_those_of_numpy(values, k):
    part = neighbours(values, k)
    found = run_part(part, X, probabilities=not values)
    np.testing.assert_allclose(found, part.forward(X), atol=2e-4 if values else 2e-5)
    one = np.vstack([run_part(part, X[i : i + 1], probabilities=not values) for i in range(40)])
    np.testing.assert_allclose(one, found[:40], atol=2e-4 if values else 2e-5)
    assert (run_part(again(part), X, probabilities=not values) == found).all()
    if not values:
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_a_stored_row_finds_itself():
    part = neighbours()
    at, squares = search(part.rows, part.rows, 3)
    assert (at[:, 0] == np.arange(200)).all()
    assert squares[:, 0].max() < 1e-9
    assert (np.diff(squares, axis=1) >= 0).all()


def test_copies_of_one_row_do_not_divide_by_zero():
    part = neighbours()
    same = Neighbours(
        np.zeros((9, 4), np.float32),
        part.weight,
        np.arange(9, dtype=np.int32) % 3,
        part.table,
        part.prior,
        5,
        0.1,
    )
    found = run_part(same, np.zeros((2, 4), np.float32), probabilities=True)
    assert np.isfinite(found).all()


def test_the_mean_of_parts():
    parts = [Linear(W, B, "softmax"), Linear(-W, B, "softmax")]
    both = Average.of(parts)
    expected = (softmax(X @ W + B) + softmax(X @ -W + B)) / 2
    np.testing.assert_allclose(run_part(both, X, probabilities=True), expected, atol=1e-5)
    assert Average.of(parts[:1]) is parts[0]
    assert (run_part(again(both), X, probabilities=True) == run_part(both, X, probabilities=True)).all()
    numbers = Average.of([Linear(W[:, :1], B[:1], "values", s) for s in (1.0, 3.0)])
    np.testing.assert_allclose(
        run_part(numbers, X, probabilities=False), 2 * (X @ W[:, :1] + B[:1]), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(InputError):
        Average.of([])


@pytest.mark.parametrize(
    ("part", "change"),
    [
        (Linear(W, B, "softmax"), {"intercept": B[:2]}),
        (neighbours(), {"codes": np.full(200, 9, np.int32)}),
        (neighbours(), {"weight": np.ones(3, np.float32)}),
        (neighbours(), {"rows": np.ones(3, np.float32)}),
    ],
)
def test_damaged_parts_are_refused(part, change):
    arrays, meta = part.pack()
    with pytest.raises(BundleError, match="packed"):
        type(part).unpack(arrays | change, meta, {})
    with pytest.raises(BundleError):
        type(part).unpack({}, meta, {})


def test_a_mean_without_its_parts_is_refused():
    arrays, meta = Average((Linear(W, B, "softmax"),)).pack()
    with pytest.raises(BundleError, match="names 1 parts and holds 0"):
        Average.unpack(arrays, meta, {})


def test_the_cost_of_a_part():
    cost = cost_of(Linear(W, B, "softmax"), X, probabilities=True)
    assert 0 < cost.cpu_seconds_per_row < 1e-2
    assert cost.bytes == W.nbytes + B.nbytes
