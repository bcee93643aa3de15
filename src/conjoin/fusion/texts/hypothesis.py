"""Choice of one system's whole text by what it says of itself: confidence, agreement, and words known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, OutputsError, TruthError
from conjoin.fusion.packing import ask, known, members_of
from conjoin.fusion.single import guarded
from conjoin.fusion.texts.rover import logits
from conjoin.fusion.texts.rover_words import WordNetwork, Words, default_of, folded, lay_out, network_of
from conjoin.outputs import Texts, concat, silenced

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json
    from conjoin.scores import FieldScore

RIDGE = 3.0
"""Ridge of the slopes, in rows; that of the intercepts is RIDGE / 10."""
FEATURES = ("agreement", "confidence", "known")
MOST_WORDS = 200_000
"""The vocabulary keeps this many words of the truth, the most frequent."""


@dataclass(frozen=True, slots=True, eq=False)
class HypothesisSelection:
    """Of each text's hypotheses the one with the least expected loss.

        loss of m = intercept_m + slopes . (agreement, confidence, known)

    agreement: the share of slots of the word network in which the other systems say what m says, weighted by
    `trust`. confidence: the mean logit of its words' confidences, else the text's score. known: the share of
    its words that occur in `vocabulary`, the words of the truth it was fitted to. intercepts, trust: by name
    of the system. Equal losses: the first by name.
    """

    intercepts: Mapping[str, float]
    trust: Mapping[str, float]
    slopes: tuple[float, float, float]
    vocabulary: tuple[str, ...]

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the systems it knows."""
        return tuple(self.intercepts)

    @property
    def needs(self) -> tuple[str, ...]:
        """All of them: each may be chosen."""
        return self.members

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Texts:
        """Choose. Raises OutputsError on a system it was not fitted to."""
        known(self.members, outputs)
        words = lay_out(outputs)
        vocabulary = frozenset(self.vocabulary)
        heard = np.array([folded(w) in vocabulary for w in words.spelled], dtype=np.float64)
        features = _features(network_of(words), outputs, heard, self.trust)
        loss = np.array([self.intercepts[n] for n in words.names])[:, None] + features @ np.array(self.slopes)
        choice = np.where(words.present, loss, np.inf).argmin(axis=0)
        return _chosen(words, choice, outputs)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The numbers; names and words as JSON."""
        arrays = {
            "intercepts": np.array(list(self.intercepts.values())),
            "trust": np.array([self.trust[n] for n in self.members]),
            "slopes": np.array(self.slopes),
        }
        return arrays, {"members": list(self.members), "vocabulary": list(self.vocabulary)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names, words = members_of(meta), meta.get("vocabulary")
        if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
            raise BundleError("a packed selection of hypotheses needs a vocabulary, a list of words")
        intercepts, trust = (ask(arrays, k, (len(names),)).tolist() for k in ("intercepts", "trust"))
        a, b, c = ask(arrays, "slopes", (3,)).tolist()
        return cls(
            dict(zip(names, intercepts, strict=True)),
            dict(zip(names, trust, strict=True)),
            (a, b, c),
            tuple(str(w) for w in words),
        )


def fit_hypothesis_selection(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: FieldScore | None = None,
    seed: int = 0,
    ridge: float = RIDGE,
) -> Any:
    """Ridge regression of the differences in loss between the hypotheses of a text.

    The loss of a text is that of `score` (one that adds up over rows; by default word error rate for speech,
    else that of texts), at most 1 where it is a rate of errors. Words of the truth count as known where
    another text has them. weights: (n,) of rows. seed has no influence. Gives a `HypothesisSelection`, or
    `Single` where the best system does better on the same rows. Raises OutputsError and TruthError.
    """
    score = score or default_of(outputs)
    if not isinstance(truth, Texts):
        raise TruthError(f"texts are fitted to a truth of texts, not {getattr(truth, 'kind', truth)}")
    words = lay_out(outputs)
    losses = _losses(words, outputs, truth, score)
    vocabulary, heard = _vocabulary(words, truth)
    trust = _trust(words, losses)
    features = _features(network_of(words), outputs, heard, trust)
    lengths = np.array([max(1, len(str(t).split())) for t in truth.texts], dtype=np.float64)
    mass = lengths * (1.0 if weights is None else np.asarray(weights, np.float64))
    slopes, intercepts = _regression(features, losses, mass, ridge)
    fitted = HypothesisSelection(
        dict(zip(words.names, intercepts.tolist(), strict=True)),
        trust,
        (float(slopes[0]), float(slopes[1]), float(slopes[2])),
        vocabulary,
    )
    return guarded(fitted, outputs, truth, score, weights)


def _losses(words: Words, outputs: Mapping[str, Any], truth: Texts, score: FieldScore) -> Array:
    """(M, n): the loss of each system's text, NaN where it or the truth is missing."""
    if score.statistics is None or score.total is None:
        raise OutputsError(f"hypotheses are chosen by a score that adds up over rows; {score.name} does not")
    out = np.full(words.present.shape, np.nan)
    for m, name in enumerate(words.names):
        table = score.statistics(outputs[name], truth)
        for i in np.flatnonzero(words.present[m] & ~np.isnan(table).any(axis=1)):
            loss = score.turned(float(score.total(table[i])))
            out[m, i] = min(loss, 1.0) if score.better == "lower" else loss
    return out


