"""WUDI solved, beside WUDI walked.

The paper minimises its objective by 300 steps of Adam at rate 1e-5 from the sum of the task vectors
(arXiv 2503.08099; FusionBench does the same). conjoin solves it: `pull` is the weight of staying at the sum.
Both run on the networks and tasks of merging.py, seed 1, fine-tuned at two rates. The walk is written here in
numpy with the exact gradient: the same steps, so the same iterates up to rounding.

share: (method - plain average) / (experts - plain average) of the mean accuracy over the five tasks on test
images. chosen: what two-fold cross-validation over the rows of the task vectors, without any data, chooses as
pull for each of the three matrices, of 0.01, 0.03, 0.1, 0.3, 1, 3. The default, 0.2, is from such choices on
seed 0, and on perceptrons of 256 units and small convolutional networks with other variants of the images.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.transfer import merging_tasks as world

PULLS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
Array = Any


def run() -> list[dict[str, Any]]:
    """Merge and tell."""
    import conjoin

    rows = []
    source, tasks = world.tasks(1)
    for rate in (4e-4, 1e-4):
        made = world.trained(1, tasks, source, rate)
        states, base = {t.name: made.experts[t.name] for t in tasks}, made.base

        def accuracy(state: Mapping[str, Array] | None, made: Any = made) -> float:
            found = [
                world.right(state or made.experts[t.name], made.heads[t.name], t.test).mean() for t in tasks
            ]
            return float(np.mean(found))

        average = accuracy(conjoin.merge(states, "uniform_soup"))
        whole = accuracy(None) - average
        walks = {
            f"Adam {r:g}, 300 steps": (lambda r=r, s=states, b=base: walked(s, b, r))
            for r in (1e-5, 1e-4, 1e-3)
        }
        solved = {
            f"pull {p:g}": (
                lambda p=p, s=states, b=base: conjoin.merge(s, "wudi", base=b, parameters={"pull": p})
            )
            for p in (0.0, 0.2, 1.0)
        }
        chosen = "; ".join(f"{p:g}" for p in choices(states, base))
        for name, merge in {**walks, **solved}.items():
            begin = time.process_time()
            state = merge()
            spent = time.process_time() - begin
            found = accuracy(state)
            rows.append(
                {
                    "fine-tuned at": f"{rate:g}",
                    "what": name,
                    "accuracy %": round(100 * found, 2),
                    "share %": round(100 * (found - average) / whole, 1),
                    "CPU s": round(spent, 2),
                    "chosen": chosen if name == "pull 0.2" else "",
                }
            )
    return rows


def _matrices(
    states: Mapping[str, Any], base: Mapping[str, Array], key: str
) -> tuple[list[Array], list[Array]]:
    """d_i and d_i^T d_i / |d_i|^2."""
    deltas = [np.asarray(s[key] - base[key], np.float64) for s in states.values()]
    return deltas, [d.T @ d / np.sum(d * d) for d in deltas]


def walked(
    states: Mapping[str, Any], base: Mapping[str, Array], rate: float, steps: int = 300
) -> dict[str, Array]:
    """Adam from the sum of the task vectors; biases averaged."""
    out = {}
    for key, start in base.items():
        deltas, moments = _matrices(states, base, key) if start.ndim == 2 else ([], [])
        if start.ndim != 2:
            out[key] = np.mean([s[key] for s in states.values()], axis=0)
            continue
        total, fixed = sum(moments), sum(d @ m for d, m in zip(deltas, moments, strict=True))
        tau = sum(deltas)
        first, second = np.zeros_like(tau), np.zeros_like(tau)
        for step in range(1, steps + 1):
            slope = 2 * (tau @ total - fixed)
            first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
            tau = tau - rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        out[key] = (start + tau).astype(np.float32)
    return out


def choices(states: Mapping[str, Any], base: Mapping[str, Array]) -> list[float]:
    """The pull of each matrix that disturbs the rows least that were left out."""
    out = []
    for key, start in base.items():
        if start.ndim != 2:
            continue
        deltas, _ = _matrices(states, base, key)
        total, count, n = sum(deltas), len(deltas), start.shape[1]
        half = np.random.default_rng(0).permutation(len(start)) % 2
        loss = np.zeros(len(PULLS))
        for fold in (0, 1):
            seen, other = half != fold, half == fold
            moments = [d[seen].T @ d[seen] * 2 / np.sum(d * d) for d in deltas]
            gap = sum((d - total) @ m for d, m in zip(deltas, moments, strict=True))
            for i, pull in enumerate(PULLS):
                tau = total + np.linalg.solve(sum(moments) + pull * count / n * np.eye(n), gap.T).T
                loss[i] += sum(np.sum(((tau - d) @ d[other].T) ** 2) / np.sum(d * d) for d in deltas)
        out.append(PULLS[int(loss.argmin())])
    return out
