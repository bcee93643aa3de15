"""Task vectors that are thinned out and then added up or voted on: TIES, DARE, breadcrumbs, DELLA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError
from conjoin.kernels import weights as kernels
from conjoin.transfer.weights.linear import factor
from conjoin.transfer.weights.method import BLOCK, Given
from conjoin.transfer.weights.select import Band, band, largest_of

if TYPE_CHECKING:
    from conjoin.outputs import Array

Mask = Callable[[Given, int, slice, "Array"], None]
"""(given, model, block, keep) -> fills keep, blocks in order from the first."""
TINY = 1e-7
"""Norms below it are not rescaled to."""


@dataclass(frozen=True, slots=True)
class Thinning:
    """mask: makes the mask of a model's task vector. elect: whether signs are voted on."""

    mask: Callable[[Given, int], Mask]
    elect: bool

    def __call__(self, given: Given) -> None:
        """theta_0 + lambda sum_i w_i m_i (theta_i - theta_0), with masks m_i, over the weights where
        `normalize`.

        With an election only deltas of the elected sign count, which is that of sum_i w_i m_i (theta_i -
        theta_0) (Yadav et al. 2023). `rescale`: true gives each thinned task vector the L1 norm that it had
        (mergekit), "paper" divides it by its density (Yu et al. 2024).
        """
        factors = [self._factor(given, m) for m in range(len(given.tensors))]
        masks = [self.mask(given, m) for m in range(len(given.tensors))]
        (_elected if self.elect else _summed)(given, masks, factors)

    def _factor(self, given: Given, model: int) -> float:
        rescale, density = given.shared["rescale"], given.each["density"][model]
        if rescale == "false" or density >= 1:
            return 1.0
        if rescale == "paper":
            return 1.0 / density if density > 0 else 1.0
        mask, sums = self.mask(given, model), np.zeros(2)
        base, x = given.flat(_base(given)), given.flat(given.tensors[model])
        keep = np.empty(min(given.size, BLOCK), np.uint8)
        for block in given.blocks():
            part = keep[: block.stop - block.start]
            mask(given, model, block, part)
            kernels.sum_magnitudes(base[block], x[block], part, sums)
        return float(sums[0] / sums[1]) if min(sums) >= TINY else 1.0


def _summed(given: Given, masks: list[Mask], factors: list[float]) -> None:
    base, out, weights = given.flat(_base(given)), given.flat(given.out), given.each["weight"]
    scale = factor(given.shared, sum(weights))
    acc, keep = np.empty(min(given.size, BLOCK), given.work), np.empty(min(given.size, BLOCK), np.uint8)
    for block in given.blocks():
        n = block.stop - block.start
        acc[:n] = 0
        for m, tensor in enumerate(given.tensors):
            masks[m](given, m, block, keep[:n])
            number = given.number(weights[m] * factors[m])
            kernels.add_masked(acc[:n], base[block], given.flat(tensor)[block], number, keep[:n])
        kernels.put_moved(out[block], base[block], acc[:n], given.number(scale))


def _elected(given: Given, masks: list[Mask], factors: list[float]) -> None:
    base, out, weights = given.flat(_base(given)), given.flat(given.out), given.each["weight"]
    keep = np.empty(min(given.size, BLOCK), np.uint8)
    scale = given.number(given.shared["lambda"])
    least = given.number(0.0 if given.shared["normalize"] else -1.0)
    sums = np.empty((5, min(given.size, BLOCK)), given.work)
    for block in given.blocks():
        n = block.stop - block.start
        sums[:, :n] = 0
        for m, tensor in enumerate(given.tensors):
            masks[m](given, m, block, keep[:n])
            x, scaled = given.flat(tensor)[block], given.number(weights[m] * factors[m])
            _vote(sums, base[block], x, scaled, given.number(weights[m]), factors[m], keep[:n])
        kernels.put_elected(out[block], base[block], sums, scale, least)


def _vote(sums: Array, base: Array, x: Array, scaled: Any, weight: Any, rescaled: float, keep: Array) -> None:
    """Votes with the delta times `scaled`; the weights that are summed are those without the rescaling."""
    kernels.vote(sums, base, x, scaled, weight, type(weight)(rescaled), keep)


def everything(given: Given, model: int) -> Mask:
    """Keeps all."""

    def mask(given: Given, model: int, block: slice, keep: Array) -> None:
        keep[:] = 1

    return mask


def nothing(given: Given, model: int) -> Mask:
    """Keeps none."""

    def mask(given: Given, model: int, block: slice, keep: Array) -> None:
        keep[:] = 0

    return mask


def largest(given: Given, model: int) -> Mask:
    """The `density` share with the largest magnitude, at least one (TIES, Yadav et al. 2023)."""
    density, n = given.each["density"][model], given.size
    if density >= 1:
        return everything(given, model)
    if density <= 0 or not n:
        return nothing(given, model)
    bits, first = largest_of(lambda: magnitudes(given, model), n, max(1, int(density * n)))
    left = np.zeros(1, np.int64)

    def fill(keep: Array, values: Array, start: int) -> None:
        left[0] = first if start == 0 else left[0]
        kernels.keep_largest(keep, values, bits, left)

    return _by_magnitude(fill)


