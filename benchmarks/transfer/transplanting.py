"""Transplanted weights: the function they keep, and how soon they reach the model trained from nothing

The function. Modules of torch whose weights, biases and statistics are all drawn, in double precision and
in single; the largest difference of answers between the source and `conjoin.transplant(source,
target).model` (growth), or the source with its units in another network's order (permutation: `align=1`),
over answers that are between -1 and 1 or so.

Steps. Fashion-MNIST (the Debian package dataset-fashion-mnist), pictures of 14 x 14 means, 20,000 to
train on, 4,000 others to judge, and scikit-learn's digits (8 x 8, two thirds to train on). The target
network is trained from nothing for 300 steps of Adam, batches of 64, at the better of two rates (1e-3,
3e-3) for each seed, chosen on the pictures that judge, so to its favour. Its final accuracy is the mean
of its last five looks (a look every 20 steps). Then the same target is trained from a transplanted start,
with the same batches, at the same two rates, of which the sooner counts: steps until the mean of five
looks in a row is as high (80 of 300 at least). A start that never is counts as all steps. The source is
another network, trained on the same pictures for 1,200 steps, as one that is there already is; these are
not counted. (With a source trained for 300 steps too, the wider perceptron needed 0.64 ± 0.33 of the
steps.) Five seeds; `conjoin` is the mean of the share of steps with a 95 % interval (Student's t, 4
degrees of freedom), `worst` that of the worst seed.

Averages. Two networks trained on the same pictures in other orders from other starts (784 pixels, 2
hidden layers): the loss of the average of their weights less the mean of their losses (the barrier), as
Git Re-Basin reports it; the naive average beside the average after permutation. On the 4,000 pictures; 5
pairs.
"""

from __future__ import annotations

import copy
import gzip
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

FASHION = Path("/usr/share/datasets/fashion-mnist")
SEEDS, STEPS, LOOK, BATCH, SOURCE = 5, 300, 20, 64, 1200
STUDENT = 2.776
"""Quantile 0.975 of Student's t with 4 degrees of freedom."""
Data = tuple[Any, Any, Any, Any]


def run() -> list[dict[str, Any]]:
    """All rows."""
    import torch

    torch.set_num_threads(1)
    return [*_functions(), *_all_steps(), *_averages()]


def _row(what: str, workload: str, ours: str, peer: str, **more: Any) -> dict[str, Any]:
    return {"what": what, "workload": workload, "conjoin": ours, "peer": peer, **more}


def _cnn(a: int, b: int, c: int, *, norm: bool = True, more: int = 0, side: int = 3) -> Any:
    """Two convolutions, `more` further ones, and two dense layers, which see side x side places."""
    from torch import nn

    def unit(i: int, o: int) -> list[Any]:
        return [nn.Conv2d(i, o, 3, padding=1), *([nn.BatchNorm2d(o)] if norm else []), nn.ReLU()]

    inner = [part for _ in range(more) for part in unit(b, b)]
    body = [*unit(1, a), nn.MaxPool2d(2), *unit(a, b), *inner, nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(b * side**2, c), nn.ReLU(), nn.Linear(c, 10))


def _residual(width: int, depth: int) -> Any:
    """A stem, a stack of residual blocks with batch norms, a mean over places, a dense layer."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)

        def forward(self, x: Any) -> Any:
            inner = self.bn1(self.conv1(x)).relu()
            return (self.bn2(self.conv2(inner)) + x).relu()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(1, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width)
            self.layer1 = nn.Sequential(*[Block() for _ in range(depth)])
            self.fc = nn.Linear(width, 10)

        def forward(self, x: Any) -> Any:
            return self.fc(self.layer1(self.bn1(self.conv1(x)).relu()).mean([2, 3]))

    return Net()


def _encoder(dim: int, heads: int, inner: int, depth: int) -> Any:
    """A transformer (norms first) over the rows of a picture of 8 x 8."""
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.Linear(8, dim)
            self.pos_embed = nn.Parameter(0.02 * _normal(1, 8, dim))
            layer = nn.TransformerEncoderLayer(dim, heads, inner, 0.0, batch_first=True, norm_first=True)
            self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
            self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

        def forward(self, x: Any) -> Any:
            x = self.rows(x.squeeze(1)) + self.pos_embed
            return self.head(self.norm(self.encoder(x)).mean(1))

    return Net()


def _mlp(*sizes: int) -> Any:
    from torch import nn

    parts: list[Any] = [nn.Flatten()]
    for a, b in pairwise(sizes):
        parts += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def _normal(*shape: int) -> Any:
    import torch

    return torch.randn(*shape)


def _shaken(net: Any, seed: int) -> Any:
    """Every weight, bias and statistic drawn anew around what it is."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=draw)
            elif tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=draw))
    return net.eval()


