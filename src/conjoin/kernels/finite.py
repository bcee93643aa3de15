"""Finds and counts numbers that are NaN or infinite, by their bits."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from conjoin.kernels.jit import jit

Array = np.ndarray[Any, Any]


@cache
def masks(full: int, size: int) -> tuple[Any, Any, Any]:
    """What `any_full` takes for numbers of `size` bits with these bits of the exponent."""
    low = full & -full
    repeated = [sum(part << shift for shift in range(0, 64, size)) for part in (full, low, full + low)]
    return np.uint64(repeated[0]), np.uint64(repeated[1]), np.uint64(repeated[2])


@jit
def any_full(words: Array, mask: Any, low: Any, top: Any) -> bool:
    """Whether a number in `words` (n,) uint64, several numbers in each, has an exponent of ones only.

    mask, low, top: uint64 with, for each number, the bits of the exponent, the lowest of them, and the sign:
    the exponent plus its lowest bit reaches the sign just where all its bits are set.
    """
    found = np.uint64(0)
    for i in range(len(words)):
        found |= ((words[i] & mask) + low) & top
    return bool(found != np.uint64(0))


@jit
def count_full(bits: Array, mask: Any) -> int:
    """How many of `bits` (n,), unsigned, hold every bit of `mask`, which is of their type."""
    count = 0
    for value in bits:
        if value & mask == mask:
            count += 1
    return count
