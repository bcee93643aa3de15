"""The rows that a fuser is fitted to, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conjoin.errors import OutputsError, TruthError, listed
from conjoin.fusion.simplex import SMALLEST, row_shares
from conjoin.fusion.stack import Stack, as_rows, class_truth, stack, value_truth
from conjoin.outputs import Array, Labels, Values
from conjoin.scores import checked_weights

MOST_CELLS = 24_000_000
"""Numbers that a fit looks at where it needs all at once; of more rows every second, third ... is taken."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassProblem:
    """Rows with a true class. Where a member did not answer, the mean of those who did stands in.

    stack: M members, n rows, all answered. codes: (n,) true classes. shares: (n,) weights of rows, sum 1.
    at: (n,) where these rows are in the outputs given.
    """

    stack: Stack
    codes: Array
    shares: Array
    at: Array

    def of_truth(self) -> Array:
        """(M, n): the probability that each member gave to the true class, at least 1e-15."""
        n, width = len(self.codes), self.stack.width
        at = np.arange(n) * width + self.codes
        out = np.empty((len(self.stack.parts), n))
        for m, part in enumerate(self.stack.parts):
            out[m] = part.reshape(-1).take(at) if part.flags.c_contiguous else part[np.arange(n), self.codes]
        if not bool(np.isfinite(out.sum())):
            _name_nan(self.stack)
        return np.maximum(out, SMALLEST, out=out)

    def rows(self, at: Array) -> ClassProblem:
        """The same problem on some rows."""
        shares = self.shares[at]
        return ClassProblem(_rows(self.stack, at), self.codes[at], shares / shares.sum(), self.at[at])

    def thinned(self) -> ClassProblem:
        """The same problem, on every second, third ... row where it holds more than MOST_CELLS numbers."""
        return self.thinned_to(MOST_CELLS)

    def thinned_to(self, cells: int) -> ClassProblem:
        """The same problem, on every second, third ... row where it holds more numbers than this."""
        step = -(-len(self.stack.parts) * self.stack.rows * self.stack.width // cells)
        return self if step <= 1 else self.rows(np.arange(0, self.stack.rows, step))

    def only(self, names: Sequence[str]) -> ClassProblem:
        """The same problem with some of the members."""
        return replace(self, stack=self.stack.only(names))

    @property
    def truth(self) -> Labels:
        """The true classes as labels."""
        return Labels(self.codes, self.stack.classes)


@dataclass(frozen=True, slots=True, eq=False)
class ValueProblem:
    """Rows with true numbers. Where a member did not answer, the mean of those who did stands in.

    stack: M members, n rows, all answered. target: (n, H); H is 1 for quantiles. shares: (n,), sum 1.
    at: (n,) where these rows are in the outputs given.
    """

    stack: Stack
    target: Array
    shares: Array
    at: Array

    def residuals(self) -> Array:
        """(M, n * C): answer - truth, each row scaled by the root of its share of the weight."""
        root = np.sqrt(self.shares)[:, None]
        out = np.empty((len(self.stack.parts), self.stack.rows * self.stack.width))
        for m, part in enumerate(self.stack.parts):
            out[m] = ((part - self.target) * root).reshape(-1)
        if not bool(np.isfinite(out.sum())):
            _name_nan(self.stack)
        return out

    def rows(self, at: Array) -> ValueProblem:
        """The same problem on some rows."""
        shares = self.shares[at]
        return ValueProblem(_rows(self.stack, at), self.target[at], shares / shares.sum(), self.at[at])

    def thinned(self) -> ValueProblem:
        """The same problem, on every second, third ... row where it holds more than MOST_CELLS numbers."""
        return self.thinned_to(MOST_CELLS)

    def thinned_to(self, cells: int) -> ValueProblem:
        """The same problem, on every second, third ... row where it holds more numbers than this."""
        step = -(-len(self.stack.parts) * self.stack.rows * self.stack.width // cells)
        return self if step <= 1 else self.rows(np.arange(0, self.stack.rows, step))

    def only(self, names: Sequence[str]) -> ValueProblem:
        """The same problem with some of the members."""
        return replace(self, stack=self.stack.only(names))

    @property
    def truth(self) -> Values:
        """The true numbers as values."""
        return Values(self.target[:, 0] if self.target.shape[1] == 1 else self.target)


def problem(outputs: Mapping[str, Any], truth: Any, weights: Any = None) -> ClassProblem | ValueProblem:
    """The rows that have a truth, a weight and an answer of at least one member.

    Raises OutputsError or TruthError where outputs and truth do not fit, or no row is left.
    """
    first = next(iter(outputs.values())) if outputs else None
    if isinstance(truth, Labels) or getattr(first, "kind", None) in ("probabilities", "labels"):
        return class_problem(outputs, truth, weights)
    return value_problem(outputs, truth, weights)


def class_problem(outputs: Mapping[str, Any], truth: Any, weights: Any = None) -> ClassProblem:
    """As `problem`, for probabilities and labels."""
    n = len(next(iter(outputs.values()))) if outputs else 0
    labels = class_truth(truth, n)
    counts = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.classes))
    laid = stack(outputs, also=[c for c, k in zip(labels.classes, counts, strict=True) if k])
    if laid.kind != "probabilities":
        raise OutputsError(f"a truth of labels fits probabilities, not {laid.kind}")
    codes = _codes(labels, laid.classes)
    laid, keep, shares = _kept(laid, labels.answered & (codes >= 0), weights)
    return ClassProblem(laid, codes[keep], shares, keep)


