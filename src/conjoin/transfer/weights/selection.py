"""A smaller network out of a larger one: some of its units; how layers are spaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.transfer.weights.permutations import Permutations


def evenly(old: int, new: int) -> Array:
    """Evenly spaced units: every (old / new)th where that is whole, else round(j (old - 1) / (new - 1)).

    Weight selection: Xu et al. 2024, arXiv 2311.18823; halves are rounded to the even number, as there.

    >>> evenly(8, 4), evenly(8, 3)
    (array([0, 2, 4, 6]), array([0, 4, 7]))
    """
    _check_count(old, new)
    if old % new == 0:
        return np.arange(new) * (old // new)
    return np.rint(np.linspace(0, old - 1, new)).astype(int)


def most_important(scores: Array, new: int) -> Array:
    """The `new` units of the largest scores, in their old order; the first of equal ones.

    Weight subcloning ranks units so: Samragh et al. 2023, arXiv 2312.09299.

    >>> most_important(np.array([0.5, 3.0, 1.0]), 2)
    array([1, 2])
    """
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise InputError(f"importance is one finite number a unit, not {scores.shape}, or NaN or infinite")
    _check_count(len(scores), new)
    answer: Array = np.sort(np.argsort(-scores, kind="stable")[:new])
    return answer


def importance(tensors: Mapping[str, Array], groups: Permutations) -> dict[str, Array]:
    """Each group's units by the size of their weights, (units,) float64.

    The root of the sum over the group's tensors with 2 axes or more of w^2 / (mean w^2 of the tensor); biases
    and statistics of norms are not counted. Mean absolute activations on data, where there are some, say
    more: pass those to `most_important` instead.
    """
    sums = {group: np.zeros(size) for group, size in groups.sizes(tensors).items()}
    for name, axes in groups.axes.items():
        tensor = np.asarray(tensors[name], np.float64)
        if tensor.ndim < 2:
            continue
        squares = tensor**2
        whole = squares.mean() or 1.0
        for axis, group in enumerate(axes):
            if group is not None:
                sums[group] += groups.rows(name, squares, axis, len(sums[group])).sum(axis=1) / whole
    return {group: np.sqrt(total) for group, total in sums.items()}


def narrower(
    tensors: Mapping[str, Array],
    groups: Permutations,
    widths: Mapping[str, int],
    *,
    scores: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """The tensors with `widths[group]` units in each group named; every axis of a group keeps the same ones.

    scores: importance of units by group (`importance`, or measured on data); evenly spaced where absent.
    Nothing is rescaled. Raises InputError for unknown groups, and widths of 0 or above the old ones.

    >>> from conjoin.transfer.weights.permutations import chain
    >>> net = {"a": np.arange(8.0).reshape(4, 2), "b": np.ones((3, 4))}
    >>> {k: v.shape for k, v in narrower(net, chain(net), {"a": 2}).items()}
    {'a': (2, 2), 'b': (3, 2)}
    """
    sizes, scores = groups.sizes(tensors), scores or {}
    chosen = {}
    for group, width in widths.items():
        units = sizes.get(group, width)  # an unknown group is told by take
        ranked = scores.get(group)
        if ranked is not None and len(ranked) != units:
            raise InputError(f"group {group!r}: {len(ranked)} scores for {units} units")
        chosen[group] = evenly(units, width) if ranked is None else most_important(ranked, width)
    return groups.take(tensors, chosen)


def layers(old: int, new: int) -> Array:
    """Layers round(j (old - 1) / (new - 1)): evenly spaced, with the first and the last; of one, the first.

    >>> layers(12, 4)
    array([ 0,  4,  7, 11])
    """
    _check_count(old, new)
    return np.floor(np.arange(new) * (old - 1) / max(new - 1, 1) + 0.5).astype(int)


def _check_count(old: int, new: int) -> None:
    if not 1 <= new <= old:
        raise InputError(f"1 to {old} can be kept of {old}, not {new}")
