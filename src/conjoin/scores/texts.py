"""Scores of texts against one true text each, as the field's tools give them for a corpus.

chrF, chrF++, BLEU and TER as sacrebleu 2.6 (its defaults, one reference), ROUGE as rouge-score without its
stemmer (F1, mean over rows; 0 to 1). A row that has a truth and no answer counts as an empty text.
Error rates of words and characters are in `words`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np

from conjoin.errors import OutputsError
from conjoin.kernels import texts as kernel
from conjoin.outputs import Array, Output, Texts
from conjoin.scores.field import FieldScore, mean_of_rows
from conjoin.scores.sentence import (
    PAIRS,
    Group,
    shared_ngrams,
    smoothing,
    ter_rate,
    translation_edits,
)
from conjoin.scores.strings import WORDS, Sequences, characters, numbered
from conjoin.scores.words import SCORES as WORD_SCORES

CHRF_ORDER, BLEU_ORDER = 6, 4


def _rows(output: Output, truth: Output) -> tuple[list[str], list[str], Array]:
    """Answers and truths of the rows that count, and which rows these are. Raises OutputsError."""
    for name, given in (("answers", output), ("truth", truth)):
        if not isinstance(given, Texts):
            raise OutputsError(f"scores of texts need {name} of texts, not {given.kind}")
    answers, right = cast(Texts, output), cast(Texts, truth)
    kept = right.answered
    said = np.where(answers.answered, answers.texts, "")
    return said[kept].tolist(), right.texts[kept].tolist(), kept


def _spread(table: Array, kept: Array) -> Array:
    out = np.full((len(kept), table.shape[1]), np.nan)
    out[kept] = table
    return out


def _pairs(answers: list[str], truths: list[str]) -> Group:
    """A group with one row (answer, truth) for each row."""
    n = len(answers)
    members = np.arange(2 * n, dtype=np.int64)
    return Group([*answers, *truths], members.reshape(2, n).T.reshape(-1).copy(), np.arange(n + 1) * 2)


def _counts(group: Group, sequences: Sequences, order: int) -> Array:
    """(n, order, 3) n-grams of the answer, of the truth, and shared."""
    shared, _ = shared_ngrams(group, sequences, order)
    table = shared.reshape(-1, order, 2, 2).astype(np.float64)
    return np.stack([table[:, :, 0, 0], table[:, :, 1, 1], table[:, :, 0, 1]], axis=2)


def chrf_statistics(output: Output, truth: Output, *, word_order: int = 0) -> Array:
    """(n, 3 orders): n-grams of the answer (0 where the truth has none), of the truth, and shared."""
    answers, truths, kept = _rows(output, truth)
    group = _pairs(answers, truths)
    table = _counts(group, characters(group.texts), CHRF_ORDER)
    if word_order:
        words = _counts(group, numbered(WORDS["chrf"](group.texts)), word_order)
        table = np.concatenate([table, words], axis=1)
    table[:, :, 0] *= table[:, :, 1] > 0
    return _spread(table.reshape(len(table), -1), kept)


def chrf_total(sums: Array) -> float:
    """chrF of summed statistics."""
    return float(_plain(kernel.f_score)(sums, len(sums) // 3, 2.0, False))


def bleu_statistics(output: Output, truth: Output) -> Array:
    """(n, 2 + 2 x 4): words of answer and truth, shared n-grams of each order, n-grams of the answer."""
    answers, truths, kept = _rows(output, truth)
    group = _pairs(answers, truths)
    table = _counts(group, numbered(WORDS["13a"](group.texts)), BLEU_ORDER)
    parts = [table[:, 0, 0, None], table[:, 0, 1, None], table[:, :, 2], table[:, :, 0]]
    return _spread(np.concatenate(parts, axis=1), kept)


def bleu_total(sums: Array) -> float:
    """BLEU of summed statistics: exponential smoothing, no effective order."""
    return float(_plain(kernel.bleu_score)(sums, BLEU_ORDER, *smoothing("exp"), False))


def ter_statistics(output: Output, truth: Output) -> Array:
    """(n, 2): edits and shifts, words of the truth."""
    answers, truths, kept = _rows(output, truth)
    group = _pairs(answers, truths)
    edited, words = (part.reshape(-1, 4)[:, 1] for part in translation_edits(group))
    return _spread(np.stack([edited, words], axis=1), kept)


def mean_statistics(output: Output, truth: Output, *, name: str) -> Array:
    """(n, 2): the score of the pair of the row, and 1."""
    answers, truths, kept = _rows(output, truth)
    found = PAIRS[name](_pairs(answers, truths)).reshape(-1, 4)[:, 1]
    return _spread(np.stack([found, np.ones(len(found))], axis=1), kept)


def rate_total(sums: Array) -> float:
    """100 edits / length, as TER has it."""
    return float(ter_rate(sums[:1], sums[1:])[0])


def _plain(function: Any) -> Callable[..., float]:
    """A compiled function as Python runs it: one sum is not worth the compiling."""
    return cast("Callable[..., float]", function.py_func)


def _mean(name: str) -> FieldScore:
    statistics = partial(mean_statistics, name=name)
    return FieldScore(name, Texts.kind, "higher", 1.0, statistics, mean_of_rows)


SCORES: dict[str, FieldScore] = {
    s.name: s
    for s in (
        FieldScore("chrf", Texts.kind, "higher", 100.0, chrf_statistics, chrf_total),
        FieldScore("chrf++", Texts.kind, "higher", 100.0, partial(chrf_statistics, word_order=2), chrf_total),
        FieldScore("bleu", Texts.kind, "higher", 100.0, bleu_statistics, bleu_total),
        FieldScore("ter", Texts.kind, "lower", 0.0, ter_statistics, rate_total),
        _mean("rouge1"),
        _mean("rouge2"),
        _mean("rougeL"),
        _mean("exact"),
        *WORD_SCORES.values(),
    )
}
"""Every score of texts, by name."""
