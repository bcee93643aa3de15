"""The learners that `conjoin.fit` knows. `LEARNERS` is the table."""

from __future__ import annotations

from conjoin.train.learners import catboost, forests, lightgbm, linear, neighbours, network, xgboost
from conjoin.train.learners.base import Fitted, Learner, OutOfTimeError

LEARNERS: dict[str, Learner] = {
    "lightgbm": Learner(lightgbm.fit, lightgbm.seconds, lightgbm.memory, module="lightgbm"),
    "xgboost": Learner(xgboost.fit, xgboost.seconds, xgboost.memory, module="xgboost"),
    "catboost": Learner(catboost.fit, catboost.seconds, catboost.memory, module="catboost"),
    "extra_trees": Learner(
        forests.fit_extra, forests.seconds, forests.memory, module="sklearn", tasks=forests.TASKS
    ),
    "random_forest": Learner(
        forests.fit_random, forests.seconds, forests.memory, module="sklearn", tasks=forests.TASKS
    ),
    "linear": Learner(linear.fit, linear.seconds, linear.memory, dense=True),
    "neighbours": Learner(
        neighbours.fit, neighbours.seconds, neighbours.memory, dense=True, tasks=neighbours.TASKS
    ),
    "network": Learner(network.fit, network.seconds, network.memory, dense=True),
}

__all__ = ["LEARNERS", "Fitted", "Learner", "OutOfTimeError"]
