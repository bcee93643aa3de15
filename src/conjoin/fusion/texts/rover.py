"""ROVER: a vote of speech recognisers over a network of their words (Fiscus 1997)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError, listed, nearest
from conjoin.fusion.stack import Weights
from conjoin.fusion.texts.rover_words import WordNetwork, Words, lay_out, network_of
from conjoin.outputs import Texts

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array

METHODS = ("avgconf", "meth1", "maxconf", "logodds", "oracle")
SURE = 1e-4
"""Confidences are held in [SURE, 1 - SURE] before their logit is taken."""


def rover(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    method: str = "avgconf",
    alpha: float = 1.0,
    null_confidence: float = 0.0,
    order: Sequence[str] | None = None,
    case_sensitive: bool = False,
    time_align: bool = False,
    silence: float = 1.0,
    lacking: str = "skip",
    evidence: Mapping[str, Sequence[float]] | None = None,
) -> Texts:
    """Align the systems' words into a network and take in each slot the word with the best score.

    With N(w) the weight of the systems that say w in the slot, N that of all systems, C(w) a confidence:

        score(w) = alpha N(w) / N + (1 - alpha) C(w)

    method: "meth1": C(w) is the mean confidence of w; "maxconf": the greatest; "avgconf": the sum over w
    divided by that over all words of the slot; "oracle": no vote, all words as `{ a / b / @ }`;
    "logodds": score(w) is the sum of w_m (a_m + b_m logit c) over the systems that say w with confidence c,
    and of w_m z_m over those that say nothing, with `evidence` {name: [a_m, b_m, z_m]}.
    null_confidence: the confidence of saying nothing (@). As in SCTK's rover an unknown confidence is 0, or
    -1 where a system gives none in a text. weights: of systems; the field's own vote is equal weights.
    order: systems in the order of alignment; by default as `lay_out` says, so that the order in which outputs
    are given does not matter. Ties go to the word that came first in that order.
    case_sensitive, lacking, time_align, silence: as of `lay_out` and `network_of`.

    A word's confidence and times are the means over the systems that say it. The text's score is the mean of
    its confidences. A system that did not answer a text does not vote there; an empty text is a vote for
    nothing. One system alone is given back as it is. Raises OutputsError.

    >>> a, b, c = Texts(["the cat sat"]), Texts(["the hat sat"]), Texts(["a cat sat down"])
    >>> rover({"a": a, "b": b, "c": c}).texts[0]
    'the cat sat'
    """
    _check(method, alpha, null_confidence)
    words = lay_out(outputs, weights, order=order, case_sensitive=case_sensitive, lacking=lacking)
    net = network_of(words, time_align=time_align, silence=silence)
    if method == "oracle":
        return _alternated(net, null_confidence)
    scores = candidate_scores(net, method, alpha, null_confidence, evidence)
    chosen = net.winners(scores)
    confidences = _shares(scores, net.cuts)[chosen] if method == "logodds" else None
    return _spoken(net, chosen, confidences, outputs)


def candidate_scores(
    net: WordNetwork,
    method: str,
    alpha: float,
    null_confidence: float,
    evidence: Mapping[str, Sequence[float]] | None = None,
) -> Array:
    """The score of each candidate of each slot of a network, (c,); the formulas are those of `rover`."""
    words = net.words
    if method == "logodds":
        said, nulls = _evidence(words, evidence or {})
        return net.tallies(said, nulls, words.shares)[1]
    unknown = np.where(_confident(words), 0.0, -1.0)
    said = np.where(np.isnan(words.confidences), unknown, words.confidences)
    votes, total, greatest = net.tallies(said, np.full(len(words.names), null_confidence), words.shares)
    everyone = _over_slots(votes, net.cuts)
    if method == "meth1":
        sure = (1.0 - alpha) * (total / votes)
    elif method == "maxconf":
        sure = (1.0 - alpha) * greatest
    else:
        mass = _over_slots(total, net.cuts)
        sure = np.divide((1.0 - alpha) * total, mass, out=np.zeros(len(mass)), where=mass != 0)
    found: Array = alpha * (votes / everyone) + sure
    return found


def logits(confidences: Array) -> Array:
    """log(c / (1 - c)) with c held in [SURE, 1 - SURE]; 0 where c is unknown."""
    held = np.clip(np.nan_to_num(confidences, nan=0.5), SURE, 1.0 - SURE)
    return np.asarray(np.log(held / (1.0 - held)))


def _check(method: str, alpha: float, null_confidence: float) -> None:
    if method not in METHODS:
        raise OutputsError(
            f"rover has no method {method!r}{nearest(method, METHODS)}; it has {listed(METHODS)}"
        )
    if not 0.0 <= alpha <= 1.0:
        raise OutputsError(f"alpha must lie in 0 to 1, not {alpha}")
    if not np.isfinite(null_confidence):
        raise OutputsError(f"null_confidence must be a finite number, not {null_confidence}")


def _evidence(words: Words, evidence: Mapping[str, Sequence[float]]) -> tuple[Array, Array]:
    table = np.tile([1.0, 0.0, 0.0], (len(words.names), 1))
    for name, row in evidence.items():
        numbers = np.asarray(row, np.float64)
        if numbers.shape != (3,) or not np.isfinite(numbers).all():
            raise OutputsError(f"evidence of {name!r} must be three finite numbers a, b, z, not {row}")
        if name in words.names:
            table[words.names.index(name)] = numbers
    mine = table[words.owners]
    return mine[:, 0] + mine[:, 1] * logits(words.confidences), table[:, 2]


def _confident(words: Words) -> Array:
    """(t,) whether the word's system gives any confidence in the word's text."""
    sure = np.concatenate([[0], np.cumsum(~np.isnan(words.confidences))])
    cuts = words.cuts
    some = sure[cuts[:, 1:]] > sure[cuts[:, :-1]]
    return np.repeat(some.reshape(-1), np.diff(cuts, axis=1).reshape(-1))


def _over_slots(values: Array, cuts: Array) -> Array:
    """Each candidate's sum of values over its slot."""
    if not len(values):
        return values
    return np.repeat(np.add.reduceat(values, cuts[:-1]), np.diff(cuts))


