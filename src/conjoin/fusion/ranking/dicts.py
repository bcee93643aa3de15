"""Rankings from dictionaries and back: query -> {item: score}, as retrieval tools hold them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError, listed
from conjoin.kernels import ranking as kernels
from conjoin.outputs import Ranking

if TYPE_CHECKING:
    from conjoin.outputs import Array

Run = Mapping[Any, Mapping[Any, float]]


def queries_of(runs: Mapping[str, Run]) -> list[Any]:
    """The queries of all runs, in order of their first appearance."""
    return list(dict.fromkeys(itertools.chain.from_iterable(runs[name] for name in runs)))


def from_dict(run: Run, queries: Sequence[Any] | None = None) -> Ranking:
    """A ranking of one run: a row for each query, items by falling score, ties in the dictionary's order.

    queries: the rows, by default those of the run; one that the run lacks is not answered. Queries of the
    run that are not among them are left out. Items are strings, or all of them whole numbers. Also for
    judgements (scores are gains). Raises OutputsError on scores that are no finite numbers.

    >>> from_dict({"q": {"d1": 1.0, "d2": 2.0}}).ids.tolist()
    ['d2', 'd1']
    """
    rows = list(run) if queries is None else list(queries)
    none: Mapping[Any, float] = {}
    lists = [run.get(q, none) for q in rows]
    for query, items in zip(rows, lists, strict=True):
        if not isinstance(items, Mapping):
            raise OutputsError(
                f"query {query!r}: items must be a mapping of item to score, not {items!r:.60}"
            )
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(items) for items in lists], out=offsets[1:])
    ids = _ids(list(itertools.chain.from_iterable(lists)))
    values = itertools.chain.from_iterable(items.values() for items in lists)
    try:
        scores = np.fromiter(values, np.float64, len(ids))
    except (TypeError, ValueError) as error:
        raise OutputsError(f"scores of items must be numbers: {error}") from error
    if not np.isfinite(scores).all():
        at = int(np.argmin(np.isfinite(scores)))
        row = int(np.searchsorted(offsets, at, side="right")) - 1
        raise OutputsError(
            f"query {rows[row]!r}: the score of item {ids[at]!r} is {scores[at]}; leave it out"
        )
    if kernels.rises(scores, offsets):
        best = kernels.sorted_positions(scores, offsets)
        ids, scores = ids[best], scores[best]
    return Ranking(ids, scores, offsets, np.fromiter((q in run for q in rows), bool, len(rows)))


def from_dicts(runs: Mapping[str, Run], queries: Sequence[Any] | None = None) -> dict[str, Ranking]:
    """Rankings of several runs with the same rows: `queries`, by default all that any run has (`queries_of`).

    >>> found = from_dicts({"a": {"q": {"x": 1.0}}, "b": {"p": {"x": 1.0}}})
    >>> found["b"].answered.tolist()
    [False, True]
    """
    rows = queries_of(runs) if queries is None else list(queries)
    return {name: from_dict(run, rows) for name, run in runs.items()}


def to_dict(output: Ranking, queries: Sequence[Any]) -> dict[Any, dict[Any, float]]:
    """query -> {item: score}, best first; a row that is not answered is left out. Raises OutputsError.

    >>> to_dict(Ranking(["x", "y"], [2.0, 1.0], [0, 2]), ["q"])
    {'q': {'x': 2.0, 'y': 1.0}}
    """
    if len(queries) != len(output):
        raise OutputsError(f"{len(queries)} queries ({listed(queries, 3)}) for {len(output)} rows")
    ids, scores, cuts = output.ids.tolist(), output.scores.tolist(), output.offsets.tolist()
    return {
        q: dict(zip(ids[a:b], scores[a:b], strict=True))
        for q, a, b, spoken in zip(queries, cuts[:-1], cuts[1:], output.answered.tolist(), strict=True)
        if spoken
    }


def _ids(items: list[Any]) -> Array:
    if items and type(items[0]) is int and set(map(type, items)) == {int}:
        return np.array(items, dtype=np.int64)
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out
