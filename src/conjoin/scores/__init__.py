"""Scores: how good outputs are, by kind, with standard errors and paired tests. `SCORES` is the table."""

from __future__ import annotations

from conjoin.errors import InputError, listed, nearest
from conjoin.outputs import Labels, Output, Probabilities, Quantiles, Values
from conjoin.scores import classes as c
from conjoin.scores import numbers as v
from conjoin.scores.score import (
    Better,
    Case,
    Difference,
    Estimate,
    Kind,
    Measure,
    RowLosses,
    Score,
    checked_weights,
    estimate,
    p_value,
    paired,
    user_score,
)


def _p(name: str, better: Better, measure: Measure, rows: RowLosses | None) -> Score:
    return Score(name, "probabilities", better, 1.0 if better == "higher" else 0.0, False, measure, rows)


def _d(name: str, better: Better, measure: Measure, rows: RowLosses | None) -> Score:
    return Score(name, "probabilities", better, 1.0 if better == "higher" else 0.0, True, measure, rows)


def _v(name: str, measure: Measure, rows: RowLosses | None, *, better: Better = "lower") -> Score:
    return Score(name, "values", better, 1.0 if better == "higher" else 0.0, False, measure, rows)


def _q(name: str, rows: RowLosses) -> Score:
    return Score(name, "quantiles", "lower", 0.0, False, v.mean_of(rows), rows)


SCORES: dict[str, Score] = {
    s.name: s
    for s in (
        _p("log_loss", "lower", c.mean_log_loss, c.log_loss_rows),
        _p("brier", "lower", c.mean_brier, c.brier_rows),
        _p("auc", "higher", c.auc, c.auc_rows),
        _p("average_precision", "higher", c.average_precision, None),
        _p("ece", "lower", c.ece, c.ece_rows),
        _d("accuracy", "higher", c.accuracy, c.error_rows),
        _d("error", "lower", c.mean_error, c.error_rows),
        _d("balanced_accuracy", "higher", c.balanced_accuracy, c.balanced_accuracy_rows),
        _d("f1", "higher", c.f1_binary, c.f1_binary_rows),
        _d("f1_macro", "higher", c.f1_macro, c.f1_macro_rows),
        _d("f1_micro", "higher", c.accuracy, c.error_rows),
        _d("f1_weighted", "higher", c.f1_weighted, c.f1_weighted_rows),
        _d("mcc", "higher", c.mcc, c.mcc_rows),
        _v("rmse", v.root_mean_of(v.mse_rows), v.root_rows_of(v.mse_rows)),
        _v("mse", v.mean_of(v.mse_rows), v.mse_rows),
        _v("mae", v.mean_of(v.mae_rows), v.mae_rows),
        _v("medae", v.medae, None),
        _v("mape", v.mean_of(v.mape_rows), v.mape_rows),
        _v("smape", v.mean_of(v.smape_rows), v.smape_rows),
        _v("rmsle", v.root_mean_of(v.squared_log_rows), v.root_rows_of(v.squared_log_rows)),
        _v("r2", v.one_minus_mean_of(v.r2_rows), v.r2_rows, better="higher"),
        _q("pinball", v.pinball_rows),
        _q("crps", v.crps_rows),
        _q("winkler", v.winkler_rows),
        _q("coverage", v.coverage_rows),
    )
}
"""Every score by name."""

ALIASES: dict[str, str] = {
    "nll": "log_loss",
    "roc_auc": "auc",
    "root_mean_squared_error": "rmse",
    "mean_squared_error": "mse",
    "mean_absolute_error": "mae",
    "median_absolute_error": "medae",
    "pinball_loss": "pinball",
}
"""Names that other libraries give to scores of the table."""


def score_of(name: str) -> Score:
    """The score of this name, or of its alias. Raises InputError with the nearest name.

    >>> score_of("roc_auc").name
    'auc'
    """
    known = ALIASES.get(name, name)
    if known not in SCORES:
        raise InputError(f"no score {name!r}{nearest(name, SCORES)}; there are {listed(SCORES, 40)}")
    return SCORES[known]


def default_score(output: Output) -> Score:
    """The score for a kind where nobody asked for one: log-loss, RMSE or pinball loss. Raises InputError."""
    if isinstance(output, Labels):
        return SCORES["accuracy"]
    names = {Probabilities.kind: "log_loss", Values.kind: "rmse", Quantiles.kind: "pinball"}
    if output.kind not in names:
        raise InputError(f"there is no score for {output.kind} yet; there are scores for {listed(names)}")
    return SCORES[names[output.kind]]


__all__ = [
    "ALIASES",
    "SCORES",
    "Case",
    "Difference",
    "Estimate",
    "Kind",
    "Score",
    "checked_weights",
    "default_score",
    "estimate",
    "p_value",
    "paired",
    "score_of",
    "user_score",
]
