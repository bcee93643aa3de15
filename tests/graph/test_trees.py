"""Trees against a slow reference in numpy, over random ensembles."""

from __future__ import annotations

import numpy as np
import pytest

from conjoin.errors import BundleError, InputError
from conjoin.graph import tree_nodes
from conjoin.graph.builder import Graph
from conjoin.graph.preorder import preorder, right_children, rounded_down, tree_starts
from conjoin.graph.session import Session
from conjoin.graph.tree_sets import Sets
from conjoin.graph.trees import Nodes, Trees

SPECIAL = [np.nan, 0.0, -0.0, np.inf, -np.inf, 1e-40, 3.4e38]


def reference(trees: Trees, x: np.ndarray) -> np.ndarray:
    """What the docstring of Trees says, one row at a time."""
    starts, leaves = tree_starts(trees.leaf), np.concatenate([[0], np.cumsum(trees.leaf)])
    right = dict(zip(np.flatnonzero(~trees.leaf).tolist(), right_children(trees.leaf).tolist(), strict=True))
    out = np.tile(trees.base, (len(x), 1))
    members = np.split(trees.sets.member, np.cumsum(trees.sets.count)[:-1].astype(int))
    for row, sums in zip(x, out, strict=True):
        sets = [float(not in_set(trees.sets, m, members[m], row)) for m in range(len(trees.sets))]
        row = np.concatenate([row, sets])
        if trees.zero_missing:
            row[: trees.n_features][np.abs(row[: trees.n_features]) <= np.float32(1e-35)] = np.nan
        for t in range(len(starts) - 1):
            node = int(starts[t])
            while not trees.leaf[node]:
                i = node - leaves[node]
                v = row[trees.feature[i]]
                left = trees.missing_left[i] if np.isnan(v) else v <= trees.threshold[i]
                node = node + 1 if left else right[node]
            value = trees.values[trees.codes[leaves[node]]].astype(np.float64) * trees.weight[t]
            if len(value) == 1:
                sums[trees.target[t]] += value[0]
            else:
                sums += value
    return linked(trees, out)


def in_set(sets: Sets, m: int, members: np.ndarray, row: np.ndarray) -> bool:
    v = row[sets.feature[m]]
    if np.isnan(v):
        return bool(sets.missing[m])
    return int(v) in members if -1 < v < sets.size[m] else bool(sets.rest[m])


def linked(trees: Trees, sums: np.ndarray) -> np.ndarray:
    if trees.link in ("values", "rising"):
        values = sums * trees.scale + trees.shift
        return np.sort(values, axis=1) if trees.link == "rising" else values
    if trees.link == "exp":
        return np.exp(sums)
    if trees.link == "sigmoid":
        return 1 / (1 + np.exp(np.concatenate([sums, -sums], axis=1)))
    if trees.link == "complement":
        return np.concatenate([1 - sums, sums], axis=1)
    if trees.link == "softmax":
        e = np.exp(sums - sums.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)
    return sums


def random_trees(
    rng: np.random.Generator,
    *,
    count: int = 7,
    d: int = 5,
    outputs: int = 1,
    width: int = 1,
    link: str = "values",
    sets: int = 0,
    pure: bool = False,
    zero_missing: bool = False,
    wide: bool = False,
) -> Trees:
    left, right, roots = [], [], []
    for _ in range(count):
        roots.append(len(left))
        left.append(-1)
        right.append(-1)
        leaves = [roots[-1]]
        for _ in range(rng.integers(0, 12)):
            node = leaves.pop(rng.integers(len(leaves)))
            for side in (right, left):  # not in preorder, on purpose
                side[node] = len(left)
                leaves.append(len(left))
                left.append(-1)
                right.append(-1)
    n = len(left)
    feature = rng.integers(0, d + sets, n)
    threshold = np.where(rng.random(n) < 0.3, rng.choice([0.0, -0.0, 0.5, 0.1]), rng.normal(size=n))
    threshold = np.where(feature >= d, 0.5, threshold)
    value = rng.normal(size=(n, width)) + 3
    if pure:
        value = np.eye(width)[rng.integers(0, width, n)]
    members = [np.flatnonzero(rng.random(6) < 0.5) for _ in range(sets)]
    yes, no = rng.random(sets) < 0.5, rng.random(sets) < 0.5
    table = Sets.of(rng.integers(0, d, sets), members, size=rng.integers(6, 8, sets), rest=yes, missing=no)
    nodes = Nodes(
        np.array(left), np.array(right), np.array(roots), feature, threshold, rng.random(n) < 0.5, value,
        sets=table,
    )  # fmt: skip
    target = rng.integers(0, outputs, count) if width == 1 else None
    return Trees.of(
        nodes, n_features=d, link=link, base=rng.normal(size=outputs), target=target,  # type: ignore[arg-type]
        weight=np.round(rng.random(count), 1), zero_missing=zero_missing, wide=wide,
    )  # fmt: skip


