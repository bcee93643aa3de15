"""Scores: how good outputs are, by kind, with standard errors and paired tests. `SCORES` is the table."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, overload

from conjoin.errors import InputError, listed, nearest
from conjoin.outputs import Labels, Output
from conjoin.scores import classes as c
from conjoin.scores import numbers as v
from conjoin.scores.field import FieldScore, mean_of_rows
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


FIELDS: dict[str, str] = {
    "ranking": "conjoin.scores.ranking",
    "boxes": "conjoin.scores.boxes",
    "masks": "conjoin.scores.masks",
    "spans": "conjoin.scores.spans",
    "texts": "conjoin.scores.texts",
    "embeddings": "conjoin.scores.embeddings",
}
"""Kind -> module with the table `SCORES` of its field; imported when it is first asked for (numba)."""

DEFAULTS: dict[str, str] = {
    "probabilities": "log_loss",
    "labels": "accuracy",
    "values": "rmse",
    "quantiles": "pinball",
    "ranking": "ndcg@10",
    "boxes": "ap50",
    "masks": "dice",
    "spans": "f1",
    "texts": "chrf",
    "embeddings": "spearman",
}
"""Kind -> the score where nobody asks for one."""


def scores_of(kind: str) -> Mapping[str, Score | FieldScore]:
    """The scores that answers of a kind can have, by name.

    >>> sorted(scores_of("quantiles"))
    ['coverage', 'crps', 'pinball', 'winkler']
    """
    if kind in FIELDS:
        table: Mapping[str, FieldScore] = importlib.import_module(FIELDS[kind]).SCORES
        return table
    if kind == Labels.kind:
        return {n: s for n, s in SCORES.items() if s.decisions}
    return {n: s for n, s in SCORES.items() if s.kind == kind}


@overload
def score_of(name: str) -> Score: ...
@overload
def score_of(name: str, kind: str) -> Score | FieldScore: ...
def score_of(name: str, kind: str | None = None) -> Score | FieldScore:
    """The score of this name, or of its alias. Raises InputError with the nearest name.

    kind: of the answers, for kinds whose field has its own scores (rankings, boxes, texts ...).

    >>> score_of("roc_auc").name
    'auc'
    """
    table = scores_of(kind) if kind in FIELDS else SCORES
    known = name if name in table else ALIASES.get(name, name)
    if known not in table:
        raise InputError(f"no score {name!r}{nearest(name, table)}; there are {listed(table, 40)}")
    return table[known]


def default_score(output: Output) -> Any:
    """The score for a kind where nobody asked for one: `DEFAULTS`; "wer" where times or confidences of words
    tell that texts are recognised speech. Raises InputError.
    """
    if output.kind not in DEFAULTS:
        raise InputError(f"there is no score for {output.kind}; there are scores for {listed(DEFAULTS)}")
    spoken = output.kind == "texts" and bool(output.ragged)
    return score_of("wer" if spoken else DEFAULTS[output.kind], output.kind)


__all__ = [
    "ALIASES",
    "DEFAULTS",
    "FIELDS",
    "SCORES",
    "Case",
    "Difference",
    "Estimate",
    "FieldScore",
    "Kind",
    "Score",
    "checked_weights",
    "default_score",
    "estimate",
    "mean_of_rows",
    "p_value",
    "paired",
    "score_of",
    "scores_of",
    "user_score",
]
