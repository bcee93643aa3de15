"""scikit-learn stacking as a careful user writes it: four families, five folds, default final estimator.

The folds are shuffled: with a plain `cv=5` they are not, and a table that is sorted by its target (diamonds)
would give this peer twice the error of a single model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from .base import THREADS, Fitted, Job, Loaded, as_answers

MOST_CATEGORIES = 100


def fit(train: pd.DataFrame, job: Job) -> Fitted:
    """Fit the stack and write it with joblib, uncompressed, so that loading is quick."""
    import joblib

    features = train.drop(columns=job.target)
    model = _stack(features, classifies=job.task != "regression", seed=job.seed)
    model.fit(features, train[job.target])
    bundle = job.folder / "bundle.joblib"
    joblib.dump(model, bundle)
    return Fitted(bundle, {"deployed": [name for name, _ in model.estimators]})


def load(bundle: Path, job: Job) -> Loaded:
    """Load the stack."""
    import joblib

    model: Any = joblib.load(bundle)
    if job.task == "regression":
        return Loaded(model.predict, as_answers)
    return Loaded(model.predict_proba, lambda values: as_answers(values, model.classes_))


def _stack(features: pd.DataFrame, *, classifies: bool, seed: int) -> Any:
    from lightgbm import LGBMClassifier, LGBMRegressor
    from sklearn import ensemble as forests
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.pipeline import make_pipeline

    kind = "Classifier" if classifies else "Regressor"
    boosted: Any = LGBMClassifier if classifies else LGBMRegressor
    linear: Any = LogisticRegression(max_iter=1000) if classifies else Ridge()
    common = {"n_jobs": THREADS, "random_state": seed}
    text = [str(name) for name in features.columns if not pd.api.types.is_numeric_dtype(features[name])]
    members = [
        ("lightgbm", make_pipeline(_for_trees(text, fill=False), boosted(verbose=-1, **common))),
        ("random_forest", make_pipeline(_for_trees(text), getattr(forests, f"RandomForest{kind}")(**common))),
        ("extra_trees", make_pipeline(_for_trees(text), getattr(forests, f"ExtraTrees{kind}")(**common))),
        ("linear", make_pipeline(_for_lines(text), linear)),
    ]
    folds: Any = StratifiedKFold if classifies else KFold
    return getattr(forests, f"Stacking{kind}")(members, cv=folds(5, shuffle=True, random_state=seed))


def _for_trees(text: list[str], *, fill: bool = True) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    numbers: Any = SimpleImputer(strategy="median") if fill else "passthrough"
    return make_column_transformer((codes, text), remainder=numbers)


def _for_lines(text: list[str]) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    hot = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MOST_CATEGORIES)
    return make_column_transformer((hot, text), remainder=numbers)
