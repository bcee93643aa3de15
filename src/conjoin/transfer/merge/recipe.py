"""A recipe: YAML as mergekit reads it, checked word by word before any weights are looked at.

    merge_method: ties
    base_model: base
    models:
      - model: one
        parameters: {weight: 0.5, density: [1, 0.5]}     # a list goes from the first layer to the last
      - model: two
        parameters:
          weight: [{filter: mlp, value: 0.3}, {value: 0.5}]   # the first filter that is part of the name
    dtype: bfloat16

`slices` in place of `models` stack layers: each has `sources` with a `layer_range`. A parameter of a source
wins over that of its slice, and this over that of the recipe. Every error names the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from conjoin.errors import FileError, InputError, listed, nearest
from conjoin.transfer.checkpoints.dtypes import dtype_of
from conjoin.transfer.weights import METHODS, Method, checked, method_of

MOST_BYTES, MOST_NODES = 1_000_000, 100_000
LATER = {
    "modules": "recipes by module",
    "chat_template": "chat templates",
    "residual_weight": "residual weights",
}
"""Keys that mergekit has and conjoin has not yet."""
KEYS = ("merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype")
TOKENS = ("tokenizer_source", "tokenizer")

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
class Recipe:
    """What is to be merged, and how. stacked: it was written as slices. tokens: the model whose tokenizer is
    wanted, "base" or "union", or None. lines: of keys. notes: of what does nothing.
    """

    path: str
    method: Method
    slices: tuple[Slice, ...]
    base: str | None = None
    stacked: bool = False
    parameters: Settings = field(default_factory=dict)
    dtype: str | None = None
    out_dtype: str | None = None
    tokens: str | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that is named, the base first."""
        bases = [self.base, *(s.base for s in self.slices)]
        named = [b for b in bases if b] + [i.model for s in self.slices for i in s.sources]
        return tuple(dict.fromkeys(named))

    def refuse(self, message: str, line: int = 0) -> NoReturn:
        """Raises InputError with the place in the recipe."""
        where = f"{self.path}, line {line}: " if line else f"{self.path}: " if self.path else ""
        raise InputError(where + message)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file. Raises FileError, and InputError with the line."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise FileError(f"{path} is larger than any recipe")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise FileError(f"{path} cannot be read: {why}") from error
    return parse(text, str(path))


def parse(text: str, path: str = "recipe") -> Recipe:
    """The recipe in a text.

    >>> found = parse("merge_method: linear\\nparameters: {weight: 1}\\nmodels: [{model: a}, {model: b}]")
    >>> found.method.name, found.models
    ('linear', ('a', 'b'))
    """
    return _Reader(path).recipe(text)


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


