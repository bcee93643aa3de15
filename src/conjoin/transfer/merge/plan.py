"""From a recipe and the headers of its models to tasks; what does not fit is told before anything is written.

Layers are found from names: of all templates `prefix.NUMBER.rest` the one with the most tensors. Tensors
beside the layers come from the first slice where they are embeddings, else from the last.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conjoin.errors import InputError, listed
from conjoin.transfer.checkpoints import Weights, open_checkpoint
from conjoin.transfer.checkpoints.dtypes import FLOATS, wider
from conjoin.transfer.merge.recipe import Input, Recipe, Settings, Slice
from conjoin.transfer.merge.stream import Source, Task
from conjoin.transfer.merge.tokens import Joined, join_tokens
from conjoin.transfer.weights import checked

BUFFERS = ("rotary_emb.inv_freq",)
"""Ends of names of what models of one architecture hold or lack by their age; left out where one lacks it."""
_NUMBER = re.compile(r"^(.*?(?:^|\.))(\d+)(\..*|$)")
_FIRST = re.compile(r"emb|wte|wpe", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Plan:
    """Tasks and the models they read. layers: which layer of which model (by number) each layer of the answer
    is like; None where the recipe stacks nothing. notes: for people. joined: the vocabulary of the answer.
    """

    tasks: tuple[Task, ...]
    inputs: tuple[Weights, ...]
    models: tuple[str, ...]
    layers: tuple[tuple[int, int], ...] | None
    notes: tuple[str, ...]
    joined: Joined


def plan(recipe: Recipe, folder: Callable[[str], Path] = Path, scratch: Path | None = None) -> Plan:
    """The plan of a recipe. folder: where a model of this name lies. scratch: a folder for tensors that views
    compute. Raises InputError and FileError.
    """
    for number, part in enumerate(recipe.slices):
        _check_slice(recipe, part, number)
    names = recipe.models
    inputs = tuple(open_checkpoint(folder(name)) for name in names)
    joined = join_tokens(recipe, names, inputs, scratch)
    return _Planner(recipe, names, joined).plan()


def template(names: Sequence[str]) -> tuple[str, int]:
    """What stands before the number of a layer, and how many layers there are; ("", 0) without layers.

    >>> template(["emb.w", "h.0.a", "h.0.b", "h.1.a", "h.1.b", "head.0.w"])
    ('h.', 2)
    """
    counts: Counter[str] = Counter()
    numbers: dict[str, set[int]] = {}
    for name in names:
        if found := _NUMBER.match(name):
            counts[found[1]] += 1
            numbers.setdefault(found[1], set()).add(int(found[2]))
    if not counts:
        return "", 0
    prefix = max(counts, key=lambda p: (counts[p], p))
    return prefix, max(numbers[prefix]) + 1


def layer_of(name: str, prefix: str) -> int | None:
    """The layer that a tensor belongs to, None beside the layers."""
    found = _NUMBER.match(name)
    return int(found[2]) if found and found[1] == prefix else None


def _check_slice(recipe: Recipe, part: Slice, number: int) -> None:
    method, base = recipe.method, part.base or recipe.base
    named = [i.model for i in part.sources]
    if method.base == "none":
        if base and not recipe.stacked and base not in named:
            recipe.refuse(
                f"{method.name} takes no base model; list {base!r} among the models, or leave base_model out",
                recipe.lines.get("base_model", 0),
            )
        base = None
    if base and recipe.stacked and base not in named:
        recipe.refuse(f"the base model {base!r} must be a source of slice {number + 1}, too", part.line)
    try:
        method.check_models(sum(name != base for name in named), base=base is not None)
    except InputError as error:
        recipe.refuse(str(error), part.line or recipe.lines.get("merge_method", 0))


class _Planner:
    """Holds what each step looks up."""

    def __init__(self, recipe: Recipe, names: tuple[str, ...], joined: Joined) -> None:
        self.recipe, self.names, self.joined = recipe, names, joined
        self.inputs = inputs = joined.inputs
        self.number = {name: i for i, name in enumerate(names)}
        self.shapes = [template(list(c)) for c in inputs]
        self.prefix = self.shapes[0][0]
        self.notes: list[str] = list(recipe.notes)
        self.unmerged: list[str] = []
        self._layers: dict[int, dict[int, list[str]]] = {}

    def plan(self) -> Plan:
        parts = [self.part(p) for p in self.recipe.slices]
        self.check_layers(parts)
        tasks = list(self.beside(parts[0], first=True))
        start = 0
        for part in parts:
            tasks += self.stacked(part, start)
            start += self.length(part)
        tasks += self.beside(parts[-1], first=False)
        if self.unmerged:
            self.notes.append(
                f"no floats, taken from the first model as they are: {listed(self.unmerged, 4)}"
            )
        layers = None
        if self.recipe.stacked:
            firsts = [(self.number[p.sources[0].model], p.sources[0].layers or (0, 0)) for p in parts]
            layers = tuple((model, i) for model, (a, b) in firsts for i in range(a, b))
        return Plan(tuple(tasks), self.inputs, self.names, layers, tuple(self.notes), self.joined)

    def part(self, part: Slice) -> Slice:
        """The slice with its base among the sources, and every range told."""
        base = part.base or self.recipe.base
        sources = list(part.sources)
        if base and base not in [s.model for s in sources]:
            if self.recipe.method.base == "none":
                base = None
            else:
                sources.append(Input(base))
        ranged = []
        for s in sources:
            layers = s.layers or (0, self.shapes[self.number[s.model]][1])
            ranged.append(Input(s.model, layers, s.parameters, s.line))
        if self.recipe.method.base == "none":
            base = None
        return Slice(tuple(ranged), base, part.parameters, part.line)

    @staticmethod
    def length(part: Slice) -> int:
        first, after = part.sources[0].layers or (0, 0)
        return after - first

    def check_layers(self, parts: Sequence[Slice]) -> None:
        for part in parts:
            for source in part.sources:
                prefix, count = self.shapes[self.number[source.model]]
                if prefix != self.prefix:
                    self.recipe.refuse(
                        f"layers are called {prefix or '(none)'!r} in {source.model} and {self.prefix!r} in "
                        f"{self.names[0]}; models of different architectures cannot be merged",
                        source.line,
                    )
                if source.layers and source.layers[1] > count:
                    self.recipe.refuse(
                        f"{source.model} has {count} layers, not {source.layers[1]}", source.line
                    )
            counts = {s.model: (s.layers or (0, 0))[1] - (s.layers or (0, 0))[0] for s in part.sources}
            if len(set(counts.values())) > 1:
                told = listed(f"{m}: {n}" for m, n in counts.items())
                self.recipe.refuse(f"models have different numbers of layers ({told})", part.line)

    def beside(self, part: Slice, *, first: bool) -> Iterator[Task]:
        names = self.common(part, [self.outside(s) for s in part.sources])
        for name in names:
            if bool(_FIRST.search(name)) == first:
                yield self.task(part, name, [name] * len(part.sources), 0.0)

    def outside(self, source: Input) -> list[str]:
        return [n for n in self.inputs[self.number[source.model]] if layer_of(n, self.prefix) is None]

    def stacked(self, part: Slice, start: int) -> Iterator[Task]:
        length = self.length(part)
        for step in range(length):
            depth = step / (length - 1) if length > 1 else 1.0
            rests = [self.rests(s, step) for s in part.sources]
            for rest in self.common(part, rests, step):
                named = [self.layer_name((s.layers or (0, 0))[0] + step, rest) for s in part.sources]
                yield self.task(part, self.layer_name(start + step, rest), named, depth)

    def layer_name(self, layer: int, rest: str) -> str:
        return f"{self.prefix}{layer}{rest}"

    def rests(self, source: Input, step: int) -> list[str]:
        start = self.layer_name((source.layers or (0, 0))[0] + step, "")
        names = self.by_layer(self.number[source.model]).get((source.layers or (0, 0))[0] + step, [])
        return [n[len(start) :] for n in names]

    def by_layer(self, model: int) -> Mapping[int, list[str]]:
        if model not in self._layers:
            found: dict[int, list[str]] = {}
            for name in self.inputs[model]:
                if (layer := layer_of(name, self.prefix)) is not None:
                    found.setdefault(layer, []).append(name)
            self._layers[model] = found
        return self._layers[model]

    def common(self, part: Slice, given: Sequence[list[str]], step: int | None = None) -> list[str]:
        """Names that all sources have; buffers may be lacking, anything else is told."""
        sets = [set(g) for g in given]
        every = dict.fromkeys(n for g in given for n in g)
        lacking = [n for n in every if not all(n in s for s in sets)]
        lost = [n for n in lacking if not n.endswith(BUFFERS)]
        if lost:
            without = [s.model for s, found in zip(part.sources, sets, strict=True) if lost[0] not in found]
            where = "" if step is None else f" (layer {step} of the slice)"
            tied = "; it is tied to the embedding there" if "lm_head" in lost[0] else ""
            self.recipe.refuse(
                f"tensors that not all models have{where}: {listed(lost, 4)}; "
                f"{listed(without)} lacks {lost[0]}{tied}",
                part.line,
            )
        return [n for n in every if n not in lacking]

    def task(self, part: Slice, name: str, named: Sequence[str], depth: float) -> Task:
        places = [
            self.inputs[self.number[s.model]][n].entry for s, n in zip(part.sources, named, strict=True)
        ]
        self.check_shapes(part, name, [p.shape for p in places])
        sources = [Source(self.number[s.model], n) for s, n in zip(part.sources, named, strict=True)]
        bases = [i for i, s in enumerate(part.sources) if s.model == part.base]
        own = bases[0] if bases else 0
        if any(p.dtype not in FLOATS for p in places):
            self.unmerged.append(name)
            return Task(name, places[own].dtype, places[own].shape, (sources[own],))
        self.check_scales(part, sources)
        rest = [i for i in range(len(sources)) if i not in bases]
        stored = {p.dtype for p in places}
        dtype = self.recipe.out_dtype or self.recipe.dtype
        dtype = dtype or (stored.pop() if len(stored) == 1 else wider(tuple(p.dtype for p in places)))
        shared, each = self.parameters(part, name, [(part.sources[i], named[i]) for i in rest], depth)
        if self.recipe.method.name == "passthrough" and each.get("scale") == (None,):
            return Task(name, dtype, places[rest[0]].shape, (sources[rest[0]],))
        base = sources[own] if bases else None
        kept = tuple(sources[i] for i in rest)
        return Task(name, dtype, places[0].shape, kept, self.recipe.method.name, base, shared, each)

    def check_shapes(self, part: Slice, name: str, shapes: Sequence[tuple[int, ...]]) -> None:
        if len(set(shapes)) == 1:
            return
        told = listed(f"{s.model}: {list(shape)}" for s, shape in zip(part.sources, shapes, strict=True))
        words = len({s[1:] for s in shapes}) == 1 and re.search(r"emb|wte|lm_head|output", name)
        why = (
            "; the vocabularies have different sizes, and nothing is cut silently: say in the recipe whose "
            "vocabulary the answer has, as tokenizer: {source: base}, or union, or a model"
            if words
            else ""
        )
        self.recipe.refuse(f"{name} has different shapes ({told}){why}", part.line)

    def check_scales(self, part: Slice, sources: Sequence[Source]) -> None:
        for source in sources:
            checkpoint = self.inputs[source.model]
            if not checkpoint[source.name].entry.dtype.startswith("F8"):
                continue
            for end in ("_scale", "_scale_inv"):
                if source.name + end in checkpoint:
                    self.recipe.refuse(
                        f"{source.name} of {self.names[source.model]} is quantised ({source.name}{end}); "
                        "merging such weights is not built yet, store them as bfloat16 first",
                        part.line,
                    )

    def parameters(
        self, part: Slice, name: str, inputs: Sequence[tuple[Input, str]], depth: float
    ) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
        outer = (part.parameters, self.recipe.parameters)
        shared: dict[str, Any] = {}
        each: dict[str, tuple[Any, ...]] = {}
        for wanted, spec in self.recipe.method.parameters.items():
            if spec.per_model:
                values = [self.value(wanted, (s.parameters, *outer), n, depth, s) for s, n in inputs]
                each[wanted] = tuple(values)
            else:
                shared[wanted] = self.value(wanted, outer, name, depth, None)
        weights = each.get("weight", ())
        if self.recipe.method.name == "linear" and shared["normalize"] and sum(weights) == 0:
            self.recipe.refuse(
                f"the weights of {name} sum to 0; change them, or set normalize: false",
                self.recipe.lines.get("merge_method", 0),
            )
        return shared, each

    def value(
        self, wanted: str, levels: Sequence[Settings], name: str, depth: float, source: Input | None
    ) -> Any:
        method = self.recipe.method
        for settings in levels:
            if wanted in settings:
                found = settings[wanted].at(name, depth, lambda v: checked(method, wanted, v))
                if found is not None:
                    return found
        try:
            return checked(method, wanted, None)
        except InputError as error:
            of = f" of {source.model}" if source else ""
            line = source.line if source else self.recipe.lines.get("merge_method", 0)
            self.recipe.refuse(f"{error} for {name}{of}", line)
