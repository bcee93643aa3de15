"""AutoGluon: fitted for the measure that is reported, deployed as its documentation says.

The task is given, since AutoGluon would take the seven wine grades for classes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from .base import THREADS, Answers, Fitted, Job, Loaded, as_answers


def fit(train: pd.DataFrame, job: Job) -> Fitted:
    """Fit with the preset and the limit, clone for deployment, drop what is not deployed."""
    from autogluon.tabular import TabularPredictor

    work = job.folder / "predictor"
    predictor = TabularPredictor(
        label=job.target,
        problem_type=job.task,
        eval_metric="root_mean_squared_error" if job.task == "regression" else "log_loss",
        path=str(work),
        verbosity=1,
    )
    predictor.fit(train, presets=job.preset, time_limit=job.limit, num_cpus=THREADS, num_gpus=0)
    fitted = [str(name) for name in predictor.model_names()]
    bundle = job.folder / "bundle"
    clone: Any = predictor.clone_for_deployment(str(bundle), return_clone=True)
    deployed = [str(name) for name in clone.model_names()]
    shutil.rmtree(work)
    return Fitted(bundle, {"fitted": fitted, "deployed": deployed})


def load(bundle: Path, job: Job) -> Loaded:
    """Load the deployed clone and keep its models in memory."""
    from autogluon.tabular import TabularPredictor

    predictor: Any = TabularPredictor.load(str(bundle))
    predictor.persist()
    if job.task == "regression":
        return Loaded(predictor.predict, as_answers)

    def answers(frame: pd.DataFrame) -> Answers:
        return as_answers(frame.to_numpy(), frame.columns)

    return Loaded(predictor.predict_proba, answers)
