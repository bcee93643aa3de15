"""Networks of one architecture brought into one order of units, then averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError, listed, need

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.transfer.weights.permutations import Permutations


@dataclass(frozen=True, slots=True)
class Aligned:
    """A model's tensors in the reference's order of units, and the units chosen, by group.

    before, after: sum over the grouped tensors of reference * model, before and after.
    """

    tensors: Mapping[str, Array]
    chosen: Mapping[str, Array]
    before: float
    after: float


def align(
    model: Mapping[str, Array],
    reference: Mapping[str, Array],
    groups: Permutations,
    *,
    rounds: int = 100,
    seed: int = 0,
) -> Aligned:
    """The model with its units in the order that fits the reference best; its function stays the same.

    Weight matching of Git Re-Basin (Ainsworth et al. 2023, arXiv 2209.04836): maximise the sum over tensors
    of reference * permuted model, one group at a time by linear assignment, groups in an order drawn by the
    seed, until a round gains nothing or after `rounds`. Every step only gains; the end is a local best.

    model, reference: float arrays by name, equal names and shapes. groups: `permutations.chain`, or written
    out. O(rounds * (parameters * units + units^3)). Needs scipy. Raises InputError, MissingExtraError.
    """
    _check_pair(model, reference)
    sizes = groups.sizes(reference)
    wide = {n: np.asarray(model[n], np.float64) for n in groups.axes}
    fixed = {n: np.asarray(reference[n], np.float64) for n in groups.axes}
    chosen: dict[str, Array] = {group: np.arange(size) for group, size in sizes.items()}
    rng = np.random.default_rng(seed)
    solve = need("scipy.optimize").linear_sum_assignment if sizes else None
    before = _agreement(fixed, wide)
    for _ in range(rounds if sizes else 0):
        gained = False
        for at in rng.permutation(len(sizes)):
            group = list(sizes)[at]
            gained |= _improve(group, wide, fixed, groups, chosen, solve)
        if not gained:
            break
    after = _agreement(fixed, groups.take(wide, chosen))
    return Aligned(groups.take(model, chosen), chosen, before, after)


def _improve(
    group: str,
    model: Mapping[str, Array],
    reference: Mapping[str, Array],
    groups: Permutations,
    chosen: dict[str, Array],
    solve: Any,
) -> bool:
    """One linear assignment of a group; takes the answer into `chosen` where it gains."""
    units = len(chosen[group])
    likeness = np.zeros((units, units))
    touched = {n: axes for n, axes in groups.axes.items() if group in axes}
    for name, axes in touched.items():
        for axis, there in enumerate(axes):
            if there == group:
                moved = _others(name, axis, model, groups, chosen)
                ours = groups.rows(name, reference[name], axis, units)
                likeness += ours @ groups.rows(name, moved, axis, units).T
    _, order = solve(likeness, maximize=True)
    old = _value(touched, model, reference, groups, chosen)
    new = _value(touched, model, reference, groups, {**chosen, group: order})
    if new <= old + 1e-12 * (1 + abs(old)):
        return False
    chosen[group] = order
    return True


def _others(
    name: str, axis: int, model: Mapping[str, Array], groups: Permutations, chosen: Mapping[str, Array]
) -> Array:
    """One tensor of the model with every axis but this one in the chosen order."""
    tensor = model[name]
    for other, group in enumerate(groups.axes[name]):
        if other != axis and group is not None:
            tensor = groups.moved(name, tensor, other, chosen[group], len(chosen[group]))
    return tensor


def _value(
    names: Mapping[str, Any],
    model: Mapping[str, Array],
    reference: Mapping[str, Array],
    groups: Permutations,
    chosen: Mapping[str, Array],
) -> float:
    total = 0.0
    for name in names:
        total += float(np.vdot(reference[name], _others(name, -1, model, groups, chosen)))
    return total


def _agreement(reference: Mapping[str, Array], model: Mapping[str, Array]) -> float:
    return sum(float(np.vdot(reference[n], model[n])) for n in reference)


def average(
    models: Sequence[Mapping[str, Array]], groups: Permutations, *, seed: int = 0
) -> dict[str, Array]:
    """The mean of models of one architecture, each aligned to the first before.

    Types as in the first model; whole numbers (counters) are the first model's. Raises InputError.
    """
    if not models:
        raise InputError("no models to average")
    first = models[0]
    rest = [align(model, first, groups, seed=seed).tensors for model in models[1:]]
    answer = {}
    for name, tensor in first.items():
        if tensor.dtype.kind == "f":
            total = sum((np.asarray(m[name], np.float64) for m in rest), np.asarray(tensor, np.float64))
            answer[name] = (total / len(models)).astype(tensor.dtype)
        else:
            answer[name] = tensor.copy()
    return answer


def _check_pair(model: Mapping[str, Array], reference: Mapping[str, Array]) -> None:
    if model.keys() != reference.keys():
        raise InputError(f"tensors of one model only: {listed(sorted(model.keys() ^ reference.keys()))}")
    for name, tensor in model.items():
        if tensor.shape != reference[name].shape:
            raise InputError(f"{name}: shapes differ, {tensor.shape} and {reference[name].shape}")
        for array in (tensor, reference[name]):
            if array.dtype == np.uint16:
                raise InputError(f"{name}: bfloat16 bits cannot be aligned; widen them to float32 first")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InputError(f"{name}: NaN or infinite weights")