def _vocabulary(words: Words, truth: Texts) -> tuple[tuple[str, ...], Array]:
    """Words of the truth; and (t,) whether each word of the systems occurs in the truth of another text."""
    own = [
        {folded(w) for w in str(t).split()} if a else set()
        for t, a in zip(truth.texts, truth.answered, strict=True)
    ]
    counts = Counter(w for text in own for w in text)
    rows = np.concatenate([np.repeat(np.arange(words.texts), np.diff(cut)) for cut in words.cuts])
    spelled = [folded(w) for w in words.spelled]
    heard = [counts[w] - (w in own[i]) > 0 for w, i in zip(spelled, rows, strict=True)]
    kept = sorted(counts, key=lambda w: (-counts[w], w))[:MOST_WORDS]
    return tuple(sorted(kept)), np.array(heard, dtype=np.float64)


def _trust(words: Words, losses: Array) -> dict[str, float]:
    """How good each system is beside an empty answer or the worst: in 0.01 to 1."""
    worst = max(1.0, float(np.nanmax(losses, initial=0.0))) if not np.isnan(losses).all() else 1.0
    mean = [float(np.nanmean(row)) if not np.isnan(row).all() else worst for row in losses]
    return {n: max(0.01, 1.0 - v / worst) for n, v in zip(words.names, mean, strict=True)}


def _features(
    net: WordNetwork, outputs: Mapping[str, Any], heard: Array, trust: Mapping[str, float]
) -> Array:
    """(M, n, 3): agreement, confidence and share of known words."""
    words = net.words
    out = np.zeros((*words.present.shape, 3))
    out[..., 0] = _agreement(net, np.array([trust[n] for n in words.names]))
    scores = np.array([np.asarray(outputs[n].scores, np.float64) for n in words.names])
    silent = _means(np.isnan(words.confidences).astype(np.float64), words) == 1.0
    scores = np.nan_to_num(scores, nan=0.0, posinf=0.0, neginf=0.0)
    out[..., 1] = np.where(silent, scores, _means(logits(words.confidences), words))
    out[..., 2] = _means(heard, words)
    return out


def _means(values: Array, words: Words) -> Array:
    """(M, n) means over the words of each text; 0 where there are none."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    counts = np.diff(words.cuts, axis=1)
    sums = total[words.cuts[:, 1:]] - total[words.cuts[:, :-1]]
    return np.asarray(sums / np.maximum(counts, 1))


def _agreement(net: WordNetwork, trust: Array) -> Array:
    words = net.words
    text = np.repeat(np.arange(words.texts), np.diff(net.offsets))
    out = np.zeros(words.present.shape)
    for m in range(len(words.names)):
        same, mass = np.zeros(words.texts), np.zeros(words.texts)
        for other in range(len(words.names)):
            if other == m:
                continue
            both = (net.of[:, m] >= 0) & (net.of[:, other] >= 0)
            equal = both & (net.of[:, m] == net.of[:, other])
            same += trust[other] * np.bincount(text, equal, minlength=words.texts)
            mass += trust[other] * np.bincount(text, both, minlength=words.texts)
        out[m] = np.divide(same, mass, out=np.zeros(words.texts), where=mass > 0)
    return out


def _regression(features: Array, losses: Array, mass: Array, ridge: float) -> tuple[Array, Array]:
    """Slopes (3,) and intercepts (M,) by which differences of losses within a text are told best."""
    M, n, K = features.shape
    usable = ~np.isnan(losses) & (mass > 0)
    usable &= usable.sum(axis=0) > 1
    if not usable.any():
        return np.zeros(K), np.nan_to_num(_row_means(losses))
    X = np.concatenate([np.repeat(np.eye(M)[:, None, :], n, axis=1), features], axis=2)
    counts = np.maximum(usable.sum(axis=0), 1)
    X = X - (X * usable[..., None]).sum(axis=0) / counts[:, None]
    y = np.where(usable, losses, 0.0)
    y = y - y.sum(axis=0) / counts
    spread = features[usable].std(axis=0)
    X[..., M:] /= np.where(spread > 1e-12, spread, 1.0)
    share = (np.broadcast_to(mass, (M, n)) * usable / mass[usable.any(axis=0)].mean())[usable]
    A, b = X[usable], y[usable]
    penalty = np.diag(np.r_[np.full(M, ridge / 10.0), np.full(K, ridge)])
    found = np.linalg.solve((A * share[:, None]).T @ A + penalty, (A * share[:, None]).T @ b)
    return np.asarray(found[M:] / np.where(spread > 1e-12, spread, 1.0)), found[:M]


def _row_means(losses: Array) -> Array:
    counts = (~np.isnan(losses)).sum(axis=1)
    return np.where(counts > 0, np.nansum(losses, axis=1) / np.maximum(counts, 1), np.nan)


def _chosen(words: Words, choice: Array, outputs: Mapping[str, Any]) -> Texts:
    """The rows of the systems chosen, with all that these say of them."""
    joined = concat([outputs[n] for n in words.names])
    picked: Texts = silenced(
        joined.take(choice * words.texts + np.arange(words.texts)), ~words.present.any(axis=0)
    )
    return picked
