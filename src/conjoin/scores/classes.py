"""Scores of probabilities and of labels. Formulas are in the docstrings; the rows' weights sum to 1."""

from __future__ import annotations

import math

import numpy as np

from conjoin.errors import TruthError
from conjoin.outputs import Array
from conjoin.scores.score import Case

SMALLEST = 1e-15
"""Log-loss clips probabilities here, so that one certain error costs 34.5 and not infinity."""
BINS = 15


def log_loss_rows(case: Case) -> Array:
    """-log p[y], p clipped to [1e-15, 1]."""
    p = case.answer[np.arange(len(case.truth)), case.truth]
    return np.asarray(-np.log(np.clip(p, SMALLEST, 1.0)))


def brier_rows(case: Case) -> Array:
    """Sum over classes of (p[k] - [y = k])^2; half of it for two classes (Brier 1950)."""
    hit = case.truth[:, None] == np.arange(case.answer.shape[1])
    total = ((case.answer - hit) ** 2).sum(axis=1)
    return np.asarray(total / 2 if case.answer.shape[1] == 2 else total)


def error_rows(case: Case) -> Array:
    """1 where the most probable class is not the true one."""
    return np.asarray(case.answer.argmax(axis=1) != case.truth, dtype=np.float64)


def mean_log_loss(case: Case) -> float:
    """Mean of -log p[y]."""
    return _mean(case, log_loss_rows(case))


def mean_brier(case: Case) -> float:
    """Mean Brier score."""
    return _mean(case, brier_rows(case))


def mean_error(case: Case) -> float:
    """Share of wrong decisions."""
    return _mean(case, error_rows(case))


def accuracy(case: Case) -> float:
    """Share of right decisions."""
    return 1.0 - mean_error(case)


def balanced_accuracy(case: Case) -> float:
    """Mean over the classes that occur of the share of their rows that are recognised."""
    mass, wrong = _class_errors(case)
    some = mass > 0
    return float(1 - (wrong[some] / mass[some]).mean())


def balanced_accuracy_rows(case: Case) -> Array:
    """loss + ([wrong] - error of the class) / (number of classes x mass of the class)."""
    mass, wrong = _class_errors(case)
    some = mass > 0
    rate = np.divide(wrong, mass, out=np.zeros_like(mass), where=some)
    here = case.truth
    return np.asarray(rate[some].mean() + (error_rows(case) - rate[here]) / (some.sum() * mass[here]))


def f1_macro(case: Case) -> float:
    """Mean over classes (those that occur or are decided) of 2 TP / (2 TP + FP + FN)."""
    f, share, _ = _f1(case)
    return float((f * share).sum())


def f1_macro_rows(case: Case) -> Array:
    """Linearised rows of 1 - f1_macro."""
    return _f1_rows(case, *_f1(case))


def f1_weighted(case: Case) -> float:
    """Mean of the classes' F1, weighted by how often they occur."""
    f, _, totals = _f1(case)
    return float((f * totals).sum())


def f1_weighted_rows(case: Case) -> Array:
    """Linearised rows of 1 - f1_weighted."""
    f, _, totals = _f1(case)
    return _f1_rows(case, f, totals, totals)


def f1_binary(case: Case) -> float:
    """F1 of the second class of two. Raises TruthError for more classes."""
    return float(_f1(case)[0][_positive(case, "f1")])


def f1_binary_rows(case: Case) -> Array:
    """Linearised rows of 1 - f1."""
    f, _, totals = _f1(case)
    share = np.zeros(len(f))
    share[_positive(case, "f1")] = 1.0
    return _f1_rows(case, f, share, totals)


def auc(case: Case) -> float:
    """Area under the ROC curve; for more than two classes the mean of one against the rest (Fawcett 2006).

    Ties count half. NaN where only one class occurs.
    """
    parts = [a for a, _ in _aucs(case)]
    return float(np.mean(parts)) if parts else math.nan


def auc_rows(case: Case) -> Array:
    """1 - AUC + the row's influence (DeLong)."""
    parts = _aucs(case)
    if not parts:
        return np.full(len(case.truth), np.nan)
    return np.asarray(np.mean([1 - a - i for a, i in parts], axis=0))


def average_precision(case: Case) -> float:
    """Sum over thresholds of precision x rise of recall: of the second class of two, or the mean of all."""
    last = case.answer.shape[1]
    which = [1] if last == 2 else list(range(last))
    found = [_precision_area(case.answer[:, k], case.truth == k, case.weights) for k in which]
    some = [v for v in found if not math.isnan(v)]
    return float(np.mean(some)) if some else math.nan


def mcc(case: Case) -> float:
    """Matthews' correlation, R_K of Gorodkin 2004 for K classes; 0 where it is not defined."""
    n, a, b, _ = _mcc_parts(case)
    return n / math.sqrt(a * b) if a * b > 0 else 0.0


