"""Masks of several members laid side by side: names sorted, classes aligned by name, what fits checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from conjoin.errors import OutputsError, listed
from conjoin.fusion.stack import Weights, named_weights
from conjoin.outputs import Array, Masks, Output

HALF = 0.5
"""A probability of the foreground above this is foreground, where labels are wanted."""


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """M members' masks of the same n images.

    names: sorted, those with a weight. weights: (M,), of these. values: M arrays (n, *spatial) of labels or
    of probabilities, or (n, *spatial, K). answered: M arrays (n,). shape: spatial. classes: of all.
    """

    names: tuple[str, ...]
    weights: Array
    values: tuple[Array, ...]
    answered: tuple[Array, ...]
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    rows: int

    def images(self, part: Callable[[Array], Array]) -> Iterator[tuple[int, list[int], list[Array]]]:
        """Each image that somebody answered: its row, the members who did, and `part` of their masks (V,)."""
        for row in range(self.rows):
            who = [m for m in range(len(self.names)) if self.answered[m][row]]
            if who:
                yield row, who, [part(self.values[m][row]).reshape(-1) for m in who]

    def output(self, images: Mapping[int, Array], kind: Any, classes: tuple[str, ...] | None = None) -> Masks:
        """Masks from flat images by row; other rows are not answered."""
        known = self.classes if classes is None else classes
        answered = np.zeros(self.rows, dtype=bool)
        answered[list(images)] = True
        if self.rows == 1 and images:  # no copy of one large volume
            return Masks(images[0].reshape(1, *self.shape), known, answered)
        if kind is None:
            kind = np.result_type(np.uint8, *{i.dtype for i in images.values()})
        out = np.zeros((self.rows, int(np.prod(self.shape))), dtype=kind)
        for row, image in images.items():
            out[row] = image
        return Masks(out.reshape(self.rows, *self.shape), known, answered)


def lay(outputs: Mapping[str, Any], weights: Weights = None) -> Laid:
    """Masks side by side. Raises OutputsError where kinds, rows, shapes, classes or weights do not fit.

    Members of weight 0 are left out; only their shape must fit. Classes are given by all or by none; with
    classes label k is the k-th class, and probabilities have the axis of classes last.
    """
    given = _checked(outputs)
    mass = named_weights(outputs, weights)
    names = tuple(n for n in given if mass[n] != 0)
    classes = _classes({n: given[n] for n in names})
    shapes = {n: _spatial(o) for n, o in given.items()}
    if len(set(shapes.values())) > 1:
        raise OutputsError(f"masks must have one shape; resample them to one grid first: {shapes}")
    first = next(iter(given.values()))
    return Laid(
        names,
        np.array([mass[n] for n in names]),
        tuple(_aligned(n, given[n], classes) for n in names),
        tuple(given[n].answered for n in names),
        next(iter(shapes.values())),
        classes,
        len(first),
    )


def _checked(outputs: Mapping[str, Any]) -> dict[str, Masks]:
    if not outputs:
        raise OutputsError("there are no outputs to fuse; give a mapping of member name to output")
    for name, output in outputs.items():
        if not isinstance(name, str):
            raise OutputsError(f"members are named by strings, not {name!r}")
        if not isinstance(output, Masks):
            kind = output.kind if isinstance(output, Output) else type(output).__name__
            raise OutputsError(f"member {name!r} answered with {kind}; this fuser takes masks")
    lengths = {n: len(o) for n, o in outputs.items()}
    if len(set(lengths.values())) > 1:
        raise OutputsError(f"members must answer the same images; images answered: {lengths}")
    return {n: outputs[n] for n in sorted(outputs)}


def _classes(given: Mapping[str, Masks]) -> tuple[str, ...]:
    without = [n for n, o in given.items() if not o.classes]
    if without and len(without) < len(given):
        raise OutputsError(
            f"{listed(without)} answered without names of classes, others with; give names to all or to none"
        )
    seen: dict[str, None] = {}
    for output in given.values():
        seen |= dict.fromkeys(output.classes)
    return tuple(seen)


def _spatial(output: Masks) -> tuple[int, ...]:
    shape: tuple[int, ...] = output.values.shape[1:]
    return shape[:-1] if output.values.dtype.kind == "f" and output.classes else shape


def _aligned(name: str, output: Masks, classes: tuple[str, ...]) -> Array:
    values = output.values
    if values.dtype.kind == "f":
        return _aligned_probabilities(name, output, classes)
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    spoken = values if output.answered.all() else values[output.answered]
    least, most = (int(spoken.min()), int(spoken.max())) if spoken.size else (0, 0)
    if least < 0:
        raise OutputsError(f"member {name!r}: labels must not be negative; the least is {least}")
    if classes and most >= len(output.classes):
        raise OutputsError(
            f"member {name!r}: label {most} has no class; it names {len(output.classes)}: "
            f"{listed(output.classes)}"
        )
    if not output.answered.all():
        values = np.where(output.answered.reshape(-1, *[1] * (values.ndim - 1)), values, 0)
    if most < 256 and values.dtype != np.uint8:
        values = values.astype(np.uint8)
    if output.classes != classes:
        at = {c: k for k, c in enumerate(classes)}
        table = np.array([at[c] for c in output.classes])
        values = table[values].astype(np.uint8 if len(classes) <= 256 else np.int64)
    return np.ascontiguousarray(values)


def _aligned_probabilities(name: str, output: Masks, classes: tuple[str, ...]) -> Array:
    values = output.values
    for row in np.flatnonzero(output.answered):
        least, most = float(values[row].min(initial=0.0)), float(values[row].max(initial=0.0))
        if not (least >= -1e-6 and most <= 1 + 1e-6):  # NaN fails both
            raise OutputsError(
                f"member {name!r}, image {row}: probabilities must lie in 0 to 1, not {least:g} to {most:g}"
            )
    if not classes:
        return values
    if values.shape[-1] != len(output.classes) or values.ndim < 3:
        raise OutputsError(
            f"member {name!r}: probabilities of {len(output.classes)} classes need them on the last axis, "
            f"not shape {values.shape}"
        )
    if output.classes == classes:
        return values
    out = np.zeros((*values.shape[:-1], len(classes)), dtype=values.dtype)
    for k, c in enumerate(output.classes):
        out[..., classes.index(c)] = values[..., k]
    return out


def labels_of(classes: tuple[str, ...]) -> Callable[[Array], Array]:
    """From one image to labels: the most probable class, ties to the first; or foreground above a half."""

    def part(image: Array) -> Array:
        if image.dtype.kind != "f":
            return image
        if not classes:
            return (image > HALF).view(np.uint8)
        return cast(Array, image.argmax(axis=-1).astype(np.uint8 if len(classes) <= 256 else np.int64))

    return part
