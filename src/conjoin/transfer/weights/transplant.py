"""Weights of one architecture go into another, and a report says of every tensor what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from conjoin.errors import InputError, listed, nearest
from conjoin.transfer.weights import adapt as shapes
from conjoin.transfer.weights.matching import match as matched

if TYPE_CHECKING:
    from conjoin.outputs import Array

Adapt = Callable[["Array", "Array"], "Array"]
"""(the source's tensor, the target's own) -> a tensor of the target's shape."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one tensor of the target.

    kind: "carried" as it is, "adapted" in shape or type, or "fresh": the target's own values stay.
    source: the tensor it came from, None where fresh for want of one. how: what was done, or why not.
    """

    name: str
    kind: Literal["carried", "adapted", "fresh"]
    source: str | None
    how: str

    def __str__(self) -> str:
        came = "" if self.source in (None, self.name) else f" from {self.source}"
        return f"{self.kind:8} {self.name}{came}{f': {self.how}' if self.how else ''}"


@dataclass(frozen=True, slots=True)
class Transplanted:
    """Arrays by the target's names, the fate of each in the target's order, and the source's unused names."""

    tensors: Mapping[str, Array]
    report: tuple[Fate, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        unused = [f"unused   {name}" for name in self.unused]
        return "\n".join([*map(str, self.report), *unused])


def transplant(
    source: Mapping[str, Array],
    target: Mapping[str, Array],
    *,
    match: str | Mapping[str, str] = "name",
    growth: Literal["none", "fit"] = "none",
    adapt: Mapping[str, Adapt] | None = None,
    leave: Sequence[str] = (),
    noise: float = 0.0,
    seed: int = 0,
) -> Transplanted:
    """Carry the source's weights into the target.

    source, target: arrays by name; the target's are its fresh start, and give shapes and types. match: see
    `matching.match`. growth: of dense, convolutional and norm layers whose widths differ: "none" leaves them
    fresh, "fit" grows and selects units (`adapt.fitted`). adapt: target name -> function of the two tensors,
    for input layers, positions, classifiers and embeddings (other functions of `adapt`). leave: target names
    that stay fresh. noise: a grown tensor gets normal noise of this many times its own standard deviation, so
    that equal units part in training; drawn by the seed and the tensor's name. Inputs are never changed.

    "fit" takes axis 1 for inputs. Tables of embeddings have none, and classes are no units: `adapt` or
    `leave` those. Raises InputError for unknown names, NaN or infinite weights, types that do not go over, an
    `adapt` that answers another shape, and where nothing of the source reached the target.

    >>> done = transplant({"a": np.ones(2), "b": np.ones(3)}, {"a": np.zeros(2), "b": np.zeros(4)})
    >>> print(done)
    carried  a
    fresh    b: shape (3,) in the source, (4,) in the target
    unused   b
    """
    if growth not in ("none", "fit"):
        raise InputError(f"no growth {growth!r}{nearest(growth, ('none', 'fit'))}; there are none, fit")
    if not 0 <= noise < np.inf:
        raise InputError(f"noise must be 0 or more, not {noise}")
    adapt = adapt or {}
    for name in (*adapt, *leave):
        if name not in target:
            raise InputError(f"the target has no tensor {name!r}{nearest(name, target)}")
    pairs = matched(
        {k: tuple(v.shape) for k, v in source.items()}, {k: tuple(v.shape) for k, v in target.items()}, match
    )
    for name in adapt:
        if name not in pairs or name in leave:
            raise InputError(f"{name!r} is to be adapted, but takes nothing from the source")
    tensors: dict[str, Array] = {}
    report: list[Fate] = []
    for name, own in target.items():
        there = None if name in leave else pairs.get(name)
        if there is None:
            why = "as asked" if name in leave else "no partner in the source"
            array, fate = own.copy(), Fate(name, "fresh", None, why)
        else:
            array, fate = _one(name, there, source[there], own, growth, adapt.get(name))
            if noise and fate.how.startswith("grown"):
                array = _noisy(array, name, noise, seed)
        tensors[name] = array
        report.append(fate)
    _check_any(report, source, target)
    used = {fate.source for fate in report if fate.kind != "fresh"}
    return Transplanted(tensors, tuple(report), tuple(n for n in source if n not in used))


def _check_any(report: Sequence[Fate], source: Mapping[str, Any], target: Mapping[str, Any]) -> None:
    if all(fate.kind == "fresh" for fate in report):
        hint = listed((f"{f.name}: {f.how}" for f in report), 3)
        raise InputError(
            f"no layer in common: {len(source)} tensors in the source ({listed(source, 3)}), {len(target)} "
            f"in the target ({hint}); try match 'normalised' or 'structure', or a map"
        )


def _one(
    name: str, there: str, given: Array, own: Array, growth: str, change: Adapt | None
) -> tuple[Array, Fate]:
    _check_values(there, given, own)
    if change is not None:
        answer = np.asarray(change(given, own))
        if answer.shape != own.shape:
            raise InputError(f"{name}: adapting gave the shape {answer.shape}, the target has {own.shape}")
        how = f"{_called(change)}, {given.shape} to {own.shape}"
        return answer.astype(own.dtype), Fate(name, "adapted", there, how)
    if given.shape == own.shape:
        same = given.dtype == own.dtype
        how = "" if same else f"{given.dtype} to {own.dtype}"
        return given.astype(own.dtype), Fate(name, "carried" if same else "adapted", there, how)
    differ = f"shape {given.shape} in the source, {own.shape} in the target"
    units = given.ndim == own.ndim and given.shape[2:] == own.shape[2:] and given.size and own.size
    if growth == "none" or not units:
        return own.copy(), Fate(name, "fresh", there, differ)
    if given.dtype.kind != "f":
        raise InputError(
            f"{there}: only float arrays grow, not {given.dtype}; widen bfloat16 to float32 first"
        )
    grown = any(new > old for old, new in zip(given.shape, own.shape, strict=True))
    how = f"{'grown' if grown else 'selected'}, {given.shape} to {own.shape}"
    return shapes.fitted(given, own.shape).astype(own.dtype), Fate(name, "adapted", there, how)


def _check_values(name: str, given: Array, own: Array) -> None:
    if given.dtype != own.dtype and not (given.dtype.kind == own.dtype.kind == "f"):
        raise InputError(
            f"{name}: {given.dtype} does not go over into {own.dtype}; bring both to one type first"
        )
    if given.dtype.kind != "f":
        return
    if not np.isfinite(given).all():
        raise InputError(f"{name}: NaN or infinite weights in the source")
    if given.size and np.abs(given).max() > np.finfo(own.dtype).max:
        raise InputError(f"{name}: weights too large for the target's {own.dtype}")


def _called(change: Adapt) -> str:
    inner: Any = getattr(change, "func", change)
    return str(getattr(inner, "__name__", type(inner).__name__))


def _noisy(array: Array, name: str, noise: float, seed: int) -> Array:
    rng = np.random.default_rng([seed, *name.encode()])
    drawn = rng.standard_normal(array.shape) * (noise * float(array.std(dtype=np.float64)))
    return (array + drawn).astype(array.dtype)
