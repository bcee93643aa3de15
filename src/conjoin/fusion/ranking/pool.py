"""`Pool`: the lists of several members merged into the candidates of each row, and back into a ranking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.stack import Weights, named_weights
from conjoin.kernels import ranking as kernels
from conjoin.outputs import Output, Ranking

if TYPE_CHECKING:
    from conjoin.outputs import Array


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """M members' lists over n rows, T entries in all, C different candidates (item and row).

    names: the M members with weight, sorted. weights: (M,). ids: (T,) of the entries; parts: their scores,
    an array a member.
    begins, ends: (M, n); the list of member m for row r is `begins[m, r]:ends[m, r]`, best first.
    slots: (T,) the candidate of each entry. firsts: (C,) the first entry of each candidate. starts: (n + 1,)
    cuts the candidates into rows, in order of first appearance. spoken: (M, n) who answered which row.
    """

    names: tuple[str, ...]
    weights: Array
    ids: Array
    parts: tuple[Array, ...]
    begins: Array
    ends: Array
    slots: Array
    firsts: Array
    starts: Array
    spoken: Array

    @property
    def answered(self) -> Array:
        """(n,): whether anybody answered."""
        return cast("Array", self.spoken.any(axis=0))

    @property
    def scores(self) -> Array:
        """(T,): of the entries."""
        return np.concatenate(self.parts)

    @property
    def lengths(self) -> Array:
        """(M, n): items of each list."""
        return cast("Array", self.ends - self.begins)

    @property
    def candidates(self) -> Array:
        """(C,): ids of the candidates."""
        return cast("Array", self.ids[self.firsts])

    def positions(self) -> Array:
        """(T,): 0 for the best item of a list, 1 for the next."""
        lengths = self.lengths.ravel()
        return cast("Array", np.arange(len(self.ids)) - np.repeat(self.begins.ravel(), lengths))

    def spread(self, table: Array) -> Array:
        """(T,): for each entry the number of its list in a table (M, n)."""
        return np.repeat(np.ascontiguousarray(table).ravel(), self.lengths.ravel())

    def table(self, values: Array, fills: Array) -> Array:
        """(C, M): values (T,) by candidate and member; fills (M, n) where a list lacks the candidate."""
        out = np.empty((len(self.firsts), len(self.names)))
        kernels.tabulate(values, fills, self.begins, self.ends, self.slots, self.starts, out)
        return out

    def ranking(self, scores: Array, depth: int | None = None) -> Ranking:
        """The candidates by falling score (C,), at most `depth` a row; ties in order of first appearance."""
        best = kernels.sorted_positions(scores, self.starts)
        offsets = self.starts
        if depth is not None:
            best, offsets = cut(best, offsets, depth)
        if self.ids.dtype != np.int64:
            return Ranking(self.ids[self.firsts[best]], scores[best], offsets, self.answered)
        ids, values = np.empty(len(best), np.int64), np.empty(len(best))
        kernels.gather(self.ids, self.firsts, scores, best, ids, values)
        return Ranking(ids, values, offsets, self.answered)


def pool(outputs: Mapping[str, Any], weights: Weights = None) -> Pool:
    """Merge the lists of members. A member of weight 0 is left out, a row that one lacks is an empty list.

    A list whose scores rise somewhere is sorted by them, equal scores staying in order. Raises OutputsError
    on outputs that are no rankings, differ in rows or mix numbers and strings as ids, on scores that are not
    finite and on an item that is twice in one list.
    """
    if not outputs:
        raise OutputsError("there are no outputs to fuse; give a mapping of member name to output")
    told = named_weights(outputs, weights)
    for name, output in outputs.items():
        _check(name, output)
    lengths = {name: len(o) for name, o in outputs.items()}
    if len(set(lengths.values())) > 1:
        raise OutputsError(f"members must answer the same rows; rows answered: {lengths}")
    names = tuple(n for n in sorted(outputs) if told[n] > 0)
    lists = [by_score(outputs[n]) for n in names]
    if len({o.ids.dtype.kind in "iu" for o in lists if len(o.ids)}) > 1:
        kinds = {
            n: "numbers" if o.ids.dtype.kind in "iu" else "strings" for n, o in zip(names, lists, strict=True)
        }
        raise OutputsError(f"members must name items alike, not {kinds}")
    return _merged(names, np.array([told[n] for n in names]), lists)


def _merged(names: tuple[str, ...], weights: Array, lists: list[Ranking]) -> Pool:
    rows = len(lists[0])
    shift = np.cumsum([0, *(len(o.ids) for o in lists)])
    begins = np.array([o.offsets[:-1] + s for o, s in zip(lists, shift[:-1], strict=True)], dtype=np.int64)
    ends = np.array([o.offsets[1:] + s for o, s in zip(lists, shift[:-1], strict=True)], dtype=np.int64)
    filled = [o.ids for o in lists if len(o.ids)] or [lists[0].ids]
    if all(a.dtype.kind in "iu" for a in filled):
        filled = [a.astype(np.int64, copy=False) for a in filled]
    ids = np.concatenate(filled)
    keys = kernels.keys_of([ids])[0]
    most = int((ends - begins).sum(axis=0).max()) if rows else 0
    slots, firsts = np.empty(len(ids), np.int32), np.empty(len(ids), np.int32)
    starts = np.zeros(rows + 1, np.int64)
    twice = kernels.merge(keys, begins, ends, most, slots, firsts, starts)
    if twice >= 0:
        m, r = (int(v) for v in np.argwhere((begins <= twice) & (twice < ends))[0])
        raise OutputsError(
            f"member {names[m]!r}, row {r}: the item {ids[twice]!r} is twice in the list; keep one of them "
            "(conjoin.fusion.ranking.distinct keeps the best)"
        )
    spoken = np.array([o.answered for o in lists])
    parts = tuple(o.scores for o in lists)
    return Pool(names, weights, ids, parts, begins, ends, slots, firsts[: starts[-1]], starts, spoken)


def _check(name: str, output: Any) -> None:
    if not isinstance(output, Ranking):
        kind = output.kind if isinstance(output, Output) else type(output).__name__
        raise OutputsError(f"member {name!r} answered with {kind}; this fuser takes rankings")
    if output.ids.dtype == np.uint64 and len(output.ids) and int(output.ids.max()) >= 1 << 63:
        raise OutputsError(f"member {name!r}: ids above 2^63 - 1 must be given as strings")
    finite = np.isfinite(output.scores)
    if not finite.all():
        at = int(np.argmin(finite))
        row = int(np.searchsorted(output.offsets, at, side="right")) - 1
        raise OutputsError(
            f"member {name!r}, row {row}: the score of item {output.ids[at]!r} is {output.scores[at]}; "
            "scores must be finite numbers: leave such items out"
        )


def by_score(output: Ranking) -> Ranking:
    """The same lists, each by falling score; those of rows that are not answered are empty.

    >>> by_score(Ranking(["a", "b"], [1.0, 2.0], [0, 2])).ids.tolist()
    ['b', 'a']
    """
    if not output.answered.all():
        kept = np.repeat(output.answered, np.diff(output.offsets))
        lengths = np.where(output.answered, np.diff(output.offsets), 0)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        output = Ranking(output.ids[kept], output.scores[kept], offsets, output.answered)
    if not kernels.rises(output.scores, output.offsets):
        return output
    best = kernels.sorted_positions(output.scores, output.offsets)
    return Ranking(output.ids[best], output.scores[best], output.offsets, output.answered)


def cut(best: Array, offsets: Array, depth: int) -> tuple[Array, Array]:
    """The first `depth` of each row, and new offsets. Raises OutputsError where depth is below 1."""
    if isinstance(depth, bool) or not isinstance(depth, Integral) or depth < 1:
        raise OutputsError(f"depth must be a whole number from 1, or None for all, not {depth!r}")
    lengths = np.diff(offsets)
    kept = np.arange(len(best)) - np.repeat(offsets[:-1], lengths) < depth
    return best[kept], np.concatenate([[0], np.cumsum(np.minimum(lengths, depth))])


def distinct(output: Ranking) -> Ranking:
    """The same lists, of items that are there more than once only the best; sorted by score.

    >>> distinct(Ranking(["a", "b", "a"], [1.0, 2.0, 3.0], [0, 3])).ids.tolist()
    ['a', 'b']
    """
    _check("", output)
    laid = by_score(output)
    keys = kernels.keys_of([laid.ids])[0]
    kept = kernels.first_of(keys, laid.offsets, keys, laid.offsets) == np.arange(len(keys))
    before = np.concatenate([[0], np.cumsum(kept)])
    return Ranking(laid.ids[kept], laid.scores[kept], before[laid.offsets], laid.answered)
