"""Fusion of rankings, beside ranx: RRF from ids and dictionaries, fitted weights, time to a first result."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from conjoin.fusion.ranking import (
    FIT_FUSERS,
    condorcet,
    from_dict,
    from_dicts,
    queries_of,
    rrf,
    to_dict,
    weighted_sum,
)
from conjoin.outputs import Ranking
from conjoin.scores.ranking import SCORES

Runs = dict[str, dict[str, dict[str, float]]]
FIRST = """
import numpy as np
from conjoin.fusion.ranking import rrf
from conjoin.outputs import Ranking
rng = np.random.default_rng(0)
runs = {m: Ranking(np.concatenate([rng.permutation(500)[:100] for _ in range(50)]),
                   np.tile(np.arange(100.0)[::-1], 50), np.arange(51) * 100) for m in "abcde"}
rrf(runs)
"""


def runs_of(members: int, queries: int, depth: int, items: int, seed: int = 0) -> Runs:
    """Runs of systems that order `items` documents by a common score and noise of their own."""
    rng = np.random.default_rng(seed)
    found: Runs = {f"run{m}": {} for m in range(members)}
    for q in range(queries):
        true = rng.normal(size=items)
        for m in range(members):
            scores = true + (1 + m / 2) * rng.normal(size=items)
            best = np.argsort(-scores)[:depth]
            found[f"run{m}"][f"q{q:05d}"] = {
                f"d{i}": s for i, s in zip(best.tolist(), scores[best].tolist(), strict=True)
            }
    return found


def with_numbers(outputs: Mapping[str, Ranking]) -> dict[str, Ranking]:
    """The same lists with whole numbers for ids."""
    return {
        n: Ranking(np.array([int(i[1:]) for i in o.ids], dtype=np.int64), o.scores, o.offsets)
        for n, o in outputs.items()
    }


def cpu(*calls: Callable[[], Any], times: int = 3) -> tuple[float, ...]:
    """The least CPU seconds of each call, one after the other in turn."""
    spent = [[0.0] * times for _ in calls]
    for t in range(times):
        for i, call in enumerate(calls):
            begin = time.process_time()
            call()
            spent[i][t] = time.process_time() - begin
    return tuple(min(s) for s in spent)


def largest_difference(mine: Mapping[str, Mapping[str, float]], theirs: Mapping[str, Any]) -> float:
    """Over all scores; infinite where the documents differ."""
    worst = 0.0
    for query, items in mine.items():
        other = dict(theirs[query])
        if set(other) != set(items):
            return float("inf")
        worst = max([worst, *(abs(other[d] - s) for d, s in items.items())])
    return worst


def row(operator: str, workload: str, mine: float, peer: float, asked: str, same: str) -> dict[str, Any]:
    return {
        "operator": operator,
        "workload": workload,
        "peer": "ranx 0.3.21",
        "conjoin_cpu": mine,
        "peer_cpu": peer,
        "ratio": peer / mine,
        "same": same,
        "asked": asked,
    }


def reciprocal_ranks() -> list[dict[str, Any]]:
    """5 runs x 1,000 queries x 1,000 documents; the peer's time is of 200 of the queries, times 5."""
    from ranx import Run
    from ranx.fusion import rrf as peer

    whole = runs_of(5, 1000, 1000, 2000)
    some = {n: dict(list(r.items())[:200]) for n, r in whole.items()}
    outputs = from_dicts(whole)
    ids = with_numbers(outputs)
    theirs = [Run(r) for r in some.values()]
    answer = peer(theirs)
    rrf(ids)
    queries = queries_of(some)
    gap = largest_difference(to_dict(rrf(from_dicts(some)), queries), answer.run)
    same = f"200 queries, all scores: largest difference {gap:.1e}"
    from_ids, from_strings, one, fused = cpu(
        lambda: rrf(ids),
        lambda: rrf(from_dicts(whole)),
        lambda: peer(theirs),
        lambda: peer([Run(r) for r in some.values()]),
    )
    shape = "5 runs x 1,000 queries x 1,000 documents"
    return [
        row("rrf, whole numbers as ids", shape, from_ids, 5 * one, "20 times", same),
        row("rrf, from dictionaries of strings", shape, from_strings, 5 * fused, "3 times", same),
    ]


