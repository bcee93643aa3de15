"""Words of several systems laid side by side, and the word transition networks that they make."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.stack import Weights, named_weights
from conjoin.kernels import rover as kernels
from conjoin.kernels.words import errors
from conjoin.outputs import Texts

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.scores import FieldScore

MOST_CELLS = 400_000_000
"""A network and a sequence of words whose product of lengths is greater are not aligned (3 bytes a cell)."""


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """The words of M systems for n texts.

    names: of the systems. shares (M,): their weights. spelled: the t words as written. numbers (t,): equal
    for equal words, above 0. confidences, starts, ends (t,): NaN where unknown. cuts (M, n + 1): where the
    words of each text begin. present (M, n) bool: who answers which text. ranks (M, n): the order in which
    systems are aligned, the least first, then by column.
    """

    names: tuple[str, ...]
    shares: Array
    spelled: list[str]
    numbers: Array
    confidences: Array
    starts: Array
    ends: Array
    cuts: Array
    present: Array
    ranks: Array

    @property
    def texts(self) -> int:
        """The number of texts n."""
        return int(self.present.shape[1])

    @property
    def owners(self) -> Array:
        """(t,) the column of the system that said each word."""
        return np.repeat(np.arange(len(self.names)), self.cuts[:, -1] - self.cuts[:, 0])


@dataclass(frozen=True, slots=True, eq=False)
class WordNetwork:
    """Word transition networks of n texts: slot after slot, what each system says there (Fiscus 1997).

    words: what it was made of. net (S, M): the index of a word, -1 for the null word, -2 where the system did
    not answer the text. turns (S, M): the systems in the order in which their words stand in the slot, first
    the one that brought it, -1 after the last. offsets (n + 1,): slots of each text. of (S, M): which
    candidate of its slot each system says. first (c,): index of the first word of each candidate, -1 for the
    null word. cuts (S + 1,): candidates of each slot.
    """

    words: Words
    net: Array
    turns: Array
    offsets: Array
    of: Array
    first: Array
    cuts: Array

    def tallies(self, evidence: Array, nulls: Array, shares: Array) -> tuple[Array, Array, Array]:
        """Of each candidate the weight behind it, and the weighted sum and the greatest of its evidence.

        evidence (t,) of each word; nulls (M,) of each system's null words; shares (M,) of systems.
        """
        said, silent, mass = (np.ascontiguousarray(v, np.float64) for v in (evidence, nulls, shares))
        out = np.zeros((3, len(self.first)))
        kernels.tallies(self.net, self.turns, self.of, self.cuts, said, silent, mass, out)
        return out[0], out[1], out[2]

    def winners(self, scores: Array) -> Array:
        """(S,) the candidate with the highest score in each slot, the first of equal ones."""
        if not len(scores):
            return np.zeros(0, np.int64)
        top = np.repeat(np.maximum.reduceat(scores, self.cuts[:-1]), np.diff(self.cuts))
        best = np.flatnonzero(scores == top)
        return np.asarray(best[np.searchsorted(best, self.cuts[:-1])])

    def mean_of(self, values: Array, chosen: Array) -> Array:
        """(S,) the weighted mean of words' numbers over the systems that say the chosen candidate of a slot.

        values (t,); chosen (S,): index of a candidate. NaN where nobody says it or knows a number.
        """
        says = (self.of == (chosen - self.cuts[:-1])[:, None]) & (self.net >= 0)
        found = np.where(says, values[np.where(says, self.net, 0)], np.nan) if len(values) else np.nan * says
        known = ~np.isnan(found)
        mass = (known * self.words.shares).sum(axis=1)
        total = np.where(known, found * self.words.shares, 0.0).sum(axis=1)
        return np.asarray(np.divide(total, mass, out=np.full(len(mass), np.nan), where=mass > 0))


def lay_out(
    outputs: Mapping[str, Any],
    weights: Weights = None,
    *,
    order: Sequence[str] | None = None,
    case_sensitive: bool = False,
    lacking: str = "skip",
) -> Words:
    """Words of the systems whose weight is above 0.

    In each text the heaviest system comes first; of equal ones that whose words differ least from those of
    the others (sum of weighted Levenshtein distances), then by name. `order` names those that come first.
    Words are equal where their NFC forms are, without case unless `case_sensitive`. lacking: a system that
    did not answer a text has no vote there ("skip"), or votes for nothing where others answered ("silent", as
    SCTK reads a file that a system lacks). Raises OutputsError.
    """
    found = {n: w for n, w in named_weights(outputs, weights).items() if w > 0}
    for name, output in outputs.items():
        if not isinstance(output, Texts):
            kind = getattr(output, "kind", type(output).__name__)
            raise OutputsError(f"rover fuses texts; the output of {name!r} is of {kind}")
    rows = {n: len(outputs[n]) for n in outputs}
    if len(set(rows.values())) > 1:
        raise OutputsError(f"the outputs have different numbers of rows: {rows}")
    if lacking not in ("skip", "silent"):
        raise OutputsError(f"lacking must be skip or silent, not {lacking!r}")
    names = sorted(found)
    shares = np.array([found[n] for n in names])
    words = joined_words([(n, outputs[n]) for n in names], shares, case_sensitive)
    if lacking == "silent":
        words = replace(words, present=np.tile(words.present.any(axis=0), (len(names), 1)))
    return replace(words, ranks=_ranks(words, tuple(order or ())))


def _ranks(words: Words, order: Sequence[str]) -> Array:
    """(M, n): the order of systems in each text."""
    known = {name: k for k, name in enumerate(order)}
    named = np.array([known.get(name, len(known)) for name in words.names])
    keys = np.array(
        [
            _distances(words),
            np.tile(-words.shares[:, None], words.texts),
            np.tile(named[:, None], words.texts),
        ]
    )
    return np.argsort(np.lexsort(keys, axis=0), axis=0, kind="stable")


def _distances(words: Words) -> Array:
    """(M, n): the Levenshtein distance of each system's words from the others', weighted by their shares."""
    M, n = words.present.shape
    out = np.zeros((M, n))
    steps = np.arange(len(words.numbers) + 1)
    found = np.zeros((n, 2))
    for a in range(M):
        for b in range(a + 1, M if M > 2 else 0):
            mine, theirs = words.cuts[a], words.cuts[b]
            errors(words.numbers, mine, words.numbers, steps, steps, theirs, 1, 1, found)
            both = words.present[a] & words.present[b]
            out[a] += found[:, 0] * both * words.shares[b]
            out[b] += found[:, 0] * both * words.shares[a]
    return out


def joined_words(
    systems: list[tuple[str, Texts]], shares: Array | None = None, case_sensitive: bool = False
) -> Words:
    """The words of these systems, in this order; shares are 1 where not given."""
    n = len(systems[0][1])
    cuts = np.zeros((len(systems), n + 1), np.int64)
    spelled: list[str] = []
    marks: list[tuple[Array, Array, Array]] = []
    for m, (_, output) in enumerate(systems):
        rows = [str(t).split() if a else [] for t, a in zip(output.texts, output.answered, strict=True)]
        cuts[m, 0] = len(spelled)
        cuts[m, 1:] = len(spelled) + np.cumsum([len(r) for r in rows])
        spelled += itertools.chain.from_iterable(rows)
        marks.append(_marks(output, np.diff(cuts[m])))
    known: dict[str, int] = {}
    number = {w: known.setdefault(folded(w, case_sensitive), len(known) + 1) for w in dict.fromkeys(spelled)}
    confidences, starts, ends = (np.concatenate(parts) for parts in zip(*marks, strict=True))
    return Words(
        tuple(name for name, _ in systems),
        np.ones(len(systems)) if shares is None else shares,
        spelled,
        np.array([number[w] for w in spelled], dtype=np.int64),
        confidences,
        starts,
        ends,
        cuts,
        np.array([output.answered for _, output in systems]),
        np.zeros((len(systems), n), np.int64),
    )


def folded(word: str, case_sensitive: bool = False) -> str:
    """The form in which words are compared: NFC, in lower case unless `case_sensitive`."""
    return unicodedata.normalize("NFC", word if case_sensitive else word.lower())


def _marks(output: Texts, counts: Array) -> tuple[Array, Array, Array]:
    total = int(counts.sum())
    if output.offsets is None or output.confidences is None or output.starts is None or output.ends is None:
        blank = np.full(total, np.nan)
        return blank, blank, blank
    answered = np.repeat(output.answered, np.diff(output.offsets))
    return output.confidences[answered], output.starts[answered], output.ends[answered]


def first_systems(both: Words, words: Words) -> Words:
    """The words of the systems of `words` among those of `both`, where they come first, with its numbers."""
    M = len(words.names)
    end = both.cuts[M - 1, -1]
    return replace(words, numbers=both.numbers[:end], cuts=both.cuts[:M])


def network_of(words: Words, *, time_align: bool = False, silence: float = 1.0) -> WordNetwork:
    """Align the systems of each text, one after another, into its network.

    time_align: costs are differences of times (SCTK's -T) instead of 0, 3 and 4 for equal words, insertions
    or deletions, and substitutions. silence: where all words of a text have times, it is cut at silences that
    all systems have in common and that last longer than this (seconds) in the first. Raises OutputsError.
    """
    timed = _timed(words)
    if time_align and not timed.all():
        raise OutputsError(
            f"time_align needs start and end of every word; text {int(np.argmin(timed))} lacks some"
        )
    starts, ends = np.nan_to_num(words.starts), np.nan_to_num(words.ends)
    nets = [np.zeros((0, len(words.names)), np.int64)]
    turns, offsets = [nets[0]], np.zeros(words.texts + 1, np.int64)
    for i in range(words.texts):
        columns = np.argsort(words.ranks[:, i], kind="stable")
        columns = columns[words.present[columns, i]]
        offsets[i + 1] = offsets[i]
        if not len(columns):
            continue
        for low, high in _chunks(words, starts, ends, columns, i, silence if timed[i] else np.inf):
            net, birth = _joined(words.numbers, starts, ends, low, high, time_align)
            nets.append(np.full((len(net), len(words.names)), kernels.ABSENT, np.int64))
            nets[-1][:, columns] = net
            turns.append(np.full((len(net), len(words.names)), -1, np.int64))
            turns[-1][:, : len(columns)] = columns[_births_first(len(columns))[birth]]
            offsets[i + 1] += len(net)
    return with_candidates(words, np.concatenate(nets), np.concatenate(turns), offsets)


def _chunks(
    words: Words, starts: Array, ends: Array, columns: Array, text: int, silence: float
) -> Iterator[tuple[Array, Array]]:
    """The stretches of a text that are aligned by themselves: first and last word + 1 of each system."""
    at, last = words.cuts[columns, text], words.cuts[columns, text + 1] - 1
    if not np.isfinite(silence):
        yield at, last + 1
        return
    stop = np.empty_like(last)
    while kernels.chunk_ends(starts, ends, at, last, silence, stop):
        yield at, stop + 1
        at = stop + 1


def _joined(
    numbers: Array, starts: Array, ends: Array, low: Array, high: Array, timed: bool
) -> tuple[Array, Array]:
    """The network of the words low[k] to high[k] - 1 of systems k = 0, 1, ...: cells and births."""
    lengths = high - low
    net = np.empty((int(lengths.sum()), len(low)), np.int64)
    birth = np.zeros(len(net), np.int64)
    slots = int(lengths[0])
    net[:slots, 0] = np.arange(low[0], high[0])
    for k in range(1, len(low)):
        flat, cuts = np.empty(slots * k + 1, np.int64), np.empty(slots + 1, np.int64)
        kernels.arcs_of(net, birth, k, numbers, bool(timed), flat, cuts)
        width = int(lengths[k]) + 1
        if (slots + 1) * width > MOST_CELLS:
            raise OutputsError(
                f"{slots} slots and {width - 1} words are too many to align; part the text into utterances"
            )
        moves, best = np.empty((cuts[-1] + 1, width), np.uint8), np.zeros((slots + 1, width), np.uint16)
        rows = np.empty((4, width), np.float32)
        kernels.cheapest(flat, cuts, numbers, starts, ends, int(low[k]), bool(timed), moves, best, rows)
        slots = kernels.trace(net, birth, k, int(low[k]), moves, best, cuts)
    return net[:slots], birth[:slots]


def _births_first(systems: int) -> Array:
    """(K, K): row k is k, then the others in turn."""
    return np.array([[k, *range(k), *range(k + 1, systems)] for k in range(systems)], dtype=np.int64)


def with_candidates(words: Words, net: Array, turns: Array, offsets: Array) -> WordNetwork:
    """The network with the candidates of its slots found."""
    of, cuts = np.full(net.shape, -1, np.int64), np.empty(len(net) + 1, np.int64)
    first = np.empty(net.size, np.int64)
    count = kernels.candidates(net, turns, words.numbers, of, first, cuts)
    return WordNetwork(words, net, turns, offsets, of, first[:count].copy(), cuts)


def _timed(words: Words) -> Array:
    """(n,) whether every word of every system that answers has times."""
    lacking = np.concatenate([[0], np.cumsum(np.isnan(words.starts) | np.isnan(words.ends))])
    counts = lacking[words.cuts[:, 1:]] - lacking[words.cuts[:, :-1]]
    return np.asarray(((counts == 0) | ~words.present).all(axis=0))


def default_of(outputs: Mapping[str, Any]) -> FieldScore:
    """The score where nobody asked for one: word error rate for recognised speech, else that of texts."""
    from conjoin.scores import default_score

    given = list(outputs.values())
    if not given:
        raise OutputsError("there is no output to fit a fuser to")
    found: FieldScore = default_score(next((o for o in given if getattr(o, "ragged", ())), given[0]))
    return found
