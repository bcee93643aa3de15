"""What a score is, its estimate with an interval, and the paired comparison of two outputs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from conjoin.errors import OutputsError, TruthError, listed
from conjoin.outputs import Array, Labels, Output, Probabilities, Quantiles, Values
from conjoin.scores.student import student_cdf, student_quantile

Better = Literal["lower", "higher"]
Kind = Literal["probabilities", "values", "quantiles"]
BOOTSTRAP = 200
"""Resamples where a score has no per-row losses."""


@dataclass(frozen=True, slots=True)
class Case:
    """The rows that count, ready for arithmetic.

    answer: (n, K) probabilities, (n, H) values or (n, Q) quantiles, float64; for labels a row of 0 and 1.
    truth: (n,) class codes or (n, H) values. weights: (n,), they sum to 1.
    classes: names of the K classes. levels: the Q quantile levels. kept: (N,) bool, the rows that count.
    """

    answer: Array
    truth: Array
    weights: Array
    classes: tuple[str, ...]
    levels: tuple[float, ...]
    kept: Array


Measure = Callable[[Case], float]
RowLosses = Callable[[Case], Array]


@dataclass(frozen=True, slots=True)
class Score:
    """How good answers are. `value` is the number people know, `loss` is lower for better answers.

    name: how it is called. kind: the kind of output it reads; scores of decisions also take labels.
    better: which direction of `value` is better. best: the value of perfect answers; where higher is better,
    loss = best - value, else loss = value.
    decisions: only the most probable class matters.

    `rows` gives per-row losses whose weighted mean is `loss` exactly. Where the score is not a mean over rows
    (RMSE, AUC, F1, MCC) they are its linearisation, loss + influence of the row (for AUC: DeLong, DeLong and
    Clarke-Pearson 1988), so standard errors and paired tests of them are right for large n.
    """

    name: str
    kind: Kind
    better: Better
    best: float
    decisions: bool
    measure: Measure
    row_losses: RowLosses | None

    def value(self, output: Output, truth: Output, weights: Any = None) -> float:
        """The score of the rows that are answered and have a truth; NaN where there are none.

        truth: Labels or Values with n rows. weights: (n,) or None.
        Raises OutputsError where kinds, rows or levels do not fit, TruthError where the truth cannot be
        scored.
        """
        case = _case(self, output, truth, weights)
        return self.measure(case) if len(case.truth) else math.nan

    def loss(self, output: Output, truth: Output, weights: Any = None) -> float:
        """The score turned so that lower is better."""
        return self.turned(self.value(output, truth, weights))

    def turned(self, value: float) -> float:
        """From value to loss and from loss to value."""
        return self.best - value if self.better == "higher" else value

    def rows(self, output: Output, truth: Output, weights: Any = None) -> Array | None:
        """(n,) losses whose weighted mean is `loss`; NaN in rows that do not count; None if unknown."""
        if self.row_losses is None:
            return None
        case = _case(self, output, truth, weights)
        out = np.full(len(case.kept), np.nan)
        if len(case.truth):
            out[case.kept] = self.row_losses(case)
        return out


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score's value with its standard error and a 95 % interval, in the units of the value."""

    value: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """loss(a) - loss(b) on the same rows: negative where a is better. p_value is two-sided."""

    mean: float
    standard_error: float
    p_value: float


def estimate(score: Score, output: Output, truth: Output, weights: Any = None) -> Estimate:
    """The score with its standard error: from per-row losses, or from 200 bootstrap samples (seed 0).

    One row has an unknown standard error (NaN).
    """
    value = score.value(output, truth, weights)
    rows = score.rows(output, truth, weights)
    if rows is None:
        draws = _bootstrap(score, (output,), truth, weights)
        error = float(np.std(draws, ddof=1)) if len(draws) > 1 else math.nan
        return Estimate(value, error, value - 1.96 * error, value + 1.96 * error)
    error, freedom = _error(rows, weights)
    half = error * _t_quantile(freedom)
    return Estimate(value, error, value - half, value + half)


