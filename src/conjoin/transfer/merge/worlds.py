"""Models that are to be compared, in memory or as folders: each alone, plainly averaged, merged in some way.

A document is a recipe as plain data (what YAML reads). Merging by a document is all that search needs.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import yaml

from conjoin.errors import FileError, InputError
from conjoin.transfer.merge.models import merge, merge_recipe
from conjoin.transfer.merge.recipe import Recipe, parse, read_recipe
from conjoin.transfer.merge.stacks import Layout
from conjoin.transfer.weights import METHODS, checked

Document = dict[str, Any]


class World(Protocol):
    """Where models come from. names: of the models beside the base; base: its name, or None."""

    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def base(self) -> str | None: ...  # noqa: D102
    def single(self, name: str) -> Any: ...  # noqa: D102
    def average(self) -> Any: ...  # noqa: D102
    def merged(self, document: Document) -> Any: ...  # noqa: D102
    def drop(self, model: Any) -> None: ...  # noqa: D102


def document_of(
    world: World, method: str, parameters: Mapping[str, Any] | None, *, layers: int = 1
) -> Document:
    """A recipe of the world's models. layers: how often a number stands from the first layer to the last."""
    specs = METHODS[method].parameters
    rows: list[dict[str, Any]] = [{"model": n, "parameters": {}} for n in world.names]
    shared: dict[str, Any] = {}
    for name, value in (parameters or {}).items():
        if name not in specs or not specs[name].per_model:
            shared[name] = value
            continue
        each = value if isinstance(value, list | tuple) else [value] * len(rows)
        if len(each) != len(rows):
            raise InputError(f"{method}: {len(each)} values of {name!r} for {len(rows)} models")
        for row, one in zip(rows, each, strict=True):
            row["parameters"][name] = [one] * layers if layers > 1 and specs[name].kind is float else one
    found: Document = {"merge_method": method, "models": rows}
    if world.base is not None and METHODS[method].base != "none":
        found["base_model"] = world.base
    return found | ({"parameters": shared} if shared else {})


def text_of(document: Document) -> str:
    """A document as YAML."""
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110))


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """State dicts or torch modules, by name; a merge is of the same kind."""

    models: Mapping[str, Any]
    origin: Any
    seed: int

    @property
    def names(self) -> tuple[str, ...]:
        """Of the models beside the base."""
        return tuple(self.models)

    @property
    def base(self) -> str | None:
        """A name for the base."""
        return None if self.origin is None else _free("base", self.models)

    def single(self, name: str) -> Any:
        """A model as it was given."""
        return self.models.get(name, self.origin)

    def average(self) -> Any:
        """The mean of the models."""
        return merge(self.models, "linear", parameters={"weight": 1.0})

    def merged(self, document: Document) -> Any:
        """The models merged as the document says."""
        recipe = parse(text_of(document), "the merge")
        states = {n: _state(m) for n, m in self.models.items()}
        origin = None if recipe.base is None else _state(self.origin)
        first = next(iter(states.values()))
        groups = _groups(recipe, list(first))
        if len(groups) == 1:
            parameters = json.loads(next(iter(groups)))
            own = None if origin is None else self.origin
            return merge(self.models, recipe.method.name, base=own, parameters=parameters, seed=self.seed)
        made: dict[str, Any] = {}
        for told, names in groups.items():
            cut = {m: {n: s[n] for n in names if n in s} for m, s in states.items()}
            own = None if origin is None else {n: origin[n] for n in names if n in origin}
            made |= merge(cut, recipe.method.name, base=own, parameters=json.loads(told), seed=self.seed)
        return _like(next(iter(self.models.values())), {n: made[n] for n in first})

    def drop(self, model: Any) -> None:
        """Nothing: memory is freed by itself."""


def _groups(recipe: Recipe, names: list[str]) -> dict[str, list[str]]:
    """Names of tensors that get the same parameters, by these parameters as JSON."""
    layout = Layout(names)
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(json.dumps(_parameters(recipe, name, layout.depth(name))), []).append(name)
    return found


