"""Scores of labelled spans: F1, precision and recall, exact as conlleval and seqeval count, and partial."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from conjoin.errors import OutputsError
from conjoin.outputs import Array, Spans
from conjoin.scores.field import FieldScore


def _table(spans: Any, classes: tuple[str, ...], counts: Array, what: str) -> Array:
    """(4, t): row, start, end and class of the different spans of the rows that count, sorted."""
    if not isinstance(spans, Spans):
        kind = getattr(spans, "kind", type(spans).__name__)
        raise OutputsError(f"{what} must be spans, not {kind}")
    row = np.repeat(np.arange(len(spans)), np.diff(spans.offsets))
    at = np.array([classes.index(c) for c in spans.classes] or [0], dtype=np.int64)
    table = np.array([row, spans.starts, spans.ends, at[spans.codes]], dtype=np.int64)
    return _different(table[:, counts[row] & spans.answered[row]])


def _different(table: Array) -> Array:
    """The different columns, sorted by the first row, then the second ..."""
    table = table[:, np.lexsort(table[::-1])]
    first = np.ones(table.shape[1], dtype=bool)
    first[1:] = (table[:, 1:] != table[:, :-1]).any(axis=0)
    return np.asarray(table[:, first])


def _both(output: Any, truth: Any) -> tuple[Array, Array, tuple[str, ...], Array]:
    """Spans answered and true as tables, all classes by name, and (n,) bool: rows with a truth."""
    known = getattr(truth, "classes", ()), getattr(output, "classes", ())
    classes = tuple(sorted({*known[0], *known[1]}))
    counts = np.asarray(truth.answered, dtype=bool)
    said = _table(output, classes, counts, "the answers")
    return said, _table(truth, classes, counts, "the truth"), classes, counts


def _in_common(said: Array, true: Array) -> Array:
    """(t,) whether each span answered is among the true ones."""
    joined = np.concatenate([said, true], axis=1)
    order = np.lexsort(joined[::-1])  # stable: of two equal spans the one answered comes first
    joined = joined[:, order]
    out = np.zeros(joined.shape[1], dtype=bool)
    out[order[:-1]] = (joined[:, 1:] == joined[:, :-1]).all(axis=0)
    return out[: said.shape[1]]


def _per_class(output: Any, truth: Any) -> Array:
    """(n, 3 K): of each class in order, spans right, answered and true."""
    said, true, classes, counts = _both(output, truth)
    n, K = len(counts), max(len(classes), 1)
    hit = said[:, _in_common(said, true)]
    out = np.zeros((n, 3, K))
    for j, table in enumerate((hit, said, true)):
        np.add.at(out[:, j], (table[0], table[3]), 1.0)
    out[~counts] = np.nan
    return out.reshape(n, 3 * K)


def exact_counts(output: Any, truth: Any) -> Array:
    """(n, 3): spans that are right (both ends and the class), answered, and true; NaN without a truth.

    A span that is answered twice counts once; a row that is not answered has no spans.

    >>> truth = Spans([0, 9], [5, 12], [1.0, 1.0], [0, 0], [0, 2], ["place"])
    >>> exact_counts(Spans([0], [5], [0.7], [0], [0, 1], ["place"]), truth)
    array([[1., 1., 2.]])
    """
    table = _per_class(output, truth)
    return np.asarray(table.reshape(len(table), 3, table.shape[1] // 3).sum(axis=2))


def character_counts(output: Any, truth: Any) -> Array:
    """(n, 3): characters with their class that are right, answered, and true; NaN without a truth."""
    said, true, _, counts = _both(output, truth)
    out = np.zeros((len(counts), 3))
    mine, theirs = _characters(said), _characters(true)
    right = mine[:, _in_common(mine, theirs)]
    for j, table in enumerate((right, mine, theirs)):
        out[:, j] = np.bincount(table[0], minlength=len(counts))
    out[~counts] = np.nan
    return out


def _characters(table: Array) -> Array:
    """(3, c): row, position and class of every character, each once."""
    lengths = table[2] - table[1]
    step = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    wide = np.repeat(table[[0, 1, 3]], lengths, axis=1)
    wide[1] += step
    return _different(wide)


def overlap_counts(output: Any, truth: Any) -> Array:
    """(n, 3): spans in pairs that overlap and agree in class, spans answered, and true; NaN without a truth.

    Each span is in one pair at most; pairs are made from the left, which gives as many as there can be where
    spans of a class do not overlap one another.
    """
    said, true, _, counts = _both(output, truth)
    out = np.zeros((len(counts), 3))
    out[:, 1] = np.bincount(said[0], minlength=len(counts))
    out[:, 2] = np.bincount(true[0], minlength=len(counts))
    mine, theirs = (t[:, np.lexsort((t[1], t[2], t[3], t[0]))].T.tolist() for t in (said, true))
    at = 0
    for row, start, end, code in mine:
        while at < len(theirs) and _before(theirs[at], row, start, code):
            at += 1
        if (
            at < len(theirs)
            and theirs[at][0] == row
            and theirs[at][3] == code
            and theirs[at][1] < max(end, start + 1)
        ):
            out[row, 0] += 1.0
            at += 1
    out[~counts] = np.nan
    return out


def _before(span: list[int], row: int, start: int, code: int) -> bool:
    """Whether a true span ends before one that is answered starts."""
    if (span[0], span[3]) != (row, code):
        return (span[0], span[3]) < (row, code)
    return max(span[2], span[1] + 1) <= start


def f1(sums: Array) -> float:
    """2 right / (answered + true); NaN where there are none of either.

    >>> f1(np.array([1.0, 1.0, 2.0]))
    0.6666666666666666
    """
    right, said, true = sums
    return float(2.0 * right / (said + true)) if said + true else math.nan


def _precision(sums: Array) -> float:
    return float(sums[0] / sums[1]) if sums[1] else 0.0 if sums[2] else math.nan


def _recall(sums: Array) -> float:
    return float(sums[0] / sums[2]) if sums[2] else 0.0 if sums[1] else math.nan


def _macro(one: Callable[[Array], float]) -> Callable[[Array], float]:
    def total(sums: Array) -> float:
        found = [one(column) for column in sums.reshape(3, -1).T if column[1:].any()]
        return float(np.mean(found)) if found else math.nan

    return total


def _score(name: str, statistics: Callable[[Any, Any], Array], total: Callable[[Array], float]) -> FieldScore:
    return FieldScore(name, "spans", "higher", 1.0, statistics, total)


SCORES: dict[str, FieldScore] = {
    s.name: s
    for s in (
        _score("f1", exact_counts, f1),
        _score("precision", exact_counts, _precision),
        _score("recall", exact_counts, _recall),
        _score("macro_f1", _per_class, _macro(f1)),
        _score("macro_precision", _per_class, _macro(_precision)),
        _score("macro_recall", _per_class, _macro(_recall)),
        _score("character_f1", character_counts, f1),
        _score("overlap_f1", overlap_counts, f1),
    )
}
"""Scores of spans. f1, precision, recall: micro averages over exact spans (conlleval, seqeval). macro_*: the
mean over classes that occur in answers or truth (seqeval's macro avg). character_f1: over characters with
their class. overlap_f1: a span is right where it overlaps a true one of its class that no other has taken."""