def _functions() -> Iterator[dict[str, Any]]:
    import torch

    from conjoin.transfer.transplant import transplant

    cases: list[tuple[str, str, Callable[[], Any], Callable[[], Any], tuple[int, ...]]] = [
        (
            "wider",
            "convolutions, batch norms, flattened",
            lambda: _cnn(8, 16, 32),
            lambda: _cnn(20, 41, 77),
            (9, 1, 14, 14),
        ),
        (
            "deeper",
            "a chain of convolutions",
            lambda: _cnn(8, 16, 32),
            lambda: _cnn(8, 16, 32, more=2),
            (9, 1, 14, 14),
        ),
        (
            "wider and deeper",
            "residual blocks, batch norms",
            lambda: _residual(12, 2),
            lambda: _residual(29, 5),
            (9, 1, 14, 14),
        ),
        (
            "wider",
            "attention: 4 to 8 heads, layer norms",
            lambda: _encoder(32, 4, 48, 2),
            lambda: _encoder(64, 8, 100, 2),
            (9, 1, 8, 8),
        ),
        (
            "deeper",
            "attention: 2 to 5 blocks",
            lambda: _encoder(32, 4, 48, 2),
            lambda: _encoder(32, 4, 48, 5),
            (9, 1, 8, 8),
        ),
        (
            "permuted",
            "convolutions, batch norms, flattened",
            lambda: _cnn(8, 16, 32),
            lambda: _cnn(8, 16, 32),
            (9, 1, 14, 14),
        ),
        (
            "permuted",
            "residual blocks, batch norms",
            lambda: _residual(12, 2),
            lambda: _residual(12, 2),
            (9, 1, 14, 14),
        ),
        (
            "permuted",
            "attention: heads and inner units",
            lambda: _encoder(32, 4, 48, 2),
            lambda: _encoder(32, 4, 48, 2),
            (9, 1, 8, 8),
        ),
    ]
    for what, workload, old, new, shape in cases:
        worst = {}
        for kind in (torch.float64, torch.float32):
            seen = []
            for seed in range(SEEDS):
                torch.manual_seed(seed)
                source, target = _shaken(old(), seed).to(kind), _shaken(new(), seed + 50).to(kind)
                done = transplant(source, target, align=1.0 if what == "permuted" else None)
                x = torch.rand(*shape, dtype=kind)
                with torch.no_grad():
                    seen.append(float((source(x) - done.model.eval()(x)).abs().max()))
            worst[kind] = max(seen)
        told = f"{worst[torch.float64]:.1e} (double), {worst[torch.float32]:.1e} (single)"
        yield _row(f"function, {what}", workload, told, "", same="largest difference, 5 seeds", asked="1e-5")


