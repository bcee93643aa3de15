"""Task vectors that are thinned out and then added up or voted on: TIES, DARE, breadcrumbs, DELLA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError
from conjoin.kernels import thinning
from conjoin.kernels import weights as kernels
from conjoin.transfer.weights.linear import factor
from conjoin.transfer.weights.method import BLOCK, Given, Stack
from conjoin.transfer.weights.select import (
    MOST_BITS,
    TOP,
    Edge,
    Numbers,
    grouped,
    last_of,
    pieces,
    side_by_side,
)

if TYPE_CHECKING:
    from conjoin.outputs import Array

Mask = Callable[[slice, "Array", "Array", "Array"], None]
"""(block, base, x, keep) -> fills keep, (block's length,); base and x begin with the block's elements."""
TINY = 1e-7
"""Norms below it are not rescaled to."""


@dataclass(frozen=True, slots=True)
class Thinning:
    """masks: makes the masks of the models' task vectors. elect: whether signs are voted on. rows: whether
    masks need whole rows.
    """

    masks: Callable[[Given], Sequence[Mask]]
    elect: bool
    rows: bool = False

    def __call__(self, given: Given) -> None:
        """theta_0 + lambda sum_i w_i m_i (theta_i - theta_0), with masks m_i, over the weights where
        `normalize`.

        With an election only deltas of the elected sign count, which is that of sum_i w_i m_i (theta_i -
        theta_0) (Yadav et al. 2023). `rescale`: true gives each thinned task vector the L1 norm that it had
        (mergekit), "paper" divides it by its density (Yu et al. 2024).
        """
        step = _step(given) if self.rows else BLOCK
        masks, weights = self.masks(given), given.each["weight"]
        keep = np.empty((len(masks), min(step, given.size)), np.uint8)
        factors = _factors(given, masks, keep, step)
        shares = given.numbers(w * f for w, f in zip(weights, factors, strict=True))
        scale, least = given.number(given.shared["lambda"]), given.number(-1.0)
        if self.elect and given.shared["normalize"]:
            least = given.number(0.0)
        elif not self.elect:
            scale = given.number(factor(given.shared, sum(weights)))
        stack, numbers = Stack(given, step, look=True), given.numbers(weights)
        edges = np.array([m.told() for m in masks if isinstance(m, Between)], np.int64)
        for block, out in given.parts(step):
            rows = stack(block)
            if len(edges) == len(masks):
                at = block.start
                kernels.put_between(out, rows, edges, at, shares, numbers, scale, least, self.elect)
                continue
            for m, mask in enumerate(masks):
                mask(block, rows[0], rows[m + 1], keep[m, : len(out)])
            if self.elect:
                kernels.put_elected(out, rows, keep, shares, shares, numbers, scale, least)
            else:
                kernels.put_kept(out, rows, keep, shares, scale)
        if stack.full and given.tell is not None:
            given.tell()


def _step(given: Given) -> int:
    """Elements of a block of whole rows."""
    width = given.out.shape[-1] if given.out.ndim > 1 else given.size
    return max(1, BLOCK // max(1, width)) * width


def _factors(given: Given, masks: Sequence[Mask], keep: Array, step: int) -> list[float]:
    """By how much each thinned task vector is multiplied."""
    rescale, densities = given.shared["rescale"], given.each["density"]
    if rescale == "paper":
        return [1.0 / d if 0 < d < 1 else 1.0 for d in densities]
    thinned = [m for m, d in enumerate(densities) if rescale != "false" and d < 1]
    sums, stack = np.zeros((len(masks), 2)), Stack(given, step)
    for block in given.blocks(step) if thinned else ():
        rows = stack(block)
        for m in thinned:
            part = keep[m, : block.stop - block.start]
            masks[m](block, rows[0], rows[m + 1], part)
            kernels.sum_magnitudes(rows[0], rows[m + 1], part, sums[m])
    return [float(s[0] / s[1]) if min(s) >= TINY else 1.0 for s in sums]


@dataclass(frozen=True, slots=True)
class Between:
    """A mask that keeps magnitudes whose bits reach `low` and not `high`."""

    low: Edge
    high: Edge

    def told(self) -> list[list[int]]:
        """As `put_between` takes it."""
        return [[e.first, e.then, e.position] for e in (self.low, self.high)]

    def __call__(self, block: slice, base: Array, x: Array, keep: Array) -> None:
        """Fills `keep`."""
        for part, (least, end) in pieces(block, self.low, self.high):
            thinning.keep_between(keep[part], base[part], x[part], least, end)


END = Edge(TOP, TOP)
EVERYTHING, NOTHING = Between(Edge(0, 0), END), Between(END, END)


def largest(given: Given) -> list[Mask]:
    """The `density` share with the largest magnitude, at least one (TIES, Yadav et al. 2023)."""
    n, densities = given.size, given.each["density"]
    masks: list[Mask] = [EVERYTHING if d >= 1 else NOTHING for d in densities]
    some = [m for m, d in enumerate(densities) if 0 < d < 1 and n]
    numbers = [magnitudes(given, m) for m in some]
    counts = [max(1, int(densities[m] * n)) for m in some]
    each = side_by_side(numbers, [[n - count] for count in counts])
    for m, held, count, (found,) in zip(some, numbers, counts, each, strict=True):
        above = n - found.below - int(found.equal.sum())
        masks[m] = Between(last_of(held, found, count - above), END)
    return masks


def inliers(given: Given) -> list[Mask]:
    """The `density` share below the `gamma` share of the largest (Davari and Belilovsky 2023)."""
    n, densities = given.size, given.each["density"]
    masks: list[Mask] = [EVERYTHING if d >= 1 else NOTHING for d in densities]
    some = [m for m, d in enumerate(densities) if d < 1 and int(d * n)]
    numbers, ranks = [magnitudes(given, m) for m in some], []
    for m in some:
        kept = int(densities[m] * n)
        low = max(0, n - kept - int(given.each["gamma"][m] * n))
        ranks.append([low, *([low + kept] if low + kept < n else [])])
    for m, held, found in zip(some, numbers, side_by_side(numbers, ranks), strict=True):
        edges = [Edge(f.bits + 1, f.bits, f.position(held, f.rank - f.below)) for f in found]
        masks[m] = Between(edges[0], edges[1] if len(edges) > 1 else END)
    return masks


def drawn(given: Given) -> list[Mask]:
    """Each with probability `density` (DARE, Yu et al. 2024)."""
    return [_drawn(given, m) for m in range(len(given.tensors))]


def _drawn(given: Given, model: int) -> Mask:
    density, key = given.each["density"][model], given.key(model)
    if density >= 1:
        return EVERYTHING

    def mask(block: slice, base: Array, x: Array, keep: Array) -> None:
        thinning.keep_by_chance(keep, key, block.start, density)

    return mask


def drawn_by_rank(given: Given) -> list[Mask]:
    """Each with a probability that rises with its magnitude's rank in its row, from density - epsilon to
    density + epsilon (MAGPRUNE, Deep et al. 2024). Raises InputError where these leave (0, 1).
    """
    return [_drawn_by_rank(given, m) for m in range(len(given.tensors))]


def _drawn_by_rank(given: Given, model: int) -> Mask:
    density, epsilon = given.each["density"][model], given.each["epsilon"][model]
    if density >= 1:
        return EVERYTHING
    if density <= 0:
        return NOTHING
    if density + epsilon >= 1 or density - epsilon <= 0:
        raise InputError(
            f"{given.name}: density {density:g} plus or minus epsilon {epsilon:g} must stay inside 0 to 1"
        )
    width, key = given.out.shape[-1] if given.out.ndim > 1 else given.size, given.key(model)
    kept: dict[int, Array] = {}

    def mask(block: slice, base: Array, x: Array, keep: Array) -> None:
        if block.start in kept:
            keep[:] = np.unpackbits(kept[block.start], count=len(keep))
            return
        thinning.keep_by_rank(keep, base, x, width, key, block.start, density, epsilon)
        if given.size * len(given.tensors) <= MOST_BITS and given.shared["rescale"] == "true":
            kept[block.start] = np.packbits(keep)

    return mask


def magnitudes(given: Given, model: int) -> Numbers:
    """|theta_i - theta_0|."""
    base, x = given.read(given.start), given.read(given.tensors[model])
    values = np.empty(min(given.size, BLOCK), np.float32)

    def block(part: slice) -> Array:
        out = values[: part.stop - part.start]
        kernels.magnitude(out, base[part], x[part])
        return out

    def sample() -> Array:
        some = replace(given, tensors=(given.tensors[model],)).sampled()
        out = np.empty(some.size, np.float32)
        kernels.magnitude(out, some.read(some.start), some.read(some.tensors[0]))
        return grouped(out)

    def tally(part: slice, *counted: Array) -> None:
        thinning.count_brackets(base[part], x[part], *counted)

    return Numbers(given.size, block, sample, tally)