def rows(rng: np.random.Generator, trees: Trees, n: int = 60) -> np.ndarray:
    x = rng.normal(size=(n, trees.n_features)).astype(np.float32)
    x = np.where(rng.random(x.shape) < 0.15, rng.choice(np.array(SPECIAL, np.float32), x.shape), x)
    x = np.where(rng.random(x.shape) < 0.3, rng.choice(trees.threshold, x.shape), x)  # ties
    for f in trees.sets.feature:
        x[:, f] = np.where(rng.random(n) < 0.8, rng.integers(-2, 10, n), x[:, f])
    return x.astype(trees.threshold.dtype)


def run(trees: Trees, x: np.ndarray) -> np.ndarray:
    from conjoin.contracts import Column

    graph = Graph()
    if x.dtype == np.float64:
        feeds = {f"x{j}": x[:, j : j + 1] for j in range(x.shape[1])}
        tensor = graph.concat([graph.column(Column(name, "number")) for name in feeds])
    else:
        feeds = {"x": x}
        tensor = graph.column(Column("x", "tensor", (trees.n_features,)))
    wide = trees.affine or trees.link == "exp"
    graph.output("y", trees.emit(graph, tensor), 11 if wide else 1)
    out = Session(graph.build().SerializeToString()).run(feeds)[0]
    assert out.dtype == (np.float64 if wide else np.float32)
    return out


CASES = {
    "values": {},
    "several targets": {"outputs": 3},
    "rising": {"outputs": 3, "link": "rising"},
    "exp": {"link": "exp"},
    "sigmoid": {"link": "sigmoid"},
    "softmax": {"link": "softmax", "outputs": 4},
    "complement": {"link": "complement"},
    "vectors": {"link": "shares", "outputs": 4, "width": 4},
    "pure vectors": {"link": "shares", "outputs": 4, "width": 4, "pure": True},
    "vectors of values": {"outputs": 2, "width": 2},
    "vectors to softmax": {"link": "softmax", "outputs": 3, "width": 3},
    "zero is missing": {"zero_missing": True},
    "sets": {"sets": 4},
    "float64": {"wide": True},
    "float64 with sets": {"wide": True, "sets": 3, "zero_missing": True},
    "sets and zero": {"sets": 3, "zero_missing": True, "link": "softmax", "outputs": 3},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_graph_is_the_reference(case: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(len(str(case)))
    trees = random_trees(rng, count=9, **case)
    x = rows(rng, trees)
    expected = reference(trees, x)
    tolerance = 1e-12 if trees.affine else 1e-6
    np.testing.assert_allclose(run(trees, x), expected, rtol=1e-9, atol=tolerance)
    monkeypatch.setattr(tree_nodes, "NODES", 20)
    monkeypatch.setattr(tree_nodes, "WIDTH", 8)
    np.testing.assert_allclose(run(trees, x), expected, atol=tolerance)  # as several nodes
    np.testing.assert_allclose(run(trees, x[:1]), expected[:1], atol=tolerance)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_pack_and_unpack(case: dict) -> None:
    rng = np.random.default_rng(1)
    trees = random_trees(rng, **case).rescaled(scale=2.5, shift=-1.0)
    again = Trees.unpack(*trees.pack(), {})
    x = rows(rng, trees)
    np.testing.assert_array_equal(run(trees, x), run(again, x))
    assert [a.tobytes() for a in trees.pack()[0].values()] == [a.tobytes() for a in again.pack()[0].values()]


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.get("width", 1) == 1], ids=str)
def test_mean_averages_sums(case: dict) -> None:
    rng = np.random.default_rng(2)
    parts = [random_trees(rng, count=k + 1, **case) for k in range(3)]
    x = rows(rng, parts[0])
    weights = np.array([1.0, 2.0, 0.0])
    if parts[0].affine:
        parts = [p.rescaled(scale=k + 1.0, shift=k) for k, p in enumerate(parts)]
    if case.get("link", "values") in ("values", "complement"):
        expected = sum(w / 3 * reference(p, x) for w, p in zip(weights, parts, strict=True))
        np.testing.assert_allclose(run(Trees.mean(parts, weights.tolist()), x), expected, atol=1e-6)
    joined = Trees.mean(parts)
    np.testing.assert_allclose(run(joined, x), reference(joined, x), atol=1e-6)
    assert Trees.mean(parts[:1]) is parts[0]


