"""Sums of weights: linear, passthrough, task arithmetic, nearswap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError
from conjoin.kernels import weights as kernels

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.transfer.weights.method import Given


def linear(given: Given) -> None:
    """sum_i w_i theta_i, over sum_i w_i where `normalize` (Wortsman et al. 2022).

    Summed in the models' order, in float32 (float64 for float64). Raises InputError where the weights sum to
    0.
    """
    weights = given.each["weight"]
    double = given.tensors[0].dtype == np.float64
    number: Any = np.float64 if double else np.float32
    divisor = sum(map(number, weights), number(0)) if given.shared["normalize"] else number(1)
    if divisor == 0 or (given.shared["normalize"] and sum(weights) == 0):
        raise InputError(
            f"{given.name}: the weights of linear sum to 0; change them, or set normalize: false"
        )
    acc = np.empty(min(given.size, _most()), number)
    for block in given.blocks():
        part = acc[: block.stop - block.start]
        part[:] = 0
        for tensor, weight in zip(given.tensors, weights, strict=True):
            kernels.add_linear(part, given.flat(tensor)[block], number(weight))
        kernels.put_quotient(given.flat(given.out)[block], part, divisor)


def passthrough(given: Given) -> None:
    """The one model's tensor, times `scale` where it is given."""
    (scale,) = given.each["scale"]
    out, x = given.flat(given.out), given.flat(given.tensors[0])
    if scale is None and out.dtype == x.dtype:
        out[:] = x
        return
    number = given.number(1.0 if scale is None else scale)
    acc = np.empty(min(given.size, _most()), given.work)
    for block in given.blocks():
        part = acc[: block.stop - block.start]
        part[:] = 0
        kernels.add_linear(part, x[block], number)
        kernels.put_quotient(out[block], part, given.number(1.0))


def task_arithmetic(given: Given) -> None:
    """theta_0 + lambda sum_i w_i (theta_i - theta_0), over sum_i w_i where `normalize` (Ilharco et al.
    2023).
    """
    weights = given.each["weight"]
    scale = factor(given.shared, sum(weights))
    base, out = given.flat(_base(given)), given.flat(given.out)
    acc = np.empty(min(given.size, _most()), given.work)
    for block in given.blocks():
        part = acc[: block.stop - block.start]
        part[:] = 0
        for tensor, weight in zip(given.tensors, weights, strict=True):
            kernels.add_delta(part, base[block], given.flat(tensor)[block], given.number(weight))
        kernels.put_moved(out[block], base[block], part, given.number(scale))


def nearswap(given: Given) -> None:
    """theta_0 + clip(t / |theta_1 - theta_0|, 0, 1) (theta_1 - theta_0): near weights are swapped, far ones
    kept.
    """
    base, out, x = (given.flat(a) for a in (_base(given), given.out, given.tensors[0]))
    for block in given.blocks():
        kernels.put_near(out[block], base[block], x[block], given.number(given.shared["t"]))


def factor(shared: Mapping[str, Any], total: float) -> float:
    """lambda, over the sum of the weights where `normalize` (a sum of nearly 0 counts as 1)."""
    divisor = total if shared.get("normalize") and abs(total) >= 1e-8 else 1.0
    return float(shared.get("lambda", 1.0)) / divisor


def _base(given: Given) -> Array:
    if given.base is None:
        raise InputError(f"{given.name}: the base model has no such tensor")
    return given.base


def _most() -> int:
    from conjoin.transfer.weights.method import BLOCK

    return BLOCK
