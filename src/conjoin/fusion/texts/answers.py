"""Vote on answers that are found in texts: self-consistency of language models, and of several models."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from conjoin.errors import OutputsError, listed, nearest
from conjoin.fusion.stack import Weights
from conjoin.fusion.texts.laid import lay
from conjoin.fusion.texts.risk import vote_numbers
from conjoin.outputs import Texts

if TYPE_CHECKING:
    from conjoin.contracts import Batch

Extract: TypeAlias = "str | Callable[[str], str | None] | None"
_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,4})?|[-+]?\.\d+"
_VALUE = re.compile(rf"[$€£¥]?\s*({_NUMBER})\.?\s*(%?)")
_SHARE = re.compile(r"([-+]?\d{1,40})\s*/\s*(\d{1,40})")
MOST_DIGITS = 60
"""Numbers with more digits than this, written out, are compared as text."""


def _whole(text: str) -> str | None:
    return text.strip() or None


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    """Group 1, or all, of the last match that is not blank."""
    found = None
    for match in pattern.finditer(text):
        part = match.group(1) if pattern.groups else match.group()
        found = part.strip() if part and part.strip() else found
    return found


def _boxed(text: str) -> str | None:
    """What the last `\\boxed{...}` holds; braces may lie inside one another."""
    begin = text.rfind("\\boxed{")
    if begin < 0:
        return None
    depth = 0
    for at in range(begin + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return _whole(text[begin + 7 : at])
    return None


def _last_line(text: str) -> str | None:
    lines = text.strip().splitlines()
    return _whole(lines[-1]) if lines else None


EXTRACTORS: dict[str, Callable[[str], str | None]] = {
    "whole": _whole,
    "last_line": _last_line,
    "last_number": partial(_last, re.compile(rf"(?<![\w.])(?:{_NUMBER})%?")),
    "choice": partial(_last, re.compile(r"(?<!\w)\(?([A-J])\)?(?!\w)")),
    "boxed": _boxed,
    "hashes": partial(_last, re.compile(r"####\s*(.+)")),
}
"""Rules that find the answer in a text: all of it; its last line; its last number; the last single capital A
to J; LaTeX's \\boxed{...}; what follows #### on its line, as in GSM8K.
"""


def canonical(answer: str, *, numeric: bool = True) -> str:
    """The form in which answers are compared: NFKC, no case, single spaces, no full stop at the end.

    numeric: equal numbers have equal forms; currencies and commas between thousands are left out, a percent
    sign is kept.

    >>> canonical("$1,200.50"), canonical("1200.5"), canonical("3/4") == canonical("0.75")
    ('1200.5', '1200.5', True)
    >>> canonical(" The  Hague. ")
    'the hague'
    """
    text = " ".join(unicodedata.normalize("NFKC", answer).split())
    if numeric:
        number = _number(text)
        if number is not None:
            return number
    return text.casefold().rstrip(".").rstrip()


def _number(text: str) -> str | None:
    share = _SHARE.fullmatch(text)
    if share and int(share.group(2)):
        return _written(Fraction(int(share.group(1)), int(share.group(2))))
    match = _VALUE.fullmatch(text)
    if match is None:
        return None
    try:
        value = Decimal(match.group(1).replace(",", ""))
    except InvalidOperation:
        return None
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or len(value.as_tuple().digits) + abs(exponent) > MOST_DIGITS:
        return None
    return _written(Fraction(value)) + match.group(2)


def _written(value: Fraction) -> str:
    """A whole number, a decimal where it ends, else p/q."""
    if value.denominator == 1:
        return str(value.numerator)
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest > 1:
        return f"{value.numerator}/{value.denominator}"
    places = value.denominator.bit_length()
    sign, digits = "-" if value < 0 else "", str(abs(value.numerator) * 10**places // value.denominator)
    digits = digits.rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}".rstrip("0")


def answer_vote(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    extract: Extract = None,
    pattern: str | None = None,
    numeric: bool = True,
    confidence: bool = False,
    temperature: float | None = None,
    whole: bool = False,
) -> Texts:
    """The answer with the greatest weight of votes (self-consistency, Wang et al. 2023).

    extract: a name of `EXTRACTORS` or a function text -> answer or None; pattern: a regular expression whose
    last match (its group 1, if it has one) is the answer; by default the whole text. A text without an answer
    is no vote. Answers are equal if their `canonical` forms are; numeric as there. The text given is the form
    of the answer with most weight, or with `whole` the whole text of the member that gave it.
    A vote is the member's weight; with `confidence` times its score (0 or more; one that is unknown counts as
    the mean of its row), with a `temperature` times exp(score / temperature). The score of the answer is its
    share of the votes. Ties go to the answer of the first member by name. Samples of one system are members
    "a#1", "a#2", and so on. A row without any answer is not answered. Raises OutputsError.

    >>> said = {"a": "so it is 12.", "b": "x = 12.0", "c": "about 15"}
    >>> fused = answer_vote({n: Texts([t]) for n, t in said.items()}, extract="last_number")
    >>> fused.texts[0], fused.scores.round(3)
    ('12', array([0.667]))
    """
    laid = lay(outputs, weights)
    find = extractor(extract, pattern)
    votes = vote_numbers(laid, temperature, confidence=confidence)
    found = [find(laid.text(s)) for s in range(len(laid.group.members))]
    forms = [None if a is None else canonical(a, numeric=numeric) for a in found]
    texts, shares = np.full(laid.rows, "", dtype=object), np.full(laid.rows, np.nan)
    bounds = np.searchsorted(laid.row_of[laid.slot], np.arange(laid.rows + 1))
    for r in range(laid.rows):
        entries = range(int(bounds[r]), int(bounds[r + 1]))
        ballots = [(forms[laid.slot[e]], int(laid.slot[e]), float(votes[e])) for e in entries]
        slot, shares[r] = _elected([b for b in ballots if b[0] is not None])
        if slot >= 0:
            texts[r] = laid.text(slot) if whole else found[slot]
    return Texts(texts, shares, ~np.isnan(shares))


def _elected(ballots: list[tuple[str | None, int, float]]) -> tuple[int, float]:
    """From (form, slot, vote): the slot of the winning form with most votes, and the form's share.

    Slot -1 and NaN where there are no ballots.
    """
    if not ballots:
        return -1, math.nan
    total = math.fsum(vote for _, _, vote in ballots)
    if total == 0:
        ballots = [(form, slot, 1.0) for form, slot, _ in ballots]
        total = float(len(ballots))
    forms: dict[str | None, float] = {}
    for form, _, vote in ballots:
        forms[form] = forms.get(form, 0.0) + vote
    most = max(forms.values())
    form = next(f for f, v in forms.items() if v >= most * (1 - 1e-12))
    slots: dict[int, float] = {}
    for other, slot, vote in ballots:
        if other == form:
            slots[slot] = slots.get(slot, 0.0) + vote
    return max(slots, key=lambda s: slots[s]), forms[form] / total


def extractor(extract: Extract = None, pattern: str | None = None) -> Callable[[str], str | None]:
    """The function that finds the answer in a text, as of `answer_vote`. Raises OutputsError.

    >>> extractor(pattern=r"answer is (\\w+)")("The answer is 7. Or: the answer is 8.")
    '8'
    """
    if extract is not None and pattern is not None:
        raise OutputsError("give extract or pattern, not both")
    if pattern is not None:
        try:
            return partial(_last, re.compile(pattern))
        except re.error as error:
            raise OutputsError(f"the pattern {pattern!r} is no regular expression: {error}") from error
    if callable(extract):
        return extract
    name = "whole" if extract is None else extract
    if name not in EXTRACTORS:
        raise OutputsError(
            f"no extractor {name!r}{nearest(name, EXTRACTORS)}; there are {listed(EXTRACTORS)}"
        )
    return EXTRACTORS[name]