def test_sets_that_parts_share_are_kept_once() -> None:
    trees = random_trees(np.random.default_rng(12), sets=4, count=5)
    joined = Trees.mean([trees, random_trees(np.random.default_rng(13), sets=3), trees])
    x = rows(np.random.default_rng(14), joined)
    assert len(joined.sets) == 7
    np.testing.assert_allclose(run(joined, x), reference(joined, x), atol=1e-9)
    parts = (trees, random_trees(np.random.default_rng(13), sets=3), trees)
    np.testing.assert_allclose(run(joined, x), sum(reference(p, x) for p in parts) / 3, atol=1e-6)


def test_mean_of_forests() -> None:
    rng = np.random.default_rng(3)
    parts = [random_trees(rng, count=3, link="shares", outputs=3, width=3) for _ in range(2)]
    x = rows(rng, parts[0])
    expected = 0.25 * reference(parts[0], x) + 0.75 * reference(parts[1], x)
    np.testing.assert_allclose(run(Trees.mean(parts, [1, 3]), x), expected, atol=1e-6)


def test_stack_sorts_quantiles() -> None:
    rng = np.random.default_rng(4)
    parts = [random_trees(rng, sets=k).rescaled(scale=k + 0.5, shift=k) for k in range(3)]
    x = rows(rng, parts[2])
    expected = np.sort(np.concatenate([reference(p, x) for p in parts], axis=1), axis=1)
    np.testing.assert_allclose(run(Trees.stack(parts), x), expected, atol=1e-9)


def test_parts_that_do_not_join() -> None:
    rng = np.random.default_rng(5)
    one, other = random_trees(rng), random_trees(rng, link="sigmoid")
    with pytest.raises(InputError, match="different kinds"):
        Trees.mean([one, other])
    with pytest.raises(InputError, match="different features"):
        Trees.mean([one, random_trees(rng, d=6)])
    with pytest.raises(InputError, match="different kinds"):
        Trees.stack([other, other])
    with pytest.raises(InputError, match="nothing to average"):
        Trees.mean([])
    with pytest.raises(InputError, match="nothing to average"):
        Trees.mean([one, one], [0.0, 0.0])


def test_trees_of_one_leaf_and_no_trees() -> None:
    rng = np.random.default_rng(6)
    alone = np.array([-1, -1])
    nodes = Nodes(alone, alone, np.arange(2), alone, alone, alone, np.array([0.5, 0.25]))
    trees = Trees.of(nodes, n_features=3, link="sigmoid", base=[1.0])
    x = rng.normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(run(trees, x), reference(trees, x), atol=1e-7)
    none = Nodes(*(np.zeros(0, np.int64) for _ in range(7)))
    empty = Trees.of(none, n_features=3, link="values", base=[2.0]).rescaled(scale=3, shift=1)
    np.testing.assert_allclose(run(empty, x), np.full((5, 1), 7.0))
    again = Trees.unpack(*empty.pack(), {})
    np.testing.assert_allclose(run(again, x), np.full((5, 1), 7.0))


