"""XGBoost: gradient boosted trees on histograms, grown level by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conjoin.errors import need
from conjoin.outputs import Array
from conjoin.train.budget import Clock
from conjoin.train.learners.base import Fitted, Settings, boost, in_units
from conjoin.train.problem import Problem

OBJECTIVES = {
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
    "regression": "reg:squarederror",
    "quantile": "reg:quantileerror",
}


@dataclass(frozen=True, eq=False)
class _Fold:
    """The boosters of one fold: one, or one for each quantile level."""

    boosters: Sequence[Any]
    learn: Any
    held: Any
    problem: Problem
    rounds: list[int] = field(default_factory=lambda: [0])

    def ready(self) -> None:
        """Nothing is kept per thread."""

    def grow(self) -> None:
        for booster in self.boosters:
            booster.update(self.learn, self.rounds[0])
        self.rounds[0] += 1

    def answers(self) -> Array:
        found = [np.asarray(b.predict(self.held), dtype=np.float64) for b in self.boosters]
        return in_units(self.problem, found)

    def model(self, rounds: int) -> Any:
        from conjoin.graph.trees import Trees
        from conjoin.members.convert import xgboost_trees

        parts = [
            xgboost_trees(b, rounds=rounds, scale=self.problem.scale, shift=self.problem.shift)
            for b in self.boosters
        ]
        return parts[0] if len(parts) == 1 else Trees.stack(parts)


def fit(
    problem: Problem, settings: Settings, *, seed: int, clock: Clock, record: Mapping[str, Any] | None
) -> Fitted:
    """Boosters of all folds in step, cut at the best number of rounds."""
    given = _parameters(problem, settings, seed)
    return boost(problem, lambda split: _open(problem, split, given), settings, clock=clock, record=record)


def _open(problem: Problem, split: tuple[Array, Array], given: Sequence[dict[str, Any]]) -> _Fold:
    xgb = need("xgboost")
    rows, held_rows = split
    learn = xgb.QuantileDMatrix(
        problem.x[rows], problem.y[rows], weight=problem.weight(rows), nthread=1, max_bin=given[0]["max_bin"]
    )
    held = xgb.QuantileDMatrix(problem.x[held_rows], problem.y[held_rows], ref=learn, nthread=1)
    return _Fold([xgb.Booster(p, [learn, held]) for p in given], learn, held, problem)


def _parameters(problem: Problem, settings: Settings, seed: int) -> list[dict[str, Any]]:
    given = {
        "objective": OBJECTIVES[problem.task],
        "tree_method": "hist",
        "max_bin": 256,
        "nthread": 1,
        "verbosity": 0,
        "seed": seed,
        "seed_per_iteration": True,
        "disable_default_eval_metric": True,
        **settings["model"],
    }
    if problem.task == "multiclass":
        given["num_class"] = problem.width
    if problem.task == "quantile":
        return [{**given, "quantile_alpha": q} for q in problem.truth.levels]
    return [given]


def seconds(problem: Problem, settings: Settings) -> float:
    """CPU seconds of all folds: bins scanned for each level."""
    n, d = problem.x.shape
    boosters = problem.width if problem.task in ("multiclass", "quantile") else 1
    depth = settings["model"].get("max_depth", 6)
    tree = 8e-10 * n * d * depth + 4e-7 * d * 2.0**depth + 4e-4
    rounds = min(settings["rounds"], 25 / settings["model"].get("eta", 0.3))
    return float(len(problem.splits) * boosters * rounds * tree)


def memory(problem: Problem, settings: Settings) -> float:
    """Bytes: binned rows of all folds, gradients, predictions."""
    n, d = problem.x.shape
    return float(len(problem.splits) * (2.0 * n * d + 40.0 * n * problem.width))
