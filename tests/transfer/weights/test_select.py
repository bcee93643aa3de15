"""Order statistics beside sorting: continuous numbers, few values, rows unlike each other, NaN."""

import numpy as np
import pytest

from conjoin.transfer.weights import merge_tensors, select
from conjoin.transfer.weights.method import BLOCK, Given
from conjoin.transfer.weights.select import Edge, Numbers, grouped, order_statistics, pieces
from conjoin.transfer.weights.sparse import magnitudes

N = 9 * BLOCK + 77
RNG = np.random.default_rng(0)
ROWS = RNG.exponential(size=N) * np.repeat(10.0 ** RNG.integers(-3, 3, N // 500 + 1), 500)[:N]
WORLDS = {
    "normal": np.abs(RNG.standard_normal(N)),
    "few values": np.abs(RNG.standard_normal(N)).round(1),
    "one value": np.ones(N),
    "mostly zeros": np.where(RNG.random(N) < 0.97, 0, RNG.random(N)),
    "rows unlike each other": ROWS,
    "sorted": np.sort(RNG.random(N)),
    "some NaN and infinite": np.where(
        RNG.random(N) < 0.01, np.nan, np.where(RNG.random(N) < 0.01, np.inf, 1)
    ),
}


def numbers(values, sample=None):
    values = values.astype(np.float32)
    given = Given("t", (values,), np.zeros(len(values), np.float32), {}, {}, 0, np.empty_like(values))
    found = magnitudes(given, 0)
    return (
        found if sample is None else Numbers(found.n, found.block, lambda: grouped(sample.astype(np.float32)))
    )


@pytest.mark.parametrize("world", WORLDS)
def test_ranks_are_those_of_sorting(world):
    bits = WORLDS[world].astype(np.float32).view(np.uint32)
    ordered = np.sort(bits)
    ranks = [0, 1, N // 7, N // 2, N - N // 20, N - 1]
    held = numbers(WORLDS[world])
    for rank, found in zip(ranks, order_statistics(held, lambda _: ranks), strict=True):
        assert found.bits == ordered[rank]
        assert found.below == np.searchsorted(ordered, found.bits)
        equal = np.flatnonzero(bits == found.bits)
        assert found.equal.sum() == len(equal)
        assert [found.position(held, k) for k in (0, 1, len(equal))] == [0, equal[0] + 1, equal[-1] + 1]


def test_a_sample_that_misleads_costs_time_only(monkeypatch):
    values = np.abs(RNG.standard_normal(N))
    ordered = np.sort(values.astype(np.float32).view(np.uint32))
    for sample in (values[:64] * 1e-6, np.full(640, 100.0), values[:1]):
        (found,) = order_statistics(numbers(values, sample), lambda _: [N // 3])
        assert found.bits == ordered[N // 3]
    monkeypatch.setattr(select, "MOST_INSIDE", 10)  # what lies inside a bracket does not fit
    (found,) = order_statistics(numbers(values), lambda _: [N // 3])
    assert found.bits == ordered[N // 3]


def test_ranks_that_depend_on_the_zeros():
    values = WORLDS["mostly zeros"]
    some = int(np.count_nonzero(values))
    (found,) = order_statistics(numbers(values), lambda zeros: [N - (N - zeros) // 2], zeros=True)
    assert found.bits == np.sort(values.astype(np.float32).view(np.uint32))[N - some // 2]
    assert order_statistics(numbers(np.zeros(N)), lambda zeros: [0] if zeros < N else [], zeros=True) == []


def test_pieces_of_a_block():
    low, high = Edge(5, 6, 10), Edge(8, 7, 20)
    assert pieces(slice(0, 10), low, high) == [(slice(0, 10), [5, 8])]
    assert pieces(slice(5, 25), low, high) == [
        (slice(0, 5), [5, 8]),
        (slice(5, 15), [6, 8]),
        (slice(15, 20), [6, 7]),
    ]


@pytest.mark.parametrize("name", ["ties", "breadcrumbs"])
def test_large_tensors_with_equal_magnitudes_keep_the_exact_number(name):
    one = np.round(RNG.standard_normal(N), 1)
    share = {"weight": 1.0, "density": 0.37}
    kept = merge_tensors([one], name, base=np.zeros(N), parameters=share) != 0
    order = (
        np.argsort(-np.abs(one), kind="stable") if name == "ties" else np.argsort(np.abs(one), kind="stable")
    )
    count, high = int(0.37 * N), int(0.01 * N)
    wanted = order[:count] if name == "ties" else order[N - count - high : N - high]
    expected = np.zeros(N, bool)
    expected[wanted] = True
    np.testing.assert_array_equal(kept, expected & (one != 0))


def test_a_writer_gets_the_answer_in_order():
    x = RNG.standard_normal(N).astype(np.float32)
    parts = []
    given = Given(
        "t", (x,), None, {}, {}, 0, np.empty_like(x), lambda start, part: parts.append((start, part.copy()))
    )
    for block, out in given.parts(1000):
        out[:] = x[block]
    assert [start for start, _ in parts] == np.cumsum([0, *(len(p) for _, p in parts[:-1])]).tolist()
    np.testing.assert_array_equal(np.concatenate([p for _, p in parts]), x)