def value_problem(outputs: Mapping[str, Any], truth: Any, weights: Any = None) -> ValueProblem:
    """As `problem`, for values and quantiles."""
    laid = stack(outputs)
    if laid.kind == "probabilities":
        raise OutputsError("a truth of values fits values or quantiles, not probabilities")
    values = value_truth(truth, laid.rows)
    target = as_rows(np.asarray(values.values, dtype=np.float64))
    if laid.kind == "values" and target.shape[1] != laid.width:
        raise TruthError(f"the truth has {target.shape[1]} targets, the members answer {laid.width}")
    if laid.kind == "quantiles" and target.shape[1] != 1:
        raise TruthError(f"quantiles are fitted to one number a row, not {target.shape[1]}")
    finite = np.isfinite(target).all(axis=1)
    if bool(np.isinf(target[values.answered]).any()):
        raise TruthError("the truth holds infinities; remove those rows or give a finite number")
    laid, keep, shares = _kept(laid, values.answered & finite, weights)
    return ValueProblem(laid, target[keep], shares, keep)


def _codes(labels: Labels, classes: tuple[str, ...]) -> Array:
    at = {c: k for k, c in enumerate(classes)}
    table = np.array([*(at.get(c, -1) for c in labels.classes), -1])
    return np.asarray(table[labels.codes])


def _kept(laid: Stack, known: Array, weights: Any) -> tuple[Stack, Array, Array]:
    mass = None if weights is None else checked_weights(weights, laid.rows)
    keep = known if mass is None else known & (mass > 0)
    if not laid.complete:
        keep = keep & np.logical_or.reduce(laid.answered)
    if not keep.any():
        raise TruthError(
            f"of {laid.rows} rows none has a truth, a weight and an answer: there is nothing to fit to"
        )
    if keep.all():
        return _filled(laid), np.arange(laid.rows), row_shares(mass, laid.rows)
    at = np.flatnonzero(keep)
    return _filled(_rows(laid, at)), at, row_shares(None if mass is None else mass[at], len(at))


def _rows(laid: Stack, at: Array) -> Stack:
    return replace(laid, parts=tuple(p[at] for p in laid.parts), answered=tuple(a[at] for a in laid.answered))


def _filled(laid: Stack) -> Stack:
    """Every hole filled with the mean of the members who answered that row."""
    if laid.complete:
        return laid
    return replace(
        laid,
        parts=tuple(filled_parts(laid)),
        answered=tuple(np.ones(laid.rows, dtype=bool) for _ in laid.parts),
    )


def filled_parts(laid: Stack) -> list[Array]:
    """The parts, where a member did not answer the mean of those who did; NaN where nobody did."""
    if laid.complete:
        return list(laid.parts)
    total, count = np.zeros((laid.rows, laid.width)), np.zeros(laid.rows)
    for part, answered in zip(laid.parts, laid.answered, strict=True):
        total += np.where(answered[:, None], part, 0.0)
        count += answered
    mean = np.where(count[:, None] > 0, total / np.maximum(count, 1.0)[:, None], np.nan)
    return [np.where(a[:, None], p, mean) for p, a in zip(laid.parts, laid.answered, strict=True)]


def _name_nan(laid: Stack) -> None:
    bad = [n for n, p in zip(laid.names, laid.parts, strict=True) if not bool(np.isfinite(p).all())]
    raise OutputsError(
        f"members {listed(bad)} gave NaN or infinity in rows that they mark as answered; "
        "mark those rows as unanswered, or leave the members out"
    )


def finite_tensor(laid: Stack) -> Array:
    """(M, n, C) float64. Raises OutputsError naming the members with NaN or infinities."""
    tensor = laid.tensor()
    if not bool(np.isfinite(tensor.sum())):
        _name_nan(laid)
    return tensor
