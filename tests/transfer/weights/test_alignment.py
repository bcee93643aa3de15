"""Permutations, selection of units and layers, alignment: the function stays, the barrier falls."""

import numpy as np
import pytest

from conjoin.errors import InputError
from conjoin.transfer.transplant import transplant
from conjoin.transfer.weights.alignment import align, average
from conjoin.transfer.weights.permutations import Permutations, chain
from conjoin.transfer.weights.selection import evenly, importance, layers, most_important, narrower

pytest.importorskip("scipy")


def mlp(sizes, seed=0):
    rng = np.random.default_rng(seed)
    net = {}
    for i in range(len(sizes) - 1):
        net[f"{i}.weight"] = rng.standard_normal((sizes[i + 1], sizes[i])).astype(np.float32)
        net[f"{i}.bias"] = rng.standard_normal(sizes[i + 1]).astype(np.float32)
    return net


def run(net, x):
    count = len(net) // 2
    for i in range(count):
        x = x @ net[f"{i}.weight"].T + net[f"{i}.bias"]
        x = x if i == count - 1 else np.maximum(x, 0)
    return x


def shuffled(net, groups, seed):
    rng = np.random.default_rng(seed)
    return groups.take(net, {g: rng.permutation(n) for g, n in groups.sizes(net).items()})


def test_a_permutation_leaves_the_function_and_is_found_again():
    net = mlp([8, 32, 24, 16, 3])
    groups = chain(net)
    mixed = shuffled(net, groups, 5)
    x = np.random.default_rng(1).standard_normal((40, 8))
    np.testing.assert_allclose(run(mixed, x), run(net, x), atol=1e-5, rtol=1e-5)
    back = align(mixed, net, groups)
    for name in net:
        np.testing.assert_array_equal(back.tensors[name], net[name])
    assert back.after > back.before


def test_convolutions_norms_and_flattening_follow():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(5 * 16, 7), nn.ReLU(), nn.Linear(7, 3),
    )  # fmt: skip
    x = torch.randn(4, 2, 8, 8)
    for _ in range(3):
        net(torch.randn(16, 2, 8, 8))
    net.eval()
    state = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    groups = chain(state)
    assert groups.sizes(state) == {"0.weight": 6, "3.weight": 5, "6.weight": 7}
    mixed = shuffled(state, groups, 2)
    with torch.no_grad():
        want = net(x)
        net.load_state_dict({k: torch.tensor(v) for k, v in mixed.items()})
        torch.testing.assert_close(net(x), want, atol=1e-5, rtol=1e-5)
    back = align(mixed, state, groups)
    for name in state:
        np.testing.assert_array_equal(back.tensors[name], state[name])


def test_sorted_names_keep_biases_with_their_layers():
    net = mlp([4, 4, 4, 4])
    assert chain(dict(sorted(net.items()))).axes == chain(net).axes


def test_a_group_on_two_axes_of_a_tensor():
    rng = np.random.default_rng(0)
    net = {
        "in": rng.standard_normal((6, 4)),
        "loop": rng.standard_normal((6, 6)),
        "out": rng.standard_normal((3, 6)),
    }
    groups = Permutations({"in": ("h",), "loop": ("h", "h"), "out": (None, "h")})
    found = align(shuffled(net, groups, 1), net, groups)
    np.testing.assert_array_equal(found.tensors["loop"], net["loop"])


@pytest.fixture(scope="module")
def digits():
    x, y = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return x / 16, y, order[:1200], order[1200:]


def fresh(width, seed):
    rng = np.random.default_rng(seed)
    net = {}
    for i, (a, b) in enumerate([(64, width), (width, 10)]):
        net[f"{i}.weight"], net[f"{i}.bias"] = rng.standard_normal((b, a)) * (2 / a) ** 0.5, np.zeros(b)
    return net


def test_a_grown_start_needs_at_most_half_the_steps(digits):
    x, y, train, test = digits

    def accuracies(net, steps, seed):
        """Trains in place; the accuracy after every 10 steps."""
        rng, seen = np.random.default_rng(seed), []
        for i in range(steps):
            rows = rng.choice(train, 100)
            step(net, x[rows], np.eye(10)[y[rows]], 0.1)
            if i % 10 == 9:
                seen.append((run(net, x[test]).argmax(axis=1) == y[test]).mean())
        return seen

    for seed in range(3):
        small = fresh(32, seed)
        accuracies(small, 600, seed)
        scratch = accuracies(fresh(128, seed + 9), 400, seed)[-1]
        wide = transplant(small, fresh(128, seed + 9), noise=0.01, seed=seed).model
        assert max(accuracies(dict(wide), 200, seed)) >= scratch


