"""Conformal sets of classes around fused probabilities, and the majority vote of several sets.

The true class of a new row is in its set with probability at least `confidence`, if the rows that calibrate
were not used to fit the fuser and are exchangeable with the new ones. The threshold is the exact
finite-sample quantile of the calibration scores (`conformal.conformal_quantile`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, InputError, OutputsError, TruthError
from conjoin.fusion.packing import names_of, number, text
from conjoin.fusion.series.conformal import checked_confidence, conformal_quantile
from conjoin.fusion.stack import Weights, class_truth, named_weights
from conjoin.outputs import Probabilities

if TYPE_CHECKING:
    from conjoin.contracts import Storable
    from conjoin.outputs import Array, Json

SCORES = ("lac", "aps", "raps")


@dataclass(frozen=True, slots=True, eq=False)
class ClassSets:
    """A set of classes for each row. inside: (n, K) bool. classes: K names. answered: (n,) bool."""

    inside: Array
    classes: tuple[str, ...]
    answered: Array

    def __len__(self) -> int:
        return len(self.inside)

    @property
    def sizes(self) -> Array:
        """(n,) how many classes are in each set; 0 where nobody answered."""
        return np.asarray(self.inside.sum(axis=1))

    def names(self) -> list[tuple[str, ...]]:
        """The names in each set."""
        return [tuple(c for c, i in zip(self.classes, row, strict=True) if i) for row in self.inside]

    def align(self, classes: tuple[str, ...]) -> ClassSets:
        """The same sets with other columns. Raises OutputsError where a class of a set is not among them."""
        at = {c: k for k, c in enumerate(self.classes)}
        lost = [c for c in self.classes if c not in classes and self.inside[:, at[c]].any()]
        if lost:
            raise OutputsError(f"classes {lost} are in some sets but not among {list(classes)}")
        blank = np.zeros(len(self), dtype=bool)
        columns = [self.inside[:, at[c]] if c in at else blank for c in classes]
        return ClassSets(np.stack(columns, axis=1), classes, self.answered)

    def covered(self, truth: Any) -> Array:
        """(n,) float: 1 where the true class is in the set, 0 where not, NaN without a truth or answer."""
        labels = class_truth(truth, len(self))
        known = tuple(dict.fromkeys((*self.classes, *labels.classes)))
        wide, codes = self.align(known), labels.align(known).codes
        hit = wide.inside[np.arange(len(self)), np.maximum(codes, 0)].astype(np.float64)
        return np.where((codes >= 0) & labels.answered & self.answered, hit, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class ConformalSets:
    """Sets of one confidence. score: "lac", "aps" or "raps". threshold: classes with a score up to it are in.

    penalty, allowed: of "raps", lambda and k_reg. never_empty: the most probable class is always in.
    seed: for the random part of "aps" and "raps", None for none: sets are then larger than need be.
    """

    classes: tuple[str, ...]
    confidence: float
    score: str
    threshold: float
    penalty: float
    allowed: int
    seed: int | None
    never_empty: bool
    rows: int

    def __call__(self, output: Probabilities, /) -> ClassSets:
        """The set of each row. Raises OutputsError on a class that it was not calibrated with."""
        aligned = _probabilities(output).align(self.classes)
        found = scores_of(
            aligned.values, self.score, self.penalty, self.allowed, _draws(self.seed, aligned.values)
        )
        inside = found <= self.threshold + 1e-12
        if self.never_empty:
            inside[np.arange(len(inside)), np.nan_to_num(aligned.values, nan=-1.0).argmax(axis=1)] = True
        return ClassSets(inside & aligned.answered[:, None], self.classes, aligned.answered)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """All of it as JSON; an infinite threshold as null."""
        meta: dict[str, Json] = {
            "classes": list(self.classes),
            "confidence": self.confidence,
            "score": self.score,
            "threshold": None if math.isinf(self.threshold) else self.threshold,
            "penalty": self.penalty,
            "allowed": self.allowed,
            "seed": self.seed,
            "never_empty": self.never_empty,
            "rows": self.rows,
        }
        return {}, meta

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        confidence = number(meta, "confidence")
        if not 0 < confidence < 1:
            raise BundleError(f"packed sets have a confidence of {confidence}, not within (0, 1)")
        return cls(
            names_of(meta, "classes"),
            confidence,
            text(meta, "score", SCORES),
            math.inf if meta.get("threshold") is None else number(meta, "threshold"),
            number(meta, "penalty"),
            int(number(meta, "allowed")),
            None if meta.get("seed") is None else int(number(meta, "seed")),
            bool(meta.get("never_empty")),
            int(number(meta, "rows")),
        )


def conformal_sets(
    output: Any,
    truth: Any,
    *,
    confidence: float = 0.9,
    score: str = "lac",
    penalty: float = 0.01,
    allowed: int = 1,
    seed: int | None = None,
    never_empty: bool = True,
) -> ConformalSets:
    """Calibrate sets on rows that the fuser was not fitted to.

    score of a class: "lac" 1 - p (Sadinle et al. 2019: the smallest sets); "aps" the sum of the probabilities
    down to the class (Romano et al. 2020: even coverage of easy and hard rows); "raps" that plus penalty x
    (rank - allowed)+ (Angelopoulos et al. 2021: smaller sets among many classes). seed: draws how much of the
    class's own probability counts in aps and raps, which makes the coverage exact (the draw of a row comes
    from its own numbers, so rows stay independent); None counts all of it.
    never_empty: adds the most probable class to an empty set. Raises InputError, OutputsError, TruthError.

    >>> from conjoin.outputs import Labels
    >>> p = Probabilities([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]], "xy")
    >>> sets = conformal_sets(p, Labels.of(["x", "x", "y", "y"]), confidence=0.7)
    >>> round(sets.threshold, 3), sets(Probabilities([[0.5, 0.5], [0.9, 0.1]], "xy")).names()
    (0.4, [('x',), ('x',)])
    """
    checked_confidence(confidence)
    if score not in SCORES:
        raise InputError(f"score must be one of {', '.join(SCORES)}, not {score!r}")
    if not penalty >= 0 or allowed < 0:
        raise InputError(f"penalty and allowed must be at least 0, not {penalty} and {allowed}")
    given = _probabilities(output)
    labels = class_truth(truth, len(given))
    kept = labels.answered & (labels.codes >= 0) & given.answered
    if not kept.any():
        raise TruthError("no row has both an answer and a truth: there is nothing to calibrate with")
    used = {labels.classes[k] for k in np.unique(labels.codes[kept])}
    classes = tuple(dict.fromkeys((*given.classes, *sorted(used))))
    codes = labels.take(kept).names()
    at = {c: k for k, c in enumerate(classes)}
    aligned = given.align(classes).take(kept)
    found = scores_of(aligned.values, score, penalty, allowed, _draws(seed, aligned.values))
    mine = found[np.arange(len(found)), [at[c] for c in codes]]
    threshold = conformal_quantile(mine, confidence)
    return ConformalSets(
        classes, confidence, score, threshold, penalty, allowed, seed, never_empty, int(kept.sum())
    )


def scores_of(p: Array, score: str, penalty: float, allowed: int, draws: Array | None) -> Array:
    """(n, K): how strange each class is, by `score`. draws: (n,) in [0, 1] of aps and raps, None for 1."""
    p = np.asarray(p, dtype=np.float64)
    if score == "lac":
        return np.asarray(1.0 - p)
    order = np.argsort(-p, axis=1, kind="stable")
    ordered = np.take_along_axis(p, order, axis=1)
    own = ordered if draws is None else ordered * draws[:, None]
    total = np.cumsum(ordered, axis=1) - ordered + own
    if score == "raps":
        total = total + penalty * np.maximum(np.arange(1, p.shape[1] + 1) - allowed, 0)
    out = np.empty_like(total)
    np.put_along_axis(out, order, total, axis=1)
    return np.asarray(out)


def majority_sets(
    sets: Mapping[str, ClassSets], /, *, weights: Weights = None, threshold: float = 0.5
) -> ClassSets:
    """Classes that are in more than `threshold` of the sets, or of their weight (Gasparin and Ramdas 2024).

    Of sets that each hold the truth with probability 1 - a, however they depend on each other, the majority
    holds it with probability at least 1 - 2 a (1 - a / (1 - threshold) in general). Sets that did not answer
    a row do not vote there. Raises OutputsError.

    >>> yes = np.array([True])
    >>> one = {c: ClassSets(np.array([[c != "z", c == "a"]]), ("x", "y"), yes) for c in "abz"}
    >>> majority_sets(one).names()
    [('x',)]
    """
    if not sets:
        raise OutputsError("there are no sets to merge")
    if not 0 <= threshold < 1:
        raise OutputsError(f"threshold must lie in [0, 1), not {threshold}")
    mass = named_weights(sets, weights)
    names = sorted(n for n in sets if mass[n] > 0)
    rows = {n: len(sets[n]) for n in names}
    if len(set(rows.values())) > 1:
        raise OutputsError(f"sets must have the same rows, not {rows}")
    classes = tuple(dict.fromkeys(c for n in names for c in sets[n].classes))
    total = np.zeros(rows[names[0]])
    votes = np.zeros((len(total), len(classes)))
    for n in names:
        votes += mass[n] * sets[n].align(classes).inside
        total += mass[n] * sets[n].answered
    inside = votes > threshold * total[:, None] * (1 + 1e-12)
    return ClassSets(inside & (total > 0)[:, None], classes, total > 0)


def majority_intervals(
    intervals: Mapping[str, Any], /, *, weights: Weights = None, threshold: float = 0.5
) -> Any:
    """The hull of the points that are in more than `threshold` of the intervals (Gasparin and Ramdas 2024).

    intervals: `Quantiles` of two levels, all the same. A row in which no point is in enough of them gets the
    weighted median of the middles, as an interval of width 0. Raises OutputsError.

    >>> from conjoin.outputs import Quantiles
    >>> ends = {"a": [[0.0, 2.0]], "b": [[1.0, 3.0]], "c": [[9.0, 10.0]]}
    >>> majority_intervals({n: Quantiles(v, (0.05, 0.95)) for n, v in ends.items()}).values
    array([[1., 2.]])
    """
    from conjoin.fusion.stack import stack

    mass = named_weights(intervals, weights)
    laid = stack({n: intervals[n] for n in intervals if mass[n] > 0})
    if laid.kind != "quantiles" or laid.width != 2:
        raise OutputsError(f"intervals are quantiles of two levels, not {laid.width} numbers of {laid.kind}")
    w = np.array([mass[n] for n in laid.names])[:, None] * laid.answers()
    tensor = laid.tensor()
    low, high = (np.where(laid.answers(), tensor[:, :, k], np.nan) for k in (0, 1))
    total = w.sum(axis=0)
    ends = np.concatenate([low, high])
    held = np.zeros(ends.shape)
    for m in range(len(w)):
        held += np.where((low[m] <= ends) & (ends <= high[m]), w[m], 0.0)
    enough = held > threshold * total * (1 + 1e-12)
    out = np.stack(
        [np.where(enough, ends, np.inf).min(axis=0), np.where(enough, ends, -np.inf).max(axis=0)], axis=1
    )
    none = ~enough.any(axis=0) & (total > 0)
    if none.any():
        middle = np.where(w > 0, (low + high) / 2, np.inf)[:, none]
        order = np.argsort(middle, axis=0, kind="stable")
        ends = np.cumsum(np.take_along_axis(w[:, none], order, axis=0), axis=0)
        at = (ends < total[none] / 2 * (1 - 1e-12)).sum(axis=0)
        out[none] = np.take_along_axis(np.take_along_axis(middle, order, axis=0), at[None], axis=0)[0][
            :, None
        ]
    out[total <= 0] = np.nan
    return laid.output(out, total > 0)


def _draws(seed: int | None, p: Array) -> Array | None:
    """(n,) numbers in [0, 1) that look random; they depend on the row's probabilities and the seed alone."""
    if seed is None:
        return None
    bits = np.ascontiguousarray(p, dtype=np.float64).view(np.uint64)
    state = np.full(len(bits), np.uint64(seed % 2**63) + np.uint64(0x9E3779B97F4A7C15), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for column in bits.T:  # the mixing steps of splitmix64
            state = (state ^ column) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state ^= state >> np.uint64(31)
    return np.asarray((state >> np.uint64(11)) / 2.0**53)


def _probabilities(output: Any) -> Probabilities:
    if not isinstance(output, Probabilities):
        raise OutputsError(
            f"conformal sets are made of probabilities, not {getattr(output, 'kind', output)!r}"
        )
    return output
