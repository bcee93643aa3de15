"""Distilling an ensemble of eight into one LightGBM, beside AutoGluon's `distill`.

Tables: of the twelve of `../shared/data/tables`, the six with the largest gap of the teacher to the student
alone, in standard errors of the paired difference, on a fifth of the part to learn from (seed 0; the teacher
learned from the rest). No distilled student and no test row is looked at for it. Found
(`python -m benchmarks.transfer.distilling gap TABLE`): wine 6.95, phoneme 5.86, diamonds 3.61, abalone 3.43,
california 2.62, telco 2.01; not taken: diabetes 1.86, titanic 0.92, adult -0.25, credit_g -0.56,
breast_cancer -0.98. Letter was not tried: of the ten members only five can learn its 26 classes.

The test part is the fixed fifth of `benchmarks/quality`. Larger tables give 6,000 rows to learn from, drawn
once. conjoin: the eight best members of ten by cross-validation, pooled with weights half fitted and half
equal, so that every member is asked; `distil(teacher, "lightgbm", train, holdout=test, time_limit=None,
threads=1)` with its defaults; the student alone is the same learner, its rounds found by cross-validation.
AutoGluon 1.6.3 (in the environment of `benchmarks/quality`, two threads): `fit` with medium quality,
`distill` with the student type GBM, the student alone is `fit` with GBM alone; each with its defaults and a
limit of 60 s. Each system distils its own teacher.

share: (loss of the student alone - loss of the distilled one) / (loss of the student alone - loss of the
teacher) on the test part, with the 95 % interval of a bootstrap of its rows. It is of the distilled student,
also where the student alone was better. Scores are log-loss and RMSE. times faster: CPU of answering 20,000
rows in one batch, which are the test part repeated, best of three, both sides alike; a call's fixed cost,
about a millisecond, would else decide on small test parts. s, CPU s: all of distilling, the student alone and
the scoring included. One seed. The defaults of `distil` but for the rounds were chosen when the test parts of
five of these tables had been looked at; the stop by `SLACK` was chosen on development rows of abalone,
phoneme and telco. The machine was shared: up to 13 processes ran on 2 cores, so seconds on the clock are too
many and CPU seconds say more; a limit of 60 s cut AutoGluon's work shorter than on a quiet machine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.quality.tables import in_test_part, table

WORK = Path(__file__).resolve().parent / "work" / "distilling-results"
TABLES = ("wine_quality_white", "phoneme", "diamonds", "abalone", "california_housing", "telco_churn")
MOST = 6_000
MEMBERS = (
    *("lightgbm", "xgboost", "catboost", "extra_trees", "network", "lightgbm_random", "catboost_deep"),
    *("extra_trees_entropy", "random_forest", "neighbours"),
)
LIMIT = 60
MANY = 20_000


def parts(name: str) -> tuple[list[int], list[int]]:
    """Rows to learn from and rows of the test part."""
    import numpy as np

    with table(name).path.open() as lines:
        n = sum(1 for _ in lines) - 1
    learn = [i for i in range(n) if not in_test_part(i)]
    if n >= 10_000:
        learn = sorted(np.random.default_rng(0).permutation(learn)[:MOST].tolist())
    return learn, [i for i in range(n) if in_test_part(i)]


def ours(name: str) -> dict[str, Any]:
    """conjoin on one table."""
    import conjoin
    from conjoin.tables import read_table
    from conjoin.transfer.distil import distil

    learn, test = parts(name)
    batch = read_table(table(name).path)
    train, held = ({k: v[rows] for k, v in batch.items()} for rows in (learn, test))
    place = WORK / f"{name}.conjoin"
    if not place.exists():
        conjoin.save(teacher(train, None if table(name).classifies else "regression"), place)
    done = conjoin.load(place)
    begin = time.monotonic()
    made = distil(done, "lightgbm", train, target="target", holdout=held, time_limit=None, threads=1)
    wall, report = time.monotonic() - begin, made.report
    gap = report.gap
    found = {
        "metric": report.metric,
        "members": len(done.members),
        "teacher": report.teacher.value,
        "alone": report.alone.value,
        "distilled": report.distilled.value,
        "kept": report.kept,
        "share": (report.alone.value - report.distilled.value) / (report.alone.value - report.teacher.value),
        "low": gap.share_low,
        "high": gap.share_high,
        "smaller": report.teacher.bytes / report.distilled.bytes,
        "cpu": report.cpu_seconds,
        "seconds": wall,
    }
    found["faster"] = faster(done, made.student, held)
    if report.kept == "distilled":
        found["losses"] = losses(made.student, held)
    return found


def faster(slow: Any, quick: Any, held: Any) -> float:
    """How many times faster, on so many rows that a call's fixed cost does not count."""
    import numpy as np

    from conjoin.transfer.distil.report import timed

    many = {k: np.resize(v, MANY) for k, v in held.items() if k != "target"}
    return timed(slow, many).cpu_seconds_per_row / timed(quick, many).cpu_seconds_per_row


