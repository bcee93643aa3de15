"""Which members are tried, in which order, with which hyperparameters. The tables are literal.

The values were found on the twelve tables of `benchmarks/quality` by cross-validation on their training rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from conjoin.errors import InputError, listed, nearest
from conjoin.outputs import Json
from conjoin.train.learners import LEARNERS
from conjoin.train.problem import Problem

PRESETS = ("fast", "balanced", "best")
TREES = {"fast": 600, "balanced": 1_500, "best": 6_000}
"""Trees of a boosted member, at most: they are what one row costs."""
FAST, BALANCED, BEST = {"fast"}, {"fast", "balanced", "best"}, {"best"}
MIDDLE = {"balanced", "best"}
SMALL, LARGE = (0, 9_999), (10_000, 10**9)
ANY = (0, 10**9)
CLASSES, NUMBERS = ("binary", "multiclass"), ("regression", "quantile")
ALL = (*CLASSES, *NUMBERS)


@dataclass(frozen=True, slots=True)
class Entry:
    """A member to try.

    share: how much of the time it may take, against the shares of those after it. rows: least and most rows
    of tables that it is for. classes: least and most of them, for tasks that have classes.
    """

    name: str
    learner: str
    settings: Mapping[str, Any]
    share: float
    presets: frozenset[str]
    rows: tuple[int, int] = ANY
    tasks: tuple[str, ...] = ALL
    classes: tuple[int, int] = ANY


def _e(
    name: str,
    learner: str,
    share: float,
    presets: set[str],
    rows: tuple[int, int] = ANY,
    tasks: tuple[str, ...] = ALL,
    classes: tuple[int, int] = ANY,
    **settings: Any,
) -> Entry:
    return Entry(name, learner, settings, share, frozenset(presets), rows, tasks, classes)


_STEADY: dict[str, Any] = {"rounds": 600, "patience": 40, "step": 5}
_QUICK: dict[str, Any] = {"rounds": 800, "patience": 40, "step": 10}

FEW, MANY = (2, 10), (11, 10**9)
"""Classes: with many, each round of a booster is many trees, and networks come first."""
_BAGGED = {"feature_fraction": 0.6, "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": 2.0}
_DRAWN = {"min_child_weight": 2, "subsample": 0.8, "colsample_bytree": 0.6, "lambda": 2.0}
_PART = {"l2_leaf_reg": 3.0, "bootstrap_type": "Bernoulli", "subsample": 0.8, "border_count": 128}
_PLAIN = {**_PART, "boosting_type": "Plain"}
_WHOLE = {"min_samples_leaf": 1}
_BOUND = {"min_samples_leaf": 2, "max_leaf_nodes": 2500}

PORTFOLIO: tuple[Entry, ...] = (
    _e("network", "network", 8, MIDDLE, tasks=("multiclass",), classes=MANY, model={}),
    _e("lightgbm", "lightgbm", 3, BALANCED, SMALL, classes=FEW, **_STEADY, model={
        "learning_rate": 0.08, "num_leaves": 31, "min_data_in_leaf": 15, **_BAGGED,
    }),
    _e("lightgbm", "lightgbm", 3, BALANCED, LARGE, classes=FEW, **_QUICK, model={
        "learning_rate": 0.06, "num_leaves": 64, "min_data_in_leaf": 8, **_BAGGED, "feature_fraction": 0.5,
    }),
    _e("linear", "linear", 1, BALANCED),
    _e("xgboost", "xgboost", 3, MIDDLE, SMALL, classes=FEW, **_STEADY, model={
        "eta": 0.08, "max_depth": 6, **_DRAWN,
    }),
    _e("xgboost", "xgboost", 3, MIDDLE, LARGE, classes=FEW, **_QUICK, model={
        "eta": 0.1, "max_depth": 7, **_DRAWN,
    }),
    _e("catboost", "catboost", 4, MIDDLE, (0, 1_499), classes=FEW, rounds=600, patience=30, model={
        "learning_rate": 0.1, "depth": 6, "rsm": 0.6, "boosting_type": "Ordered", **_PART,
    }),
    _e("catboost", "catboost", 4, MIDDLE, (1_500, 19_999), classes=FEW, rounds=800, patience=40, model={
        "learning_rate": 0.12, "depth": 6, **_PLAIN,
    }),
    _e("catboost", "catboost", 4, MIDDLE, (20_000, 10**9), classes=FEW, rounds=1000, patience=40, model={
        "learning_rate": 0.15, "depth": 7, "rsm": 0.6, **_PLAIN,
    }),
    _e("network", "network", 5, MIDDLE, (0, 7_999), classes=FEW, model={"dropout": 0.2}),
    _e("network", "network", 5, MIDDLE, (8_000, 10**9), ("binary",), model={
        "dropout": 0.2, "learning_rate": 0.05, "epochs": 12,
    }),
    _e("network", "network", 5, MIDDLE, (8_000, 10**9), ("multiclass",), classes=FEW, model={}),
    _e("network", "network", 5, MIDDLE, (8_000, 10**9), NUMBERS, model={"dropout": 0.2}),
    _e("extra_trees", "extra_trees", 2, BALANCED, SMALL, CLASSES, FEW, trees=100, final=200, step=20, model={
        "max_features": "sqrt", **_WHOLE,
    }),
    _e("extra_trees", "extra_trees", 2, BALANCED, tasks=("multiclass",), classes=MANY, trees=30, final=60,
       step=10, model={"max_features": 1.0, "criterion": "entropy", **_WHOLE}),
    _e("extra_trees", "extra_trees", 2, BALANCED, SMALL, ("regression",), trees=60, final=150, step=10,
       model={"max_features": 1.0, **_WHOLE}),
    _e("extra_trees", "extra_trees", 2, BALANCED, LARGE, CLASSES, FEW, trees=30, final=100, step=10, model={
        "max_features": 0.5, **_BOUND,
    }),
    _e("extra_trees", "extra_trees", 2, BALANCED, LARGE, ("regression",), trees=30, final=100, step=10,
       model={"max_features": 1.0, **_BOUND}),
    _e("network_plain", "network", 4, MIDDLE, SMALL, classes=FEW, model={"bins": 0, "dropout": 0.2}),
    _e("lightgbm_random", "lightgbm", 2, MIDDLE, (0, 4_999), classes=FEW, **_STEADY, model={
        "learning_rate": 0.1, "num_leaves": 31, "min_data_in_leaf": 10, "feature_fraction": 0.8,
        "extra_trees": True, "lambda_l2": 0.5,
    }),
    _e("neighbours", "neighbours", 1, MIDDLE, (0, 25_000), (*CLASSES, "regression"), stored=20_000),
    _e("xgboost", "xgboost", 4, MIDDLE, tasks=("multiclass",), classes=MANY, rounds=250, patience=20, step=10,
       model={"eta": 0.25, "max_depth": 6, **_DRAWN}),
    _e("lightgbm", "lightgbm", 4, BALANCED, tasks=("multiclass",), classes=MANY, rounds=250, patience=20,
       step=10, model={"learning_rate": 0.15, "num_leaves": 31, "min_data_in_leaf": 10, **_BAGGED}),
    _e("catboost_deep", "catboost", 4, MIDDLE, (2_000, 19_999), classes=FEW, rounds=800, patience=40, model={
        "learning_rate": 0.12, "depth": 8, "rsm": 0.6, **_PLAIN,
    }),
    _e("network_noisy", "network", 3, MIDDLE, (0, 2_999), classes=FEW, model={
        "dropout": 0.3, "weight_decay": 0.2, "learning_rate": 0.03,
    }),
    _e("extra_trees_smooth", "extra_trees", 2, MIDDLE, SMALL, CLASSES, FEW, trees=60, final=120, step=20,
       model={"max_features": 0.5, "min_samples_leaf": 6}),
    _e("random_forest", "random_forest", 1, MIDDLE, SMALL, CLASSES, FEW, trees=40, final=100, step=20, model={
        "max_features": "sqrt", "min_samples_leaf": 5,
    }),
    _e("random_forest", "random_forest", 1, MIDDLE, SMALL, ("regression",), trees=30, final=100, step=10,
       model={"max_features": 0.5, **_BOUND}),
    _e("catboost_ordered", "catboost", 4, MIDDLE, (1_500, 7_999), CLASSES, FEW, rounds=600, patience=30,
       model={"learning_rate": 0.1, "depth": 6, "rsm": 0.6, "boosting_type": "Ordered", **_PART}),
    _e("xgboost_deep", "xgboost", 3, BEST, classes=FEW, **_STEADY, model={
        "eta": 0.06, "max_depth": 10, "min_child_weight": 4, "subsample": 0.7, "colsample_bytree": 0.5,
        "lambda": 5.0,
    }),
    _e("lightgbm_flat", "lightgbm", 3, BEST, classes=FEW, rounds=1200, patience=60, step=10, model={
        "learning_rate": 0.05, "num_leaves": 8, "min_data_in_leaf": 20, **_BAGGED,
    }),
    _e("lightgbm_large", "lightgbm", 3, BEST, classes=FEW, rounds=1000, patience=60, step=10, model={
        "learning_rate": 0.03, "num_leaves": 128, "min_data_in_leaf": 5, "feature_fraction": 0.9,
        "bagging_fraction": 0.9, "bagging_freq": 1, "lambda_l2": 1.0,
    }),
    _e("catboost_slow", "catboost", 4, BEST, classes=FEW, rounds=2000, patience=80, model={
        "learning_rate": 0.04, "depth": 7, "l2_leaf_reg": 5.0, "bootstrap_type": "Bernoulli",
        "subsample": 0.7, "border_count": 254, "boosting_type": "Plain",
    }),
    _e("network_wide", "network", 5, BEST, model={"hidden": [256, 192], "dropout": 0.2, "members": 6}),
    _e("xgboost_flat", "xgboost", 3, BEST, classes=FEW, **_STEADY, model={
        "eta": 0.1, "max_depth": 3, "min_child_weight": 1, "subsample": 0.9, "colsample_bytree": 0.5,
        "lambda": 1.0,
    }),
    _e("extra_trees_entropy", "extra_trees", 3, BEST, SMALL, CLASSES, FEW, trees=100, final=200, step=20,
       model={"max_features": 0.6, "criterion": "entropy", **_WHOLE}),
    _e("network_seed", "network", 5, BEST, classes=FEW, model={"dropout": 0.1, "bins": 8}),
    _e("catboost_seed", "catboost", 4, BEST, classes=FEW, rounds=1500, patience=60, model={
        "learning_rate": 0.07, "depth": 5, "rsm": 0.8, **_PLAIN,
    }),
)  # fmt: skip
"""What a run tries, in this order."""


def entries(problem: Problem, preset: str, members: tuple[str, ...] | None) -> list[Entry]:
    """The entries for a problem, in order. Raises InputError on an unknown preset or learner."""
    if preset not in PRESETS:
        raise InputError(f"no preset {preset!r}{nearest(preset, PRESETS)}; there are {listed(PRESETS)}")
    wanted = _wanted(members)
    n, k = len(problem), len(problem.truth.classes)
    fitting = [
        e
        for e in PORTFOLIO
        if _within(n, e.rows) and problem.task in e.tasks and (not k or _within(k, e.classes))
        and problem.task in LEARNERS[e.learner].tasks
    ]  # fmt: skip
    if wanted is not None:
        chosen = [e for e in fitting if e.name in wanted or e.learner in wanted - NAMES]
    else:
        chosen = [e for e in fitting if preset in e.presets]
    return [replace(e, settings={**e.settings, "most_trees": TREES[preset]}) for e in chosen]


NAMES = {e.name for e in PORTFOLIO}
"""Every name in the portfolio; a learner that is no such name stands for all its entries."""


def _within(value: int, limits: tuple[int, int]) -> bool:
    return limits[0] <= value <= limits[1]


def _wanted(members: tuple[str, ...] | None) -> set[str] | None:
    if members is None:
        return None
    known = NAMES | set(LEARNERS)
    for name in members:
        if name not in known:
            raise InputError(f"no learner {name!r}{nearest(name, known)}; there are {listed(sorted(known))}")
    if not members:
        raise InputError(f"members is empty; name some of {listed(sorted(known))}")
    return set(members)


RATES = ("learning_rate", "eta")


def can_hurry(entry: Entry) -> bool:
    """Whether `hurried` can make the entry quicker."""
    return "rounds" in entry.settings and any(r in entry.settings["model"] for r in RATES)


def hurried(entry: Entry, factor: float) -> Entry:
    """The entry with fewer rounds by this factor, each with a greater step; as it is where factor <= 1."""
    model = dict(entry.settings.get("model", {}))
    rate = next((r for r in RATES if r in model), None)
    if factor <= 1 or rate is None or not can_hurry(entry):
        return entry
    grown = min(0.3, model[rate] * factor)
    rounds = max(30, int(entry.settings["rounds"] / factor))
    patience = max(10, int(entry.settings["patience"] * model[rate] / grown))
    model[rate] = round(grown, 4)
    settings: dict[str, Any] = {**entry.settings, "rounds": rounds, "patience": patience, "model": model}
    return replace(entry, settings=settings)


def to_json(entry: Entry) -> dict[str, Json]:
    """What the plan needs of an entry."""
    return {"name": entry.name, "learner": entry.learner, "settings": dict(entry.settings)}