def mcc_rows(case: Case) -> Array:
    """Linearised rows of 1 - mcc."""
    n, a, b, (correct, p_true, t_said, p, t, cross, said) = _mcc_parts(case)
    if a * b <= 0:
        return np.ones(len(case.truth))
    root = math.sqrt(a * b)
    dn = (correct - (case.weights * correct).sum()) - (p_true + t_said - 2 * cross)
    da = -2 * (p[said] - (p**2).sum())
    db = -2 * (t[case.truth] - (t**2).sum())
    return np.asarray(1 - (n / root + dn / root - n / (2 * root) * (da / a + db / b)))


def ece(case: Case) -> float:
    """Expected calibration error of the most probable class, 15 equal bins (Guo et al. 2017)."""
    return _mean(case, ece_rows(case))


def ece_rows(case: Case) -> Array:
    """(confidence - [right]), with the sign of the row's bin: their mean is the error."""
    confidence = case.answer.max(axis=1)
    gap = confidence - (1 - error_rows(case))
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1).clip(0)
    sums = np.bincount(bins, case.weights * gap, BINS)
    return np.asarray(np.sign(sums)[bins] * gap)


def _mean(case: Case, rows: Array) -> float:
    return float((case.weights * rows).sum())


def _class_errors(case: Case) -> tuple[Array, Array]:
    width = case.answer.shape[1]
    mass = np.bincount(case.truth, case.weights, width)
    return mass, np.bincount(case.truth, case.weights * error_rows(case), width)


def _positive(case: Case, name: str) -> int:
    if case.answer.shape[1] != 2:
        raise TruthError(f"{name} is for two classes, not {case.answer.shape[1]}: take {name}_macro")
    return 1


def _f1(case: Case) -> tuple[Array, Array, Array]:
    """F1 of each class, the share of each in the macro mean, the mass of each class in the truth."""
    width = case.answer.shape[1]
    said = case.answer.argmax(axis=1)
    true = np.bincount(case.truth, case.weights, width)
    both = true + np.bincount(said, case.weights, width)
    hits = np.bincount(case.truth, case.weights * (said == case.truth), width)
    f = np.divide(2 * hits, both, out=np.zeros(width), where=both > 0)
    some = both > 0
    return f, some / max(int(some.sum()), 1), true


def _f1_rows(case: Case, f: Array, share: Array, totals: Array) -> Array:
    width = case.answer.shape[1]
    said = case.answer.argmax(axis=1)
    both = totals + np.bincount(said, case.weights, width)
    scale = np.divide(share, both, out=np.zeros(width), where=both > 0)
    hit = np.where(said == case.truth, 2 * scale[case.truth], 0.0)
    influence = hit - (f * scale)[case.truth] - (f * scale)[said]
    return np.asarray(1 - (f * share).sum() - influence)


def _aucs(case: Case) -> list[tuple[float, Array]]:
    width = case.answer.shape[1]
    which = [1] if width == 2 else range(width)
    parts = (_one_auc(case.answer[:, k], case.truth == k, case.weights) for k in which)
    return [p for p in parts if p is not None]


def _one_auc(score: Array, positive: Array, weights: Array) -> tuple[float, Array] | None:
    """AUC and each row's influence on it."""
    up, down = weights * positive, weights * ~positive
    p, q = float(up.sum()), float(down.sum())
    if p <= 0 or q <= 0:
        return None
    _, group = np.unique(score, return_inverse=True)
    below_up, below_down = _below(group, up), _below(group, down)
    placed = np.where(positive, below_down / q, (p - below_up) / p)
    area = float((up * placed).sum() / p)
    return area, (placed - area) / np.where(positive, p, q)


def _below(group: Array, mass: Array) -> Array:
    """For each row the mass of rows with a lower score, plus half the mass of equal ones."""
    sums = np.bincount(group, mass)
    return np.asarray((np.cumsum(sums) - sums / 2)[group])


def _precision_area(score: Array, positive: Array, weights: Array) -> float:
    total = float((weights * positive).sum())
    if total <= 0:
        return math.nan
    _, group = np.unique(-score, return_inverse=True)
    hits = np.cumsum(np.bincount(group, weights * positive))
    seen = np.cumsum(np.bincount(group, weights))
    return float((hits / seen * np.diff(hits, prepend=0.0)).sum() / total)


def _mcc_parts(case: Case) -> tuple[float, float, float, tuple[Array, ...]]:
    width = case.answer.shape[1]
    said = case.answer.argmax(axis=1)
    correct = (said == case.truth).astype(np.float64)
    t = np.bincount(case.truth, case.weights, width)
    p = np.bincount(said, case.weights, width)
    cross = (t * p).sum()
    n = float((case.weights * correct).sum() - cross)
    a, b = float(1 - (p**2).sum()), float(1 - (t**2).sum())
    return n, a, b, (correct, p[case.truth], t[said], p, t, np.asarray(cross), said)