def inliers(given: Given, model: int) -> Mask:
    """The `density` share below the `gamma` share of the largest (Davari and Belilovsky 2023)."""
    density, n = given.each["density"][model], given.size
    if density >= 1:
        return everything(given, model)
    kept = int(density * n)
    low = max(0, n - kept - int(given.each["gamma"][model] * n))
    return _between(given, model, low, low + kept) if kept else nothing(given, model)


def drawn(given: Given, model: int) -> Mask:
    """Each with probability `density` (DARE, Yu et al. 2024)."""
    density, key = given.each["density"][model], given.key(model)
    if density >= 1:
        return everything(given, model)

    def mask(given: Given, model: int, block: slice, keep: Array) -> None:
        kernels.keep_by_chance(keep, key, block.start, given.single(density))

    return mask


def drawn_by_rank(given: Given, model: int) -> Mask:
    """Each with a probability that rises with its magnitude's rank in its row, from density - epsilon to
    density + epsilon (MAGPRUNE, Deep et al. 2024). Raises InputError where these leave (0, 1).
    """
    density, epsilon = given.each["density"][model], given.each["epsilon"][model]
    if density >= 1:
        return everything(given, model)
    if density <= 0:
        return nothing(given, model)
    if density + epsilon >= 1 or density - epsilon <= 0:
        raise InputError(
            f"{given.name}: density {density:g} plus or minus epsilon {epsilon:g} must stay inside 0 to 1"
        )
    packed = _draw_rows(given, model, density, epsilon)

    def mask(given: Given, model: int, block: slice, keep: Array) -> None:
        bits = np.unpackbits(packed[block.start // 8 : -(-block.stop // 8)])
        keep[:] = bits[: len(keep)]

    return mask


def _draw_rows(given: Given, model: int, density: float, epsilon: float) -> Array:
    """The mask of the whole tensor, a bit an element: ranks need whole rows, blocks do not end where rows
    do.
    """
    width = given.out.shape[-1] if given.out.ndim > 1 else given.size
    base, x, key = given.flat(_base(given)), given.flat(given.tensors[model]), given.key(model)
    keep = np.empty(given.size, np.uint8) if given.size < 8 * BLOCK else None
    packed = np.zeros(-(-given.size // 8), np.uint8)
    rows = max(1, (8 * BLOCK) // max(1, width))
    rows = rows if keep is not None else _whole_bytes(rows, width)
    values = np.empty(width, np.float32)
    keys, order = np.empty((2, width), np.uint32), np.empty((2, width), np.uint32)
    for first in range(0, given.size, rows * width):
        last = min(first + rows * width, given.size)
        part = np.empty(last - first, np.uint8)
        for start in range(first, last, width):
            row = slice(start, start + width)
            kernels.magnitude(values, base[row], x[row])
            kept = part[start - first : start - first + width]
            kernels.keep_by_rank(
                kept, values, key, start, given.single(density), given.single(epsilon), keys, order
            )
        bits = np.packbits(part)
        packed[first // 8 : first // 8 + len(bits)] = bits
    return packed


def _whole_bytes(rows: int, width: int) -> int:
    """A number of rows near `rows` whose elements fill whole bytes."""
    step = 8 // int(np.gcd(width, 8))
    return max(step, rows // step * step)


def _between(given: Given, model: int, low: int, high: int) -> Mask:
    """Keeps the magnitudes of the ranks low to high - 1 from the smallest; equal ones by position."""
    found: Band = band(lambda: magnitudes(given, model), given.size, low, high)
    left = np.zeros(2, np.int64)

    def fill(keep: Array, values: Array, start: int) -> None:
        left[:] = (found.skip, found.take) if start == 0 else left
        kernels.keep_between(keep, values, found.low, found.high, left)

    return _by_magnitude(fill)


def _by_magnitude(fill: Callable[[Array, Array, int], None]) -> Mask:
    """A mask that `fill` makes of a block's magnitudes and its start."""

    def mask(given: Given, model: int, block: slice, keep: Array) -> None:
        values = np.empty(len(keep), np.float32)
        kernels.magnitude(values, given.flat(_base(given))[block], given.flat(given.tensors[model])[block])
        fill(keep, values, block.start)

    return mask


def magnitudes(given: Given, model: int) -> Iterator[Array]:
    """|theta_i - theta_0| in float32, block after block."""
    base, x = given.flat(_base(given)), given.flat(given.tensors[model])
    values = np.empty(min(given.size, BLOCK), np.float32)
    for block in given.blocks():
        part = values[: block.stop - block.start]
        kernels.magnitude(part, base[block], x[block])
        yield part


def _base(given: Given) -> Array:
    if given.base is None:
        raise InputError(f"{given.name}: the base model has no such tensor")
    return given.base
