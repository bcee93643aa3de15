"""Inner products of tensors, and sums of tensors: what merging on spheres needs, in one pass each.

slerp, nuslerp, multislerp, karcher and model_stock all answer a linear combination of their inputs whose
coefficients follow from the inner products of the inputs alone. So one pass makes the Gram matrix, in
float64, the formula works on that, and a second pass adds up. By rows, each row has a matrix and
coefficients of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError
from conjoin.kernels import weights as kernels
from conjoin.transfer.weights.method import Given, Stack

if TYPE_CHECKING:
    from conjoin.outputs import Array

Coefficients = Callable[["Array"], "Array"]
"""Gram matrices (..., M, M) -> coefficients (..., M)."""


def combine(given: Given, coefficients: Coefficients, *, deltas: bool, rows: str | None = None) -> None:
    """Fill `given.out` with sum_i c_i theta_i, or with theta_0 + sum_i c_i (theta_i - theta_0) for `deltas`.

    rows: None for one set of coefficients a tensor; "last" for one of each vector along the last axis,
    "first" along the first axis.
    """
    if not deltas:
        given = dataclasses.replace(given, base=None)
    elif given.base is None:
        raise InputError(f"{given.name}: the base model has no such tensor")
    if rows is None or given.out.ndim < 2:
        _combine(given, coefficients)
        return
    base = given.base
    axis = -1 if rows == "last" else 0
    tensors = [np.moveaxis(t, axis, -1).reshape(-1, t.shape[axis]) for t in given.tensors]
    start = None if base is None else np.moveaxis(base, axis, -1).reshape(-1, base.shape[axis])
    moved = np.empty(tensors[0].shape, given.out.dtype)
    for row in range(len(moved)):
        each = tuple(np.ascontiguousarray(t[row]) for t in tensors)
        first = None if start is None else np.ascontiguousarray(start[row])
        one = dataclasses.replace(given, tensors=each, base=first, out=moved[row], write=None)
        _combine(one, coefficients)
    shape = np.moveaxis(given.out, axis, -1).shape
    given.out[...] = np.moveaxis(moved.reshape(shape), -1, axis)


def gram(given: Given) -> Array:
    """(M, M) float64: inner products of the tensors, or of their differences from the base where there is
    one.
    """
    out, stack = np.zeros((len(given.tensors), len(given.tensors))), Stack(given)
    for block in given.blocks():
        kernels.add_products(out, stack(block), block.stop - block.start, int(given.base is not None))
    return out


def _combine(given: Given, coefficients: Coefficients) -> None:
    found, one = given.numbers(coefficients(gram(given)).tolist()), given.number(1.0)
    stack, put = Stack(given), kernels.put_sum if given.base is None else kernels.put_deltas
    for block, out in given.parts():
        put(out, stack(block), found, one)
