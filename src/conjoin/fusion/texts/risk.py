"""Minimum Bayes risk: of the members' texts the one that is closest, in the mean, to all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from conjoin.errors import OutputsError, listed, nearest
from conjoin.fusion.stack import Weights
from conjoin.fusion.texts.laid import Laid, best_slots, lay, slots_of
from conjoin.scores.sentence import BAGS, LOWER, PAIRS, Group, pair_lengths

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array, Texts

Utility: TypeAlias = "str | Callable[[str, str], float]"
"""A name of `conjoin.scores.sentence.PAIRS`, or a function (hypothesis, reference) -> how good."""


def minimum_bayes_risk(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    utility: Utility = "chrf",
    aggregate: bool = False,
    candidates: Sequence[str] | None = None,
    temperature: float | None = None,
) -> Texts:
    """The text h with the greatest sum_r p(r) u(h, r) over all members' texts r of the row.

    (Kumar and Byrne 2004; Eikema and Aziz 2020.) p(r) is the weight of the members that gave r; with a
    `temperature` it is proportional to weight x exp(score / temperature), and a score that is unknown counts
    as the mean of its row. Ties go to the text with more weight, then to the first member by name.

    utility: chrf, chrf++, bleu (one sentence, effective order, 13a words), bleu_char (for scripts without
    blanks), rouge1, rouge2, rougeL, exact; or ter, word_edits, char_edits, of which less is better; or a
    function (hypothesis, reference) -> number.
    aggregate: compare with one weighted bag of n-grams instead of with each text, in time linear in the
    number of texts; for chrf and chrf++ (Vamvas and Sennrich 2024) and bleu (DeNero et al. 2009).
    candidates: members whose texts may be chosen, all by default; the others only count as evidence.

    Several samples of one system are members "a#1", "a#2", and so on: see `nbest`. The score of the answer
    is the highest that a member gave to it. Raises OutputsError.

    >>> from conjoin.outputs import Texts
    >>> said = {"a": "a cat sat", "b": "the cat sat", "c": "the dog sat"}
    >>> minimum_bayes_risk({n: Texts([t]) for n, t in said.items()}).texts
    array(['the cat sat'], dtype=object)
    """
    laid = lay(outputs, weights)
    mass = evidence(laid, temperature)
    values = expected(laid, mass, utility, aggregate=aggregate)
    return laid.output(best_slots(laid, values, mass, slots_of(laid, candidates)))


def expected_utilities(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    utility: Utility = "chrf",
    aggregate: bool = False,
    temperature: float | None = None,
) -> dict[str, Array]:
    """For each member (n,) sum_r p(r) u(h, r) of its texts h, as of `minimum_bayes_risk`; NaN where it did
    not answer. Utilities of which less is better have the opposite sign. Members of weight 0 are left out.

    >>> from conjoin.outputs import Texts
    >>> expected_utilities({"a": Texts(["x y"]), "b": Texts(["x z"])}, utility="word_edits")["a"]
    array([-0.5])
    """
    laid = lay(outputs, weights)
    values = expected(laid, evidence(laid, temperature), utility, aggregate=aggregate)
    table = np.full((len(laid.names), laid.rows), np.nan)
    table[laid.owner, laid.row_of[laid.slot]] = values[laid.slot]
    return dict(zip(laid.names, table, strict=True))


def evidence(laid: Laid, temperature: float | None = None) -> Array:
    """(t,) p of each text of each row: the share of the votes of those who gave it. Raises OutputsError."""
    return laid.shares(laid.summed(vote_numbers(laid, temperature)))


def vote_numbers(laid: Laid, temperature: float | None = None, *, confidence: bool = False) -> Array:
    """(e,) the weight of each answer: its member's, times exp(score / temperature), times score.

    A score that is unknown counts as the mean of its row. Raises OutputsError on a temperature that is not
    above 0 and on a confidence that is negative.
    """
    numbers = laid.weights[laid.owner]
    if temperature is None and not confidence:
        return numbers
    row, known = laid.row_of[laid.slot], np.isfinite(laid.scores)
    counts = np.bincount(row, weights=known, minlength=laid.rows)
    sums = np.bincount(row, weights=np.where(known, laid.scores, 0.0), minlength=laid.rows)
    mean = np.divide(sums, counts, out=np.ones(laid.rows), where=counts > 0)
    scores = np.where(known, laid.scores, mean[row])
    if confidence:
        if (scores < 0).any():
            least = float(scores.min())
            raise OutputsError(
                f"confidences must be 0 or more, not {least:.4g}; log-probabilities: temperature"
            )
        numbers = numbers * scores
    if temperature is not None:
        if not temperature > 0 or not np.isfinite(temperature):
            raise OutputsError(f"temperature must be a number above 0, not {temperature}")
        top = np.full(laid.rows, -np.inf)
        np.maximum.at(top, row, scores)
        with np.errstate(over="ignore", under="ignore"):
            numbers = numbers * np.exp((scores - top[row]) / temperature)
    return numbers


def expected(laid: Laid, mass: Array, utility: Utility, *, aggregate: bool = False) -> Array:
    """(t,) sum_r mass_r u(h, r) of each text h; more is better. Raises OutputsError."""
    if aggregate and utility not in BAGS:
        raise OutputsError(f"aggregate is for {listed(BAGS)}, not for {utility!r}")
    compare = pair_utilities(utility)
    out = np.empty(len(mass))
    for here, group in laid.blocks():
        if aggregate:
            out[here] = BAGS[str(utility)](group, mass[here])
        else:
            out[here] = weighted(group, compare(group), mass[here])
    return out


def weighted(group: Group, pairs: Array, mass: Array) -> Array:
    """(t,) sum_r mass_r pairs[h, r] of each text h of each row."""
    if not len(pairs):
        return np.empty(0)
    counts = np.repeat(group.counts, group.counts)
    cuts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.add.reduceat(pairs * pair_lengths(group, mass)[1], cuts)


def pair_utilities(utility: Utility) -> Callable[[Group], Array]:
    """The function of a group that gives u of all pairs, more is better. Raises OutputsError."""
    if callable(utility):
        return lambda group: _user(utility, group)
    if utility not in PAIRS:
        raise OutputsError(f"no utility {utility!r}{nearest(str(utility), PAIRS)}; there are {listed(PAIRS)}")
    sign = -1.0 if utility in LOWER else 1.0
    return lambda group: sign * PAIRS[utility](group)


def _user(utility: Callable[[str, str], float], group: Group) -> Array:
    out = []
    for a, z in zip(group.rows[:-1], group.rows[1:], strict=True):
        texts = [group.texts[t] for t in group.members[a:z]]
        out += [float(utility(h, r)) for h in texts for r in texts]
    found = np.array(out, dtype=np.float64)
    if np.isnan(found).any():
        raise OutputsError("the utility gave NaN; it must give a number for each pair of texts")
    return found
