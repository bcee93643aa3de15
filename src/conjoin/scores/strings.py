"""Texts as sequences of whole numbers: characters, and words by the rules of the field's tools.

Each rule takes texts and gives a list of words for each. Words are numbered by a dictionary, characters by
their code point, so that kernels compare numbers only. Nothing is normalised unless a rule says so: a letter
with a combining accent is two characters, and text that runs from right to left is compared in the order in
which it is stored.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from conjoin.outputs import Array

_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_APART = re.compile(r"([!-&(-+:-@/\[-`{-~])")
_POINT_AFTER = re.compile(r"([^0-9])([.,])")
_POINT_BEFORE = re.compile(r"([.,])([^0-9])")
_DASH = re.compile(r"([0-9])(-)")


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """T sequences: symbols `seq[bounds[t] : bounds[t + 1]]`, seq (S,) and bounds (T + 1,) int64."""

    seq: Array
    bounds: Array

    @property
    def lengths(self) -> Array:
        """(T,) int64: the number of symbols of each."""
        return np.diff(self.bounds)


def code_points(texts: Sequence[str]) -> Sequences:
    """The characters of each text as they are.

    >>> code_points(["ab", "c"]).bounds
    array([0, 2, 3])
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    raw = "".join(texts).encode("utf-32-le", "surrogatepass")
    return Sequences(
        np.frombuffer(raw, np.uint32).astype(np.int64), np.concatenate([[0], np.cumsum(lengths)])
    )


def characters(texts: Sequence[str], *, whitespace: bool = False) -> Sequences:
    """The characters of each text, without white space unless it is asked for: the symbols of chrF."""
    return code_points(texts if whitespace else ["".join(t.split()) for t in texts])


def numbered(words: Sequence[Sequence[str]]) -> Sequences:
    """Words as numbers: equal words of any text get equal numbers.

    >>> numbered([["a", "b"], ["b"]]).seq
    array([0, 1, 1])
    """
    known: dict[str, int] = {}
    found = [known.setdefault(w, len(known)) for text in words for w in text]
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    return Sequences(np.array(found, dtype=np.int64), np.concatenate([[0], np.cumsum(lengths)]))


def blank_words(texts: Sequence[str]) -> list[list[str]]:
    """Words between white space."""
    return [t.split() for t in texts]


def single_characters(texts: Sequence[str]) -> list[list[str]]:
    """Each character a word, but white space: sacrebleu's rule for scripts that have no blanks between words.

    >>> single_characters(["日本 語"])
    [['日', '本', '語']]
    """
    return [list("".join(t.split())) for t in texts]


def lower_words(texts: Sequence[str]) -> list[list[str]]:
    """Words between white space, in lower case: the words of TER."""
    return [t.lower().split() for t in texts]


def mteval_words(texts: Sequence[str]) -> list[list[str]]:
    """Words by the rules of mteval-v13a, which BLEU takes by default: marks apart, but not within numbers.

    >>> mteval_words(["It costs 1,000.5, no?"])
    [['It', 'costs', '1,000.5', ',', 'no', '?']]
    """
    known: dict[str, list[str]] = {}
    out = []
    for text in texts:
        words: list[str] = []
        for word in _one_line(text).split():
            parts = known.get(word)
            if parts is None:
                parts = known[word] = _mteval_parts(word)
            words += parts
        out.append(words)
    return out


def _mteval_parts(word: str) -> list[str]:
    """The parts of what stands between white space; the rules look at one character on each side at most."""
    text = _POINT_AFTER.sub(r"\1 \2 ", _APART.sub(r" \1 ", f" {word} "))
    return _DASH.sub(r"\1 \2 ", _POINT_BEFORE.sub(r" \1 \2", text)).split()


def _one_line(text: str) -> str:
    """Trailing space goes; broken lines are joined, and the four escapes of SGML undone."""
    text = text.rstrip().replace("<skipped>", "")
    if "\n" in text:
        text = text.replace("-\n", "").replace("\n", " ")
    if "&" in text:
        for escape, mark in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
            text = text.replace(escape, mark)
    return text


def chrf_words(texts: Sequence[str]) -> list[list[str]]:
    """Words of chrF++: one mark of ASCII is cut off the end, or else off the beginning, of each.

    >>> chrf_words(["(hi) you."])
    [['(hi', ')', 'you', '.']]
    """
    return [[part for word in text.split() for part in _cut(word)] for text in texts]


def _cut(word: str) -> tuple[str, ...]:
    if len(word) == 1:
        return (word,)
    if word[-1] in _PUNCTUATION:
        return (word[:-1], word[-1])
    return (word[0], word[1:]) if word[0] in _PUNCTUATION else (word,)


def plain_words(texts: Sequence[str]) -> list[list[str]]:
    """Runs of letters, digits and their marks, in lower case: the words of ROUGE, for any script.

    Of ASCII texts these are the words of the package rouge-score without its stemmer.

    >>> plain_words(["Don't stop!", "a_b", "नमस्ते जी"])
    [['don', 't', 'stop'], ['a', 'b'], ['नमस्ते', 'जी']]
    """
    lower = [t.lower() for t in texts]
    gaps = {ord(c): " " for c in set("".join(lower)) if unicodedata.category(c)[0] not in "LNM"}
    return [t.translate(gaps).split() for t in lower]


WORDS: dict[str, Callable[[Sequence[str]], list[list[str]]]] = {
    "blank": blank_words,
    "char": single_characters,
    "lower": lower_words,
    "13a": mteval_words,
    "chrf": chrf_words,
    "rouge": plain_words,
}
"""Rules that cut texts into words, by name."""
