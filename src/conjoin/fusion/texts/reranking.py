"""Reranking: of the members' texts the one with the greatest linear score of its features."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import OutputsError, listed, nearest
from conjoin.fusion.stack import Weights
from conjoin.fusion.texts.laid import Laid, best_slots, lay, system_of
from conjoin.fusion.texts.risk import evidence, expected

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array, Texts


def _lengths(laid: Laid) -> Array:
    """(t,) log of the text's words over the median of the row's answers; an empty text has half a word."""
    words = np.array([max(len(laid.text(s).split()), 0.5) for s in range(len(laid.group.members))])
    found = np.log(words)
    bounds = np.searchsorted(laid.row_of[laid.slot], np.arange(laid.rows + 1))
    said = found[laid.slot]
    each = itertools.pairwise(bounds.tolist())
    middle = np.array([np.median(said[a:z]) if z > a else 0.0 for a, z in each])
    return cast("Array", found - middle[laid.row_of])


def _repetition(laid: Laid) -> Array:
    """(t,) the share of word trigrams that occurred before in the text: 0 in most texts, high in loops."""
    out = np.zeros(len(laid.group.members))
    for s in range(len(out)):
        words = laid.text(s).split()
        grams = list(zip(words, words[1:], words[2:], strict=False))
        out[s] = 1 - len(set(grams)) / len(grams) if grams else 0.0
    return out


FEATURES: dict[str, Callable[[Laid], Array]] = {
    "agreement": lambda laid: expected(laid, evidence(laid), "chrf") / 100,
    "bleu": lambda laid: expected(laid, evidence(laid), "bleu") / 100,
    "votes": evidence,
    "length": _lengths,
    "odd_length": lambda laid: np.abs(_lengths(laid)),
    "repetition": _repetition,
}
"""What is known of a text from the row alone, by name: expected chrF and BLEU against all members' texts (0
to 1), the share of weight that gave it, the log of its words over the median of the row, how far that is from
0, and the share of repeated word trigrams.
"""


def rerank(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    features: Mapping[str, float] | None = None,
    priors: Mapping[str, float] | None = None,
    scores: Mapping[str, Sequence[float]] | None = None,
) -> Texts:
    """The text with the greatest value, sum_k features_k f_k + b_s + c_s (score - m_s).

    f: the `FEATURES` of the text; b_s = priors[s] of the system that gave it; its score counts as
    scores[s] = [m_s, c_s] say, and one that is unknown as m_s. Without features, priors and scores the value
    is the score itself, and texts without one come last. Systems are members, with samples "a#1", "a#2" of
    one system "a". A text that several gave has the greatest of their values. weights: of members in the
    features that look at the others' texts; 0 leaves a member out. Ties go to the text with more weight, then
    to the first member by name. Raises OutputsError.

    >>> from conjoin.outputs import Texts
    >>> rerank({"a": Texts(["x"], [-2.0]), "b": Texts(["y"], [-1.0])}).texts
    array(['y'], dtype=object)
    """
    laid = lay(outputs, weights)
    return laid.output(best_slots(laid, values(laid, features, priors, scores), evidence(laid)))


def values(
    laid: Laid,
    features: Mapping[str, float] | None = None,
    priors: Mapping[str, float] | None = None,
    scores: Mapping[str, Sequence[float]] | None = None,
) -> Array:
    """(t,) values of the texts, as of `rerank`. Raises OutputsError."""
    by_score = features is None and priors is None and scores is None
    said = np.where(np.isnan(laid.scores), -np.inf, laid.scores) if by_score else np.zeros(len(laid.slot))
    for m, name in enumerate(laid.names):
        mine, system = laid.owner == m, system_of(name)
        if scores and system in scores:
            mean, slope = _line(system, scores[system])
            said[mine] += slope * np.nan_to_num(laid.scores[mine] - mean)
        said[mine] += float((priors or {}).get(system, 0.0))
    out = np.full(len(laid.group.members), -np.inf)
    np.maximum.at(out, laid.slot, said)
    for name, slope in (features or {}).items():
        if name not in FEATURES:
            raise OutputsError(f"no feature {name!r}{nearest(name, FEATURES)}; there are {listed(FEATURES)}")
        if slope:
            out += float(slope) * FEATURES[name](laid)
    return out


def _line(system: str, given: Sequence[float]) -> tuple[float, float]:
    if len(given) != 2 or not all(np.isfinite(v) for v in given):
        raise OutputsError(f"scores of {system!r} need [mean, slope], not {given!r}")
    return float(given[0]), float(given[1])
