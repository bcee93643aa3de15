"""How far annotators agree beyond chance: Krippendorff's alpha, Fleiss' and Cohen's kappa.

Functions take `Labels` by annotator, or counts (n, K): how many annotators gave row i the class k. Counts
need no memory for annotators, so crowds of any size fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, cast

import numpy as np

from conjoin.errors import OutputsError, listed
from conjoin.outputs import Array, Labels

Level = Literal["nominal", "ordinal", "interval", "ratio"]
Weighting = Literal["none", "linear", "quadratic"]


def krippendorff_alpha(
    answers: Mapping[str, Labels] | Array, /, *, level: Level = "nominal", values: Array | None = None
) -> float:
    """1 - observed / expected disagreement, for any number of annotators and missing answers.

    With o_ck the pairs of answers (c, k) to one row, each row's pairs weighing 1 / (answers - 1), n_c = sum_k
    o_ck, n = sum_c n_c: alpha = 1 - (n - 1) sum_ck o_ck d2(c, k) / sum_ck n_c n_k d2(c, k). d2 is [c != k] at
    level "nominal"; ((n_c + n_k) / 2 + sum of n strictly between)^2 at "ordinal" (order of the classes);
    (v_c - v_k)^2 at "interval"; ((v_c - v_k) / (v_c + v_k))^2 at "ratio".

    answers: `Labels` by annotator, or counts (n, K). values: (K,) numbers of the classes for the last two
    levels; by default the names read as numbers. 1 where all say one class. NaN without a row that two
    answered. Krippendorff, Content Analysis, 2004. Raises OutputsError.

    >>> a, b = Labels.of(["x", "x", "y", None]), Labels.of(["x", "y", "y", "x"])
    >>> round(krippendorff_alpha({"a": a, "b": b}), 4)
    0.4444
    """
    counts, classes = _counts(answers)
    per_row = counts.sum(axis=1)
    counts = counts[per_row > 1]
    per_row = per_row[per_row > 1]
    if not len(counts):
        return math.nan
    scaled = counts / (per_row - 1)[:, None]
    o = counts.T @ scaled - np.diag(scaled.sum(axis=0))
    n_c = o.sum(axis=1)
    d2 = _distances(level, n_c, classes, values)
    expected = float(n_c @ d2 @ n_c)
    if expected == 0:
        return 1.0
    return 1 - (float(n_c.sum()) - 1) * float((o * d2).sum()) / expected


def fleiss_kappa(answers: Mapping[str, Labels] | Array, /) -> float:
    """Mean agreement of pairs of annotators beyond chance (Fleiss 1971).

    P_i = (sum_k n_ik^2 - n_i) / (n_i (n_i - 1)), P = mean_i P_i, P_e = sum_k share_k^2; (P-P_e) / (1-P_e).
    Rows with fewer than two answers do not count; the number of answers may differ between rows. 1 where
    all say one class, NaN without rows. Raises OutputsError.

    >>> round(fleiss_kappa(np.array([[2, 0], [1, 1], [0, 2]])), 4)
    0.3333
    """
    counts, _ = _counts(answers)
    n = counts.sum(axis=1)
    counts, n = counts[n > 1], n[n > 1]
    if not len(counts):
        return math.nan
    agreed = float((((counts**2).sum(axis=1) - n) / (n * (n - 1))).mean())
    share = (counts / n[:, None]).mean(axis=0)
    chance = float((share**2).sum())
    return 1.0 if chance >= 1 else (agreed - chance) / (1 - chance)


def cohen_kappa(a: Labels, b: Labels, /, *, weighting: Weighting = "none") -> float:
    """Agreement of two beyond chance, on the rows that both answered (Cohen 1960, 1968).

    1 - sum_ck w_ck o_ck / sum_ck w_ck e_ck with shares o and e = outer product of the margins; w is
    [c != k], |c - k| ("linear") or (c - k)^2 ("quadratic") in the order of the classes of a, then of b.
    1 where both always say one class, NaN without common rows. Raises OutputsError where rows differ.

    >>> round(cohen_kappa(Labels.of(["x", "x", "y", "y"]), Labels.of(["x", "y", "y", "y"])), 4)
    0.5
    """
    if len(a) != len(b):
        raise OutputsError(f"cohen_kappa: {len(a)} and {len(b)} rows")
    classes = tuple(dict.fromkeys((*a.classes, *b.classes)))
    one, other = a.align(classes).codes, b.align(classes).codes
    both = (one >= 0) & (other >= 0)
    if not both.any():
        return math.nan
    k = len(classes)
    o = np.bincount(one[both] * k + other[both], minlength=k * k).reshape(k, k) / both.sum()
    steps = np.abs(np.arange(k)[:, None] - np.arange(k))
    weights = {"none": steps > 0, "linear": steps, "quadratic": steps**2}
    if weighting not in weights:
        raise OutputsError(f"weighting must be one of {listed(weights)}, not {weighting!r}")
    w = weights[weighting].astype(np.float64)
    expected = float((w * np.outer(o.sum(axis=1), o.sum(axis=0))).sum())
    return 1.0 if expected == 0 else 1 - float((w * o).sum()) / expected


def kappas(answers: Mapping[str, Labels], /) -> Array:
    """(M, M) `cohen_kappa` of each two annotators, in the order of the mapping.

    >>> kappas({"a": Labels.of(["x", "y"]), "b": Labels.of(["x", "y"])})
    array([[1., 1.],
           [1., 1.]])
    """
    given = list(answers.values())
    out = np.ones((len(given), len(given)))
    for i, a in enumerate(given):
        for j in range(i):
            out[i, j] = out[j, i] = cohen_kappa(a, given[j])
    return out


def _counts(answers: Mapping[str, Labels] | Array) -> tuple[Array, tuple[str, ...]]:
    """(n, K) float64 and the names of the classes."""
    if isinstance(answers, Mapping):
        if not answers:
            raise OutputsError("there are no answers: give labels by annotator")
        classes = tuple(dict.fromkeys(c for o in answers.values() for c in o.classes))
        lengths = {n: len(o) for n, o in answers.items()}
        if len(set(lengths.values())) > 1:
            raise OutputsError(f"annotators must answer the same rows; rows: {lengths}")
        given = [o.align(classes).one_hot() for o in answers.values()]
        return cast(Array, np.add.reduce(given)), classes
    counts = np.asarray(answers, dtype=np.float64)
    if counts.ndim != 2 or not bool(np.isfinite(counts).all()) or bool((counts < 0).any()):
        raise OutputsError(f"counts must be (n, K) numbers, none negative, not shape {counts.shape}")
    return counts, tuple(map(str, range(counts.shape[1])))


def _distances(level: Level, n_c: Array, classes: tuple[str, ...], values: Array | None) -> Array:
    """(K, K) squared distances of classes."""
    k = len(classes)
    if level == "nominal":
        return 1.0 - np.eye(k)
    if level == "ordinal":
        ends = np.cumsum(n_c)
        low, high = np.minimum.outer(np.arange(k), np.arange(k)), np.maximum.outer(np.arange(k), np.arange(k))
        between = ends[high] - ends[low] + n_c[low]
        return cast(Array, np.where(low == high, 0.0, between - (n_c[low] + n_c[high]) / 2) ** 2)
    if level not in ("interval", "ratio"):
        raise OutputsError(f"level must be nominal, ordinal, interval or ratio, not {level!r}")
    v = _numbers(classes) if values is None else np.asarray(values, dtype=np.float64)
    if v.shape != (k,):
        raise OutputsError(f"values must be {k} numbers, one for each of {listed(classes)}")
    gap = v[:, None] - v
    if level == "ratio":
        both = v[:, None] + v
        gap = np.divide(gap, both, out=np.zeros_like(gap), where=both != 0)
    return cast(Array, gap**2)


def _numbers(classes: tuple[str, ...]) -> Array:
    try:
        return np.array([float(c) for c in classes])
    except ValueError as error:
        raise OutputsError(f"classes {listed(classes)} are not numbers: give values=") from error
