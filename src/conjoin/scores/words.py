"""Errors of recognised speech: word, character and sentence error rates."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from conjoin.errors import OutputsError, TruthError
from conjoin.kernels.words import errors
from conjoin.outputs import Array, Texts
from conjoin.scores.field import FieldScore

MOST_WAYS = 1000
"""Ways through one alternation of a reference; more are refused."""

Ways = list[list[str]]
"""A slot of a reference: the sequences of words that are right there."""


def _plain(text: str) -> list[str]:
    return text.split()


def _characters(text: str) -> list[str]:
    return list(" ".join(text.split()))


def _folded(text: str) -> list[str]:
    return unicodedata.normalize("NFC", text.lower()).split()


def alternatives(text: str) -> list[Ways]:
    """The slots of a reference with NIST's alternations `{ a / b c / @ }` and optional words `(a)`.

    @ is nothing. Alternations may lie inside one another. Raises TruthError where a brace is not closed.

    >>> alternatives("i { will / am going to } (uh) go")
    [[['i']], [['will'], ['am', 'going', 'to']], [['uh'], []], [['go']]]
    """
    tokens = _folded(text)
    slots, at = _sequence(tokens, 0, inside=False, text=text)
    if at != len(tokens):
        raise TruthError(f"an alternation is not closed: {text[:80]!r}")
    return slots


def _sequence(tokens: Sequence[str], at: int, *, inside: bool, text: str) -> tuple[list[Ways], int]:
    """Slots from a position on, up to the end (or the `/` or `}` of the alternation they stand in)."""
    slots: list[Ways] = []
    while at < len(tokens) and not (inside and tokens[at] in "/}"):
        token = tokens[at]
        at += 1
        if token == "{":
            ways: Ways = []
            while True:
                inner, at = _sequence(tokens, at, inside=True, text=text)
                ways += _ways_through(inner, text)
                at += 1
                if at > len(tokens):
                    raise TruthError(f"an alternation is not closed: {text[:80]!r}")
                if tokens[at - 1] == "}":
                    break
            slots.append(ways)
        elif token == "@":
            slots.append([[]])
        elif len(token) > 2 and token[0] == "(" and token[-1] == ")":
            slots.append([[token[1:-1]], []])
        else:
            slots.append([[token]])
    return slots, at


def _ways_through(slots: list[Ways], text: str) -> Ways:
    if math.prod(len(s) for s in slots) > MOST_WAYS:
        raise TruthError(f"an alternation has more than {MOST_WAYS} ways: {text[:80]!r}")
    return [list(itertools.chain.from_iterable(way)) for way in itertools.product(*slots)]


def _chain(tokens: list[str]) -> list[Ways]:
    return [[[token]] for token in tokens]


def count_errors(
    output: Texts,
    truth: Texts,
    *,
    parts: Callable[[str], list[str]] = _plain,
    reference: Callable[[str], list[Ways]] | None = None,
    costs: tuple[int, int] = (1, 1),
) -> Array:
    """(n, 2): errors and reference words of each row; NaN where there is no truth.

    A text that was not answered counts as empty. parts: from a text to its words; reference: from the true
    text to its slots (by default one word a slot). costs: of a substitution and of an insertion or deletion.
    Raises OutputsError and TruthError.

    >>> count_errors(Texts(["the cat sat"]), Texts(["a cat sat down"]))
    array([[2., 4.]])
    """
    for what, given in (("the answers", output), ("the truth", truth)):
        if not isinstance(given, Texts):
            raise OutputsError(f"word errors are of texts; {what} are {getattr(given, 'kind', given)}")
    number: dict[str, int] = {}
    heard = [parts(str(t)) if a else [] for t, a in zip(output.texts, output.answered, strict=True)]
    slots = [
        (reference(str(t)) if reference else _chain(parts(str(t)))) if a else []
        for t, a in zip(truth.texts, truth.answered, strict=True)
    ]
    flat = list(itertools.chain.from_iterable(slots))
    ways = list(itertools.chain.from_iterable(flat))
    out = np.zeros((len(heard), 2))
    errors(
        _numbers(heard, number),
        _cuts(heard),
        _numbers(ways, number),
        _cuts(ways),
        _cuts(flat),
        _cuts(slots),
        *costs,
        out,
    )
    out[~truth.answered] = np.nan
    return out


def _numbers(rows: Sequence[Sequence[str]], number: dict[str, int]) -> Array:
    found = [number.setdefault(w, len(number)) for row in rows for w in row]
    return np.array(found, dtype=np.int64)


def _cuts(rows: Sequence[Sequence[Any]]) -> Array:
    return np.concatenate([[0], np.cumsum([len(r) for r in rows], dtype=np.int64)]).astype(np.int64)


def _words(output: Any, truth: Any) -> Array:
    return count_errors(output, truth)


def _sclite(output: Any, truth: Any) -> Array:
    return count_errors(output, truth, parts=_folded, reference=alternatives, costs=(4, 3))


def _letters(output: Any, truth: Any) -> Array:
    return count_errors(output, truth, parts=_characters)


def _sentences(output: Any, truth: Any) -> Array:
    found = count_errors(output, truth)
    return np.where(np.isnan(found), np.nan, np.stack([found[:, 0] > 0, np.ones(len(found))], axis=1))


def _rate(sums: Array) -> float:
    return float(sums[0] / sums[1]) if sums[1] else math.nan


SCORES: dict[str, FieldScore] = {
    "wer": FieldScore("wer", "texts", "lower", 0.0, _words, _rate),
    "cer": FieldScore("cer", "texts", "lower", 0.0, _letters, _rate),
    "ser": FieldScore("ser", "texts", "lower", 0.0, _sentences, _rate),
    "sclite_wer": FieldScore("sclite_wer", "texts", "lower", 0.0, _sclite, _rate),
}
"""Error rates of texts, each over the words, characters or sentences of the truth.

wer: words that white space parts, equal as they are, by the least edits. cer: characters, single spaces
included. ser: the share of texts with an error. sclite_wer: as NIST's sclite counts: without case, an
alignment with costs 4, 3 and 3 of substitutions, insertions and deletions, alternatives in the truth, and
words in parentheses that may be left out (-D, but such a word left out does not count as one of the truth).
"""
