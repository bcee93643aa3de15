"""Texts of several members laid side by side: equal texts of a row are one, members sorted by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from conjoin.errors import OutputsError, listed, nearest
from conjoin.fusion.stack import Weights, named_weights
from conjoin.outputs import Array, Output, Texts
from conjoin.scores.sentence import Group

PAIRS_HELD = 1 << 21
"""Rows are worked through in blocks of about so many pairs of texts."""


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """The M members with weight and their n rows; t is the number of different texts of all rows together.

    names: sorted. weights: (M,). rows: n. group: which texts each row has, in the order of the first member
    that gave them. entries: (e,) answers, by row and then by member: `owner` (e,) the member's place and
    `slot` (e,) the place among the t texts. scores: (e,) what the members said of them.
    """

    names: tuple[str, ...]
    weights: Array
    rows: int
    group: Group
    owner: Array
    slot: Array
    scores: Array

    @property
    def row_of(self) -> Array:
        """(t,) int64: the row of each different text."""
        return cast(Array, np.repeat(np.arange(self.rows), self.group.counts))

    def text(self, slot: int) -> str:
        """One of the t texts."""
        return str(self.group.texts[self.group.members[slot]])

    def summed(self, numbers: Array) -> Array:
        """(t,): the sum of one number for each answer, over the answers with that text."""
        return np.bincount(self.slot, weights=numbers, minlength=len(self.group.members))

    def shares(self, numbers: Array) -> Array:
        """(t,): numbers that are not negative, scaled to sum 1 in each row; equal where they are all 0."""
        sums = np.bincount(self.row_of, weights=numbers, minlength=self.rows)
        equal = 1.0 / np.maximum(self.group.counts, 1)
        at = self.row_of
        return np.divide(numbers, sums[at], out=equal[at], where=sums[at] > 0)

    def blocks(self) -> Iterator[tuple[slice, Group]]:
        """Rows in blocks of bounded size: which of the t texts they have, and their group."""
        starts, rows = self.group.starts, self.group.rows
        low = 0
        while low < self.rows:
            high = int(np.searchsorted(starts, starts[low] + PAIRS_HELD, "right")) - 1
            high = min(max(high, low + 1), self.rows)
            here = slice(int(rows[low]), int(rows[high]))
            yield here, Group(self.group.texts, self.group.members[here], rows[low : high + 1] - rows[low])
            low = high

    def output(self, chosen: Array, scores: Array | None = None) -> Texts:
        """The texts of these slots (n,), -1 where nobody answered.

        scores: (n,); by default the highest that a member gave the text.
        """
        texts = np.full(self.rows, "", dtype=object)
        answered = chosen >= 0
        texts[answered] = [self.text(s) for s in chosen[answered].tolist()]
        if scores is None:
            best = np.full(len(self.group.members) + 1, np.nan)
            np.fmax.at(best, self.slot, self.scores)
            scores = best[chosen]
        return Texts(texts, np.where(answered, scores, np.nan), answered)


def lay(outputs: Mapping[str, Any], weights: Weights = None) -> Laid:
    """Lay texts side by side; members of weight 0 are left out.

    Raises OutputsError where there are no outputs, where they are not texts or not of the same rows, and on
    bad weights.
    """
    _check(outputs)
    named = {n: w for n, w in named_weights(outputs, weights).items() if w > 0}
    names = tuple(named)
    rows = len(next(iter(outputs.values())))
    given = [cast(Texts, outputs[n]) for n in names]
    known: dict[str, int] = {}
    ids = np.array([[known.setdefault(t, len(known)) for t in o.texts.tolist()] for o in given], np.int64)
    answered = np.array([o.answered for o in given]).T
    row, owner = np.nonzero(answered)
    key = row * max(len(known), 1) + ids.T[answered]
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    first = first[order]
    counts = np.bincount(row[first], minlength=rows)
    bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    group = Group(tuple(known), ids.T[answered][first], bounds)
    scores = np.array([o.scores for o in given]).T[answered]
    return Laid(names, np.array([*named.values()]), rows, group, owner, rank[inverse.reshape(-1)], scores)


def _check(outputs: Mapping[str, Any]) -> None:
    if not outputs:
        raise OutputsError("there are no outputs to fuse; give a mapping of member name to output")
    wrong = [n for n in outputs if not isinstance(n, str)]
    if wrong:
        raise OutputsError(f"members are named by strings, not {listed(wrong)}")
    for name, output in outputs.items():
        if not isinstance(output, Texts):
            kind = output.kind if isinstance(output, Output) else type(output).__name__
            raise OutputsError(f"member {name!r} answered with {kind}; this fuser takes texts")
    lengths = {n: len(o) for n, o in outputs.items()}
    if len(set(lengths.values())) > 1:
        raise OutputsError(f"members must answer the same rows; rows answered: {lengths}")


def best_slots(laid: Laid, values: Array, mass: Array, allowed: Array | None = None) -> Array:
    """(n,) the slot with the greatest value in each row, -1 where there is none.

    values, mass: (t,). Values within 1e-9 tie; ties go to the greater mass, then to the first member's text.
    allowed: (t,) bool; a row with none takes all.
    """
    out = np.full(laid.rows, -1, np.int64)
    some = np.flatnonzero(laid.group.counts > 0)
    if not len(some):
        return out
    row, cuts = laid.row_of, laid.group.rows[some]
    values = np.where(np.isnan(values), -np.inf, values)
    if allowed is not None:
        none = ~np.logical_or.reduceat(allowed, cuts)
        spread = np.zeros(laid.rows, dtype=bool)
        spread[some] = none
        open_ = allowed | spread[row]
        values, mass = np.where(open_, values, -np.inf), np.where(open_, mass, -1.0)
    top = _each_row(np.maximum, values, cuts, some, laid)
    with np.errstate(invalid="ignore"):
        tied = values >= top - 1e-9 * np.maximum(1.0, np.abs(np.where(np.isfinite(top), top, 0.0)))
    weight = np.where(tied, mass, -np.inf)
    tied &= weight >= _each_row(np.maximum, weight, cuts, some, laid) * (1 - 1e-12)
    place = np.where(tied, np.arange(len(values)), len(values))
    out[some] = np.minimum.reduceat(place, cuts)
    return out


def _each_row(function: Any, numbers: Array, cuts: Array, some: Array, laid: Laid) -> Array:
    spread = np.zeros(laid.rows)
    spread[some] = function.reduceat(numbers, cuts)
    return cast(Array, spread[laid.row_of])


def slots_of(laid: Laid, names: Sequence[str] | None) -> Array | None:
    """(t,) bool: the texts of these members; None for all. Raises OutputsError on a member without weight."""
    if names is None:
        return None
    unknown = [n for n in names if n not in laid.names]
    if unknown or not names:
        hint = nearest(str(unknown[0]), laid.names) if unknown else ""
        raise OutputsError(f"candidates must be members with weight, not {listed(unknown)}{hint}")
    out = np.zeros(len(laid.group.members), dtype=bool)
    out[laid.slot[np.isin(laid.owner, [laid.names.index(n) for n in names])]] = True
    return out


def system_of(name: str) -> str:
    """The system of a member: samples of one system are members "a#1", "a#2", and so on.

    >>> system_of("llama#12"), system_of("c#")
    ('llama', 'c#')
    """
    stem, mark, number = name.rpartition("#")
    return stem if mark and stem and number.isdigit() else name


def nbest(
    name: str, lists: Sequence[Sequence[str]], scores: Sequence[Sequence[float]] | None = None
) -> dict[str, Texts]:
    """Several answers of one system to each row as members `name#1`, `name#2`, and so on.

    lists: n lists of texts, best first; they may differ in length. scores: of the same lengths, say
    log-probabilities. Raises OutputsError where they do not fit.

    >>> sorted(nbest("mt", [["a", "b"], ["c"]]))
    ['mt#1', 'mt#2']
    """
    if scores is not None and [*map(len, scores)] != [*map(len, lists)]:
        raise OutputsError(f"{name}: scores must be lists of the same lengths as the texts")
    out = {}
    for k in range(max(map(len, lists), default=0)):
        has = np.array([len(texts) > k for texts in lists])
        texts = [t[k] if len(t) > k else "" for t in lists]
        known = None if scores is None else np.array([s[k] if len(s) > k else np.nan for s in scores])
        out[f"{name}#{k + 1}"] = Texts(cast(Array, texts), cast(Array, known), has)
    return out