def test_probabilities_keep_their_small_ends() -> None:
    leaf = np.array([False, True, True])
    one = np.array([0], dtype=np.uint16)
    trees = Trees(
        1, leaf, one, np.zeros(1, np.float32), np.zeros(1, bool), np.arange(2, dtype=np.uint32),
        np.array([[30.0], [-30.0]], np.float32), one, np.ones(1), np.zeros(1), "sigmoid",
    )  # fmt: skip
    p = run(trees, np.array([[0.0], [1.0]], np.float32))
    np.testing.assert_allclose(p[0, 0], np.exp(-30), rtol=1e-6)
    np.testing.assert_allclose(p[1, 1], np.exp(-30), rtol=1e-6)


def test_zero_rows() -> None:
    rng = np.random.default_rng(7)
    for case in CASES.values():
        trees = random_trees(rng, **case)
        assert run(trees, np.zeros((0, 5), np.float32)).shape == (0, trees.outputs)


def test_many_small_leaves_sum_exactly() -> None:
    rng = np.random.default_rng(8)
    count = 5000
    base = np.arange(count) * 3
    left, right = np.full(3 * count, -1), np.full(3 * count, -1)
    left[base], right[base] = base + 1, base + 2
    value = rng.normal(size=3 * count) + 100
    x = rng.normal(size=(4, 1)).astype(np.float32)
    split = rng.normal(size=3 * count)
    nodes = Nodes(left, right, base, np.zeros(3 * count, int), split, np.zeros(3 * count, bool), value)
    trees = Trees.of(nodes, n_features=1, link="values", base=[0.0])
    exact = [np.where(r[0] <= split[base], value[base + 1], value[base + 2]).sum() for r in x]
    np.testing.assert_allclose(run(trees, x)[:, 0], exact, atol=2e-5)  # of 500,000


def test_packed_size() -> None:
    rng = np.random.default_rng(9)
    trees = Trees.mean([random_trees(rng, count=40) for _ in range(10)])
    packed = sum(a.nbytes for a in trees.pack()[0].values())
    assert packed <= 6 * len(trees.leaf)


def test_damaged_arrays_are_refused() -> None:
    rng = np.random.default_rng(10)
    trees = random_trees(rng, outputs=2, sets=2)
    arrays, meta = trees.pack()
    bad = {
        "no whole trees": {**arrays, "leaf": np.packbits(trees.leaf[::-1])},
        "not make sense": {
            **arrays,
            "feature": arrays["feature"][1:],
            "threshold": arrays["threshold"][1:],
        },
        "feature is beyond": {**arrays, "feature": arrays["feature"] + np.uint16(50)},
        "sets do not fit": {**arrays, "sets.size": arrays["sets.size"] * 0},
        "target is beyond": {**arrays, "target": arrays["target"] + np.uint16(2)},
        "not finite": {**arrays, "values": arrays["values"] * np.float32(np.nan)},
        "KeyError": {k: v for k, v in arrays.items() if k != "base"},
        "bytes for": {**arrays, "missing_left": arrays["leaf"][:0]},
    }
    for text, damaged in bad.items():
        with pytest.raises(BundleError, match=text):
            Trees.unpack(damaged, meta, {})
    for text, wrong in {"link": {"link": "exec"}, "trees": {"trees": 3}, "KeyError": {}}.items():
        with pytest.raises(BundleError, match=text):
            Trees.unpack(arrays, {**meta, **wrong} if wrong else {}, {})


def test_preorder_of_shuffled_nodes() -> None:
    left = np.array([-1, 4, -1, 0, -1, -1])
    right = np.array([-1, 2, -1, 1, -1, -1])
    assert preorder(left, right, np.array([3, 5])).tolist() == [3, 0, 1, 4, 2, 5]


def test_rounded_down_decides_as_the_threshold() -> None:
    rng = np.random.default_rng(11)
    t = np.concatenate([rng.normal(size=1000), [0.0, -0.0, 1e300, -1e300, np.inf, 1.0, 0.1]])
    near = np.clip(t, -3.4e38, 3.4e38).astype(np.float32)
    for x in (rounded_down(t), near, np.nextafter(near, np.float32(9))):
        np.testing.assert_array_equal(x <= rounded_down(t), x.astype(np.float64) <= t)
        np.testing.assert_array_equal(x <= rounded_down(t, strict=True), x.astype(np.float64) < t)
