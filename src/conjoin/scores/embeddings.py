"""Scores of embeddings: do similarities of pairs follow the truth; is the right partner found."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from conjoin.errors import OutputsError
from conjoin.outputs import Array, Embeddings, Output, Values
from conjoin.scores.field import FieldScore

CUTS = (1, 5, 10)
"""The k of recall@k."""


def similarities(output: Output) -> Array:
    """(n,) the cosine of each row's two vectors, or values as they are; NaN where not answered.

    A zero vector has cosine 0 with every other. Raises OutputsError.

    >>> from conjoin.outputs import Embeddings
    >>> similarities(Embeddings([[[1.0, 0.0], [2.0, 0.0]], [[1.0, 0.0], [0.0, 3.0]]]))
    array([1., 0.])
    """
    if isinstance(output, Values) and output.values.ndim == 1:
        return np.where(output.answered, output.values.astype(np.float64), np.nan)
    left, right = _pairs(output)
    found: Array = np.einsum("nd,nd->n", left, right)
    return found


def _pairs(output: Output) -> tuple[Array, Array]:
    """Both vectors of each row, of length 1."""
    if not isinstance(output, Embeddings) or output.values.ndim != 3 or output.values.shape[1] != 2:
        shape = f" of shape {output.values.shape}" if isinstance(output, Embeddings) else ""
        raise OutputsError(
            f"scores of embeddings need two vectors a row, (n, 2, D), not {output.kind}{shape}"
        )
    values = output.values.astype(np.float64)
    length = np.sqrt((values * values).sum(axis=-1, keepdims=True))
    values = values / np.where(length > 0, length, 1.0)
    return values[:, 0], values[:, 1]


def _columns(output: Output, truth: Output) -> tuple[Array, Array, Array]:
    """Rows that count, their similarities and their truth."""
    if not isinstance(truth, Values) or truth.values.ndim != 1:
        raise OutputsError(f"similarities are scored against a truth of values (n,), not {truth.kind}")
    found, right = similarities(output), np.where(truth.answered, truth.values.astype(np.float64), np.nan)
    kept = np.flatnonzero(~np.isnan(found) & ~np.isnan(right))
    return kept, found[kept], right[kept]


def _moments(x: Array, y: Array) -> Array:
    """(n, 6): what a correlation is made of, of centred and scaled columns."""
    x, y = (v - v.mean() if len(v) else v for v in (x, y))
    x, y = (v / s if (s := float(np.abs(v).max(initial=0.0))) > 0 else v for v in (x, y))
    return np.column_stack([np.ones(len(x)), x, y, x * x, y * y, x * y])


def pearson_rows(output: Output, truth: Output) -> Array:
    """(n, 6) moments of similarity and truth; NaN where one is missing."""
    kept, found, right = _columns(output, truth)
    out = np.full((len(truth), 6), np.nan)
    out[kept] = _moments(found, right)
    return out


def spearman_rows(output: Output, truth: Output) -> Array:
    """(n, 6) moments of the ranks of similarity and truth, ties at their mean rank."""
    kept, found, right = _columns(output, truth)
    out = np.full((len(truth), 6), np.nan)
    out[kept] = _moments(_ranks(found), _ranks(right))
    return out


def _ranks(x: Array) -> Array:
    _, at, counts = np.unique(x, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean: Array = (ends - (counts - 1) / 2.0)[at]
    return mean


def correlation(sums: Array) -> float:
    """Pearson's correlation from weighted sums of moments; NaN where a column does not vary."""
    n, x, y, xx, yy, xy = (float(s) for s in sums)
    if not n > 0:
        return math.nan
    vx, vy = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
    if not (vx > 1e-14 and vy > 1e-14):
        return math.nan
    return (xy / n - x * y / n**2) / math.sqrt(vx * vy)


def recall_rows(output: Output, truth: Output, *, k: int) -> Array:
    """(n, 2): 1 where fewer than k second vectors of other rows are closer to the row's first than its own.

    Rows that count have a truth above 0: their two vectors belong together. All answered rows are searched.
    Of similarities without vectors it is not known: NaN.
    """
    if isinstance(output, Values):
        return np.full((len(truth), 2), np.nan)
    left, right = _pairs(output)
    if not isinstance(truth, Values) or truth.values.ndim != 1:
        raise OutputsError(
            f"recall needs a truth of values (n,), above 0 where a pair belongs together, not {truth.kind}"
        )
    out = np.full((len(truth), 2), np.nan)
    spoken = np.flatnonzero(output.answered)  # type: ignore[attr-defined]
    asked = spoken[truth.answered[spoken] & (np.nan_to_num(truth.values[spoken]) > 0)]
    for start in range(0, len(asked), 1024):
        rows = asked[start : start + 1024]
        own = np.einsum("nd,nd->n", left[rows], right[rows])
        closer = (left[rows] @ right[spoken].T > own[:, None] + 1e-9).sum(axis=1)
        out[rows] = np.column_stack([closer < k, np.ones(len(rows))])
    return out


def _ratio(sums: Array) -> float:
    return float(sums[0] / sums[1]) if sums[1] > 0 else math.nan


SCORES: dict[str, FieldScore] = {
    s.name: s
    for s in (
        FieldScore("spearman", "embeddings", "higher", 1.0, spearman_rows, correlation),
        FieldScore("pearson", "embeddings", "higher", 1.0, pearson_rows, correlation),
        *(
            FieldScore(f"recall@{k}", "embeddings", "higher", 1.0, partial(recall_rows, k=k), _ratio)
            for k in CUTS
        ),
    )
}
"""Scores of embeddings by name."""
