"""Spans of several members side by side, the different spans among them, and spans that do not overlap."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.stack import Weights, named_weights
from conjoin.outputs import Spans

if TYPE_CHECKING:
    from conjoin.outputs import Array


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """All t spans of M members on n rows, sorted by member, row, start, end and class; none twice.

    names: sorted; shares (M,): weights; classes: those of the first member by name, then of the others.
    present (M, n) bool: who answers which row. member, row, start, end, code (t,) int64. score (t,): 1 where
    unknown.
    """

    names: tuple[str, ...]
    shares: Array
    classes: tuple[str, ...]
    present: Array
    member: Array
    row: Array
    start: Array
    end: Array
    code: Array
    score: Array

    @property
    def rows(self) -> int:
        """The number of rows n."""
        return int(self.present.shape[1])

    @property
    def mass(self) -> Array:
        """(n,) the weight of all members that answer a row."""
        return np.asarray(self.shares @ self.present)


@dataclass(frozen=True, slots=True, eq=False)
class Distinct:
    """The c different spans of all members, sorted by row, start, end and class; of (t,): which each is."""

    row: Array
    start: Array
    end: Array
    code: Array
    of: Array

    def __len__(self) -> int:
        return len(self.row)


def lay(outputs: Mapping[str, Any], weights: Weights = None) -> Laid:
    """Members whose weight is above 0. Raises OutputsError where outputs or weights do not fit."""
    found = {n: w for n, w in named_weights(outputs, weights).items() if w > 0}
    for name, output in outputs.items():
        if not isinstance(output, Spans):
            kind = getattr(output, "kind", type(output).__name__)
            raise OutputsError(f"spans are fused with spans; the output of {name!r} is of {kind}")
    rows = {n: len(o) for n, o in outputs.items()}
    if len(set(rows.values())) > 1:
        raise OutputsError(f"the outputs have different numbers of rows: {rows}")
    names = sorted(found)
    classes = tuple(dict.fromkeys(c for n in names for c in outputs[n].classes))
    parts = [_flat(outputs[n], m, classes) for m, n in enumerate(names)]
    table = np.concatenate([p[0] for p in parts], axis=1)
    score = np.concatenate([p[1] for p in parts])
    order = np.lexsort((-score, *table[::-1]))
    table, score = table[:, order], score[order]
    first = np.ones(len(score), dtype=bool)
    first[1:] = (table[:, 1:] != table[:, :-1]).any(axis=0)
    present = np.array([outputs[n].answered for n in names])
    shares = np.array([found[n] for n in names])
    member, row, start, end, code = table[:, first]
    return Laid(tuple(names), shares, classes, present, member, row, start, end, code, score[first])


def _flat(output: Spans, member: int, classes: tuple[str, ...]) -> tuple[Array, Array]:
    row = np.repeat(np.arange(len(output)), np.diff(output.offsets))
    kept = output.answered[row]
    at = np.array([classes.index(c) for c in output.classes] or [0], dtype=np.int64)
    score = np.where(np.isnan(output.scores), 1.0, output.scores)[kept]
    table = np.array(
        [np.full(len(row), member), row, output.starts, output.ends, at[output.codes]], dtype=np.int64
    )
    return table[:, kept], score


def distinct(laid: Laid) -> Distinct:
    """The different spans of all members."""
    table = np.array([laid.row, laid.start, laid.end, laid.code])
    order = np.lexsort(table[::-1])
    table = table[:, order]
    first = np.ones(table.shape[1], dtype=bool)
    first[1:] = (table[:, 1:] != table[:, :-1]).any(axis=0)
    of = np.empty(len(order), np.int64)
    of[order] = np.cumsum(first) - 1
    row, start, end, code = table[:, first]
    return Distinct(row, start, end, code, of)


def apart(row: Array, start: Array, end: Array, score: Array, code: Array) -> Array:
    """(t,) bool: spans kept where they may not overlap in a row.

    Of spans that overlap the one with the higher score stays, then the longer, the earlier, the lower code.

    >>> zero = np.zeros(3, dtype=int)
    >>> apart(zero, np.array([0, 3, 9]), np.array([5, 8, 10]), np.array([0.5, 0.9, 0.1]), zero)
    array([False,  True,  True])
    """
    kept = np.zeros(len(row), dtype=bool)
    order = np.lexsort((code, start, start - end, -score, row))
    here, taken = -1, list[tuple[int, int]]()
    for k in order.tolist():
        if row[k] != here:
            here, taken = row[k], []
        a, b = int(start[k]), int(end[k])
        at = bisect.bisect_left(taken, (a, b))
        if at and _overlap(taken[at - 1], (a, b)):
            continue
        if at < len(taken) and _overlap(taken[at], (a, b)):
            continue
        taken.insert(at, (a, b))
        kept[k] = True
    return kept


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a == b or (a[0] < b[1] and b[0] < a[1])


def fused(
    laid: Laid, row: Array, start: Array, end: Array, code: Array, score: Array, outputs: Mapping[str, Any]
) -> Spans:
    """Spans by row and start; a row that one member answered alone holds that member's spans, as they are."""
    alone = laid.present.sum(axis=0) == 1
    kept = ~alone[row]
    parts = [np.array([row, start, end, code])[:, kept].astype(np.int64)]
    scores = [score[kept]]
    place = [np.zeros(int(kept.sum()), np.int64)]
    for m, name in enumerate(laid.names):
        output = outputs[name]
        own = np.repeat(np.arange(len(output)), np.diff(output.offsets))
        mine = (alone & laid.present[m])[own]
        at = np.array([laid.classes.index(c) for c in output.classes] or [0], dtype=np.int64)
        parts.append(np.array([own, output.starts, output.ends, at[output.codes]], dtype=np.int64)[:, mine])
        scores.append(output.scores[mine])
        place.append(np.flatnonzero(mine))
    table, found, position = np.concatenate(parts, axis=1), np.concatenate(scores), np.concatenate(place)
    shared = ~alone[table[0]]
    keys = (table[3] * shared, table[2] * shared, table[1] * shared, position, table[0])
    order = np.lexsort(keys)
    table = table[:, order]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(table[0], minlength=laid.rows))])
    return Spans(
        table[1], table[2], found[order], table[3], offsets, laid.classes, laid.present.sum(axis=0) > 0
    )