def fitted_weights() -> list[dict[str, Any]]:
    """Weights of 4 runs over 200 queries x 100 documents for nDCG@10, against a grid of steps of 0.1."""
    from ranx import Qrels, Run, evaluate, optimize_fusion
    from ranx import fuse as peer_fuse

    runs = runs_of(4, 200, 100, 300, seed=1)
    queries = queries_of(runs)
    rng = np.random.default_rng(2)
    true = {
        q: [d for d in list(r)[:60] if rng.random() < 0.2] or list(r)[:1] for q, r in runs["run0"].items()
    }
    for q, r in runs["run1"].items():
        true[q] = list(dict.fromkeys([*true[q], *(d for d in list(r)[:60] if rng.random() < 0.1)]))
    qrels = {q: dict.fromkeys(items, 1) for q, items in true.items()}
    theirs, judged = [Run(r) for r in runs.values()], Qrels(qrels)
    outputs, truth = (
        from_dicts(runs, queries),
        from_dict({q: dict.fromkeys(i, 1.0) for q, i in true.items()}, queries),
    )
    fit = FIT_FUSERS["weighted_sum"]
    found: dict[str, Any] = {}

    def mine() -> None:
        found["mine"] = fit(outputs, truth, score=SCORES["ndcg@10"], temperature=0.0)

    def averaged() -> None:
        found["averaged"] = fit(outputs, truth, score=SCORES["ndcg@10"])

    def peer() -> None:
        found["peer"] = optimize_fusion(
            judged, theirs, norm="min-max", method="wsum", metric="ndcg@10", show_progress=False
        )

    mine()
    optimize_fusion(
        judged, theirs, norm="min-max", method="wsum", metric="ndcg@10", step=0.5, show_progress=False
    )
    a, b, c = cpu(mine, averaged, peer)
    best = evaluate(judged, peer_fuse(theirs, norm="min-max", method="wsum", params=found["peer"]), "ndcg@10")
    grid = SCORES["ndcg@10"].value(weighted_sum(outputs, weights=found["peer"]["weights"]), truth)
    shape = "4 runs x 200 queries x 100 documents, nDCG@10, grid of 286"
    rows = []
    for name, spent, told in (("temperature 0", a, "mine"), ("mean of vectors", b, "averaged")):
        value = SCORES["ndcg@10"].value(found[told](outputs), truth)
        same = f"nDCG@10 {value:.5f}, ranx {best:.5f} (its weights here: {grid:.5f})"
        rows.append(row(f"weighted_sum fitted, {name}", shape, spent, c, "10 times", same))
    return rows


def majorities() -> list[dict[str, Any]]:
    """Condorcet fusion, 5 runs x 5 queries x 100 documents."""
    from ranx import Run
    from ranx.fusion import condorcet as peer

    runs = runs_of(5, 5, 100, 200, seed=3)
    outputs, theirs = from_dicts(runs), [Run(r) for r in runs.values()]
    peer(theirs), condorcet(outputs)
    a, b = cpu(lambda: condorcet(outputs), lambda: peer(theirs))
    same = "not compared: with cycles the order depends on the sort"
    return [row("condorcet", "5 runs x 5 queries x 100 documents", a, b, "", same)]


def first_result() -> list[dict[str, Any]]:
    """From the start of a process to its first fused result: without machine code on disk, and with it."""
    found = []
    shape = "rrf, 5 runs x 50 queries x 100 documents"
    with tempfile.TemporaryDirectory() as cache:
        spent = [_process({"NUMBA_CACHE_DIR": cache}) for _ in range(5)]
    for name, times, asked in (("first ever", spent[:1], "3 s"), ("later process", spent[1:], "1 s")):
        cpu_seconds, wall = (min(t[i] for t in times) for i in (0, 1))
        told = row(
            f"process start to first result, {name}", shape, cpu_seconds, 1, asked, f"wall {wall:.2f} s"
        )
        found.append(told | {"peer": "", "peer_cpu": "", "ratio": ""})
    return found


def _process(environment: Mapping[str, str]) -> tuple[float, float]:
    """CPU and wall seconds of a process."""
    before, begin = os.times(), time.monotonic()
    subprocess.run([sys.executable, "-c", FIRST], check=True, env={**os.environ, **environment})
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent, time.monotonic() - begin


def run() -> list[dict[str, Any]]:
    """All figures."""
    warnings.simplefilter("ignore")
    return [*reciprocal_ranks(), *fitted_weights(), *majorities(), *first_result()]
