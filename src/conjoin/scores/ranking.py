"""Scores of rankings: what trec_eval, ranx and the benchmarks of knowledge graphs report.

The truth is a ranking too: its items are the judged ones, its scores their gains; a gain above 0 is
relevant. A row whose truth is not answered does not count; one whose truth has no relevant item counts 0, and
so does one with a truth and no answer. Lists are read by falling score, equal scores in their order.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from conjoin.errors import OutputsError, listed, nearest
from conjoin.kernels import ranking as kernels
from conjoin.outputs import Array, Output, Ranking
from conjoin.scores.field import FieldScore, mean_of_rows


@dataclass(frozen=True, slots=True, eq=False)
class Relevant:
    """The relevant items of n rows. row: (R,) of each item, rising. gain: (R,). cuts: (n + 1,) of rows."""

    row: Array
    gain: Array
    cuts: Array

    @property
    def counts(self) -> Array:
        """(n,): relevant items of each row."""
        return np.diff(self.cuts)

    def sums(self, values: Array) -> Array:
        """(n,): sums of values (R,) over rows."""
        return np.bincount(self.row, values, len(self.cuts) - 1)


Measure = Callable[[Relevant, Array, float, Array], Array]
"""(relevant items, their ranks (R,) from 1 or infinite, cutoff, lengths of lists (n,)) -> (n,)."""


def _share(values: Array, of: Array) -> Array:
    return cast("Array", np.divide(values, of, out=np.zeros(len(values)), where=of > 0))


def _within(ranks: Array, k: float) -> Array:
    return cast("Array", (ranks <= k) & np.isfinite(ranks))


def _discounted(found: Relevant, gains: Array, ranks: Array, k: float) -> Array:
    return found.sums(np.where(_within(ranks, k), gains / np.log2(ranks + 1), 0.0))


def ideal_ranks(found: Relevant) -> Array:
    """(R,): the rank of each relevant item in the best possible list."""
    best = np.lexsort((-found.gain, found.row))
    out = np.empty(len(best))
    out[best] = np.arange(len(best)) - found.cuts[found.row[best]] + 1.0
    return out


def _dcg(found: Relevant, ranks: Array, k: float, lengths: Array) -> Array:
    return _discounted(found, found.gain, ranks, k)


def _ndcg(found: Relevant, ranks: Array, k: float, lengths: Array) -> Array:
    return _share(_dcg(found, ranks, k, lengths), _dcg(found, ideal_ranks(found), k, lengths))


def _ndcg_burges(found: Relevant, ranks: Array, k: float, lengths: Array) -> Array:
    gains = 2.0**found.gain - 1
    return _share(_discounted(found, gains, ranks, k), _discounted(found, gains, ideal_ranks(found), k))


def _mrr(found: Relevant, ranks: Array, k: float, lengths: Array) -> Array:
    out = np.zeros(len(lengths))
    some = found.counts > 0
    if some.any():
        first = np.minimum.reduceat(ranks, found.cuts[:-1][some])
        out[some] = np.where(_within(first, k), 1 / first, 0.0)
    return out


def _map(found: Relevant, ranks: Array, k: float, lengths: Array) -> Array:
    best = np.lexsort((ranks, found.row))
    count = np.arange(len(best)) - found.cuts[found.row] + 1.0
    precision = np.where(_within(ranks[best], k), count / ranks[best], 0.0)
    return _share(found.sums(precision), found.counts)


def _hits_in(found: Relevant, ranks: Array, k: float) -> Array:
    return found.sums(_within(ranks, k).astype(np.float64))


def _recall(found: Relevant, ranks: Array, k: float, lengths: Array) -> Array:
    return _share(_hits_in(found, ranks, k), found.counts)


def _precision(found: Relevant, ranks: Array, k: float, lengths: Array) -> Array:
    return _share(_hits_in(found, ranks, k), lengths if np.isinf(k) else np.full(len(lengths), k))


def _f1(found: Relevant, ranks: Array, k: float, lengths: Array) -> Array:
    a, b = _precision(found, ranks, k, lengths), _recall(found, ranks, k, lengths)
    return _share(2 * a * b, a + b)


def _hits(found: Relevant, ranks: Array, k: float, lengths: Array) -> Array:
    return np.minimum(_hits_in(found, ranks, k), 1.0)


def _r_precision(found: Relevant, ranks: Array, k: float, lengths: Array) -> Array:
    return _share(found.sums((ranks <= found.counts[found.row]).astype(np.float64)), found.counts)


MEASURES: dict[str, Measure] = {
    "ndcg": _ndcg,
    "ndcg_burges": _ndcg_burges,
    "dcg": _dcg,
    "mrr": _mrr,
    "map": _map,
    "recall": _recall,
    "precision": _precision,
    "f1": _f1,
    "hits": _hits,
    "r_precision": _r_precision,
}
"""Measure of a row by name. ndcg: sum of gain / log2(rank + 1) over that of the best list (Järvelin and
Kekäläinen 2002); ndcg_burges with 2^gain - 1; mrr: 1 / rank of the first relevant item; map: mean precision
at the relevant items; hits: 1 where a relevant item is found at all (also hit_rate, success); r_precision:
precision at the number of relevant items."""

ALIASES: dict[str, str] = {
    "hit_rate": "hits",
    "success": "hits",
    "recip_rank": "mrr",
    "reciprocal_rank": "mrr",
    "average_precision": "map",
    "ndcg_cut": "ndcg",
    "p": "precision",
}
"""Names that other tools give to measures."""


def relevant_of(truth: Any) -> Relevant:
    """The relevant items of a truth. Raises OutputsError on another kind, gains that are no finite numbers
    and an item that is judged twice in a row.
    """
    if not isinstance(truth, Ranking):
        kind = truth.kind if isinstance(truth, Output) else type(truth).__name__
        raise OutputsError(f"rankings are scored against a truth of rankings (relevant items), not {kind}")
    if not np.isfinite(truth.scores).all():
        raise OutputsError("the gains of a truth must be finite numbers")
    row = np.repeat(np.arange(len(truth)), np.diff(truth.offsets))
    kept = (truth.scores > 0) & truth.answered[row]
    counts = np.bincount(row[kept], minlength=len(truth))
    return Relevant(row[kept], truth.scores[kept], np.concatenate([[0], np.cumsum(counts)]))


def relevant_ids(truth: Ranking) -> Array:
    """(R,): ids of the items of `relevant_of`. Raises OutputsError on an item that is there twice."""
    row = np.repeat(np.arange(len(truth)), np.diff(truth.offsets))
    keys = kernels.keys_of([truth.ids])[0]
    first = kernels.first_of(keys, truth.offsets, keys, truth.offsets)
    twice = np.flatnonzero(first != np.arange(len(keys)))
    if len(twice):
        at = int(twice[0])
        raise OutputsError(f"truth, row {row[at]}: the item {truth.ids[at]!r} is judged twice")
    return cast("Array", truth.ids[(truth.scores > 0) & truth.answered[row]])


def ranks_of(output: Any, truth: Any) -> tuple[Relevant, Array, Array]:
    """The relevant items, their ranks (R,) in the output, and the lengths of its lists (n,).

    Raises OutputsError where kinds, rows or ids do not fit and where scores are not finite.
    """
    found = relevant_of(truth)
    if not isinstance(output, Ranking):
        kind = output.kind if isinstance(output, Output) else type(output).__name__
        raise OutputsError(f"this score reads rankings, not {kind}")
    if not np.isfinite(output.scores).all():
        bad = int(np.argmin(np.isfinite(output.scores)))
        raise OutputsError(
            f"the score of item {output.ids[bad]!r} is {output.scores[bad]}; it must be finite"
        )
    wanted = relevant_ids(truth)
    if len(wanted) and len(output.ids) and (wanted.dtype.kind in "iu") != (output.ids.dtype.kind in "iu"):
        raise OutputsError("items of the answers and of the truth must be alike: all numbers or all strings")
    keys, sought = kernels.keys_of([output.ids, wanted])
    ranks = np.full(len(wanted), np.inf)
    lengths = np.where(output.answered, np.diff(output.offsets), 0)
    if len(keys):
        at = kernels.first_of(keys, output.offsets, sought, found.cuts)
        there = (at >= 0) & output.answered[found.row]
        if kernels.rises(output.scores, output.offsets):
            places = np.empty(len(keys), np.int64)
            places[kernels.sorted_positions(output.scores, output.offsets)] = np.arange(len(keys))
            at = np.where(there, places[at], -1)
        ranks[there] = (at - output.offsets[found.row] + 1.0)[there]
    return found, ranks, lengths


def _statistics(measure: Measure, k: float, output: Any, truth: Any) -> Array:
    found, ranks, lengths = ranks_of(output, truth)
    table = np.ones((len(truth), 2))
    table[:, 0] = measure(found, ranks, k, lengths)
    table[~truth.answered] = np.nan
    return table


def parsed(name: str) -> tuple[str, float] | None:
    """The measure and the cutoff that a name says, None where it says none.

    >>> parsed("ndcg@10"), parsed("mrr"), parsed("bleu")
    (('ndcg', 10.0), ('mrr', inf), None)
    """
    told = re.fullmatch(r"([a-z_0-9]+?)(?:@([1-9][0-9]{0,8}))?", name)
    if told is None:
        return None
    base = ALIASES.get(told[1], told[1])
    if base not in MEASURES or (base == "r_precision" and told[2]):
        return None
    return base, float(told[2]) if told[2] else np.inf


@functools.cache
def _score(name: str) -> FieldScore:
    told = parsed(name)
    if told is None:
        raise KeyError(
            f"no score {name!r}{nearest(name, MEASURES)}; there are {listed(MEASURES)}, each with @k"
        )
    base, k = told
    statistics = functools.partial(_statistics, MEASURES[base], k)
    best = np.inf if base == "dcg" else 1.0
    return FieldScore(name, "ranking", "higher", best if base != "dcg" else 0.0, statistics, mean_of_rows)


class Table(Mapping[str, FieldScore]):
    """Scores by name; any measure may carry a cutoff: "ndcg@10", "recall@100"."""

    _told = ("ndcg@10", "ndcg", "mrr", "mrr@10", "map", "recall@10", "recall@100", "precision@10", "hits@1",
             "hits@3", "hits@10", "r_precision", "f1@10", "ndcg_burges@10", "dcg@10")  # fmt: skip

    def __getitem__(self, name: str) -> FieldScore:
        return _score(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and parsed(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._told)

    def __len__(self) -> int:
        return len(self._told)


SCORES: Mapping[str, FieldScore] = Table()
"""Every score of rankings by name: the usual ones are listed, any measure of `MEASURES` takes a cutoff @k.

>>> SCORES["ndcg@7"].name
'ndcg@7'
"""