def _parameters(recipe: Recipe, name: str, depth: float) -> dict[str, Any]:
    """The parameters of one tensor, in the form that `merge` takes."""
    method, out = recipe.method, {}
    for wanted, spec in method.parameters.items():
        levels = [recipe.parameters]
        sources = [s for s in recipe.slices[0].sources if s.model != recipe.base]
        rows = [[s.parameters, *levels] for s in sources] if spec.per_model else [levels]
        values = []
        for row in rows:
            given = [
                v for s in row if wanted in s
                if (v := s[wanted].at(name, depth, partial(checked, method, wanted))) is not None
            ]  # fmt: skip
            values.append(given[0] if given else None)
        if any(v is not None for v in values):
            default = spec.default
            filled = [default if v is None else v for v in values]
            out[wanted] = filled if spec.per_model else filled[0]
    return out


def _state(model: Any) -> Mapping[str, Any]:
    found = model.state_dict() if callable(getattr(model, "state_dict", None)) else model
    if not isinstance(found, Mapping):
        raise InputError(f"a model must be a state dict or a torch module, not {type(model).__name__}")
    return found


def _like(model: Any, state: dict[str, Any]) -> Any:
    """The state dict in a module like the given one, or itself."""
    if not callable(getattr(model, "state_dict", None)):
        return state
    made = copy.deepcopy(model)
    made.load_state_dict(state)
    return made


def _free(word: str, taken: Mapping[str, Any]) -> str:
    while word in taken:
        word = f"the {word}"
    return word


@dataclass(frozen=True, slots=True, eq=False)
class Folders:
    """Checkpoints in folders; merges are written into `scratch`. options: of `merge_recipe`."""

    names: tuple[str, ...]
    base: str | None
    scratch: Path
    options: Mapping[str, Any]

    def single(self, name: str) -> Path:
        """A model's own folder; an adapter and what it belongs to become one first."""
        if Path(name).exists():
            return Path(name)
        return self.merged({"merge_method": "passthrough", "models": [{"model": name}]})

    def average(self) -> Path:
        """The folder of the mean of the models."""
        rows = [{"model": n} for n in self.names]
        return self.merged({"merge_method": "linear", "models": rows, "parameters": {"weight": 1.0}})

    def merged(self, document: Document) -> Path:
        """The folder of this merge; one that is there already is not made again."""
        text = text_of(document)
        place = self.scratch / hashlib.sha256(text.encode()).hexdigest()[:16]
        if not place.exists():
            path = place.with_suffix(".yml")
            path.write_text(text, encoding="utf-8")
            merge_recipe(path, place, **self.options)
        return place

    def drop(self, model: Path) -> None:
        """Remove a merge that is no longer wanted."""
        if model.parent == self.scratch:
            shutil.rmtree(model)


@contextlib.contextmanager
def scratch_of(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, for the time being."""
    place = Path(os.path.realpath(out))
    made = place.with_name(f".{place.name}.judging")
    try:
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        yield made
    except OSError as error:
        raise FileError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def read_document(path: Path) -> tuple[Document, Recipe]:
    """A recipe as plain data, its models as paths that can be found from here, and as a record.

    Raises FileError, and InputError where it holds several documents.
    """
    first, text = read_recipe(path), path.read_text(encoding="utf-8")
    found: Document = yaml.safe_load(text)
    moved = {n: p for n in first.models if (p := _from_here(n, path.parent)) != n}
    if moved:
        found = _renamed(found, moved)
    return found, parse(text_of(found), str(path)) if moved else first


def _from_here(name: str, home: Path) -> str:
    """A model's name as a path from here, where it is one from the recipe's folder."""
    words = name.split("+")
    return "+".join(str(home / w) if not Path(w).exists() and (home / w).exists() else w for w in words)


def _renamed(value: Any, moved: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: v if k == "filter" else _renamed(v, moved) for k, v in value.items()}
    if isinstance(value, list):
        return [_renamed(v, moved) for v in value]
    return moved.get(value, value) if isinstance(value, str) else value
