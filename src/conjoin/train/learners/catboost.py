"""CatBoost: gradient boosted oblivious trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from conjoin.errors import need
from conjoin.outputs import Array
from conjoin.train.budget import Clock
from conjoin.train.learners.base import Fitted, OutOfTimeError, Settings, bagged, in_units, pooled
from conjoin.train.problem import Problem

LOSSES = {"binary": "Logloss", "multiclass": "MultiClass", "regression": "RMSE", "quantile": "MultiQuantile"}


class _Deadline:
    """Ends the training when the clock is over. CatBoost calls it after each round."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def after_iteration(self, _: Any) -> bool:
        return not self._clock.over()


def fit(
    problem: Problem, settings: Settings, *, seed: int, clock: Clock, record: Mapping[str, Any] | None
) -> Fitted:
    """One model for each fold; all are cut where the mean of their held-out curves is least."""
    from conjoin.graph.trees import Trees
    from conjoin.members.convert import catboost_trees

    rounds = None if record is None else int(record["rounds"])
    part = Clock.endless() if record is not None else clock
    if part.over():
        raise OutOfTimeError("no time was left to begin")

    def one(split: tuple[Array, Array]) -> tuple[Any, Array]:
        return _fold(problem, split, settings, seed=seed, clock=part, rounds=rounds)

    found = list(problem.engine.map(one, problem.splits))
    sizes = np.array([len(held) for _, held in problem.splits], dtype=float)
    shortest = min(len(curve) for _, curve in found)
    mean = np.average([curve[:shortest] for _, curve in found], axis=0, weights=sizes)
    best = rounds or int(mean.argmin()) + 1
    answers = pooled(
        problem, [_held_out(problem, m, s, best) for (m, _), s in zip(found, problem.splits, strict=True)]
    )
    parts = [catboost_trees(m, rounds=best, scale=problem.scale, shift=problem.shift) for m, _ in found]
    return Fitted(Trees.mean(parts[: _kept(problem, best, settings)]), answers, {"rounds": best})


def _kept(problem: Problem, rounds: int, settings: Settings) -> int:
    """Trees have vectors of leaves: a round is one tree, whatever the number of classes."""
    each = max(1, rounds // problem.width) if problem.task in ("multiclass", "quantile") else rounds
    return bagged(problem, each, settings)


def _fold(
    problem: Problem,
    split: tuple[Array, Array],
    settings: Settings,
    *,
    seed: int,
    clock: Clock,
    rounds: int | None,
) -> tuple[Any, Array]:
    cb = need("catboost")
    rows, held = split
    learn = cb.Pool(problem.x[rows], problem.y[rows], weight=problem.weight(rows))
    model = cb.CatBoost(_parameters(problem, settings, seed, rounds))
    if rounds is not None:
        model.fit(learn)
        return model, np.zeros(rounds)
    check = cb.Pool(problem.x[held], problem.y[held], weight=problem.weight(held))
    model.fit(learn, eval_set=check, callbacks=[_Deadline(clock)])
    curve = next(iter(model.get_evals_result()["validation"].values()))
    return model, np.asarray(curve, dtype=np.float64)


def _parameters(problem: Problem, settings: Settings, seed: int, rounds: int | None) -> dict[str, Any]:
    """What CatBoost would otherwise take from the number of rounds is said: a plan must be repeatable."""
    given: dict[str, Any] = {
        "loss_function": LOSSES[problem.task],
        "iterations": rounds or settings["rounds"],
        "random_seed": seed,
        "thread_count": 1,
        "verbose": False,
        "allow_writing_files": False,
        "use_best_model": False,
        "boosting_type": "Plain",
        "leaf_estimation_iterations": 10 if problem.task == "binary" else 1,
        **settings["model"],
    }
    if rounds is None:
        given |= {"od_type": "Iter", "od_wait": settings["patience"]}
    if problem.task == "multiclass":
        given["classes_count"] = problem.width
    if problem.task == "quantile":
        given["loss_function"] += ":alpha=" + ",".join(f"{q:g}" for q in problem.truth.levels)
    return given


def _held_out(problem: Problem, model: Any, split: tuple[Array, Array], rounds: int) -> Array:
    kind = "Probability" if problem.truth.classes else "RawFormulaVal"
    found = np.asarray(
        model.predict(problem.x[split[1]], prediction_type=kind, ntree_end=rounds, thread_count=1), np.float64
    )
    if problem.task == "binary":
        return in_units(problem, [found[:, 1]])
    if problem.task == "quantile":
        return in_units(problem, list(found.T))
    return in_units(problem, [found])


def seconds(problem: Problem, settings: Settings) -> float:
    """CPU seconds of all folds."""
    n, d = problem.x.shape
    depth = settings["model"].get("depth", 6)
    share = settings["model"].get("rsm", 1.0)
    tree = 1.2e-9 * n * d * depth * share + 3e-8 * n * problem.width + 1e-6 * d * 2.0**depth + 5e-4
    rounds = min(settings["rounds"], 40 / settings["model"].get("learning_rate", 0.1))
    return float(len(problem.splits) * rounds * tree)


def memory(problem: Problem, settings: Settings) -> float:
    """Bytes of the folds that run at once, each with a copy of its rows."""
    n, d = problem.x.shape
    return float(len(problem.splits) * n * (6.0 * d + 60.0 * problem.width))