def test_the_barrier_falls_on_digits(digits):
    x, y, train, test = digits

    def trained(seed):
        rng, net = np.random.default_rng(seed), fresh(64, seed)
        for _ in range(600):
            rows = rng.choice(train, 100)
            step(net, x[rows], np.eye(10)[y[rows]], 0.3)
        return net

    def accuracy(net):
        return (run(net, x[test]).argmax(axis=1) == y[test]).mean()

    def loss(net):
        z = run(net, x[test])
        return float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), y[test]]).mean())

    for seeds in ((1, 2), (3, 4)):
        one, two = trained(seeds[0]), trained(seeds[1])
        plain = {k: (one[k] + two[k]) / 2 for k in one}
        better = average([one, two], chain(one))
        assert min(accuracy(one), accuracy(two)) > 0.93
        assert loss(better) < loss(plain)
        assert accuracy(better) > accuracy(plain)


def step(net, x, truth, rate):
    """One step of gradient descent on the cross-entropy of a net with one hidden layer."""
    hidden = np.maximum(x @ net["0.weight"].T + net["0.bias"], 0)
    z = hidden @ net["1.weight"].T + net["1.bias"]
    chances = np.exp(z - z.max(axis=1, keepdims=True))
    slope = (chances / chances.sum(axis=1, keepdims=True) - truth) / len(x)
    inner = (slope @ net["1.weight"]) * (hidden > 0)
    for name, gradient in (("1", (slope, hidden)), ("0", (inner, x))):
        net[f"{name}.weight"] -= rate * gradient[0].T @ gradient[1]
        net[f"{name}.bias"] -= rate * gradient[0].sum(axis=0)


def test_units_are_chosen_alike_wherever_they_stand():
    net = mlp([5, 12, 7, 2])
    groups = chain(net)
    small = narrower(net, groups, {"0.weight": 4})
    np.testing.assert_array_equal(small["0.bias"], net["0.bias"][::3])
    np.testing.assert_array_equal(small["1.weight"], net["1.weight"][:, ::3])
    net["0.weight"][[2, 9]] *= 100
    net["1.weight"][:, [4, 5]] = 0
    kept = most_important(importance(net, groups)["0.weight"], 10)
    assert {2, 9} <= set(kept.tolist())
    dead = net | {"0.weight": np.where(np.isin(np.arange(12), [4, 5])[:, None], 0, net["0.weight"])}
    dead["0.bias"][[4, 5]] = 0
    ranked = narrower(dead, groups, {"0.weight": 10}, scores=importance(dead, groups))
    x = np.random.default_rng(0).standard_normal((9, 5))
    np.testing.assert_allclose(run(ranked, x), run(dead, x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("old", "new"), [(1, 1), (7, 7), (7, 1), (100, 33)])
def test_spacing_keeps_order_and_range(old, new):
    for chosen in (evenly(old, new), layers(old, new)):
        assert len(set(chosen.tolist())) == new
        assert (np.diff(chosen) > 0).all()
        assert chosen[0] == 0
        assert chosen[-1] < old
    assert new == 1 or layers(old, new)[-1] == old - 1


NET = mlp([4, 6, 2])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: chain(dict(sorted(mlp([4, 6, 5, 3]).items(), reverse=True))), "order of the layers"),
        (lambda: chain({"a.weight": np.ones((4, 2)), "norm": np.ones(3)}), "no bias or norm"),
        (lambda: chain({"norm": np.ones(2), "a.weight": np.ones((4, 2))}), "before the first layer"),
        (lambda: chain({"a": np.ones(3)}), "no layer"),
        (lambda: chain(NET, ["0.weight"]), "every tensor once"),
        (lambda: Permutations({"0.wieght": ("a",)}).sizes(NET), "did you mean '0.weight'"),
        (lambda: Permutations({"0.bias": ("a", None)}).sizes(NET), "2 axes"),
        (lambda: Permutations({"0.bias": ("a",), "0.weight": (None, "a")}).sizes(NET), "no multiple"),
        (lambda: narrower(NET, chain(NET), {"0.wight": 2}), "did you mean '0.weight'"),
        (lambda: narrower(NET, chain(NET), {"0.weight": 7}), "1 to 6 can be kept"),
        (lambda: narrower(NET, chain(NET), {"0.weight": 2}, scores={"0.weight": np.ones(3)}), "3 scores"),
        (lambda: most_important(np.array([1, np.nan]), 1), "finite"),
        (lambda: align(NET, mlp([4, 6, 3]), chain(NET)), "shapes differ"),
        (lambda: align({}, NET, chain(NET)), "one model only"),
        (lambda: align(NET | {"0.bias": np.full(6, np.inf)}, NET, chain(NET)), "NaN or infinite"),
        (lambda: average([], chain(NET)), "no models"),
    ],
)
def test_bad_input_is_told(call, says):
    with pytest.raises(InputError, match=says):
        call()
