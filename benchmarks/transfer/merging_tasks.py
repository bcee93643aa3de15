"""The small network and the five tasks of the benchmark of merging: data, training, accuracy.

Everything here was fixed before any method of merging was looked at. See merging.py for the protocol.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FASHION = Path("/usr/share/datasets/fashion-mnist")
WORK = Path(__file__).resolve().parent / "work" / "merging"
SIDE, WIDTH, BATCH = 28, 512, 128
PRETRAIN_IMAGES, TASK_IMAGES, HELD_OUT = 20_000, 7_000, 1_000
PRETRAIN_EPOCHS, TUNE_EPOCHS, HEAD_EPOCHS = 8, 4, 20
PRETRAIN_RATE, HEAD_RATE = 1e-3, 3e-3

Array = Any
State = dict[str, Array]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Images (n, 784) standardised one by one, and classes (n,), of the three parts."""

    name: str
    train: tuple[Array, Array]
    held_out: tuple[Array, Array]
    test: tuple[Array, Array]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """The pretrained backbone, its five fine-tunes, and the head of each task: names -> float32 arrays."""

    base: State
    experts: Mapping[str, State]
    heads: Mapping[str, State]


def images() -> tuple[Array, Array, Array, Array] | None:
    """Fashion-MNIST as (n, 28, 28) of 0 to 1 and classes: train and test. None where it is not installed."""
    if not (FASHION / "train-images-idx3-ubyte.gz").is_file():
        return None

    def read(name: str, skip: int) -> Array:
        return np.frombuffer(gzip.decompress((FASHION / name).read_bytes()), np.uint8)[skip:]

    out = []
    for part in ("train", "t10k"):
        x = read(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, SIDE, SIDE).astype(np.float32) / 255
        out += [x, read(f"{part}-labels-idx1-ubyte.gz", 8).astype(np.int64)]
    return out[0], out[1], out[2], out[3]


