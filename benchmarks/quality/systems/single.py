"""One LightGBM with default parameters: missing values and categories as LightGBM itself takes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .base import THREADS, Fitted, Job, Loaded, as_answers


def fit(train: pd.DataFrame, job: Job) -> Fitted:
    """Fit one model; text columns become categories of the training rows."""
    import joblib
    from lightgbm import LGBMClassifier, LGBMRegressor

    features = train.drop(columns=job.target)
    categories = {
        str(name): pd.Categorical(features[name]).categories
        for name in features.columns
        if not pd.api.types.is_numeric_dtype(features[name])
    }
    maker: Any = LGBMRegressor if job.task == "regression" else LGBMClassifier
    model = maker(n_jobs=THREADS, random_state=job.seed, verbose=-1)
    model.fit(_typed(features, categories), train[job.target])
    bundle = job.folder / "bundle.joblib"
    joblib.dump((model, categories), bundle)
    return Fitted(bundle, {"deployed": ["lightgbm"]})


def load(bundle: Path, job: Job) -> Loaded:
    """Load the model."""
    import joblib

    model, categories = joblib.load(bundle)
    if job.task == "regression":
        return Loaded(lambda frame: model.predict(_typed(frame, categories)), as_answers)
    return Loaded(
        lambda frame: model.predict_proba(_typed(frame, categories)),
        lambda values: as_answers(values, model.classes_),
    )


def _typed(frame: pd.DataFrame, categories: Mapping[str, Any]) -> pd.DataFrame:
    """Give text columns the training categories; an unseen one becomes missing."""
    return frame.assign(**{name: pd.Categorical(frame[name], known) for name, known in categories.items()})
