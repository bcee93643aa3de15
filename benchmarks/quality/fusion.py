"""Fusing real member outputs: `choose` beside its contenders, on rows that no fuser was fitted to.

`python -m benchmarks.quality.fusion` reads the members' out-of-fold outputs on six tables (12 members each;
data folder `outputs` beside the repository), draws rows to fit to and reports on the other half, five times.
Writes FUSION.md beside this file. Peers are the operators themselves, among them greedy selection with
replacement as AutoGluon and auto-sklearn use it (same picks: benchmarks.speed.fusion).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.fusion import (
    choose,
    fit_best_single,
    fit_gate,
    fit_greedy_selection,
    fit_linear_pool,
    fit_log_pool,
    fit_mean,
    fit_network_fuser,
    fit_stacking,
)
from conjoin.outputs import Labels, Probabilities, Values
from conjoin.scores import SCORES, paired

HERE = Path(__file__).resolve().parent
DATA = HERE.parent.parent.parent / "shared" / "data" / "outputs"
SIZES = (250, 0)  # 0: half of the rows
SPLITS = 5
Fit = Callable[[dict[str, Any], Any], Any]


@dataclass(frozen=True)
class World:
    """A table's member outputs and truth."""

    name: str
    outputs: dict[str, Any]
    truth: Any

    @property
    def score(self) -> str:
        """The score of its kind."""
        return "log_loss" if isinstance(self.truth, Labels) else "rmse"


def worlds() -> list[World]:
    """The tables, as far as the data is there."""
    found = []
    for path in sorted(DATA.glob("tabular_*/dev/*.npz")):
        data = np.load(path, allow_pickle=False)
        names = [str(n) for n in data["names"]]
        if "classes" in data:
            classes = [str(c) for c in data["classes"]]
            outputs: dict[str, Any] = {
                n: Probabilities(p, classes) for n, p in zip(names, data["oof"], strict=True)
            }
            found.append(World(path.stem, outputs, Labels(data["y"], classes)))
        else:
            outputs = {n: Values(v.astype(np.float64)) for n, v in zip(names, data["oof"], strict=True)}
            found.append(World(path.stem, outputs, Values(data["y"])))
    return found


def contenders(world: World) -> dict[str, Fit]:
    """Name -> fit; `choose` is last."""
    fits: dict[str, Fit] = {
        "best_single": fit_best_single,
        "mean": fit_mean,
        "linear_pool": fit_linear_pool,
        "greedy_selection": fit_greedy_selection,
    }
    if world.score == "log_loss":
        fits["log_pool"] = fit_log_pool
    fits |= {"stacking": fit_stacking, "gate": fit_gate, "network": fit_network_fuser}
    return fits


@dataclass(frozen=True)
class Tried:
    """One fuser on one split: loss on the report rows, members used, its name where chosen, CPU seconds."""

    loss: float
    members: int
    chosen: str
    seconds: float
    against_best: float  # paired difference to the best single member, in its standard errors


def split(world: World, rows: int, seed: int) -> dict[str, Tried]:
    """Fit on some rows, report on the other half."""
    order = np.random.default_rng(seed).permutation(len(world.truth))
    half = len(order) // 2
    fit_at, report_at = np.sort(order[: min(rows or half, half)]), np.sort(order[half:])
    given = {n: o.take(fit_at) for n, o in world.outputs.items()}
    asked = {n: o.take(report_at) for n, o in world.outputs.items()}
    truth, answer = world.truth.take(fit_at), world.truth.take(report_at)
    score = SCORES[world.score]
    found: dict[str, Tried] = {}
    base: Any = None
    for name, fit in {**contenders(world), "choose": choose}.items():
        start = time.process_time()
        made = fit(given, truth)
        seconds = time.process_time() - start
        fuser = made.fuser if name == "choose" else made
        fused = fuser({n: asked[n] for n in fuser.members})
        base = fused if base is None else base
        gap = paired(score, fused, base, answer)
        ratio = gap.mean / gap.standard_error if gap.standard_error else 0.0
        chosen = made.name if name == "choose" else name
        found[name] = Tried(score.loss(fused, answer), len(fuser.needs), chosen, seconds, ratio)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run everything, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=list(SIZES), help="rows to fit to; 0 is half")
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--dry", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    known = worlds()
    if not known:
        sys.exit(f"no member outputs under {DATA}")
    parts = [line for rows in given.rows for line in _part(known, rows, given.splits)]
    text = "\n".join([*_head(given.splits), *parts])
    print(text)
    if not given.dry:
        (HERE / "FUSION.md").write_text(text + "\n")


def _head(splits: int) -> list[str]:
    return [
        "# Fusing real member outputs",
        "",
        "Made by `python -m benchmarks.quality.fusion`. Twelve members a table, fitted to some rows of their",
        f"out-of-fold outputs, reported on the other half; mean of {splits} random splits. Log-loss or RMSE;",
        "numbers behind it are per cent against greedy selection (25 picks), negative is better.",
        "",
    ]


def _part(known: list[World], rows: int, splits: int) -> list[str]:
    runs = {w.name: [split(w, rows, seed) for seed in range(splits)] for w in known}
    names = [
        "best_single",
        "mean",
        "linear_pool",
        "greedy_selection",
        "log_pool",
        "stacking",
        "gate",
        "network",
        "choose",
    ]
    title = f"Fitted to {rows} rows" if rows else "Fitted to half of the rows"
    lines = [
        f"## {title}",
        "",
        "| table | greedy |" + "".join(f" {n} |" for n in names if n != "greedy_selection"),
    ]
    lines += ["|---|---|" + "---|" * (len(names) - 1)]
    relative: dict[str, list[float]] = {n: [] for n in names}
    for world in known:
        greedy = statistics.mean(r["greedy_selection"].loss for r in runs[world.name])
        cells = []
        for name in names:
            if name not in runs[world.name][0]:
                cells.append("")
                continue
            each = [100 * (r[name].loss / r["greedy_selection"].loss - 1) for r in runs[world.name]]
            relative[name] += each
            if name != "greedy_selection":
                cells.append(f"{statistics.mean(each):+.2f}")
        lines.append(f"| {world.name} | {greedy:.5g} | " + " | ".join(cells) + " |")
    shown = [statistics.mean(relative[n]) for n in names if n != "greedy_selection"]
    lines.append("| **mean** | | " + " | ".join(f"**{v:+.2f}**" for v in shown) + " |")
    return [*lines, "", *_told(runs), ""]


def _told(runs: dict[str, list[dict[str, Tried]]]) -> list[str]:
    each = [r for world in runs.values() for r in world]
    better = sum(r["choose"].loss < r["best_single"].loss for r in each)
    worse = sum(r["choose"].against_best > 1 for r in each)
    lines = [
        f"`choose` beat the best single member (of the fitting rows) in {better} of {len(each)} runs; it",
        f"was worse by more than one standard error in {worse}.",
        "",
        "| table | chosen | members | CPU s of `choose` |",
        "|---|---|---|---|",
    ]
    for name, world in runs.items():
        picks = ", ".join(sorted({r["choose"].chosen for r in world}))
        members = statistics.mean(r["choose"].members for r in world)
        seconds = statistics.mean(r["choose"].seconds for r in world)
        lines.append(f"| {name} | {picks} | {members:.1f} | {seconds:.1f} |")
    return lines


if __name__ == "__main__":
    main()
