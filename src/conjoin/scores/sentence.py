"""Scores of every pair of texts of a row, and of every text against the weighted bag of its row.

A `Group` holds rows of texts. Each function of `PAIRS` gives a flat array: for a row of D texts D x D
numbers, [hypothesis, reference], from `starts[r]` on. chrF, BLEU and TER are numbers from 0 to 100 (TER is
not bounded) as sacrebleu gives them for one sentence and one reference; ROUGE is from 0 to 1, edits are
whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np

from conjoin.errors import OutputsError, nearest
from conjoin.kernels import edits, ngrams, ter
from conjoin.kernels import texts as kernel
from conjoin.outputs import Array
from conjoin.scores.strings import WORDS, Sequences, characters, code_points, numbered

SMOOTHINGS = {"none": kernel.NONE, "floor": kernel.FLOOR, "add-k": kernel.ADD_K, "exp": kernel.EXP}
_SMOOTH_BY = {"floor": 0.1, "add-k": 1.0}


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Rows of texts: row r has the texts `texts[members[rows[r] : rows[r + 1]]]`.

    texts: T different ones. members (t,) and rows (n + 1,) int64.
    """

    texts: Sequence[str]
    members: Array
    rows: Array

    @property
    def counts(self) -> Array:
        """(n,) int64: D, the number of texts of each row."""
        return np.diff(self.rows)

    @property
    def starts(self) -> Array:
        """(n + 1,) int64: where a row's D x D numbers begin."""
        return cast(Array, np.concatenate([[0], np.cumsum(self.counts**2)]))


def shared_ngrams(group: Group, sequences: Sequences, order: int) -> tuple[Array, Array]:
    """Shared n-grams of each pair, for each order up to `order`; and where each row begins.

    A row of D texts has (order, D, D) int32; the diagonal is the number of n-grams of a text.
    """
    starts = group.starts * order
    out = np.empty(int(starts[-1]), np.int32)
    room = ngrams.room_of(sequences.bounds, group.members, group.rows)
    ngrams.pair_matches(sequences.seq, sequences.bounds, group.members, group.rows, order, starts, *room, out)
    return out, starts


def chrf(
    group: Group,
    *,
    order: int = 6,
    word_order: int = 0,
    beta: float = 2.0,
    whitespace: bool = False,
    eps: bool = False,
) -> Array:
    """chrF (Popovic 2015), and chrF++ with word_order=2 (Popovic 2017).

    Precision and recall of character n-grams are averaged over orders that both texts have, then
    F = (1 + beta^2) P R / (beta^2 P + R). eps: the mean of the F of all orders instead, as NLTK does.
    """
    shared, starts = shared_ngrams(group, characters(group.texts, whitespace=whitespace), order)
    words, word_starts = np.zeros(0, np.int32), starts
    if word_order:
        words, word_starts = shared_ngrams(group, numbered(WORDS["chrf"](group.texts)), word_order)
    out = np.empty(int(group.starts[-1]))
    kernel.chrf_pairs(
        shared, starts, order, words, word_starts, word_order, group.rows, float(beta), eps, out, group.starts
    )
    return out


def bleu(
    group: Group,
    *,
    order: int = 4,
    words: str = "13a",
    smooth: str = "exp",
    smooth_value: float | None = None,
    effective_order: bool = True,
) -> Array:
    """BLEU of a sentence (Papineni et al. 2002), smoothed as in Chen and Cherry (2014).

    exp(min(0, 1 - r / h)) times the geometric mean of the precisions of word n-grams, up to `order`, or with
    effective_order up to the longest that the hypothesis has. words: a name of `strings.WORDS`.
    """
    shared, starts = shared_ngrams(group, numbered(WORDS[words](group.texts)), order)
    out = np.empty(int(group.starts[-1]))
    how, value = smoothing(smooth, smooth_value)
    kernel.bleu_pairs(shared, starts, order, group.rows, how, value, effective_order, out, group.starts)
    return out


def smoothing(smooth: str, value: float | None = None) -> tuple[int, float]:
    """The kernel's number of a smoothing and its value. Raises OutputsError."""
    if smooth not in SMOOTHINGS:
        raise OutputsError(f"no smoothing {smooth!r}{nearest(smooth, SMOOTHINGS)}; there are {[*SMOOTHINGS]}")
    return SMOOTHINGS[smooth], _SMOOTH_BY.get(smooth, 0.0) if value is None else value


def rouge_n(group: Group, *, n: int) -> Array:
    """F1 of word n-grams of one order (Lin 2004)."""
    sequences = numbered(WORDS["rouge"](group.texts))
    shared, starts = shared_ngrams(group, sequences, n)
    out = np.zeros(int(group.starts[-1]))
    kernel.dice_pairs(shared, starts, n, group.rows, out, group.starts)
    return out


def rouge_l(group: Group) -> Array:
    """F1 of the longest common subsequence of words (Lin 2004)."""
    sequences = numbered(WORDS["rouge"](group.texts))
    common = _compared(group, sequences, edits.common_pairs)
    lengths = sequences.lengths[group.members].astype(np.float64)
    h, r = pair_lengths(group, lengths)
    return cast(Array, np.divide(2 * common, h + r, out=np.zeros(len(common)), where=common > 0))


