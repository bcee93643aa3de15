"""The automatic choice on real outputs of every kind, beside the best single member.

`python -m benchmarks.fusion.quality [NAME ...]` draws half of the rows to fit to, chooses the best single
member and `conjoin.fusion.choose` on them by the same score, and reports both on the other half; five such
splits. Files are read as `conjoin fuse` reads them, from the folder `outputs` of the data beside the
repository.

`gap` is the loss of the choice less that of the best single member, below 0 where the choice is better, in
the mean over the splits. `error` is the mean over splits of the paired standard error of a split; the splits
share rows, so it is not divided by their number.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from conjoin.fusion import FUSERS, choose
from conjoin.fusion.applied import Applied
from conjoin.fusion.kinds import FAMILIES, family
from conjoin.fusion.single import as_fused, fit_single
from conjoin.report.sources import sources
from conjoin.scores import paired, score_of

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[2] / "shared" / "data" / "outputs"
SPLITS = 5


@dataclass(frozen=True)
class Task:
    """Files of one row of the data's index, and the scores that are reported."""

    name: str
    kind: str
    files: str
    truth: str | None
    scores: tuple[str, ...]
    without: tuple[str, ...] = ()


BOTH = ("accuracy", "log_loss")
TASKS = (
    Task("detection", "boxes", "detection/dev/*.json", "truth.json", ("ap50",)),
    Task("credit_g", "probabilities", "tabular_classification/dev/credit_g.npz", None, BOTH),
    Task("phoneme", "probabilities", "tabular_classification/dev/phoneme.npz", None, BOTH),
    Task("adult", "probabilities", "tabular_classification/dev/adult.npz", None, BOTH),
    Task("letter", "probabilities", "tabular_classification/dev/letter.npz", None, BOTH),
    Task("california_housing", "values", "tabular_regression/dev/california_housing.npz", None, ("rmse",)),
    Task("diamonds", "values", "tabular_regression/dev/diamonds.npz", None, ("rmse",)),
    Task("ranking", "ranking", "ranking/dev/*.run.gz", "qrels.txt", ("ndcg@10",)),
    Task("kg_link_prediction", "ranking", "kg_link_prediction/dev/*.run.gz", "qrels.txt", ("mrr",)),
    Task("speech", "texts", "speech/dev/*.ctm", "ref.stm", ("wer",), ("nofallback", "ref.")),
    Task("translation", "texts", "translation/dev/*.hyp.pt", "reference.pt-BR", ("chrf",)),
    Task("sentiment", "probabilities", "sentiment/dev/probs.npz", None, BOTH),
    Task("sentiment, labels", "labels", "sentiment/dev/labels.csv", "truth.csv", ("accuracy",)),
    Task("ner", "spans", "ner/dev/*.jsonl", "truth.jsonl", ("f1",)),
    Task("sentence_embeddings", "embeddings", "sentence_embeddings/dev/*.npz", None, ("spearman",)),
    Task("image_classification", "probabilities", "image_classification/dev/probs.npz", None, BOTH),
)


@dataclass(frozen=True)
class Split:
    """What one split gave: values of the score, the gap of losses with its error, what was chosen."""

    single: float
    trusted: float
    choice: float
    gap: float
    error: float
    name: str
    seconds: float


def read(task: Task) -> Any:
    """What the task's files say."""
    files = sorted(DATA.glob(task.files))
    truth = None if task.truth is None else files[0].parent / task.truth
    kept = [f for f in files if f != truth and not any(w in f.name for w in task.without)]
    return sources(task.kind, kept, truth).found


def split(found: Any, name: str, seed: int) -> Split:
    """Fit to one half, report on the other."""
    kind = next(iter(found.outputs.values())).kind
    score = cast(Any, score_of(name, kind))
    order = np.random.default_rng(seed).permutation(len(found.truth))
    inside, outside = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    given = {n: o.take(inside) for n, o in found.outputs.items()}
    asked = {n: o.take(outside) for n, o in found.outputs.items()}
    truth, answer = found.truth.take(inside), found.truth.take(outside)
    begin = time.process_time()
    choice = choose(given, truth, score=score, seed=seed)
    seconds = time.process_time() - begin
    single = as_fused(fit_single(given, truth, score=score)(asked))
    trusted = Applied(kind, family(kind).TRUSTED, {}, {}) if kind in FAMILIES else FUSERS["mean"]
    fused = choice.fuser({n: asked[n] for n in choice.members})
    values = [score.value(as_fused(o), answer) for o in (single, trusted(asked), fused)]
    gap = paired(score, as_fused(fused), single, answer)
    return Split(*values, gap.mean, gap.standard_error, choice.name, seconds)


def line(task: Task, name: str, runs: Sequence[Split]) -> str:
    """A line of the table."""
    mean = {k: float(np.mean([getattr(r, k) for r in runs])) for k in ("single", "trusted", "choice", "gap")}
    error = float(np.mean([r.error for r in runs]))
    seconds = float(np.mean([r.seconds for r in runs]))
    verdict = (
        "better"
        if mean["gap"] < 0
        else "worse by more than an error"
        if mean["gap"] > error
        else "not better"
    )
    each = " ".join(f"{r.gap / r.error if r.error else 0.0:+.1f}" for r in runs)
    values = " | ".join(f"{mean[k]:.5g}" for k in ("single", "trusted", "choice"))
    told = ", ".join(sorted({r.name for r in runs}))
    cells = (
        task.name,
        name,
        values,
        f"{mean['gap']:+.3g}",
        f"{error:.2g}",
        each,
        verdict,
        told,
        f"{seconds:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def main(names: Sequence[str]) -> None:
    """Print the table; write QUALITY.md where all tasks were run."""
    lines = [
        "| task | score | best single | trusted without truth | choice | gap | error | gap / error of each "
        "| verdict | chosen | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for task in TASKS:
        if names and task.name not in names:
            continue
        found = read(task)
        for name in task.scores:
            lines.append(line(task, name, [split(found, name, seed) for seed in range(SPLITS)]))
            print(lines[-1], flush=True)
    if not names:
        head = ["# The automatic choice on real outputs", "", *(__doc__ or "").splitlines()[2:], ""]
        (HERE / "QUALITY.md").write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