class _Reader:
    """Turns nodes of YAML into records; holds what messages need."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.nodes = 0
        self.notes: list[str] = []

    def refuse(self, node: Any, message: str) -> NoReturn:
        line = node.start_mark.line + 1 if node is not None else 1
        raise InputError(f"{self.path}, line {line}: {message}")

    def recipe(self, text: str) -> Recipe:
        try:
            self.loader = yaml.SafeLoader(text)
            first = self.loader.get_node() if self.loader.check_node() else None
            if first is None:
                self.refuse(None, "the recipe is empty")
            if self.loader.check_node():
                self.refuse(
                    self.loader.get_node(), "recipes of several documents are not read yet; give one document"
                )
            return self._recipe(first)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{self.path}, line {mark.line + 1}" if mark else self.path
            raise InputError(f"{where}: no YAML: {getattr(error, 'problem', None) or error}") from error
        except RecursionError as error:
            raise InputError(f"{self.path}: it is nested too deeply") from error

    def _recipe(self, node: Any) -> Recipe:
        keys = self.mapping(node, (*KEYS, *TOKENS), "the recipe", LATER)
        if "merge_method" not in keys:
            self.refuse(node, "merge_method is missing")
        given = self.text(keys["merge_method"], "merge_method")
        try:
            method = method_of(given)
        except InputError as error:
            self.refuse(keys["merge_method"], str(error))
        if ("models" in keys) == ("slices" in keys):
            self.refuse(node, "a recipe holds either models or slices")
        base = self.model(keys["base_model"]) if "base_model" in keys else None
        stacked = "slices" in keys
        if stacked:
            parts = [self.slice(n, method) for n in self.sequence(keys["slices"], "slices")]
        else:
            sources = [self.input(n, method, ranged=False) for n in self.sequence(keys["models"], "models")]
            parts = [Slice(tuple(sources), line=keys["models"].start_mark.line + 1)]
        return Recipe(
            self.path,
            method,
            tuple(parts),
            base,
            stacked,
            self.settings(keys.get("parameters"), method),
            self.dtype(keys.get("dtype")),
            self.dtype(keys.get("out_dtype")),
            self.tokens(keys),
            {k: n.start_mark.line + 1 for k, n in keys.items()},
            tuple(self.notes),
        )

    def slice(self, node: Any, method: Method) -> Slice:
        keys = self.mapping(node, ("sources", "base_model", "parameters"), "a slice", LATER)
        if "sources" not in keys:
            self.refuse(node, "a slice needs sources")
        sources = tuple(self.input(n, method, ranged=True) for n in self.sequence(keys["sources"], "sources"))
        counts = {s.layers[1] - s.layers[0] for s in sources if s.layers}
        if len(counts) > 1:
            self.refuse(
                node, f"the sources of a slice must have equally many layers, not {listed(sorted(counts))}"
            )
        base = self.model(keys["base_model"]) if "base_model" in keys else None
        return Slice(sources, base, self.settings(keys.get("parameters"), method), node.start_mark.line + 1)

    def input(self, node: Any, method: Method, *, ranged: bool) -> Input:
        known = ("model", "layer_range", "parameters") if ranged else ("model", "parameters")
        keys = self.mapping(node, known, "a source" if ranged else "a model")
        missing = [k for k in known[:-1] if k not in keys]
        if missing:
            self.refuse(node, f"{missing[0]} is missing")
        layers = self.layers(keys["layer_range"]) if ranged else None
        settings = self.settings(keys.get("parameters"), method, of_model=True)
        return Input(self.model(keys["model"]), layers, settings, node.start_mark.line + 1)

    def layers(self, node: Any) -> tuple[int, int]:
        found = [self.scalar(n) for n in self.sequence(node, "layer_range")]
        if len(found) != 2 or not all(type(v) is int for v in found) or not 0 <= found[0] < found[1]:
            self.refuse(node, f"layer_range must be [first, one after the last], not {found!r:.60}")
        return found[0], found[1]

    def model(self, node: Any) -> str:
        if isinstance(node, yaml.MappingNode):
            self.refuse(node, "a model is given by its folder; a mapping is not read yet")
        name = self.text(node, "a model")
        if not Path(name).exists() and "+" in name:
            self.refuse(node, f"{name!r}: adapters (LoRA) are not merged in yet; merge the adapter first")
        if not Path(name).exists() and "@" in name:
            self.refuse(node, f"{name!r}: revisions are not fetched; give the folder of the model")
        return name

    def tokens(self, keys: Mapping[str, Any]) -> str | None:
        if "tokenizer" in keys and "tokenizer_source" in keys:
            self.refuse(keys["tokenizer"], "give tokenizer or tokenizer_source, not both")
        if "tokenizer_source" in keys:
            return self.text(keys["tokenizer_source"], "tokenizer_source")
        if "tokenizer" not in keys:
            return None
        later = dict.fromkeys(("tokens", "pad_to_multiple_of"), "changes of a tokenizer")
        found = self.mapping(keys["tokenizer"], ("source",), "tokenizer", later)
        return self.text(found["source"], "source") if "source" in found else None

    def dtype(self, node: Any) -> str | None:
        if node is None:
            return None
        name = self.text(node, "a type")
        try:
            return dtype_of(name)
        except InputError as error:
            self.refuse(node, str(error))

    def settings(self, node: Any, method: Method, *, of_model: bool = False) -> Settings:
        """Parameters by name, each in every form that a recipe may give it, and each value checked."""
        if node is None or (isinstance(node, yaml.ScalarNode) and self.scalar(node) is None):
            return {}
        out = {}
        for name, value in self.pairs(node):
            if not self.taken(name, value, method, of_model):
                continue
            setting = Setting(tuple(self.cases(value)), value.start_mark.line + 1)
            for case in setting.cases:
                for one in case.value if isinstance(case.value, tuple) else (case.value,):
                    try:
                        checked(method, name, one)
                    except InputError as error:
                        self.refuse(value, str(error))
            out[name] = setting
        return out

    def taken(self, name: str, node: Any, method: Method, of_model: bool) -> bool:
        """Whether the method uses this parameter here. One of another method is told and left out, as recipes
        are handed from method to method; one that no method has is refused.
        """
        line = f"line {node.start_mark.line + 1}"
        if name in method.parameters:
            if not of_model or method.parameters[name].per_model:
                return True
            self.notes.append(
                f"{line}: {name!r} of {method.name} is one for all models; here it does nothing"
            )
        elif any(name in m.parameters for m in METHODS.values()):
            self.notes.append(f"{line}: {method.name} has no parameter {name!r}; it does nothing")
        else:
            known = listed(method.parameters) or "none"
            hint = nearest(name, method.parameters)
            self.refuse(node, f"{method.name} has no parameter {name!r}{hint}; it has {known}")
        return False

    def cases(self, node: Any) -> Iterator[Case]:
        if isinstance(node, yaml.SequenceNode) and any(isinstance(n, yaml.MappingNode) for n in node.value):
            for one in self.sequence(node, "a parameter"):
                yield self.case(one)
        elif isinstance(node, yaml.MappingNode):
            yield self.case(node)
        else:
            yield Case(None, self.values(node))

    def case(self, node: Any) -> Case:
        if not isinstance(node, yaml.MappingNode):
            return Case(None, self.values(node))
        keys = self.mapping(node, ("filter", "value"), "a filtered value")
        if "value" not in keys:
            self.refuse(node, "value is missing")
        wanted = self.scalar(keys["filter"]) if "filter" in keys else None
        return Case(None if wanted is None else str(wanted), self.values(keys["value"]))

    def values(self, node: Any) -> Scalar | tuple[Scalar, ...]:
        found = (
            tuple(self.scalar(n) for n in self.sequence(node, "a list"))
            if isinstance(node, yaml.SequenceNode)
            else self.scalar(node)
        )
        for one in found if isinstance(found, tuple) else (found,):
            if not isinstance(one, bool | int | float | str):
                self.refuse(node, f"a parameter must be a number, a word or true or false, not {one!r:.40}")
        return found

    def mapping(
        self, node: Any, known: Sequence[str], what: str, later: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Keys that are known -> nodes; keys with nothing behind them are left out."""
        out = {}
        for name, value in self.pairs(node, what):
            if name in (later or {}):
                self.refuse(value, f"{(later or {})[name]} ({name}) are not built yet")
            if name not in known:
                self.refuse(
                    value, f"{what} has no key {name!r}{nearest(name, known)}; there are {listed(known)}"
                )
            if not (isinstance(value, yaml.ScalarNode) and self.scalar(value) is None):
                out[name] = value
        return out

    def pairs(self, node: Any, what: str = "parameters") -> list[tuple[str, Any]]:
        self.count(node)
        if not isinstance(node, yaml.MappingNode):
            self.refuse(node, f"{what} must be a mapping (key: value)")
        merged = any(k.tag == "tag:yaml.org,2002:merge" for k, _ in node.value)
        if merged:
            self.loader.flatten_mapping(node)
        out: dict[str, Any] = {}
        for key, value in node.value:
            name = self.text(key, "a key")
            if name in out and not merged:
                self.refuse(key, f"{name!r} is given twice")
            out[name] = value
        return list(out.items())

    def sequence(self, node: Any, what: str) -> list[Any]:
        self.count(node)
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.refuse(node, f"{what} must be a list with something in it")
        return list(node.value)

    def scalar(self, node: Any) -> Any:
        self.count(node)
        if not isinstance(node, yaml.ScalarNode):
            self.refuse(node, "a single value is wanted here")
        try:
            return self.loader.construct_object(node)
        except ValueError as error:
            self.refuse(node, f"{node.value!r:.40} makes no sense: {error}")

    def text(self, node: Any, what: str) -> str:
        self.count(node)
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            self.refuse(node, f"{what} must be a word")
        return str(node.value)

    def count(self, node: Any) -> None:
        self.nodes += 1
        if self.nodes > MOST_NODES:
            self.refuse(node, "the recipe repeats itself too often (aliases)")


__all__ = ["Case", "Input", "Recipe", "Setting", "Slice", "parse", "read_recipe"]