def pair_lengths(group: Group, lengths: Array) -> tuple[Array, Array]:
    """For each pair the number of its hypothesis and of its reference; lengths (t,) as `members`."""
    squares, counts = group.counts**2, group.counts
    inside = np.arange(int(group.starts[-1])) - np.repeat(group.starts[:-1], squares)
    wide, first = np.repeat(np.maximum(counts, 1), squares), np.repeat(group.rows[:-1], squares)
    return lengths[first + inside // wide], lengths[first + inside % wide]


def word_edits(group: Group) -> Array:
    """Levenshtein distance of words between white space: insertions, deletions, substitutions."""
    return _compared(group, numbered(WORDS["blank"](group.texts)), edits.edit_pairs)


def char_edits(group: Group) -> Array:
    """Levenshtein distance of characters, white space among them."""
    return _compared(group, code_points(group.texts), edits.edit_pairs)


def _compared(group: Group, sequences: Sequences, compare: Callable[..., None]) -> Array:
    out = np.zeros(int(group.starts[-1]))
    compare(*edits.dense(sequences.seq, sequences.bounds), group.members, group.rows, group.starts, out)
    return out


def translation_edits(group: Group) -> tuple[Array, Array]:
    """Edits and shifts that make the hypothesis the reference, as TER counts them; and reference words."""
    sequences = numbered(WORDS["lower"](group.texts))
    edited = np.zeros(int(group.starts[-1]))
    lengths = sequences.lengths[group.members].astype(np.float64)
    room = np.zeros((10, int(lengths.max(initial=0)) + 1), np.int64)
    ter.ter_pairs(sequences.seq, sequences.bounds, group.members, group.rows, group.starts, room, edited)
    return edited, pair_lengths(group, lengths)[1]


def ter_rate(edited: Array, words: Array) -> Array:
    """100 edits / words; 100 where there are edits and no words."""
    rate = np.divide(edited, words, out=(edited > 0).astype(np.float64), where=words > 0)
    return cast(Array, 100 * rate)


def translation_edit_rate(group: Group) -> Array:
    """TER (Snover et al. 2006): 100 (insertions, deletions, substitutions, shifts) / reference words."""
    return ter_rate(*translation_edits(group))


def exact(group: Group) -> Array:
    """1 where the texts are equal but for white space at the ends, else 0."""
    known: dict[str, int] = {}
    names = np.array([known.setdefault(t.strip(), len(known)) for t in group.texts], dtype=np.int64)
    h, r = pair_lengths(group, names[group.members])
    return cast(Array, (h == r).astype(np.float64))


PAIRS: dict[str, Callable[[Group], Array]] = {
    "chrf": chrf,
    "chrf++": partial(chrf, word_order=2),
    "bleu": bleu,
    "bleu_char": partial(bleu, words="char"),
    "ter": translation_edit_rate,
    "word_edits": word_edits,
    "char_edits": char_edits,
    "rouge1": partial(rouge_n, n=1),
    "rouge2": partial(rouge_n, n=2),
    "rougeL": rouge_l,
    "exact": exact,
}
"""Score of each pair, by name."""

LOWER: frozenset[str] = frozenset({"ter", "word_edits", "char_edits"})
"""Those of which less is better."""


def bag_chrf(group: Group, mass: Array, *, word_order: int = 0) -> Array:
    """(t,) chrF of each text against the bag of its row: expected counts of n-grams (Vamvas and Sennrich
    2024). mass: (t,) share of each text in its row's bag.
    """
    chars = _bag(group, characters(group.texts), mass, 6)
    words = np.zeros((len(group.members), 0, 3))
    if word_order:
        words = _bag(group, numbered(WORDS["chrf"](group.texts)), mass, word_order)
    out = np.empty(len(group.members))
    kernel.chrf_bag(chars, words, 2.0, False, out)
    return out


def bag_bleu(group: Group, mass: Array, *, smooth: str = "exp", effective_order: bool = True) -> Array:
    """(t,) BLEU of each text against the bag of its row (DeNero, Chiang and Knight 2009)."""
    words = _bag(group, numbered(WORDS["13a"](group.texts)), mass, 4)
    out = np.empty(len(group.members))
    kernel.bleu_bag(words, *smoothing(smooth), effective_order, out)
    return out


def _bag(group: Group, sequences: Sequences, mass: Array, order: int) -> Array:
    out = np.empty((len(group.members), order, 3))
    work, table, _ = ngrams.room_of(sequences.bounds, group.members, group.rows)
    args = sequences.seq, sequences.bounds, group.members, group.rows, np.asarray(mass, np.float64), order
    kernel.bag_matches(*args, work[0], table, out)
    return out


BAGS: dict[str, Callable[[Group, Array], Array]] = {
    "chrf": bag_chrf,
    "chrf++": partial(bag_chrf, word_order=2),
    "bleu": bag_bleu,
}
"""Score of each text against its row's bag, by name."""
