"""What is to be learned: classes or numbers, the rows that count, and the losses with their slopes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError, TruthError
from conjoin.fusion import rules
from conjoin.fusion.folds import fold_numbers
from conjoin.fusion.stack import class_truth, value_truth
from conjoin.outputs import Labels, Probabilities, Values
from conjoin.scores import checked_weights

if TYPE_CHECKING:
    from conjoin.outputs import Array

FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The rows fitted to, n of them.

    at: (n,) where they are in the outputs. classes: K names, empty for numbers. y: (n,) codes, or (n, H)
    standardised numbers. shift, scale: (H,) that lead back. mass: (n,) weights of rows, mean 1.
    """

    at: Array
    classes: tuple[str, ...]
    y: Array
    shift: Array
    scale: Array
    mass: Array

    @property
    def width(self) -> int:
        """K classes, or H numbers."""
        return len(self.classes) or len(self.shift)

    def rows(self, at: Array) -> Target:
        """Some of the rows."""
        return Target(self.at[at], self.classes, self.y[at], self.shift, self.scale, self.mass[at])

    def losses(self, scores: Array) -> Array:
        """(n,) log-loss of the scores' softmax, or squared error over the numbers."""
        if not self.classes:
            return np.asarray(((scores - self.y) ** 2).mean(axis=1))
        top = scores.max(axis=1)
        total = np.log(np.exp(scores - top[:, None]).sum(axis=1))
        return np.asarray(top + total - scores[np.arange(len(scores)), self.y])

    def slope(self, scores: Array) -> Array:
        """(n, width): the derivative of each row's loss to its scores."""
        if not self.classes:
            return np.asarray(2.0 * (scores - self.y) / scores.shape[1])
        p = rules.softmax(scores)
        p[np.arange(len(p)), self.y] -= 1.0
        return np.asarray(p)

    def folds(self, seed: int) -> Array:
        """(n,) fold of each row, stratified by class."""
        strata = self.y if self.classes else None
        return fold_numbers(len(self.at), max(2, min(FOLDS, len(self.at))), seed, strata=strata)

    def answer(self, scores: Array, answered: Array) -> Probabilities | Values:
        """The fused output of scores (n, width)."""
        return answer_of(scores, answered, self.classes, self.shift, self.scale)


def answer_of(
    scores: Array, answered: Array, classes: tuple[str, ...], shift: Array, scale: Array
) -> Probabilities | Values:
    """Probabilities, or values back in their units; NaN where nobody was there."""
    values = rules.softmax(scores) if classes else scores * scale + shift
    values = np.where(answered[:, None], values, np.nan)
    if classes:
        return Probabilities(values, classes, answered)
    return Values(values[:, 0] if values.shape[1] == 1 else values, answered)


def target_of(outputs: Mapping[str, Any], truth: Any, weights: Any) -> Target:
    """The rows with a truth, a weight and an answer of some modality. Raises OutputsError, TruthError."""
    if not outputs:
        raise OutputsError("there are no modalities to fuse; give a mapping of name to output")
    n = len(next(iter(outputs.values())))
    mass = checked_weights(weights, n)
    there = np.logical_or.reduce([o.answered for o in outputs.values() if len(o) == n]) & (mass > 0)
    zero, one = np.zeros(0), np.zeros(0)
    if isinstance(truth, Labels):
        labels = class_truth(truth, n)
        at = np.flatnonzero(there & labels.answered & (labels.codes >= 0))
        y, classes = labels.codes[at], labels.classes
    else:
        values = value_truth(truth, n)
        numbers = np.asarray(values.values, np.float64).reshape(n, -1) if n else np.zeros((0, 1))
        if np.isinf(numbers[values.answered]).any():
            raise TruthError("the truth holds infinities; remove those rows or give a finite number")
        at = np.flatnonzero(there & values.answered & np.isfinite(numbers).all(axis=1))
        y, classes = numbers[at], ()
    if not len(at):
        raise TruthError(f"of {n} rows none has a truth, a weight and an answer: there is nothing to fit to")
    if not classes:
        share = mass[at] / mass[at].sum()
        zero = share @ y
        one = np.sqrt(share @ (y - zero) ** 2)
        one = np.where(one > 0, one, 1.0)
        y = (y - zero) / one
    return Target(at, classes, y, zero, one, mass[at] / mass[at].mean())
