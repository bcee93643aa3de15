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

`slices` in place of `models` stack layers: each has `sources` with a `layer_range`. `modules` give each part
of a model its own models or slices. A parameter of a source wins over that of its slice, this over that of
its module, and this over that of the recipe. A model is a folder, `folder+adapter`, or the name of another
document of the same file. Every error names the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from conjoin.errors import FileError, InputError, listed, nearest
from conjoin.transfer.checkpoints.dtypes import dtype_of
from conjoin.transfer.merge.parts import Case, Input, Module, Recipe, Scalar, Setting, Settings, Slice
from conjoin.transfer.merge.reference import Reference, plain, reference
from conjoin.transfer.merge.wanted import read_wanted
from conjoin.transfer.weights import METHODS, Method, checked, method_of

MOST_BYTES, MOST_NODES = 1_000_000, 100_000
PARTS = ("models", "slices", "modules")
KEYS = ("merge_method", "base_model", *PARTS, "parameters", "dtype", "out_dtype", "chat_template", "name")
TOKENS = ("tokenizer_source", "tokenizer")


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file of one document. Raises FileError, and InputError with the line."""
    return parse(_text(path), str(path))


def read_recipes(path: Path) -> tuple[Recipe, ...]:
    """The recipes in a file, one a document. Raises FileError, and InputError with the line."""
    return parse_all(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise FileError(f"{path} is larger than any recipe")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise FileError(f"{path} cannot be read: {why}") from error


def parse(text: str, path: str = "recipe") -> Recipe:
    """The recipe in a text.

    >>> found = parse("merge_method: linear\\nparameters: {weight: 1}\\nmodels: [{model: a}, {model: b}]")
    >>> found.method.name, found.models
    ('linear', ('a', 'b'))
    """
    found = parse_all(text, path)
    if len(found) > 1:
        found[1].refuse("one document is wanted here, the file holds several", found[1].lines["merge_method"])
    return found[0]


def parse_all(text: str, path: str = "recipe") -> tuple[Recipe, ...]:
    """The recipes in a text of one or more documents. Raises InputError with the line."""
    return _Reader(path).recipes(text)


class _Reader:
    """Turns nodes of YAML into records; holds what messages need."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.nodes = 0
        self.notes: list[str] = []
        self.references: dict[str, Reference] = {}

    def refuse(self, node: Any, message: str) -> NoReturn:
        line = node.start_mark.line + 1 if node is not None else 1
        raise InputError(f"{self.path}, line {line}: {message}")

    def recipes(self, text: str) -> tuple[Recipe, ...]:
        out: list[Recipe] = []
        try:
            self.loader = yaml.SafeLoader(text)
            while self.loader.check_node():
                self.notes, self.references = [], {}
                node = self.loader.get_node()
                if out and isinstance(node, yaml.ScalarNode) and self.scalar(node) is None:
                    continue  # "---" at the end
                out.append(self._recipe(node))
            if not out:
                self.refuse(None, "the recipe is empty")
            return tuple(out)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{self.path}, line {mark.line + 1}" if mark else self.path
            raise InputError(f"{where}: no YAML: {getattr(error, 'problem', None) or error}") from error
        except RecursionError as error:
            raise InputError(f"{self.path}: it is nested too deeply") from error

    def _recipe(self, node: Any) -> Recipe:
        keys = self.mapping(node, (*KEYS, *TOKENS), "the recipe")
        if "merge_method" not in keys:
            self.refuse(node, "merge_method is missing")
        given = self.text(keys["merge_method"], "merge_method")
        try:
            method = method_of(given)
        except InputError as error:
            self.refuse(keys["merge_method"], str(error))
        if sum(k in keys for k in PARTS) != 1:
            self.refuse(node, "a recipe holds either models or slices or modules")
        base = self.model(keys["base_model"]) if "base_model" in keys else None
        modules = self.modules(keys["modules"], method) if "modules" in keys else ()
        return Recipe(
            self.path,
            method,
            () if modules else self.parts(keys, method),
            base,
            "slices" in keys,
            self.settings(keys.get("parameters"), method),
            self.dtype(keys.get("dtype")),
            self.dtype(keys.get("out_dtype")),
            read_wanted(self, keys),
            self.text(keys["chat_template"], "chat_template") if "chat_template" in keys else None,
            {k: n.start_mark.line + 1 for k, n in keys.items()},
            tuple(self.notes),
            modules,
            dict(self.references),
            self.text(keys["name"], "name") if "name" in keys else "",
        )

    def modules(self, node: Any, method: Method) -> tuple[Module, ...]:
        out = []
        for name, value in self.pairs(node, "modules"):
            keys = self.mapping(value, ("models", "slices", "parameters"), f"the module {name!r}")
            if ("models" in keys) == ("slices" in keys):
                self.refuse(value, f"the module {name!r} holds either models or slices")
            settings = self.settings(keys.get("parameters"), method)
            line = value.start_mark.line + 1
            out.append(Module(name, self.parts(keys, method), "slices" in keys, settings, line))
        if not out:
            self.refuse(node, "modules must hold a module")
        return tuple(out)

    def parts(self, keys: Mapping[str, Any], method: Method) -> tuple[Slice, ...]:
        if "slices" in keys:
            return tuple(self.slice(n, method) for n in self.sequence(keys["slices"], "slices"))
        sources = [self.input(n, method, ranged=False) for n in self.sequence(keys["models"], "models")]
        return (Slice(tuple(sources), line=keys["models"].start_mark.line + 1),)

    def slice(self, node: Any, method: Method) -> Slice:
        keys = self.mapping(node, ("sources", "base_model", "residual_weight", "parameters"), "a slice")
        if "sources" not in keys:
            self.refuse(node, "a slice needs sources")
        if "residual_weight" in keys:
            self.residual(keys["residual_weight"])
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

    def residual(self, node: Any) -> None:
        """mergekit 0.1.5 reads this key and uses it nowhere; nor is it used here."""
        value = self.scalar(node)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(node, f"residual_weight must be a number, not {value!r:.40}")
        self.notes.append(f"line {node.start_mark.line + 1}: residual_weight does nothing, as in mergekit")

    def model(self, node: Any) -> str:
        """The name of a model; what it stands for is kept where it has an adapter."""
        try:
            found = (
                self.model_parts(node)
                if isinstance(node, yaml.MappingNode)
                else reference(self.text(node, "a model"), self.there)
            )
        except InputError as error:
            if str(error).startswith(f"{self.path}, line"):
                raise
            self.refuse(node, str(error))
        if found.adapter is not None:
            self.references[found.name] = found
        return found.name

    def model_parts(self, node: Any) -> Reference:
        """{model: {path, revision}, lora: {path, revision}, override_architecture}."""
        keys = self.mapping(node, ("model", "lora", "override_architecture"), "a model")
        if "model" not in keys:
            self.refuse(node, "model is missing")
        if "override_architecture" in keys:
            line = keys["override_architecture"].start_mark.line + 1
            self.notes.append(
                f"line {line}: override_architecture does nothing; layers are told from the names of tensors"
            )
        adapter = self.path_of(keys["lora"], "lora") if "lora" in keys else None
        return Reference(self.path_of(keys["model"], "model"), adapter)

    def path_of(self, node: Any, what: str) -> str:
        if not isinstance(node, yaml.MappingNode):
            return plain(self.text(node, what), self.there)
        keys = self.mapping(node, ("path", "revision"), what)
        if "path" not in keys:
            self.refuse(node, "path is missing")
        path = self.text(keys["path"], "path")
        if "revision" in keys:
            return plain(f"{path}@{self.text(keys['revision'], 'revision')}", lambda _: False)
        return path

    def there(self, path: str) -> bool:
        return Path(path).exists() or (Path(self.path).parent / path).exists()

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

    def mapping(self, node: Any, known: Sequence[str], what: str) -> dict[str, Any]:
        """Keys that are known -> nodes; keys with nothing behind them are left out."""
        out = {}
        for name, value in self.pairs(node, what):
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


__all__ = [
    "Case",
    "Input",
    "Module",
    "Recipe",
    "Setting",
    "Settings",
    "Slice",
    "parse",
    "parse_all",
    "read_recipe",
    "read_recipes",
]
