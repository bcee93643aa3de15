"""Distilling an ensemble of eight into one LightGBM, beside AutoGluon's `distill`.

Real tables of `../shared/data/tables`; the test part is the fixed fifth of `benchmarks/quality`, which nobody
sees before the end. Larger tables give 6,000 rows to learn from, drawn once. conjoin: the eight best members
of ten by cross-validation, pooled with weights half fitted and half equal, so that every member is asked;
`distil(teacher, "lightgbm", train, holdout=test, time_limit=None)` with its defaults; the student alone is
the same learner, its rounds found by cross-validation. AutoGluon: `fit` with medium quality, `distill` with
the student type GBM, the student alone is `fit` with GBM alone; each with its defaults and a limit of 120 s.

share: (loss of the student alone - loss of the distilled one) / (loss of the student alone - loss of the
teacher) on the test part, with the 95 % interval of a bootstrap of its rows. Scores are log-loss and RMSE.
times faster: CPU of answering the test part in one batch. CPU s: all of distilling, the student alone and the
scoring included.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.quality.tables import in_test_part, table

WORK = Path(__file__).resolve().parent / "work" / "distilling-results"
TABLES = ("abalone", "california_housing", "credit_g", "phoneme", "telco_churn", "wine_quality_white")
MOST = 6_000
MEMBERS = (
    *("lightgbm", "xgboost", "catboost", "extra_trees", "network", "lightgbm_random", "catboost_deep"),
    *("extra_trees_entropy", "random_forest", "neighbours"),
)
LIMIT = 120


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
    report = distil(done, "lightgbm", train, target="target", holdout=held, time_limit=None, threads=1).report
    gap = report.gap
    return {
        "metric": report.metric,
        "members": len(done.members),
        "teacher": report.teacher.value,
        "alone": report.alone.value,
        "distilled": report.distilled.value,
        "share": (report.alone.value - report.distilled.value) / (report.alone.value - report.teacher.value),
        "low": gap.share_low,
        "high": gap.share_high,
        "faster": report.times_faster,
        "smaller": report.times_smaller,
        "cpu": report.cpu_seconds,
    }


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

    def loss(made_by: Any, model: str | None) -> float:
        if one.classifies:
            p = made_by.predict_proba(held, model=model)
            at = [list(p.columns).index(v) for v in held["target"]]
            chosen = p.to_numpy(dtype=float)[np.arange(len(held)), at]
            return float(-np.log(np.clip(chosen, 1e-15, 1)).mean())
        apart = made_by.predict(held, model=model).to_numpy(dtype=float) - held["target"].to_numpy(float)
        return float(np.sqrt((apart**2).mean()))

    found = {
        "teacher": loss(predictor, best),
        "alone": loss(alone, alone.model_best),
        "distilled": loss(predictor, student),
        "student": student,
        "cpu": cpu,
        "seconds": wall,
    }
    found["share"] = (found["alone"] - found["distilled"]) / (found["alone"] - found["teacher"])
    shutil.rmtree(work, ignore_errors=True)
    return found


def kept(kind: str, name: str) -> dict[str, Any] | None:
    """What was found before; a run that was stopped goes on."""
    place = WORK / f"{kind}-{name}.json"
    return json.loads(place.read_text()) if place.is_file() else None


def measure(kind: str, name: str) -> dict[str, Any]:
    """Measure one system on one table, once."""
    found = kept(kind, name)
    if found is None:
        WORK.mkdir(parents=True, exist_ok=True)
        found = {"ours": ours, "peer": peer}[kind](name)
        (WORK / f"{kind}-{name}.json").write_text(json.dumps(found))
    return found


def row(name: str) -> dict[str, Any]:
    """A line of the table."""
    mine, theirs = kept("ours", name), kept("peer", name)
    out: dict[str, Any] = {"what": "distil into one LightGBM", "workload": name}
    if mine:
        out |= {
            "metric": mine["metric"],
            "teacher": mine["teacher"],
            "alone": mine["alone"],
            "distilled": mine["distilled"],
            "share": f"{mine['share']:.0%}",
            "95 %": "no gap beyond chance"
            if mine["low"] is None
            else f"{mine['low']:.0%} to {mine['high']:.0%}",
            "times faster": mine["faster"],
            "CPU s": mine["cpu"],
        }
    if theirs:
        out |= {
            "AutoGluon 1.6.3 teacher": theirs["teacher"],
            "AutoGluon alone": theirs["alone"],
            "AutoGluon distilled": theirs["distilled"],
            "AutoGluon share": f"{theirs['share']:.0%}",
        }
    return out


def run() -> list[dict[str, Any]]:
    """Both systems on all tables, then a line with the means."""
    for name in TABLES:
        measure("ours", name)
        measure("peer", name)
    return rows()


def rows() -> list[dict[str, Any]]:
    """The lines of what was measured."""
    done = [n for n in TABLES if kept("ours", n)]
    lines = [row(n) for n in done]
    mine = [m for n in done if (m := kept("ours", n))]
    theirs = [t for n in done if (t := kept("peer", n))]
    if mine:
        mean = {
            "what": f"mean of {len(mine)} tables",
            "share": f"{sum(m['share'] for m in mine) / len(mine):.0%}",
            "times faster": sum(m["faster"] for m in mine) / len(mine),
            "CPU s": sum(m["cpu"] for m in mine) / len(mine),
        }
        if theirs:
            mean["AutoGluon share"] = f"{sum(t['share'] for t in theirs) / len(theirs):.0%} of {len(theirs)}"
        lines.append(mean)
    return lines


if __name__ == "__main__":  # one system, some tables: python -m benchmarks.transfer.distilling ours abalone
    for wanted in sys.argv[2:]:
        print(wanted, measure(sys.argv[1], wanted), flush=True)