def losses(member: Any, held: Any) -> list[float]:
    """Log-loss or squared error of each row."""
    import numpy as np

    output, truth = member.predict(held), held["target"]
    if not hasattr(output, "classes"):
        return ((output.values - np.asarray(truth, float)) ** 2).tolist()
    at = [output.classes.index(str(v)) for v in truth]
    return (-np.log(np.clip(output.values[np.arange(len(at)), at], 1e-15, 1))).tolist()


def teacher(train: Any, task: str | None) -> Any:
    """An ensemble of the eight best members; every one has a weight."""
    from dataclasses import replace

    from conjoin import fusion
    from conjoin.compose import Ensemble
    from conjoin.train.budget import Clock, Memory
    from conjoin.train.finish import _cost, _member
    from conjoin.train.portfolio import entries
    from conjoin.train.prepare import Request, prepare
    from conjoin.train.progress import silent
    from conjoin.train.run import Course, run

    prepared = prepare(train, Request(target="target", task=task, threads=2), most_rows=10**6)
    problem = prepared.problem
    wanted = {e.name: e for e in reversed(entries(problem, "best", None)) if e.name in MEMBERS}
    course = Course(problem, Clock.seconds(10_000), Memory.of(None), 0, silent, {}, lambda _: None)
    tried, _ = run(course, sorted(wanted.values(), key=lambda e: MEMBERS.index(e.name)))
    best = sorted(tried, key=lambda t: t.loss)[:8]
    outputs = {t.entry.name: problem.output(t.fitted.answers[problem.scored]) for t in best}
    fit = fusion.fit_log_pool if problem.truth.classes else fusion.fit_linear_pool
    pool = fit(outputs, problem.scored_truth)
    total = sum(pool.weights.values())
    weights = {n: 0.5 * pool.weights.get(n, 0.0) + 0.5 * total / len(outputs) for n in outputs}
    members = {t.entry.name: _member(prepared, t, _cost(prepared, t)) for t in best}
    return Ensemble(members, replace(pool, weights=weights))


def peer(name: str) -> dict[str, Any]:
    """AutoGluon on one table."""
    import numpy as np
    import pandas as pd
    from autogluon.tabular import TabularPredictor

    learn, test = parts(name)
    frame = pd.read_csv(table(name).path)
    train, held = frame.iloc[learn].reset_index(drop=True), frame.iloc[test].reset_index(drop=True)
    one = table(name)
    work = WORK / f"autogluon-{name}"
    shutil.rmtree(work, ignore_errors=True)
    made = {
        "label": "target",
        "problem_type": one.task,
        "eval_metric": "log_loss" if one.classifies else "root_mean_squared_error",
        "verbosity": 1,
    }
    predictor = TabularPredictor(path=str(work / "teacher"), **made)
    predictor.fit(train, presets="medium_quality", time_limit=LIMIT, num_cpus=2, num_gpus=0)
    best = predictor.model_best
    alone = TabularPredictor(path=str(work / "alone"), **made)
    alone.fit(train, hyperparameters={"GBM": {}}, time_limit=LIMIT, num_cpus=2, num_gpus=0)
    begin, wall = time.process_time(), time.monotonic()
    (student, *_) = predictor.distill(time_limit=LIMIT, hyperparameters={"GBM": {}})
    cpu, wall = time.process_time() - begin, time.monotonic() - wall

    def losses(made_by: Any, model: str | None) -> Any:
        if one.classifies:
            p = made_by.predict_proba(held, model=model)
            at = [list(p.columns).index(v) for v in held["target"]]
            chosen = p.to_numpy(dtype=float)[np.arange(len(held)), at]
            return -np.log(np.clip(chosen, 1e-15, 1))
        return (
            made_by.predict(held, model=model).to_numpy(dtype=float) - held["target"].to_numpy(float)
        ) ** 2

    kinds = {"teacher": (predictor, best), "alone": (alone, alone.model_best)}
    kinds["distilled"] = (predictor, student)
    found = {kind: losses(*which).tolist() for kind, which in kinds.items()}
    shutil.rmtree(work, ignore_errors=True)
    return {"losses": found, "student": student, "cpu": cpu, "seconds": wall}