def _shares(scores: Array, cuts: Array) -> Array:
    """Softmax over the candidates of each slot."""
    if not len(scores):
        return scores
    top = np.repeat(np.maximum.reduceat(scores, cuts[:-1]), np.diff(cuts))
    mass = np.exp(scores - top)
    return np.asarray(mass / _over_slots(mass, cuts))


def _spoken(net: WordNetwork, chosen: Array, confidences: Array | None, outputs: Mapping[str, Any]) -> Texts:
    """The chosen words as texts; where one system answered alone, its own text and marks."""
    words = net.words
    first = net.first[chosen]
    if confidences is None:
        confidences = net.mean_of(words.confidences, chosen)
    starts, ends = net.mean_of(words.starts, chosen), net.mean_of(words.ends, chosen)
    answering = words.present.sum(axis=0)
    parts: list[Array] = []
    texts, scores = [], np.full(words.texts, np.nan)
    for i in range(words.texts):
        if answering[i] == 1:
            m = int(np.argmax(words.present[:, i]))
            own = outputs[words.names[m]]
            texts.append(own.texts[i])
            scores[i] = own.scores[i]
            cut = slice(words.cuts[m, i], words.cuts[m, i + 1])
            parts.append(np.array([words.confidences[cut], words.starts[cut], words.ends[cut]]))
            continue
        at = np.arange(net.offsets[i], net.offsets[i + 1])
        at = at[first[at] >= 0]
        texts.append(" ".join(words.spelled[w] for w in first[at]))
        parts.append(np.array([confidences[at], starts[at], ends[at]]))
        sure = confidences[at]
        scores[i] = sure[~np.isnan(sure)].mean() if (~np.isnan(sure)).any() else np.nan
    return _texts(texts, scores, answering > 0, parts, any(outputs[n].ragged for n in words.names))


def _texts(texts: list[str], scores: Array, answered: Array, parts: list[Array], marked: bool) -> Texts:
    if not marked:
        return Texts(np.array(texts, dtype=object), scores, answered)
    confidences, starts, ends = np.concatenate([np.zeros((3, 0)), *parts], axis=1)
    return Texts(
        np.array(texts, dtype=object), scores, answered, confidences=confidences, starts=starts, ends=ends
    )


def _alternated(net: WordNetwork, null_confidence: float) -> Texts:
    """All words of each slot: `{ a / b / @ }` where there are several."""
    words, marks = net.words, _candidate_marks(net, null_confidence)
    blank = np.full((1, 3), np.nan)
    texts, parts = [], []
    for i in range(words.texts):
        tokens: list[str] = []
        rows = [np.zeros((0, 3))]
        for s in range(net.offsets[i], net.offsets[i + 1]):
            several = int(net.cuts[s + 1] - net.cuts[s] > 1)
            for c in range(net.cuts[s], net.cuts[s + 1]):
                tokens += ["{" if c == net.cuts[s] else "/"] * several
                tokens.append(words.spelled[net.first[c]] if net.first[c] >= 0 else "@")
                rows += [blank] * several + [marks[c : c + 1]]
            tokens += ["}"] * several
            rows += [blank] * several
        texts.append(" ".join(tokens))
        parts.append(np.concatenate(rows).T)
    return _texts(texts, np.full(words.texts, np.nan), words.present.sum(axis=0) > 0, parts, True)


def _candidate_marks(net: WordNetwork, null_confidence: float) -> Array:
    """(c, 3): mean confidence, start and end of each candidate; the null word has times 0."""
    counts = np.diff(net.cuts)
    out = np.full((len(net.first), 3), np.nan)
    for k in range(int(counts.max(initial=0))):
        chosen = net.cuts[:-1] + np.minimum(k, counts - 1)
        for j, values in enumerate((net.words.confidences, net.words.starts, net.words.ends)):
            found = net.mean_of(values, chosen)
            out[chosen[counts > k], j] = found[counts > k]
    out[net.first < 0] = null_confidence, 0.0, 0.0
    return out
