"""Sums of weights: linear, passthrough, task arithmetic, nearswap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from conjoin.errors import InputError
from conjoin.kernels import weights as kernels
from conjoin.transfer.weights.method import Given, Stack


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
    stack, coefficients = Stack(given), np.array(weights, dtype=number)
    for block, out in given.parts():
        kernels.put_sum(out, stack(block), coefficients, divisor)


def passthrough(given: Given) -> None:
    """The one model's tensor, times `scale` where it is given."""
    (scale,) = given.each["scale"]
    if scale is None and given.out.dtype == given.tensors[0].dtype:
        x = given.read(given.tensors[0])
        for block, out in given.parts():
            out[:] = x[block]
        return
    stack, coefficients = Stack(given), given.numbers([1.0 if scale is None else scale])
    for block, out in given.parts():
        kernels.put_sum(out, stack(block), coefficients, given.number(1.0))


def task_arithmetic(given: Given) -> None:
    """theta_0 + lambda sum_i w_i (theta_i - theta_0), over sum_i w_i where `normalize` (Ilharco et al.
    2023).
    """
    weights = given.each["weight"]
    scale = factor(given.shared, sum(weights))
    stack, coefficients = Stack(given), given.numbers(weights)
    for block, out in given.parts():
        kernels.put_deltas(out, stack(block), coefficients, given.number(scale))


def nearswap(given: Given) -> None:
    """theta_0 + clip(t / |theta_1 - theta_0|, 0, 1) (theta_1 - theta_0): near weights are swapped, far ones
    kept.
    """
    stack, t = Stack(given), given.number(given.shared["t"])
    for block, out in given.parts():
        kernels.put_near(out, stack(block), t)


def factor(shared: Mapping[str, Any], total: float) -> float:
    """lambda, over the sum of the weights where `normalize` (a sum of nearly 0 counts as 1)."""
    divisor = total if shared.get("normalize") and abs(total) >= 1e-8 else 1.0
    return float(shared.get("lambda", 1.0)) / divisor
