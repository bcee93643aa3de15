"""A deeper network with residual paths, pretrained more broadly, for the benchmark of merging: training, accuracy.

Network: 784 -> 384, four residual blocks x + W2 gelu(W1 norm(x)) of width 384, a last norm (about 1.5
million parameters). Pretraining: 28,000 images of Fashion-MNIST and 400 digits (one image in twenty), 20
classes, 12 epochs of Adam; each image turned by any angle, mirrored, scaled, shifted, and, each by chance,
blurred, inverted, turned to edges, its tiles in a random order, with noise. The tasks are those of
merging_tasks.py (digits with 600 images); heads as there; the backbone is fine-tuned by small steps.

Declared on 2026-11-23 before any result of it was seen: the protocols of `PROTOCOLS`, tried on seeds 100 and
101. Of those whose experts are within 1 point of the best protocol's on held-out images, and at least 3
points above the plain average, the one whose task vectors are shortest is reported, on seeds 0 to 4, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.transfer import merging_tasks as world
from benchmarks.transfer.merging_tasks import HEAD_EPOCHS, HEAD_RATE, SIDE, State, Task, Trained

WIDTH, BLOCKS, BATCH = 384, 4, 128
PRETRAIN_EPOCHS, PRETRAIN_RATE, PRETRAIN_DIGITS = 12, 1e-3, 400
PROTOCOLS: Mapping[str, tuple[str, float, int]] = {
    "SGD 0.05": ("sgd", 0.05, 8),
    "SGD 0.02": ("sgd", 0.02, 8),
    "AdamW 1e-4": ("adamw", 1e-4, 4),
}
"""Optimiser (momentum 0.9 where it is SGD; no weight decay), rate with a cosine schedule, epochs."""

Array = Any


def tasks(seed: int) -> tuple[tuple[Array, Array], list[Task]]:
    """What pretraining sees: images (n, 28, 28) and classes of 20; and the five tasks."""
    source, made = world.tasks(seed)
    found = world.images()
    if found is None:
        return source, made
    order = np.random.default_rng(seed)
    order.permutation(1797)
    rows = order.permutation(60_000)
    rows = np.concatenate([rows[: world.PRETRAIN_IMAGES], rows[52_000:]])
    last = made[-1]
    x, y = last.train
    own = np.resize(x[:PRETRAIN_DIGITS].reshape(-1, SIDE, SIDE), (len(rows) // 20, SIDE, SIDE))
    own = (own - own.min(axis=(1, 2), keepdims=True)) / np.ptp(own, axis=(1, 2), keepdims=True)
    classes = np.resize(y[:PRETRAIN_DIGITS], len(own)) + 10
    made[-1] = replace(last, train=(x[PRETRAIN_DIGITS:], y[PRETRAIN_DIGITS:]))
    return (np.concatenate([found[0][rows], own]), np.concatenate([found[1][rows], classes])), made


def backbone() -> Any:
    """784 -> WIDTH, residual blocks, a norm."""
    from torch import nn

    class Residual(nn.Sequential):
        def forward(self, x: Any) -> Any:
            return x + super().forward(x)

    blocks = [
        Residual(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        for _ in range(BLOCKS)
    ]
    return nn.Sequential(nn.Linear(SIDE * SIDE, WIDTH), *blocks, nn.LayerNorm(WIDTH))


def broad(x: Any, seed: int) -> Any:
    """Images (n, 28, 28) of 0 to 1 -> as pretraining sees them, standardised (n, 784); torch tensors."""
    import torch
    from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

    rng = torch.Generator().manual_seed(seed)
    n = len(x)

    def draw(*shape: int) -> Any:
        return torch.rand(n, *shape, generator=rng)

    angle, scale, mirror = 2 * np.pi * draw(), 0.8 + 0.4 * draw(), torch.where(draw() < 0.5, -1.0, 1.0)
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    shift = 0.3 * (draw(2) - 0.5)
    turn = torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], 1).reshape(n, 2, 3)
    x = x[:, None]
    x = grid_sample(x, affine_grid(turn, list(x.shape), align_corners=False), align_corners=False)
    some = [draw(1, 1, 1) for _ in range(4)]
    x = torch.where(some[0] < 0.2, avg_pool2d(x, 3, 1, 1), x)
    down, across = torch.gradient(x, dim=(2, 3))
    x = torch.where(some[1] < 0.1, torch.sqrt(down**2 + across**2), x)
    x = torch.where(some[2] < 0.3, 1 - x, x)
    cut = x.reshape(n, 4, 7, 4, 7).permute(0, 1, 3, 2, 4).reshape(n, 16, 49)
    cut = cut.gather(1, draw(16).argsort(1)[:, :, None].expand(-1, -1, 49))
    cut = cut.reshape(n, 4, 4, 7, 7).permute(0, 1, 3, 2, 4).reshape(n, 1, SIDE, SIDE)
    x = torch.where(some[3] < 0.2, cut, x)
    x = x + 0.4 * draw(1, 1, 1) ** 2 * torch.randn(x.shape, generator=rng)
    flat = x.reshape(n, -1)
    flat = flat - flat.mean(1, keepdim=True)
    return flat / (flat.std(1, keepdim=True, correction=0) + 1e-6)


def trained(seed: int, all_tasks: list[Task], source: tuple[Array, Array], protocol: str) -> Trained:
    """As merging_tasks.trained, for a name of `PROTOCOLS`."""
    from safetensors.numpy import load_file, save_file

    own = (
        Path(__file__).read_bytes() + Path(world.__file__).read_bytes() + str(world.images() is None).encode()
    )
    mark = hashlib.sha256(own).hexdigest()[:12]
    place = world.WORK / f"broad-{seed}-{protocol.replace(' ', '-')}-{mark}.safetensors"
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        save_file(_train(seed, all_tasks, source, protocol, world.WORK / f"broad-{seed}-{mark}"), place)
    flat = load_file(place)

    def part(prefix: str) -> State:
        return {n[len(prefix) :]: a for n, a in flat.items() if n.startswith(prefix)}

    names = [t.name for t in all_tasks]
    return Trained(
        part("base/"), {n: part(f"experts/{n}/") for n in names}, {n: part(f"heads/{n}/") for n in names}
    )


def _train(
    seed: int, all_tasks: list[Task], source: tuple[Array, Array], protocol: str, place: Path
) -> dict[str, Array]:
    import torch
    from safetensors.numpy import load_file, save_file
    from torch import nn

    torch.set_num_threads(1)
    if not place.is_file():
        save_file(_pretrained(seed, source), place)
    base = load_file(place)
    flat = {f"base/{n}": a for n, a in base.items()}
    kind, rate, epochs = PROTOCOLS[protocol]
    for task in all_tasks:
        torch.manual_seed(seed)
        net, head = loaded(base), nn.Linear(WIDTH, 10)
        x, y = (torch.from_numpy(a) for a in task.train)
        with torch.no_grad():
            inner = net(x)
        _fit(head, [(inner, y)] * HEAD_EPOCHS, "adamw", HEAD_RATE, list(head.parameters()))
        passes = max(epochs, epochs * world.TASK_IMAGES // len(y) // 2)
        _fit(nn.Sequential(net, head), [(x, y)] * passes, kind, rate, list(net.parameters()))
        flat |= {f"heads/{task.name}/{n}": a for n, a in _state(head).items()}
        flat |= {f"experts/{task.name}/{n}": a for n, a in _state(net).items()}
    return flat


def _pretrained(seed: int, source: tuple[Array, Array]) -> State:
    import torch
    from torch import nn

    torch.manual_seed(seed)
    net, head = backbone(), nn.Linear(WIDTH, 20)
    x, y = (torch.from_numpy(a) for a in source)
    rows = ((broad(x, 1000 * seed + k), y) for k in range(PRETRAIN_EPOCHS))
    model = nn.Sequential(net, head)
    _fit(model, rows, "adamw", PRETRAIN_RATE, list(model.parameters()), PRETRAIN_EPOCHS)
    return _state(net)


def _fit(model: Any, rows: Any, kind: str, rate: float, parameters: list[Any], epochs: int = 0) -> None:
    """An epoch for each of rows; the order is drawn by torch's seed."""
    import torch

    made: Any = torch.optim.SGD(parameters, rate, momentum=0.9)
    if kind == "adamw":
        made = torch.optim.AdamW(parameters, rate, weight_decay=0)
    schedule = None
    for x, y in rows:
        if schedule is None:
            steps = (epochs or len(rows)) * -(-len(y) // BATCH)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(made, steps)
        for chosen in torch.randperm(len(y)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(model(x[chosen]), y[chosen])
            made.zero_grad()
            loss.backward()
            made.step()
            schedule.step()


def loaded(state: Mapping[str, Array]) -> Any:
    """The backbone with these weights."""
    import torch

    net = backbone()
    net.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in state.items()})
    return net


def _state(module: Any) -> State:
    return {n: t.detach().numpy().copy() for n, t in module.state_dict().items()}


def right(state: Mapping[str, Array], head: Mapping[str, Array], rows: tuple[Array, Array]) -> Array:
    """(n,) 1 where the class is right."""
    import torch

    with torch.no_grad():
        inner = loaded(state)(torch.from_numpy(rows[0])).numpy()
    return ((inner @ head["weight"].T + head["bias"]).argmax(axis=1) == rows[1]).astype(np.float64)
