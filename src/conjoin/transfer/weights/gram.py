"""Inner products of tensors, and sums of tensors: what merging on spheres needs, in one pass each.

slerp, nuslerp, multislerp, karcher and model_stock all answer a linear combination of their inputs whose
coefficients follow from the inner products of the inputs alone. So one pass makes the Gram matrix, in
float64, the formula works on that, and a second pass adds up. By rows, each row has a matrix and
coefficients of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError
from conjoin.kernels import weights as kernels
from conjoin.transfer.weights.method import BLOCK, Given

if TYPE_CHECKING:
    from conjoin.outputs import Array

Coefficients = Callable[["Array"], "Array"]
"""Gram matrices (..., M, M) -> coefficients (..., M)."""


def combine(given: Given, coefficients: Coefficients, *, deltas: bool, rows: str | None = None) -> None:
    """Fill `given.out` with sum_i c_i theta_i, or with theta_0 + sum_i c_i (theta_i - theta_0) for `deltas`.

    rows: None for one set of coefficients a tensor; "last" for one of each vector along the last axis,
    "first" along the first axis.
    """
    if deltas and given.base is None:
        raise InputError(f"{given.name}: the base model has no such tensor")
    base = given.base if deltas else None
    if rows is None or given.out.ndim < 2:
        found = coefficients(gram([given.flat(t) for t in given.tensors], _flat(base)))
        _put(given, [given.flat(t) for t in given.tensors], _flat(base), given.flat(given.out), found)
        return
    axis = -1 if rows == "last" else 0
    tensors = [np.moveaxis(t, axis, -1).reshape(-1, t.shape[axis]) for t in given.tensors]
    start = None if base is None else np.moveaxis(base, axis, -1).reshape(-1, base.shape[axis])
    moved = np.empty(tensors[0].shape, given.out.dtype)
    for row in range(len(moved)):
        each = [np.ascontiguousarray(t[row]) for t in tensors]
        first = None if start is None else np.ascontiguousarray(start[row])
        _put(given, each, first, moved[row], coefficients(gram(each, first)))
    shape = np.moveaxis(given.out, axis, -1).shape
    given.out[...] = np.moveaxis(moved.reshape(shape), -1, axis)


def gram(tensors: Sequence[Array], base: Array | None) -> Array:
    """(M, M) float64: inner products of the tensors (n,), or of their differences from the base."""
    n = len(tensors[0])
    out = np.zeros((len(tensors), len(tensors)))
    numbers = np.empty((len(tensors), min(n, BLOCK)))
    for start in range(0, n, BLOCK):
        block = slice(start, min(start + BLOCK, n))
        part = numbers[:, : block.stop - start]
        for row, tensor in zip(part, tensors, strict=True):
            if base is None:
                kernels.decode(row, tensor[block])
            else:
                kernels.delta(row, base[block], tensor[block])
        out += part @ part.T
    return out


def _flat(array: Array | None) -> Array | None:
    return None if array is None else array.reshape(-1)


def _put(given: Given, tensors: Sequence[Array], base: Array | None, out: Array, coefficients: Array) -> None:
    n = len(out)
    acc = np.empty(min(n, BLOCK), given.work)
    for start in range(0, n, BLOCK):
        block = slice(start, min(start + BLOCK, n))
        part = acc[: block.stop - start]
        part[:] = 0
        for tensor, c in zip(tensors, coefficients.tolist(), strict=True):
            if base is None:
                kernels.add_linear(part, tensor[block], given.number(c))
            else:
                kernels.add_delta(part, base[block], tensor[block], given.number(c))
        if base is None:
            kernels.put_quotient(out[block], part, given.number(1.0))
        else:
            kernels.put_moved(out[block], base[block], part, given.number(1.0))
