"""Two fitted models that the other examples fuse, and rows that neither of them has seen."""

from __future__ import annotations

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import conjoin

frame, diagnosis = load_breast_cancer(return_X_y=True, as_frame=True)
names = diagnosis.map({0: "malignant", 1: "benign"}).to_numpy()
learn, rest, y_learn, y_rest = train_test_split(frame, names, test_size=0.5, random_state=0, stratify=names)
tune, test, y_tune, y_test = train_test_split(rest, y_rest, test_size=0.5, random_state=0, stratify=y_rest)

forest = RandomForestClassifier(200, random_state=0).fit(learn, y_learn)
logistic = make_pipeline(StandardScaler(), LogisticRegression()).fit(learn, y_learn)
members = {"forest": conjoin.wrap(forest), "logistic": conjoin.wrap(logistic)}


def show(name: str, member: conjoin.contracts.Member[conjoin.outputs.Output]) -> None:
    """The log-loss of a member on the test rows, with its standard error."""
    truth = conjoin.outputs.Labels.of(y_test)
    found = conjoin.scores.estimate(conjoin.scores.score_of("log_loss"), member.predict(test), truth)
    print(f"{name:24} log-loss {found.value:.4f} +- {found.standard_error:.4f}")