def paired(score: Score, a: Output, b: Output, truth: Output, weights: Any = None) -> Difference:
    """Is a better than b on the same rows?

    Rows that either did not answer are left out, but for scores to which silence is an empty answer. A
    t-test on differences of per-row losses, or a bootstrap (seed 0) where the score has no rows.
    """
    both = a.answered & b.answered  # type: ignore[attr-defined]
    if isinstance(score, Score) and not both.all():
        a, b, truth = a.take(both), b.take(both), truth.take(both)
        weights = None if weights is None else np.asarray(weights)[both]
    rows_a, rows_b = score.rows(a, truth, weights), score.rows(b, truth, weights)
    if rows_a is None or rows_b is None:
        mean = score.loss(a, truth, weights) - score.loss(b, truth, weights)
        draws = _bootstrap(score, (a, b), truth, weights)
        error = float(np.std(draws, ddof=1)) if len(draws) > 1 else math.nan
        return Difference(mean, error, p_value(mean, error, BOOTSTRAP - 1))
    rows = rows_a - rows_b
    error, freedom = _error(rows, weights)
    kept = ~np.isnan(rows)
    mass = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    total = mass[kept].sum()
    mean = float((rows[kept] * mass[kept]).sum() / total) if total else math.nan
    return Difference(mean, error, p_value(mean, error, freedom))


def p_value(mean: float, error: float, freedom: float) -> float:
    """Two-sided p of a t-test: is the mean 0?

    >>> round(p_value(1.96, 1.0, 1e6), 3)
    0.05
    """
    if math.isnan(mean) or math.isnan(error) or freedom < 1:
        return 1.0
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * student_cdf(-abs(mean / error), freedom)


def user_score(
    fn: Callable[..., float],
    *,
    name: str | None = None,
    kind: Kind = "values",
    better: Better = "lower",
    best: float = 0.0,
    decisions: bool = False,
) -> Score:
    """A score from any callable `fn(truth, answer) -> float`, such as scikit-learn's metrics.

    truth is (n,) of class names or numbers. answer is (n,) predicted class names where `decisions`, else
    (n, K) probabilities in the order of sorted class names (for two classes (n,), of the second), (n,) values
    or (n, Q) quantiles. A parameter of fn named `sample_weight` or `weights` gets the rows' weights.

    >>> worst = user_score(lambda truth, answer: float(abs(truth - answer).max()), name="worst")
    >>> worst.value(Values([1.0, 2.0]), Values([1.0, 4.0]))
    2.0
    """
    keys = inspect.signature(fn).parameters
    key = next((k for k in ("sample_weight", "weights") if k in keys), None)

    def measure(case: Case) -> float:
        weighted = {} if key is None else {key: case.weights * len(case.weights)}
        return float(fn(*_plain(case, kind, decisions=decisions), **weighted))

    title = name or str(getattr(fn, "__name__", "score"))
    return Score(title, kind, better, best, decisions, measure, None)


def _plain(case: Case, kind: Kind, *, decisions: bool) -> tuple[Array, Array]:
    """Truth and answer in the shapes that metrics of other libraries expect."""
    if kind != "probabilities":
        squeeze = kind == "values" and case.answer.shape[1] == 1
        return case.truth[:, 0] if case.truth.shape[1] == 1 else case.truth, (
            case.answer[:, 0] if squeeze else case.answer
        )
    names = np.array(case.classes, dtype=object)
    truth = names[case.truth]
    if decisions:
        return truth, names[case.answer.argmax(axis=1)]
    order = np.argsort(names.astype(str), kind="stable")
    answer = case.answer[:, order]
    return truth, answer[:, 1] if answer.shape[1] == 2 else answer


def _case(score: Score, output: Output, truth: Output, weights: Any) -> Case:
    if len(output) != len(truth):
        raise OutputsError(f"{score.name}: {len(output)} answers but {len(truth)} truths")
    mass = checked_weights(weights, len(truth))
    if score.kind == "probabilities":
        return _class_case(score, output, truth, mass)
    if not isinstance(truth, Values):
        raise OutputsError(f"{score.name} needs a truth of values, not {truth.kind}")
    wanted = Values if score.kind == "values" else Quantiles
    if not isinstance(output, wanted):
        raise OutputsError(f"{score.name} scores {score.kind}, not {output.kind}")
    return _number_case(score, output, truth, mass)


def checked_weights(weights: Any, n: int) -> Array:
    """Weights of rows as float64 (n,), not negative. None is 1 for each. Raises OutputsError."""
    if weights is None:
        return np.ones(n)
    mass = np.asarray(weights, dtype=np.float64)
    if mass.shape != (n,) or not bool(np.isfinite(mass).all()) or bool((mass < 0).any()):
        raise OutputsError(
            f"weights of rows must be {n} finite numbers, none negative, not shape {mass.shape}"
        )
    return mass


