"""Quality of merging: five fine-tunes of one small network.

Network: three hidden layers of 512 units with ReLU, in torch, on images of 28 x 28 that are standardised one
by one. Pretraining: 20,000 images of Fashion-MNIST in quarter turns, mirrored, inverted, blurred, shifted and
with noise; 10 classes, 8 epochs. Tasks, each on images of its own: Fashion-MNIST turned by 45 degrees, with
its sixteen tiles in another order, with strong noise, as edges (7,000 images each), and the digits of
scikit-learn, enlarged (1,000). A head is trained for each task on the pretrained features and then kept; the
backbone is fine-tuned. Merged are the five backbones; each task is answered with its own head, as
FusionBench does with CLIP. Test: the 10,000 test images of Fashion-MNIST in each variant, 597 digits.

Three ways of fine-tuning, 4 epochs each (14 for digits). Adam at 4e-4: of 1e-4, 2e-4 and 4e-4 it gave the
best experts on held-out images (tiles, edges and digits of seed 0), fixed before any method was looked at.
Adam at 1e-4: added after a look at methods on seed 0, because there the fine-tunes stay closer to the
pretrained network, as those of large models do. SGD at 0.02, momentum 0.9, no weight decay: came last. That
SGD helps WUDI was known from one earlier scratch run (WUDI takes rows of task vectors for inputs, which holds
for steps of SGD and less for Adam's). Rates and rule were committed before any result, see merging_steps.py;
the rate was chosen on seed 100 by held-out images alone: at 0.02, 0.05 and 0.1 the experts had 85.0, 85.8
and 85.7 %, the plain average 79.5, 75.3 and 19.0 %. No other method was looked at before.
One slip: the reported seeds were started at 0.02 before the two other rates had finished on seed 100; no
accuracy had been seen then.

A fourth row has another network: residual blocks with norms, 256 wide, pretrained on 28,000 images and 400
digits under broader changes (any angle, scale, edges, tiles in random order, noise), fine-tuned by SGD for 8
epochs; digits have 600 images. It was declared before its results, see merging_broad.py, and made small by
the time of its steps alone. Its rate by the same rule on seed 100: at 0.02, 0.05 and 0.1 the experts had
85.6, 85.8 and 85.5 % on held-out images, the plain average 82.2, 83.0 and 82.9 %: 0.02. Seeds 4 to 6, once.

Methods run with the parameters that are written. `pull` of WUDI and the rungs of the automatic choice were
settled with the networks of seed 0, fine-tuned by Adam, which are not reported, but on the same test images.
Held-out: 1,000 images of each task (200 digits). "searched" and "automatic" use these with their classes;
RegMean, Fisher (200 of each) and AdaMerging (200 steps) without; the others use no data.

What to expect: in the literature on CLIP (ViT-B/32, eight tasks) WUDI closes about three quarters of this gap
and RegMean, which sees data, two thirds. A small network that was pretrained on one small data set is harder:
its features are few and shared, so that tasks disturb each other, above all the noisy one, whose inputs fill
the whole space. Even least squares on the true inputs of every task (RegMean) stays below 75 % here. A wider
network alone did not help (1,024 units, seed 0, WUDI with pull 0.3: shares 0.57 and 0.66 at the two rates, in
place of 0.62 and 0.72). What the literature has more of is breadth of pretraining, depth, residual paths; a
small network with all three (the fourth row) came out lower still, not higher.

accuracy: mean over the five tasks in %, mean over seeds with half its 95 % interval (t, over seeds). share:
(method - plain average) / (experts - plain average), of the means over seeds. over average: the paired
difference of a seed to its plain average, the smallest of the seeds in brackets. tasks: turned, tiles, noisy,
edges, digits.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.transfer import merging_broad as residual
from benchmarks.transfer import merging_steps as steps
from benchmarks.transfer import merging_tasks as world

SEEDS, FRESH = (1, 2, 3), (4, 5, 6)
STEPS = (("Adam", 4e-4), ("Adam", 1e-4), ("SGD", 0.02), ("residual, SGD", 0.02))
ASKED = 0.75
EXPERTS, AVERAGE, AUTO = "experts, each its own task", "plain average", "automatic (held-out)"
DATA_FREE: Mapping[str, tuple[str, dict[str, Any]]] = {
    "task_arithmetic 0.3": ("task_arithmetic", {"weight": 0.3}),
    "ties, density 0.2": ("ties", {"weight": 1.0, "density": 0.2}),
    "dare_ties 0.3, density 0.5": ("dare_ties", {"weight": 0.3, "density": 0.5}),
    "model_stock": ("model_stock", {}),
    "sce, top 0.2": ("sce", {"select_topk": 0.2}),
    "iso_c": ("iso_c", {}),
    "iso_cts": ("iso_cts", {}),
    "tsv_m": ("tsv_m", {}),
    "wudi, pull 0": ("wudi", {"pull": 0.0}),
    "wudi, default": ("wudi", {}),
    "wudi, pull 0.3": ("wudi", {"pull": 0.3}),
    "wudi, pull 1": ("wudi", {"pull": 1.0}),
}
RESIDUAL = (
    "task_arithmetic 0.3",
    "ties, density 0.2",
    "iso_c",
    "tsv_m",
    *(n for n in DATA_FREE if "wudi" in n),
)
"""Methods of the residual network, settled before its results (and committed with them)."""

Array = Any


def run() -> list[dict[str, Any]]:
    """Train, merge, and tell."""
    if world.images() is None:
        print("Fashion-MNIST is not installed: the tasks are variants of digits", file=sys.stderr)
    rows = []
    for kind, rate in STEPS:
        seeds = FRESH if "residual" in kind else SEEDS
        rows += _table(f"{kind} {rate:g}", [_one(seed, kind, rate) for seed in seeds])
    return rows


def _one(seed: int, kind: str, rate: float) -> dict[str, Array]:
    """Method -> accuracy of each task on test images (tasks,)."""
    broad = "residual" in kind
    own: Any = residual if broad else world
    source, tasks = own.tasks(seed)
    made = (steps if kind == "SGD" else own).trained(seed, tasks, source, rate)
    states = {t.name: made.experts[t.name] for t in tasks}

    def accuracy(of: Callable[[str], Any]) -> Array:
        return np.array([own.right(of(t.name), made.heads[t.name], t.test).mean() for t in tasks])

    def held_out(state: Any) -> Array:
        return np.concatenate([own.right(state, made.heads[t.name], t.held_out) for t in tasks])

    out = {"pretrained": accuracy(lambda n: made.base), EXPERTS: accuracy(lambda n: states[n])}
    begin = time.process_time()
    for name, state in _merges(states, made.base, held_out, seed, RESIDUAL if broad else tuple(DATA_FREE)):
        out[name] = accuracy(lambda n, s=state: s)
        spent, begin = time.process_time() - begin, time.process_time()
        print(f"seed {seed}, {kind} {rate:g}: {name} {out[name].mean():.4f}, {spent:.1f} s", file=sys.stderr)
    for name, state in () if broad else _learned(states, made, tasks):
        out[name] = accuracy(lambda n, s=state: s)
        spent, begin = time.process_time() - begin, time.process_time()
        print(f"seed {seed}, {kind} {rate:g}: {name} {out[name].mean():.4f}, {spent:.1f} s", file=sys.stderr)
    return out


def _merges(
    states: Mapping[str, Any], base: Any, held_out: Callable[[Any], Array], seed: int, names: tuple[str, ...]
) -> Any:
    import conjoin
    from conjoin.transfer.merge.choose import choose
    from conjoin.transfer.merge.searching import Budget, search

    yield AVERAGE, conjoin.merge(states, "linear", parameters={"weight": 1.0})
    for name in names:
        method, parameters = DATA_FREE[name]
        yield name, conjoin.merge(states, method, base=base, parameters=parameters, seed=seed)
    if names is not RESIDUAL:
        found = search(states, "task_arithmetic", held_out, base=base, budget=Budget(60), seed=seed)
        yield "task_arithmetic, weights searched (60 merges)", found.model
    yield AUTO, choose(states, held_out, base=base, seed=seed).model


def _learned(states: Mapping[str, Any], made: Any, tasks: Any) -> Any:
    """Methods that look at held-out images without their classes (Fisher draws them)."""
    import torch

    import conjoin

    torch.set_num_threads(1)

    def module(state: Any) -> Any:
        net = world.backbone()
        net.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in state.items()})
        return net

    heads = {n: {k: torch.from_numpy(np.array(a)) for k, a in h.items()} for n, h in made.heads.items()}

    def forward(net: Any, batch: Any, name: str) -> Any:
        return torch.nn.functional.linear(net(batch), heads[name]["weight"], heads[name]["bias"])

    models = {n: module(s) for n, s in states.items()}
    inputs = {t.name: t.held_out[0] for t in tasks}
    few = {n: x[:200] for n, x in inputs.items()}
    for method, data, parameters in (
        ("regmean", inputs, {}),
        ("fisher", few, {}),
        ("adamerging", inputs, {"steps": 200}),
    ):
        base = module(made.base) if method == "adamerging" else None
        found = conjoin.merge(models, method, base=base, data=data, forward=forward, parameters=parameters)
        yield f"{method} (held-out images)", {n: t.detach().numpy() for n, t in found.state_dict().items()}


def _table(fine_tuned: str, found: list[dict[str, Array]]) -> list[dict[str, Any]]:
    from scipy.stats import t as student

    rows = []
    average, experts = (np.array([f[n].mean() for f in found]) for n in (AVERAGE, EXPERTS))
    free = {n: np.array([f[n].mean() for f in found]) for n in DATA_FREE if n in found[0]}
    best = max(free, key=lambda n: free[n].mean())
    for name in found[0]:
        values = np.array([f[name].mean() for f in found])
        half = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
        gained = values - average
        asked = ""
        if name == best:
            reached = _share(values, average, experts) >= ASKED
            asked = f"best without data, share 0.75: {'reached' if reached else 'missed'}"
        if name == AUTO:
            asked = f"never below plain average: {'held' if (gained >= 0).all() else 'missed'}"
        rows.append(
            {
                "fine-tuned by": fine_tuned,
                "method": name,
                "accuracy": f"{100 * values.mean():.2f} ± {100 * half:.2f}",
                "share": "" if name == "pretrained" else round(_share(values, average, experts), 3),
                "over average": f"{100 * gained.mean():+.2f} ({100 * gained.min():+.2f})",
                "tasks": " ".join(f"{100 * v:.1f}" for v in np.mean([f[name] for f in found], axis=0)),
                "asked": asked,
            }
        )
    return rows


def _share(values: Array, average: Array, experts: Array) -> float:
    return float((values - average).mean() / (experts - average).mean())
