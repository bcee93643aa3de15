"""What a recipe says, as records: models, slices, modules, and the values of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from conjoin.errors import InputError
from conjoin.transfer.merge.reference import Reference
from conjoin.transfer.merge.wanted import Wanted
from conjoin.transfer.weights import Method

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Case:
    """A value for tensors whose name holds `filter`; None and "*" are all."""

    filter: str | None
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """A parameter as the recipe gives it. line: of the recipe, from 1."""

    cases: tuple[Case, ...]
    line: int = 0

    def at(self, name: str, depth: float, typed: Callable[[Any], Any]) -> Any:
        """The value for a tensor, None where no filter fits. depth: 0 at the first layer, 1 at the last."""
        for case in self.cases:
            if case.filter in (None, "*") or str(case.filter) in name:
                return _at_depth(case.value, depth, typed)
        return None


Settings = Mapping[str, Setting]


@dataclass(frozen=True, slots=True)
class Input:
    """A model of a slice. layers: first, and one after the last; None is all."""

    model: str
    layers: tuple[int, int] | None = None
    parameters: Settings = field(default_factory=dict)
    line: int = 0


@dataclass(frozen=True, slots=True)
class Slice:
    """Layers of the answer and what they are made of."""

    sources: tuple[Input, ...]
    base: str | None = None
    parameters: Settings = field(default_factory=dict)
    line: int = 0


@dataclass(frozen=True, slots=True)
class Module:
    """A part of the model with slices of its own. stacked: it was written as slices."""

    name: str
    slices: tuple[Slice, ...]
    stacked: bool = False
    parameters: Settings = field(default_factory=dict)
    line: int = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is to be merged, and how. stacked: it was written as slices. tokens: the vocabulary
    that is wanted, or None. chat_template: a name, or jinja. lines: of keys. notes: of what does nothing.
    modules: in place of slices. references: of models that have an adapter, by name. name: of the document,
    for others of the file.
    """

    path: str
    method: Method
    slices: tuple[Slice, ...]
    base: str | None = None
    stacked: bool = False
    parameters: Settings = field(default_factory=dict)
    dtype: str | None = None
    out_dtype: str | None = None
    tokens: Wanted | None = None
    chat_template: str | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    modules: tuple[Module, ...] = ()
    references: Mapping[str, Reference] = field(default_factory=dict)
    name: str = ""

    @property
    def every_slice(self) -> tuple[Slice, ...]:
        """The slices, those of modules too."""
        return (*self.slices, *(s for m in self.modules for s in m.slices))

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that is named, the base first."""
        parts = self.every_slice
        named = [b for b in (self.base, *(s.base for s in parts)) if b]
        named += [i.model for s in parts for i in s.sources]
        return tuple(dict.fromkeys(named))

    def refuse(self, message: str, line: int = 0) -> NoReturn:
        """Raises InputError with the place in the recipe."""
        where = f"{self.path}, line {line}: " if line else f"{self.path}: " if self.path else ""
        raise InputError(where + message)


def _at_depth(value: Any, depth: float, typed: Callable[[Any], Any]) -> Any:
    if not isinstance(value, tuple):
        return typed(value)
    values = [typed(v) for v in value]
    place = depth * (len(values) - 1)
    low = int(place)
    if any(isinstance(v, bool | str) for v in values):
        return values[low]
    high = min(low + 1, len(values) - 1)
    return typed((1 - (place - low)) * values[low] + (place - low) * values[high])
