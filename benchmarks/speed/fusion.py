"""Fitting fusers: greedy selection beside AutoGluon's EnsembleSelection, and the linear pool at its optimum.

Members are simulated classifiers of different skill, sharpness and agreement: 20,000 rows, 10 classes.
Every fit runs in a fresh process; CPU seconds are of all its threads, of the fit alone. The peer runs in the
environment `autogluon` of benchmarks.quality, on the same file. Writes FUSION.md beside this file.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROWS, CLASSES, PICKS = 20_000, 10, 25
WORLDS = ("unlike", "alike")
REPEATS = 3

PEER = """
import json, sys, time
import numpy as np
from autogluon.core.metrics import log_loss
from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection
data = np.load(sys.argv[1])
members, y = list(data["P"]), data["y"]
start = time.process_time()
found = EnsembleSelection(ensemble_size=int(sys.argv[2]), problem_type="multiclass", metric=log_loss)
found.fit(members, y)
seconds = time.process_time() - start
picks = [int(i) for i in found.indices_]
print(json.dumps({"seconds": seconds, "loss": float(found.train_score_), "picks": picks}))
"""


def simulate(members: int, world: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(M, n, K) float32 probabilities and (n,) true classes; alike: members of nearly the same skill."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, ROWS)
    shared = 0.5 * rng.normal(size=(ROWS, CLASSES))
    P = np.empty((members, ROWS, CLASSES), dtype=np.float32)
    for m in range(members):
        skill, noise, sharp = (
            (2.0 + 0.1 * rng.random(), 1.5, 1.0)
            if world == "alike"
            else (rng.uniform(0.3, 2.5), rng.uniform(0.5, 2.0), rng.uniform(0.5, 2.0))
        )
        z = shared + noise * rng.normal(size=(ROWS, CLASSES))
        z[np.arange(ROWS), y] += skill
        e = np.exp(sharp * (z - z.max(axis=1, keepdims=True)))
        P[m] = e / e.sum(axis=1, keepdims=True)
    return P, y


def fit(path: str, what: str) -> dict[str, Any]:
    """Fit in this process; seconds of CPU, loss, and picks or gap."""
    from conjoin.fusion import fit_greedy_selection, fit_linear_pool
    from conjoin.outputs import Labels, Probabilities

    data = np.load(path)
    names = [str(k) for k in range(CLASSES)]
    outputs = {f"m{i:03d}": Probabilities(p, names) for i, p in enumerate(data["P"])}
    truth = Labels(data["y"], names)
    start = time.process_time()
    pool = (
        fit_greedy_selection(outputs, truth, picks=PICKS)
        if what == "greedy"
        else fit_linear_pool(outputs, truth, tolerance=1e-6)
    )
    seconds = time.process_time() - start
    told: dict[str, Any] = {"seconds": seconds, "loss": pool.loss, "members": len(pool.needs)}
    return told | {"gap": pool.gap, "picks": [int(n[1:]) for n in pool.picks]}


def _run(command: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{command[:3]} failed:\n{done.stderr[-1500:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def ours(path: Path, what: str) -> dict[str, Any]:
    """The fit in fresh processes: the middle of three times."""
    found = [_run([sys.executable, "-m", "benchmarks.speed.fusion", str(path), what]) for _ in range(REPEATS)]
    return sorted(found, key=lambda f: float(f["seconds"]))[REPEATS // 2]


def peer(path: Path) -> dict[str, Any]:
    """AutoGluon's selection, once."""
    from benchmarks.quality.environments import python_of

    return _run([str(python_of("autogluon")), "-c", PEER, str(path), str(PICKS)])


def main() -> None:
    """Run all, print and write the tables."""
    with tempfile.TemporaryDirectory() as folder:
        greedy = [_greedy(Path(folder), world, seed) for world in WORLDS for seed in range(2)]
        linear = [_linear(Path(folder), world, seed) for world in WORLDS for seed in range(2)]
    text = _report(greedy, linear)
    print(text)
    (HERE / "FUSION.md").write_text(text)


def _saved(folder: Path, members: int, world: str, seed: int) -> Path:
    path = folder / f"{members}-{world}-{seed}.npz"
    P, y = simulate(members, world, seed)
    np.savez(path, P=P, y=y)
    return path


def _greedy(folder: Path, world: str, seed: int) -> str:
    path = _saved(folder, 50, world, seed)
    mine, theirs = ours(path, "greedy"), peer(path)
    same = "yes" if mine["picks"] == theirs["picks"] else "no"
    if same == "no" and sorted(mine["picks"]) == sorted(theirs["picks"]):
        same = "yes, but for the order of a tie"
    path.unlink()
    return (
        f"| {world} {seed} | {theirs['seconds']:.2f} | {mine['seconds']:.3f} | "
        f"{theirs['seconds'] / mine['seconds']:.0f} | {theirs['loss']:.6f} | {mine['loss']:.6f} | {same} |"
    )


def _linear(folder: Path, world: str, seed: int) -> str:
    path = _saved(folder, 300, world, seed)
    found = ours(path, "linear")
    path.unlink()
    return (
        f"| {world} {seed} | {found['seconds']:.3f} | {found['loss']:.8f} | {found['gap']:.1e} | "
        f"{found['members']} |"
    )


def _report(greedy: list[str], linear: list[str]) -> str:
    lines = [
        "# Fitting fusers",
        "",
        f"Made by `python -m benchmarks.speed fusion`. {ROWS:,} rows, {CLASSES} classes, float32, simulated",
        "members (`unlike`: of very different skill; `alike`: of nearly the same). CPU seconds of the fit,",
        f"all threads, fresh process; ours is the middle of {REPEATS}. "
        f"{os.cpu_count()} cores, Python {platform.python_version()}.",
        "",
        f"## Greedy selection, 50 members, {PICKS} picks, log-loss; peer: AutoGluon's EnsembleSelection",
        "",
        "The peer draws among members that tie to six decimals at random; we take the better one.",
        "",
        "| members | peer, CPU s | conjoin, CPU s | times less | peer's loss | our loss | same picks |",
        "|---|---|---|---|---|---|---|",
        *greedy,
        "",
        "## Linear pool at the optimum of log-loss, 300 members",
        "",
        "| members | CPU s | loss | certified gap | members with weight |",
        "|---|---|---|---|---|",
        *linear,
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(fit(sys.argv[1], sys.argv[2])))
    else:
        main()
