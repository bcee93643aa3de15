"""Wider and deeper layers compute the same, in numpy and in torch."""

import numpy as np
import pytest

from conjoin.errors import InputError
from conjoin.transfer.weights.growth import Layer, Norm, deeper, wider

RNG = np.random.default_rng(0)


def layer(*shape, norm=True, bias=True):
    def draw():
        return RNG.standard_normal(shape[0]).astype(np.float32)

    kept = Norm(draw(), draw(), draw(), draw() ** 2 + np.float32(0.1)) if norm else None
    return Layer((RNG.standard_normal(shape) / 3).astype(np.float32), draw() if bias else None, kept)


def answers(layers, x):
    """Layers with ReLU between; a convolution is padded to keep its size; flattened before a dense one."""
    for i, one in enumerate(layers):
        w = one.weight.astype(np.float64)
        if w.ndim == 4:
            half = w.shape[2] // 2
            padded = np.pad(x, [(0, 0), (0, 0), (half, half), (half, half)])
            windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], axis=(2, 3))
            x = np.einsum("nchwyx,ocyx->nohw", windows, w, optimize=True)
        else:
            x = x.reshape(len(x), -1) @ w.T
        side = (-1, *[1] * (x.ndim - 2))
        x = x if one.bias is None else x + one.bias.reshape(side)
        if one.norm:
            scale = one.norm.scale / np.sqrt(one.norm.variance + one.norm.epsilon)
            x = (x - one.norm.mean.reshape(side)) * scale.reshape(side) + one.norm.shift.reshape(side)
        x = x if i == len(layers) - 1 else np.maximum(x, 0)
    return x


def nets():
    dense = [layer(6, 8), layer(5, 6, bias=False), layer(3, 5, norm=False)]
    conv = [layer(4, 2, 3, 3), layer(3, 4, 5, 5, bias=False), layer(7, 3 * 36, norm=False)]
    return [
        (dense, RNG.standard_normal((20, 8))),
        (conv, RNG.standard_normal((4, 2, 6, 6))),
    ]


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("which", [0, 1])
def test_wider_computes_the_same(which, at):
    layers, x = nets()[which]
    grown = list(layers)
    grown[at], grown[at + 1] = wider(layers[at], layers[at + 1], 17, seed=3)
    assert grown[at].units == 17
    np.testing.assert_allclose(answers(grown, x), answers(layers, x), atol=1e-5)


@pytest.mark.parametrize("which", [0, 1])
def test_deeper_computes_the_same(which):
    layers, x = nets()[which]
    grown = [layers[0], deeper(layers[0]), layers[1], deeper(layers[1], kernel=1), layers[2]]
    assert grown[1].norm is not None
    assert grown[3].bias is None
    np.testing.assert_allclose(answers(grown, x), answers(layers, x), atol=1e-5)


def test_torch_computes_the_same():
    torch = pytest.importorskip("torch")
    first, second = layer(4, 2, 3, 3), layer(7, 4 * 25, norm=False)

    def net(a, extra, b):
        parts = []
        for one in (a, *extra):
            conv = torch.nn.Conv2d(one.weight.shape[1], one.units, 3, padding=1)
            norm = torch.nn.BatchNorm2d(one.units, eps=one.norm.epsilon)
            pairs = [(conv.weight, one.weight), (conv.bias, one.bias), (norm.weight, one.norm.scale)]
            pairs += [(norm.bias, one.norm.shift), (norm.running_mean, one.norm.mean)]
            for tensor, array in [*pairs, (norm.running_var, one.norm.variance)]:
                tensor.data.copy_(torch.tensor(array))
            parts += [conv, norm, torch.nn.ReLU()]
        last = torch.nn.Linear(b.weight.shape[1], b.units)
        last.weight.data.copy_(torch.tensor(b.weight))
        last.bias.data.copy_(torch.tensor(b.bias))
        return torch.nn.Sequential(*parts, torch.nn.Flatten(), last).eval()

    x = torch.randn(5, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    wide, after = wider(first, second, 9)
    with torch.no_grad():
        want = net(first, [], second)(x)
        for grown in (net(wide, [deeper(wide)], after), net(first, [deeper(first)], second)):
            torch.testing.assert_close(grown(x), want, atol=1e-5, rtol=1e-5)


def test_noise_is_small_seeded_and_on_copies_only():
    first, second = layer(4, 3), layer(2, 4)
    plain = wider(first, second, 6, seed=1)[1].weight
    a, b, c = (wider(first, second, 6, noise=0.01, seed=s)[1].weight for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    changed = (a != plain).any(axis=0)
    assert 0 < changed.sum() < 6
    assert np.abs(a - plain).max() < 0.1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: wider(layer(4, 3), layer(2, 4), 3), "cannot be widened to 3"),
        (lambda: wider(layer(4, 3), layer(2, 5), 6), "before one of 5 inputs"),
        (lambda: wider(layer(4, 3), layer(2, 8, 3, 3), 6), "before one of 8 inputs"),
        (lambda: wider(layer(4, 3), layer(2, 4), 6, noise=np.nan), "noise"),
        (lambda: deeper(layer(4, 3), activation="gelu"), "gelu"),
        (lambda: deeper(layer(4, 3, 3, 3), kernel=2), "odd"),
        (lambda: Layer(np.ones(3)), "dense"),
        (lambda: Layer(np.ones((3, 2)), np.ones(2)), "3 units"),
    ],
)
def test_bad_growth_is_told(call, says):
    with pytest.raises(InputError, match=says):
        call()