def digits() -> tuple[Array, Array]:
    """Digits of scikit-learn, three times as large with a border of 2: (1797, 28, 28), and classes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    large = np.kron(x.reshape(-1, 8, 8).astype(np.float32) / 16, np.ones((1, 3, 3), np.float32))
    return np.pad(large, ((0, 0), (2, 2), (2, 2))), y.astype(np.int64)


def turned(x: Array, rng: Any) -> Array:
    """By 45 degrees."""
    from scipy.ndimage import rotate

    return rotate(x, 45, axes=(1, 2), reshape=False, order=1)


def tiles(x: Array, rng: Any) -> Array:
    """Sixteen tiles in another, always the same, order."""
    order = np.random.default_rng(7).permutation(16)
    cut = x.reshape(-1, 4, 7, 4, 7).transpose(0, 1, 3, 2, 4).reshape(-1, 16, 7, 7)[:, order]
    return cut.reshape(-1, 4, 4, 7, 7).transpose(0, 1, 3, 2, 4).reshape(-1, SIDE, SIDE)


def noisy(x: Array, rng: Any) -> Array:
    """With noise of standard deviation 0.4."""
    return x + 0.4 * rng.standard_normal(x.shape).astype(np.float32)


def edges(x: Array, rng: Any) -> Array:
    """The size of the gradient."""
    across, down = np.gradient(x, axis=2), np.gradient(x, axis=1)
    return np.sqrt(across**2 + down**2)


def plain(x: Array, rng: Any) -> Array:
    """As it is."""
    return x


VARIANTS: Mapping[str, Callable[[Array, Any], Array]] = {
    "turned": turned,
    "tiles": tiles,
    "noisy": noisy,
    "edges": edges,
}


def broad(x: Array, rng: Any) -> Array:
    """What pretraining sees: quarter turns, mirrors, inversion, shifts, blur and noise, drawn per image."""
    from scipy.ndimage import uniform_filter

    out = np.empty_like(x)
    quarter, mirror, inverse = rng.integers(0, 4, len(x)), rng.random(len(x)) < 0.5, rng.random(len(x)) < 0.5
    blurred = rng.random(len(x)) < 0.25
    shifts = rng.integers(-3, 4, (len(x), 2))
    soft = uniform_filter(x, (1, 3, 3))
    for i in range(len(x)):
        image = np.rot90(soft[i] if blurred[i] else x[i], quarter[i])
        image = image[:, ::-1] if mirror[i] else image
        out[i] = np.roll(1 - image if inverse[i] else image, shifts[i], (0, 1))
    return out + rng.uniform(0, 0.3, (len(x), 1, 1)).astype(np.float32) * rng.standard_normal(x.shape).astype(
        np.float32
    )


def standard(x: Array) -> Array:
    """Each image with mean 0 and standard deviation 1, flat."""
    flat = x.reshape(len(x), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return (flat / (flat.std(axis=1, keepdims=True) + 1e-6)).astype(np.float32)


def tasks(seed: int) -> tuple[tuple[Array, Array], list[Task]]:
    """What pretraining sees (images, classes), and the five tasks; no image stands in two of them."""
    rng = np.random.default_rng(seed)
    xd, yd = digits()
    order = rng.permutation(len(xd))
    xd, yd = xd[order], yd[order]
    found = images()
    if found is None:
        return _of_digits(xd, yd, rng)
    x, y, xt, yt = found
    order = rng.permutation(len(x))
    start, made = PRETRAIN_IMAGES, []
    for name, change in VARIANTS.items():
        own_rows = order[start : start + TASK_IMAGES + HELD_OUT]
        start += TASK_IMAGES + HELD_OUT
        made.append(_task(name, change, (x[own_rows], y[own_rows]), TASK_IMAGES, (xt, yt), rng))
    made.append(_task("digits", plain, (xd[:1200], yd[:1200]), 1000, (xd[1200:], yd[1200:]), rng))
    rows = order[:PRETRAIN_IMAGES]
    return (x[rows], y[rows]), made


def _task(
    name: str, change: Any, rows: tuple[Array, Array], train: int, test: tuple[Array, Array], rng: Any
) -> Task:
    x = standard(change(rows[0], rng))
    parts = (x[:train], rows[1][:train]), (x[train:], rows[1][train:])
    return Task(name, *parts, (standard(change(test[0], rng)), test[1]))


def _of_digits(x: Array, y: Array, rng: Any) -> tuple[tuple[Array, Array], list[Task]]:
    """Without Fashion-MNIST: variants of the digits, with little data; only a check that all runs."""
    made = []
    for k, (name, change) in enumerate((VARIANTS | {"digits": plain}).items()):
        part = slice(400 + 160 * k, 560 + 160 * k)
        made.append(_task(name, change, (x[part], y[part]), 120, (x[1200:], y[1200:]), rng))
    return (x[:400], y[:400]), made


def backbone() -> Any:
    """Three hidden layers."""
    from torch import nn

    layers: list[Any] = []
    for width in (SIDE * SIDE, WIDTH, WIDTH):
        layers += [nn.Linear(width, WIDTH), nn.ReLU()]
    return nn.Sequential(*layers)


def trained(seed: int, all_tasks: list[Task], source: tuple[Array, Array], rate: float) -> Trained:
    """Pretrain, then fine-tune for each task; kept as safetensors under work/, by what it depends on."""
    from safetensors.numpy import load_file, save_file

    print_ = hashlib.sha256(Path(__file__).read_bytes() + str(images() is None).encode()).hexdigest()[:12]
    place = WORK / f"{seed}-{rate:g}-{print_}.safetensors"
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        made = _train(seed, all_tasks, source, rate, place.with_name(f"{seed}-{print_}.safetensors"))
        flat = {f"base/{n}": a for n, a in made.base.items()}
        for kind, group in (("experts", made.experts), ("heads", made.heads)):
            flat |= {f"{kind}/{t}/{n}": a for t, s in group.items() for n, a in s.items()}
        save_file(flat, place)
    flat = load_file(place)

    def part(prefix: str) -> State:
        return {n[len(prefix) :]: a for n, a in flat.items() if n.startswith(prefix)}

    names = [t.name for t in all_tasks]
    return Trained(
        part("base/"), {n: part(f"experts/{n}/") for n in names}, {n: part(f"heads/{n}/") for n in names}
    )


def _train(
    seed: int, all_tasks: list[Task], source: tuple[Array, Array], rate: float, place: Path
) -> Trained:
    import torch
    from safetensors.numpy import load_file, save_file
    from torch import nn

    torch.set_num_threads(1)
    if not place.is_file():
        save_file(_pretrained(seed, source), place)
    base = load_file(place)
    experts, heads = {}, {}
    for task in all_tasks:
        torch.manual_seed(seed)
        net, head = _loaded(base), nn.Linear(WIDTH, 10)
        with torch.no_grad():
            inner = net(torch.from_numpy(task.train[0])).numpy()
        _fit(head, lambda x=inner, y=task.train[1]: (x, y), HEAD_EPOCHS, HEAD_RATE, list(head.parameters()))
        heads[task.name] = _state(head)
        epochs = max(TUNE_EPOCHS, TUNE_EPOCHS * TASK_IMAGES // len(task.train[0]) // 2)
        _fit(nn.Sequential(net, head), lambda t=task: t.train, epochs, rate, list(net.parameters()))
        experts[task.name] = _state(net)
    return Trained(base, experts, heads)


def _pretrained(seed: int, source: tuple[Array, Array]) -> State:
    import torch
    from torch import nn

    torch.manual_seed(seed)
    net, head = backbone(), nn.Linear(WIDTH, 10)
    rng = np.random.default_rng(seed)

    def rows() -> tuple[Array, Array]:
        return standard(broad(source[0], rng)), source[1]

    _fit(
        nn.Sequential(net, head),
        rows,
        PRETRAIN_EPOCHS,
        PRETRAIN_RATE,
        [*net.parameters(), *head.parameters()],
    )
    return _state(net)


def _loaded(base: State) -> Any:
    import torch

    net = backbone()
    net.load_state_dict({n: torch.from_numpy(a) for n, a in base.items()})
    return net


def _fit(
    model: Any, rows: Callable[[], tuple[Array, Array]], epochs: int, rate: float, parameters: list[Any]
) -> None:
    """Adam with a cosine schedule; the order is drawn by torch's seed."""
    import torch

    optimiser = torch.optim.Adam(parameters, rate)
    x, y = rows()
    steps = epochs * -(-len(y) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(epochs):
        x, y = rows() if epoch else (x, y)
        order = torch.randperm(len(y)).numpy()
        for start in range(0, len(y), BATCH):
            chosen = order[start : start + BATCH]
            loss = torch.nn.functional.cross_entropy(
                model(torch.from_numpy(x[chosen])), torch.from_numpy(y[chosen])
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def _state(module: Any) -> State:
    return {n: t.detach().numpy().copy() for n, t in module.state_dict().items()}


def logits(state: Mapping[str, Array], head: Mapping[str, Array], x: Array) -> Array:
    """(n, 10): the backbone and a head, in numpy."""
    for layer in ("0", "2", "4"):
        x = np.maximum(x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"], 0)
    return x @ head["weight"].T + head["bias"]


def right(state: Mapping[str, Array], head: Mapping[str, Array], rows: tuple[Array, Array]) -> Array:
    """(n,) 1 where the class is right."""
    return (logits(state, head, rows[0]).argmax(axis=1) == rows[1]).astype(np.float64)
