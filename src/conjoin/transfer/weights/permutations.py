"""Which axes of which tensors share their order: units of one layer are inputs of the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError, listed, nearest

if TYPE_CHECKING:
    from conjoin.outputs import Array


@dataclass(frozen=True, slots=True)
class Permutations:
    """Tensor's name -> for each of its axes the group that it shares, or None for an axis that stays.

    An axis may be a whole multiple of its group: a flattened (channels, height, width) after a convolution;
    then `size / units` neighbours move together. Axes at the end may be left out. A tensor without a group at
    any axis need not be named.

    units: of groups whose shortest axis is no single unit each: attention heads, by group. parts: of tensors
    whose axes hold several equal parts one after the other (queries, keys and values in one), for each axis.
    """

    axes: Mapping[str, tuple[str | None, ...]]
    units: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def parts_of(self, name: str, axis: int) -> int:
        """How many equal parts stand one after the other on an axis."""
        found = self.parts.get(name, ())
        return found[axis] if axis < len(found) else 1

    def rows(self, name: str, tensor: Array, axis: int, units: int) -> Array:
        """The tensor as (units, the rest), for one of its axes."""
        parts = self.parts_of(name, axis)
        moved = np.moveaxis(tensor, axis, 0)
        return moved.reshape(parts, units, -1).swapaxes(0, 1).reshape(units, -1)

    def moved(self, name: str, tensor: Array, axis: int, order: Array, units: int) -> Array:
        """The tensor with the units of one axis chosen, in this order."""
        parts = self.parts_of(name, axis)
        part = tensor.shape[axis] // parts
        places = spread(order, part // units)
        every = np.concatenate([places + i * part for i in range(parts)])
        return np.take(tensor, every, axis=axis)

    def sizes(self, tensors: Mapping[str, Array]) -> dict[str, int]:
        """Units of each group: its shortest axis. Raises InputError where tensors or axes do not fit."""
        found: dict[str, list[tuple[int, str]]] = {}
        for name, groups in self.axes.items():
            if name not in tensors:
                raise InputError(f"the permutations name {name!r}, which is missing{nearest(name, tensors)}")
            shape = tensors[name].shape
            if len(groups) > len(shape):
                raise InputError(f"{name}: {len(groups)} axes in the permutations, and the shape is {shape}")
            for axis, (group, size) in enumerate(zip(groups, shape, strict=False)):
                if group is not None:
                    parts = self.parts_of(name, axis)
                    if size % parts:
                        raise InputError(f"{name}: {size} at axis {axis} are no {parts} equal parts")
                    found.setdefault(group, []).append((size // parts, name))
        sizes = {}
        for group, sides in found.items():
            least, short = min(sides)
            least = sizes[group] = self.units.get(group, least)
            for size, name in sides:
                if not least or size % least:
                    raise InputError(f"group {group!r}: {size} in {name}, no multiple of {least} in {short}")
        return sizes

    def take(self, tensors: Mapping[str, Array], chosen: Mapping[str, Array]) -> dict[str, Array]:
        """New tensors with the chosen units of each group, in the chosen order; other groups stay.

        Raises InputError for unknown groups and units.

        >>> p = Permutations({"w": ("a",)})
        >>> p.take({"w": np.array([5, 6])}, {"a": np.array([1, 0])})["w"]
        array([6, 5])
        """
        units = self.sizes(tensors)
        for group, order in chosen.items():
            _check_order(group, order, units)
        kept = {g: np.asarray(order) for g, order in chosen.items()}
        answer = {}
        for name, tensor in tensors.items():
            for axis, label in enumerate(self.axes.get(name, ())):
                if label is not None and label in kept:
                    tensor = self.moved(name, tensor, axis, kept[label], units[label])
            answer[name] = tensor if tensor is not tensors[name] else tensor.copy()
        return answer


def spread(order: Array, near: int) -> Array:
    """Places on an axis where each unit stands for `near` neighbours.

    >>> spread(np.array([1, 0]), 2)
    array([2, 3, 0, 1])
    """
    places: Array = (order[:, None] * near + np.arange(near)).ravel()
    return places


def _check_order(group: str, order: Array, units: Mapping[str, int]) -> None:
    if group not in units:
        raise InputError(f"no group {group!r}{nearest(group, units)}; there are {listed(units)}")
    array = np.asarray(order)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise InputError(f"group {group!r}: units are chosen by a row of whole numbers, not {array.dtype}")
    if array.min() < 0 or array.max() >= units[group]:
        raise InputError(
            f"group {group!r}: {units[group]} units, and {int(array.max())} or below 0 is chosen"
        )


_ORDER = "are the tensors in the order of the layers?"


def chain(tensors: Mapping[str, Array], order: Sequence[str] | None = None) -> Permutations:
    """The permutations of a plain chain of dense and convolutional layers, with biases and norms.

    tensors: in the order of the layers; `order` gives it where they are not, as in sorted files. A tensor
    of 2 axes or more is a layer (units, inputs, ...), and its group is its name. A tensor of 1 axis belongs
    to the layer of its own module ("fc.bias" to "fc.weight"), else to the layer before it (a norm). Those
    of no axis count for nothing. The first inputs and the last units stay. Skips, branches, grouped
    convolutions, embeddings and attention are no plain chain: write their Permutations out. A wrong order
    is found by sizes only. Raises InputError.

    >>> net = {"a.weight": np.ones((4, 2)), "a.bias": np.ones(4), "b.weight": np.ones((3, 4))}
    >>> chain(net).axes
    {'a.weight': ('a.weight', None), 'a.bias': ('a.weight',), 'b.weight': (None, 'a.weight')}
    """
    names = list(tensors) if order is None else list(order)
    if sorted(names) != sorted(tensors):
        raise InputError(
            f"the order must name every tensor once: {listed(sorted(set(names) ^ set(tensors)))}"
        )
    layers = [name for name in names if tensors[name].ndim >= 2]
    if not layers:
        raise InputError(f"no layer of 2 axes or more among {listed(names)}")
    axes: dict[str, tuple[str | None, ...]] = {}
    modules = {name.rpartition(".")[0]: name for name in layers if "." in name}
    now: str | None = None
    for name in names:
        shape = tensors[name].shape
        if len(shape) >= 2:
            if 0 in shape or (now and shape[1] % len(tensors[now])):
                raise InputError(f"{name}: {shape} cannot follow {now!r}; {_ORDER}")
            axes[name] = (None if name == layers[-1] else name, now)
            now = name
        elif len(shape) == 1:
            layer = modules.get(name.rpartition(".")[0], now)
            if layer is None:
                raise InputError(f"{name}: {shape} stands before the first layer; {_ORDER}")
            if shape[0] != len(tensors[layer]):
                raise InputError(f"{name}: {shape} is no bias or norm of {layer!r}; {_ORDER}")
            axes[name] = (None if layer == layers[-1] else layer,)
    return Permutations(axes)
