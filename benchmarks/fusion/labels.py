"""Models of annotators beside crowd-kit: 20,000 tasks x 5 answers x 10 classes of 500 workers, with a seed.

Seconds per iteration are (time of n + 1 iterations - time of 1) / n: reading the frame does not count.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from crowdkit import aggregation as peer

from conjoin.fusion.labels import (
    Triples,
    dawid_skene,
    fit_glad_model,
    glad,
    mace,
    majority_vote,
    one_coin_dawid_skene,
)

PEER = "crowd-kit 1.4.2"
NEVER = -1e9  # a tolerance at which neither stops early


class World:
    """Answers as triples and as a frame, and the truth."""

    def __init__(
        self, tasks: int, workers: int = 500, answers: int = 5, classes: int = 10, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.truth = rng.integers(0, classes, tasks)
        task = np.repeat(np.arange(tasks), answers)
        worker = np.concatenate([rng.choice(workers, answers, replace=False) for _ in range(tasks)])
        skill = rng.uniform(0.4, 0.9, workers)
        label = np.where(
            rng.random(len(task)) < skill[worker], self.truth[task], rng.integers(0, classes, len(task))
        )
        members = tuple(f"w{w:04d}" for w in range(workers))
        names = tuple(str(k) for k in range(classes))
        self.triples = Triples(task, worker, label, tasks, members, names)
        self.frame = pd.DataFrame(
            {"task": task, "worker": np.array(members)[worker], "label": np.array(names)[label]}
        )

    def accuracy(self, values: Any) -> float:
        return float((np.asarray(values).argmax(axis=1) == self.truth).mean())


def matrix(found: Any) -> np.ndarray:
    """Probabilities of a crowd-kit aggregator, in the order of tasks and classes."""
    return found.probas_.sort_index().sort_index(axis=1).to_numpy()


def seconds(run: Callable[[], Any]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def per_iteration(run: Callable[[int], Any], more: int, repeats: int = 3) -> float:
    times = [(seconds(lambda: run(more + 1)) - seconds(lambda: run(1))) / more for _ in range(repeats)]
    return max(min(times), 1e-9)


def row(operator: str, workload: str, times: tuple[float, float], asked: str, same: str) -> dict[str, Any]:
    mine, theirs = times
    return {
        "operator": operator,
        "workload": workload,
        "peer": PEER,
        "conjoin_cpu": mine,
        "peer_cpu": theirs,
        "ratio": theirs / mine,
        "same": same,
        "asked": asked,
    }


def iterative(world: World, name: str, mine: Any, theirs: Any, more: int, asked: str) -> dict[str, Any]:
    """Seconds per iteration of both, interleaved, and the largest difference of probabilities."""
    best = [1e9, 1e9]
    for _ in range(3):
        one = per_iteration(lambda n: mine(world.triples, n_iter=n, tol=NEVER), 4 * more, 1)
        other = per_iteration(lambda n: theirs(n_iter=n, tol=NEVER).fit(world.frame), more, 1)
        best = [min(best[0], one), min(best[1], other)]
    a = mine(world.triples, n_iter=more, tol=NEVER).values
    b = matrix(theirs(n_iter=more, tol=NEVER).fit(world.frame))
    right = f"accuracy {world.accuracy(a):.4f} and {world.accuracy(b):.4f}"
    same = f"probabilities within {np.abs(a - b).max():.1e}, {right}"
    return row(name, f"20,000 x 5 x 10, per iteration ({more} compared)", (best[0], best[1]), asked, same)


def run() -> list[dict[str, Any]]:
    """The rows of the table."""
    warnings.simplefilter("ignore")
    world = World(20_000)
    return [
        iterative(world, "dawid_skene", dawid_skene, peer.DawidSkene, 10, "15"),
        iterative(world, "one_coin_dawid_skene", one_coin_dawid_skene, peer.OneCoinDawidSkene, 3, ""),
        _majority(world),
        _mace(world),
        _glad_step(world),
        _glad_whole(),
    ]


def _majority(world: World) -> dict[str, Any]:
    mine = min(seconds(lambda: majority_vote(world.triples)) for _ in range(5))
    theirs = min(seconds(lambda: peer.MajorityVote().fit_predict_proba(world.frame)) for _ in range(3))
    a, b = majority_vote(world.triples).values, matrix(peer.MajorityVote().fit(world.frame))
    return row("majority_vote", "20,000 x 5 x 10", (mine, theirs), "", f"within {np.abs(a - b).max():.1e}")


def _mace(world: World) -> dict[str, Any]:
    def mine(n: int) -> Any:
        return mace(world.triples, n_restarts=1, n_iter=n)

    def theirs(n: int) -> Any:
        return peer.MACE(n_restarts=1, n_iter=n).fit(world.frame)

    times = per_iteration(mine, 20), per_iteration(theirs, 3, 2)
    right = world.accuracy(mine(50).values), world.accuracy(matrix(theirs(50)))
    same = f"accuracy after 50 steps {right[0]:.4f} and {right[1]:.4f}"
    return row("mace", "20,000 x 5 x 10, per iteration", times, "", same)


def _glad_step(world: World) -> dict[str, Any]:
    """The peer needs a minute for one iteration, so it runs once; conjoin runs to the end."""
    kept = []
    theirs = seconds(lambda: kept.append(peer.GLAD(n_iter=1).fit(world.frame)))
    glad(world.triples)
    mine = min(seconds(lambda: glad(world.triples)) for _ in range(5))
    found = fit_glad_model(world.triples)
    right = world.accuracy(found.probabilities.values), world.accuracy(matrix(kept[0]))
    same = f"accuracy {right[0]:.4f} after {len(found.history) - 1} iterations, {right[1]:.4f} after 1"
    return row("glad", "20,000 x 5 x 10: conjoin to the end, peer 1 iteration", (mine, theirs), "50", same)


def _glad_whole() -> dict[str, Any]:
    world = World(1000, workers=50, classes=4)
    kept = []
    theirs = seconds(lambda: kept.append(peer.GLAD().fit(world.frame)))
    mine = min(seconds(lambda: glad(world.triples)) for _ in range(5))
    found = glad(world.triples).values
    same = f"accuracy {world.accuracy(found):.4f} and {world.accuracy(matrix(kept[0])):.4f}"
    return row("glad", "1,000 x 5 x 4, to the end", (mine, theirs), "50", same)