def development(name: str) -> dict[str, Any]:
    """The gap of the teacher to the student alone, in standard errors, inside the part to learn from."""
    import numpy as np

    import conjoin
    from conjoin.tables import read_table
    from conjoin.transfer.distil import distil

    order = np.random.default_rng(0).permutation(parts(name)[0])
    cut = len(order) // 5
    batch = read_table(table(name).path)
    held, train = ({k: v[np.sort(part)] for k, v in batch.items()} for part in (order[:cut], order[cut:]))
    place = WORK / f"development-{name}.conjoin"
    if not place.exists():
        conjoin.save(teacher(train, None if table(name).classifies else "regression"), place)
    options: dict[str, Any] = {"augment": "none", "time_limit": None, "threads": 1}
    gap = distil(conjoin.load(place), "lightgbm", train, target="target", holdout=held, **options).report.gap
    error = (gap.high - gap.low) / (2 * 1.96)
    return {"gap": gap.size, "se": error, "z": gap.size / error}


def kept(kind: str, name: str) -> dict[str, Any] | None:
    """What was found before; a run that was stopped goes on."""
    place = WORK / f"{kind}-{name}.json"
    return json.loads(place.read_text()) if place.is_file() else None


def measure(kind: str, name: str) -> dict[str, Any]:
    """Measure one system on one table, once."""
    found = kept(kind, name)
    if found is None:
        WORK.mkdir(parents=True, exist_ok=True)
        found = {"ours": ours, "peer": peer, "gap": development}[kind](name)
        (WORK / f"{kind}-{name}.json").write_text(json.dumps(found))
    return found


def measure_peer(name: str) -> None:
    """Measure AutoGluon in the environment that `benchmarks/quality` makes for it; it may fail."""
    from benchmarks.quality.environments import python_of

    if kept("peer", name) is None:
        call = [str(python_of("autogluon")), "-W", "ignore", "-m", __name__, "peer", name]
        subprocess.run(call, stdout=subprocess.DEVNULL, check=False)


def row(name: str) -> dict[str, Any]:
    """A line of the table."""
    mine, theirs = kept("ours", name) or {}, kept("peer", name)
    share = "no gap beyond chance"
    if mine["low"] is not None:
        share = f"{mine['low']:.0%} to {mine['high']:.0%}"
    out: dict[str, Any] = {
        "table": f"{name} ({mine['metric']})",
        "teacher": mine["teacher"],
        "alone": mine["alone"],
        "distilled": mine["distilled"],
        "share": f"{mine['share']:.0%}",
        "95 %": share,
        "times faster": mine.get("faster", ""),
        "s": mine["seconds"],
        "CPU s": mine["cpu"],
    }
    if theirs is None:
        return out | {"AutoGluon distilled": "did not finish"}
    means = {k: mean(v, mine["metric"]) for k, v in theirs["losses"].items()}
    gap = means["alone"] - means["teacher"]
    out |= {f"AutoGluon {k}": v for k, v in means.items()}
    out["AutoGluon share"] = f"{(means['alone'] - means['distilled']) / gap:.0%}" if gap > 0 else "no gap"
    out["AutoGluon s"] = theirs["seconds"]
    if "losses" in mine:
        out["AutoGluon - ours (95 %)"] = difference(
            theirs["losses"]["distilled"], mine["losses"], mine["metric"]
        )
    return out


def mean(losses: Any, metric: str) -> float:
    """The score of losses of rows."""
    import numpy as np

    found = float(np.mean(losses))
    return found**0.5 if metric == "rmse" else found


def difference(theirs: list[float], mine: list[float], metric: str) -> str:
    """The difference of both students on the same rows with the interval of a bootstrap; above 0 is ours."""
    import numpy as np

    pairs, rng = np.array([theirs, mine]), np.random.default_rng(0)
    drawn = (pairs[:, rng.integers(0, pairs.shape[1], pairs.shape[1])].mean(axis=1) for _ in range(2_000))
    at = np.array(list(drawn)) ** (0.5 if metric == "rmse" else 1.0)
    low, high = np.quantile(at[:, 0] - at[:, 1], [0.025, 0.975])
    return f"{mean(theirs, metric) - mean(mine, metric):.3g} ({low:.3g} to {high:.3g})"


def run() -> list[dict[str, Any]]:
    """Both systems on all tables, then a line with the means."""
    for name in TABLES:
        measure("ours", name)
        measure_peer(name)
    return rows()


def rows() -> list[dict[str, Any]]:
    """The lines of what was measured."""
    done = [n for n in TABLES if kept("ours", n)]
    mine = [m for n in done if (m := kept("ours", n))]
    lines = [row(n) for n in done]
    quick = [m["faster"] for m in mine if "faster" in m]
    total = {
        "table": f"mean of {len(mine)}",
        "share": f"{sum(m['share'] for m in mine) / len(mine):.0%}",
        "times faster": sum(quick) / len(quick),
        "s": sum(m["seconds"] for m in mine) / len(mine),
        "CPU s": sum(m["cpu"] for m in mine) / len(mine),
    }
    return [*lines, total]


if __name__ == "__main__":  # ours, peer or gap, and tables
    for wanted in sys.argv[2:]:
        measure(sys.argv[1], wanted)
        print(sys.argv[1], wanted, flush=True)