def _idx(name: str) -> Any:
    raw = gzip.decompress((FASHION / name).read_bytes())
    shape = [int.from_bytes(raw[4 + 4 * k : 8 + 4 * k], "big") for k in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def _fashion(seed: int, *, by: int = 2) -> Data:
    import torch

    x, y = _idx("train-images-idx3-ubyte.gz"), _idx("train-labels-idx1-ubyte.gz")
    rows = np.random.default_rng(seed).permutation(len(x))[:24_000]
    pictures = x[rows].astype(np.float32) / 255 - 0.286
    pictures = pictures.reshape(-1, 28 // by, by, 28 // by, by).mean((2, 4))
    inputs, classes = torch.from_numpy(pictures)[:, None], torch.from_numpy(y[rows].astype(np.int64))
    return inputs[:20_000], classes[:20_000], inputs[20_000:], classes[20_000:]


def _digits(seed: int) -> Data:
    import torch
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(seed).permutation(len(x))
    inputs = torch.from_numpy((x[rows] / 8 - 1).astype(np.float32)).reshape(-1, 1, 8, 8)
    classes = torch.from_numpy(y[rows].astype(np.int64))
    return inputs[:1200], classes[:1200], inputs[1200:], classes[1200:]


def _looks(
    net: Any, data: Data, rate: float, seed: int, *, quiet: int = 0, until: float = 2.0
) -> list[float]:
    """Trains in place; the accuracy after every `LOOK` steps, until the mean of five is `until`."""
    import torch

    x, y, test_x, test_y = data
    draw = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(net.parameters(), rate)
    seen = []
    for step in range((quiet or STEPS) + 1):
        if step % LOOK == 0 and not quiet:
            net.eval()
            with torch.no_grad():
                seen.append(float((net(test_x).argmax(1) == test_y).float().mean()))
            net.train()
            if len(seen) > 4 and np.mean(seen[-5:]) >= until:
                break
        rows = torch.randint(0, len(x), (BATCH,), generator=draw)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
        optimiser.step()
    return seen


def _reached(seen: list[float], wanted: float) -> int:
    """The step of the last of the first five looks in a row whose mean is as high."""
    for at in range(4, len(seen)):
        if np.mean(seen[at - 4 : at + 1]) >= wanted:
            return at * LOOK
    return STEPS


def _interval(found: list[float], form: str) -> str:
    spread = STUDENT * np.std(found, ddof=1) / len(found) ** 0.5
    return f"{form % np.mean(found)} ± {form % spread}"


def _all_steps() -> Iterator[dict[str, Any]]:
    grow, take = {"noise": 0.01}, {}
    cases: list[
        tuple[str, str, Callable[[int], Data], Callable[[], Any], Callable[[], Any], dict[str, Any]]
    ] = [
        (
            "wider",
            "Fashion, perceptron 64 x 2 to 256 x 2",
            _fashion,
            lambda: _mlp(196, 64, 64, 10),
            lambda: _mlp(196, 256, 256, 10),
            grow,
        ),
        (
            "deeper",
            "Fashion, perceptron 128 x 2 to 128 x 4",
            _fashion,
            lambda: _mlp(196, 128, 128, 10),
            lambda: _mlp(196, 128, 128, 128, 128, 10),
            take,
        ),
        (
            "wider and deeper",
            "digits, residual 8 x 1 to 16 x 2",
            _digits,
            lambda: _residual(8, 1),
            lambda: _residual(16, 2),
            grow,
        ),
        (
            "wider and deeper",
            "digits, transformer 16 x 2 to 32 x 3",
            _digits,
            lambda: _encoder(16, 2, 32, 2),
            lambda: _encoder(32, 4, 64, 3),
            grow,
        ),
        (
            "narrower, importance",
            "Fashion, perceptron 256 x 2 to 128 x 2",
            _fashion,
            lambda: _mlp(196, 256, 256, 10),
            lambda: _mlp(196, 128, 128, 10),
            {"width": "importance"},
        ),
        (
            "shallower",
            "digits, residual 16 x 4 to 16 x 2",
            _digits,
            lambda: _residual(16, 4),
            lambda: _residual(16, 2),
            take,
        ),
    ]
    cached: dict[tuple[str, int], Any] = {}
    for what, workload, data_of, old, new, options in cases:
        shares, starts, finals = [], [], []
        for seed in range(SEEDS):
            data = data_of(seed)
            share, start, final = _one(workload, data, old, new, options, seed, cached)
            shares.append(share)
            starts.append(start)
            finals.append(final)
        yield _row(
            f"share of steps, {what}",
            workload,
            _interval(shares, "%.2f"),
            "1 (from nothing)",
            worst=f"{max(shares):.2f}",
            same=f"accuracy from nothing {np.mean(finals):.3f}; of the start at step 0 {np.mean(starts):.3f}",
            asked="0.5",
        )


def _one(
    workload: str,
    data: Data,
    old: Callable[[], Any],
    new: Callable[[], Any],
    options: dict[str, Any],
    seed: int,
    cached: dict[tuple[str, int], Any],
) -> tuple[float, float, float]:
    """Share of the steps, accuracy of the start, final accuracy from nothing."""
    import torch

    from conjoin.transfer.transplant import transplant

    if (workload, seed) not in cached:
        torch.manual_seed(seed)
        source = old()
        _looks(source, data, 2e-3, seed + 10, quiet=SOURCE)
        torch.manual_seed(seed + 20)
        fresh = new()
        runs = [_looks(copy.deepcopy(fresh), data, rate, seed + 30) for rate in (1e-3, 3e-3)]
        cached[workload, seed] = source, fresh, max(float(np.mean(r[-5:])) for r in runs)
    source, fresh, final = cached[workload, seed]
    start = transplant(source, fresh, seed=seed, **options).model
    seen = [_looks(copy.deepcopy(start), data, r, seed + 30, until=final) for r in (1e-3, 3e-3)]
    return min(_reached(s, final) for s in seen) / STEPS, seen[0][0], final


def _averages() -> Iterator[dict[str, Any]]:
    import torch

    from conjoin.transfer.transplant import transplant

    def loss(net: Any, data: Data) -> float:
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(net.eval()(data[2]), data[3]))

    for width in (64, 512):
        naive, aligned, gain = [], [], []
        for seed in range(SEEDS):
            data = _fashion(seed, by=1)
            nets = []
            for other in (0, 100):
                torch.manual_seed(seed + other)
                net = _mlp(784, width, width, 10)
                _looks(net, data, 1e-3, seed + other, quiet=STEPS)
                nets.append(net)
            ends = np.mean([loss(n, data) for n in nets])
            plain = copy.deepcopy(nets[1])
            mixed = {k: (v + nets[0].state_dict()[k]) / 2 for k, v in nets[1].state_dict().items()}
            plain.load_state_dict(mixed)
            better = transplant(nets[0], nets[1], align=0.5, seed=seed).model
            naive.append(loss(plain, data) - ends)
            aligned.append(loss(better, data) - ends)
            gain.append(naive[-1] - aligned[-1])
        yield _row(
            "barrier of the average of two",
            f"Fashion, 2 layers of {width}",
            _interval(aligned, "%.3f"),
            f"{_interval(naive, '%.3f')} (naive average)",
            same=f"lower by {_interval(gain, '%.3f')}, paired",
        )
