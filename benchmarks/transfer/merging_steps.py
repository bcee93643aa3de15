"""Fine-tuning by SGD for the benchmark of merging: the networks, tasks and heads of merging_tasks.py.

Declared on 2026-11-23 before any result of it was seen: momentum 0.9, no weight decay, a cosine schedule,
the epochs of merging_tasks.py, and the rates of `RATES`, tried on seed 100 only. Of those whose experts are
within 1 point of the best rate's on held-out images and at least 3 points above the plain average, the
smallest rate is reported; no method but the plain average is looked at before. It was 0.02.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from benchmarks.transfer import merging_tasks as world
from benchmarks.transfer.merging_tasks import BATCH, State, Task, Trained

RATES = (0.02, 0.05, 0.1)
Array = Any


def trained(seed: int, all_tasks: list[Task], source: tuple[Array, Array], rate: float) -> Trained:
    """As merging_tasks.trained, by SGD; kept under work/, by what it depends on."""
    from safetensors.numpy import load_file, save_file

    own = hashlib.sha256(Path(world.__file__).read_bytes() + str(world.images() is None).encode())
    mark = own.hexdigest()[:12]
    start = world.WORK / f"{seed}-{mark}.safetensors"
    start.parent.mkdir(parents=True, exist_ok=True)
    if not start.is_file():
        save_file(world._pretrained(seed, source), start)
    base, experts, heads = load_file(start), {}, {}
    for task in all_tasks:
        place = world.WORK / f"sgd-{seed}-{rate:g}-{task.name}-{mark}.safetensors"
        if not place.is_file():
            save_file(_tuned(seed, base, task, rate), place)
        flat = load_file(place)
        experts[task.name], heads[task.name] = (
            {n.removeprefix(p): a for n, a in flat.items() if n.startswith(p)} for p in ("expert/", "head/")
        )
    return Trained(base, experts, heads)


def _tuned(seed: int, base: State, task: Task, rate: float) -> State:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    net, head = world._loaded(base), nn.Linear(world.WIDTH, 10)
    with torch.no_grad():
        inner = net(torch.from_numpy(task.train[0])).numpy()
    rows = inner, task.train[1]
    world._fit(head, lambda: rows, world.HEAD_EPOCHS, world.HEAD_RATE, list(head.parameters()))
    epochs = max(world.TUNE_EPOCHS, world.TUNE_EPOCHS * world.TASK_IMAGES // len(task.train[0]) // 2)
    _walk(nn.Sequential(net, head), task.train, epochs, rate, list(net.parameters()))
    made = {f"expert/{n}": a for n, a in world._state(net).items()}
    return made | {f"head/{n}": a for n, a in world._state(head).items()}


def _walk(model: Any, rows: tuple[Array, Array], epochs: int, rate: float, parameters: list[Any]) -> None:
    import torch

    x, y = (torch.from_numpy(a) for a in rows)
    optimiser = torch.optim.SGD(parameters, rate, momentum=0.9)
    steps = epochs * -(-len(y) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(y)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(model(x[chosen]), y[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