def _class_case(score: Score, output: Output, truth: Output, mass: Array) -> Case:
    if not isinstance(truth, Labels):
        raise OutputsError(f"{score.name} needs a truth of labels, not {truth.kind}")
    if not isinstance(output, Probabilities) and not (score.decisions and isinstance(output, Labels)):
        more = " or labels" if score.decisions else ""
        raise OutputsError(f"{score.name} scores probabilities{more}, not {output.kind}")
    known = set(output.classes)
    classes = (*output.classes, *(c for c in truth.classes if c not in known))
    kept = truth.answered & (truth.codes >= 0) & output.answered & (mass > 0)
    codes = truth.align(classes).codes[kept]
    if isinstance(output, Labels):
        kept_answer = output.align(classes).one_hot()[kept]
    else:
        kept_answer = np.asarray(output.align(classes).values, np.float64)[kept]
        _no_nan(score, kept_answer)
    return Case(kept_answer, codes, _share(mass[kept]), classes, (), kept)


def _number_case(score: Score, output: Values | Quantiles, truth: Values, mass: Array) -> Case:
    target = _as_rows(truth.values)
    answer = _as_rows(output.values)
    if isinstance(output, Values) and answer.shape != target.shape:
        raise OutputsError(f"{score.name}: answers of shape {answer.shape}, truth of shape {target.shape}")
    if isinstance(output, Quantiles) and target.shape[1] != 1:
        raise OutputsError(f"{score.name}: quantiles need one true number a row, not {target.shape[1]}")
    kept = truth.answered & output.answered & (mass > 0) & ~np.isnan(target).any(axis=1)
    if bool(np.isinf(target[kept]).any()):
        raise TruthError(f"{score.name}: the truth holds infinities")
    _no_nan(score, answer[kept])
    levels = output.levels if isinstance(output, Quantiles) else ()
    return Case(answer[kept], target[kept], _share(mass[kept]), (), levels, kept)


def _as_rows(values: Array) -> Array:
    """float64, (n,) as (n, 1)."""
    values = np.asarray(values, np.float64)
    return values[:, None] if values.ndim == 1 else values


def _no_nan(score: Score, answer: Array) -> None:
    bad = np.isnan(answer).any(axis=1)
    if bad.any():
        some = listed(np.flatnonzero(bad), 5)
        raise OutputsError(
            f"{score.name}: NaN in {int(bad.sum())} rows that are marked as answered (rows {some})"
        )


def _share(mass: Array) -> Array:
    total = mass.sum()
    return cast(Array, mass / total) if total > 0 else mass


def _error(rows: Array, weights: Any) -> tuple[float, float]:
    """The standard error of the weighted mean of rows, and its degrees of freedom; NaN rows do not count."""
    kept = ~np.isnan(rows)
    mass = (np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64))[kept]
    mass, rows = mass[mass > 0], rows[kept][mass > 0]
    n = len(rows)
    if n < 2:
        return math.nan, 0.0
    share = mass / mass.sum()
    mean = float((share * rows).sum())
    return math.sqrt(float((share**2 * (rows - mean) ** 2).sum()) * n / (n - 1)), n - 1.0


def _t_quantile(freedom: float) -> float:
    if freedom < 1:
        return math.nan
    return student_quantile(0.975, freedom)


def _bootstrap(score: Score, outputs: tuple[Output, ...], truth: Output, weights: Any) -> Array:
    """Losses (or differences of two outputs' losses) over resamples of the rows; failed ones are left out."""
    rng = np.random.default_rng(0)
    n = len(truth)
    mass = None if weights is None else np.asarray(weights)
    draws = []
    for _ in range(BOOTSTRAP if n > 1 else 0):
        rows = rng.integers(0, n, n)
        resampled = None if mass is None else mass[rows]
        try:
            losses = [score.loss(o.take(rows), truth.take(rows), resampled) for o in outputs]
        except ValueError:
            continue  # a resample with one class, say, on which the user's score is not defined
        draws.append(losses[0] - losses[1] if len(losses) == 2 else losses[0])
    return np.array([d for d in draws if math.isfinite(d)])
