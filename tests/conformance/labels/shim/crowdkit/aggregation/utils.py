"""The two helpers that crowd-kit's tests call."""

from __future__ import annotations


def evaluate_equal(row):
    return int(row["label_true"] == row["label_pred"])


def evaluate(df_true, df_pred, evaluate_func=evaluate_equal):
    both = df_true.merge(df_pred, on="task", suffixes=("_true", "_pred"))
    assert len(both) == len(df_true)
    return float(both.apply(evaluate_func, axis=1).mean())
