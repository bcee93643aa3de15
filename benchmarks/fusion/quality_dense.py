"""The automatic choice on real outputs of probabilities and values, beside the best single member.

`python -m benchmarks.fusion.quality_dense` draws half of the rows to fit to, chooses the best single member
and `conjoin.fusion.choose` on them for the same score, and reports both on the other half; five such splits.
`gap` is loss(choice) - loss(best single), `error` its paired standard error on the reported rows. Reads the
folder `outputs` of the data beside the repository.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.fusion import choose, fit_best_single
from conjoin.outputs import Labels, Probabilities, Values
from conjoin.scores import SCORES, paired

HERE = Path(__file__).resolve().parent
DATA = HERE.parent.parent.parent / "shared" / "data" / "outputs"
SPLITS = 5


@dataclass(frozen=True)
class World:
    """Member outputs with a truth, and the scores that are reported."""

    name: str
    outputs: Mapping[str, Any]
    truth: Any
    scores: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """One split: losses of the choice and the best single member, their gap, its error, what was chosen."""

    choice: float
    single: float
    gap: float
    error: float
    name: str
    seconds: float


def worlds(root: Path = DATA) -> Iterator[World]:
    """The tasks of dense kinds, as far as the data is there."""
    for path in sorted(root.glob("tabular_*/dev/*.npz")):
        with np.load(path, allow_pickle=False) as data:
            names = [str(n) for n in data["names"]]
            if "classes" in data:
                classes = [str(c) for c in data["classes"]]
                yield _classes(path.stem, names, data["oof"], data["y"], classes)
            else:
                each = {n: Values(v.astype(np.float64)) for n, v in zip(names, data["oof"], strict=True)}
                yield World(path.stem, each, Values(data["y"]), ("rmse",))
    for task in ("sentiment", "image_classification"):
        path = root / task / "dev" / "probs.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as data:
                names = [str(n) for n in data["names"]]
                width = data["probs"].shape[2]
                classes = [str(c) for c in (data["classes"] if "classes" in data else range(width))]
                yield _classes(task, names, data["probs"].astype(np.float32), data["y"], classes)


def _classes(name: str, names: list[str], probs: Any, y: Any, classes: list[str]) -> World:
    outputs = {n: Probabilities(p, classes) for n, p in zip(names, probs, strict=True)}
    return World(name, outputs, Labels(y.astype(np.int64), classes), ("accuracy", "log_loss"))


def split(world: World, name: str, seed: int, fit: Callable[..., Any] = choose) -> Line:
    """Fit to one half, report on the other."""
    order = np.random.default_rng(seed).permutation(len(world.truth))
    half = len(order) // 2
    inside, outside = np.sort(order[:half]), np.sort(order[half:])
    given = {n: o.take(inside) for n, o in world.outputs.items()}
    asked = {n: o.take(outside) for n, o in world.outputs.items()}
    truth, answer = world.truth.take(inside), world.truth.take(outside)
    score = SCORES[name]
    start = time.process_time()
    choice = fit(given, truth, score=score)
    seconds = time.process_time() - start
    single = fit_best_single(given, truth, score=score)(asked)
    fused = choice.fuser({n: asked[n] for n in choice.members})
    gap = paired(score, fused, single, answer)
    losses = score.loss(fused, answer), score.loss(single, answer)
    return Line(*losses, gap.mean, gap.standard_error, choice.name, seconds)


def table(splits: int = SPLITS, fit: Callable[..., Any] = choose, only: str = "") -> list[str]:
    """Markdown: a line for each task and score."""
    lines = [
        "| task | score | best single | choice | gap | gap / error, each | error | chosen | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for world in worlds():
        for name in world.scores:
            if only not in f"{world.name} {name}":
                continue
            runs = [split(world, name, seed, fit) for seed in range(splits)]
            gap = float(np.mean([r.gap for r in runs]))
            each = " ".join(f"{r.gap / r.error if r.error else 0.0:+.1f}" for r in runs)
            told = ", ".join(sorted({r.name for r in runs}))
            single, choice, error, seconds = (
                float(np.mean([getattr(r, key) for r in runs]))
                for key in ("single", "choice", "error", "seconds")
            )
            lines.append(
                f"| {world.name} | {name} | {single:.5g} | {choice:.5g} | {gap:+.3g} | {each} | {error:.2g} "
                f"| {told} | {seconds:.1f} |"
            )
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Print the table, and write it beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--only", default="", help="a part of 'task score'")
    parser.add_argument("--dry", action="store_true", help="print only")
    given = parser.parse_args()
    lines = table(given.splits, only=given.only)
    if not given.dry:
        told = (__doc__ or "").splitlines()[2:]
        head = ["# The automatic choice on real probabilities and values", "", *told, "Losses.", ""]
        (HERE / "QUALITY_DENSE.md").write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    main()
