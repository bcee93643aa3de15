"""Borda count over classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.stack import Weights, named_weights, stack
from conjoin.outputs import Probabilities

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array


def borda_classes(
    outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None
) -> Probabilities:
    """Borda count: a class gets a point for each class that a member ranks below it, half for ties.

    The weighted sum of points, scaled to sum 1 (Ho, Hull and Srihari 1994). Takes probabilities and labels.
    Raises OutputsError.

    >>> p = Probabilities([[0.5, 0.3, 0.2]], "xyz")
    >>> borda_classes({"a": p, "b": Probabilities([[0.1, 0.8, 0.1]], "xyz")}).values.round(3)
    array([[0.417, 0.5  , 0.083]])
    """
    named = named_weights(outputs, weights)
    laid = stack({n: o for n, o in outputs.items() if named[n] > 0})
    if laid.kind != "probabilities":
        raise OutputsError(f"Borda over classes takes probabilities or labels, not {laid.kind}")
    total = np.zeros((laid.rows, laid.width))
    answered = np.zeros(laid.rows, dtype=bool)
    for name, part, there in zip(laid.names, laid.parts, laid.answered, strict=True):
        total[there] += named[name] * points(np.asarray(part, np.float64)[there])
        answered |= there
    mass = total.sum(axis=1, keepdims=True)
    values = np.divide(total, mass, out=np.full(total.shape, 1.0 / max(laid.width, 1)), where=mass > 0)
    return Probabilities(np.where(answered[:, None], values, np.nan), laid.classes, answered)


def points(p: Array) -> Array:
    """(n, K): how many classes are less probable, and half of those that are as probable."""
    order = np.argsort(p, axis=1, kind="stable")
    rising = np.take_along_axis(p, order, axis=1)
    step = np.ones(p.shape, dtype=bool)
    step[:, 1:] = rising[:, 1:] != rising[:, :-1]
    place = np.broadcast_to(np.arange(p.shape[1]), p.shape)
    first = np.maximum.accumulate(np.where(step, place, 0), axis=1)
    end = np.ones(p.shape, dtype=bool)
    end[:, :-1] = step[:, 1:]
    last = np.minimum.accumulate(np.where(end, place, p.shape[1])[:, ::-1], axis=1)[:, ::-1]
    out = np.empty(p.shape)
    np.put_along_axis(out, order, (first + last) / 2, axis=1)
    return out
