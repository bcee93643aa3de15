"""From a recipe and the headers of its models to tasks; what does not fit is told before anything is written.

Layers are found from names (see stacks.py). `models` are merged tensor by tensor, and a gradient runs over
each stack of layers. `slices` stack the layers of one stack anew; what is beside it comes from the first
slice where it is an embedding, else from the last. `modules` do either for their part of the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from conjoin.errors import InputError, listed, nearest
from conjoin.transfer.checkpoints import Weights, open_checkpoint
from conjoin.transfer.checkpoints.dtypes import FLOATS, wider
from conjoin.transfer.merge.adapters import adapted
from conjoin.transfer.merge.recipe import Input, Module, Recipe, Slice
from conjoin.transfer.merge.reference import Reference
from conjoin.transfer.merge.stacks import Layout, owners
from conjoin.transfer.merge.stream import Source, Task
from conjoin.transfer.merge.ties import same, says_tied, twin
from conjoin.transfer.merge.tokens import Joined, join_tokens
from conjoin.transfer.merge.values import values_of

BUFFERS = ("rotary_emb.inv_freq", "embeddings.position_ids", ".attn.masked_bias")
"""Ends of names of what models of one architecture hold or lack by their age; left out where one lacks it."""
_FIRST = re.compile(r"emb|wte|wpe|shared", re.IGNORECASE)

Layers = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Tasks and the models they read. layers: which layer of which model (by number) each layer of the answer
    is like; None where the recipe stacks nothing. notes: for people. stacks: as layers, for the stacks of
    modules, by prefix. untied: the answer has a head of its own, though the first model's is its embedding.
    joined: the vocabulary of the answer.
    """

    tasks: tuple[Task, ...]
    inputs: tuple[Weights, ...]
    models: tuple[str, ...]
    layers: Layers | None
    notes: tuple[str, ...]
    stacks: Mapping[str, Layers] = field(default_factory=dict)
    untied: bool = False
    joined: Joined = Joined(())


def plan(recipe: Recipe, folder: Callable[[str], Path] = Path, scratch: Path | None = None) -> Plan:
    """The plan of a recipe. folder: where a model of this name lies. scratch: a folder for tensors that views
    compute. Raises InputError and FileError.
    """
    check(recipe)
    return plan_of(recipe, open_inputs(recipe, folder, scratch), scratch)


def check(recipe: Recipe) -> None:
    """Whether the method can take the models of each slice. Raises InputError."""
    for module in recipe.modules or (Module("", recipe.slices, recipe.stacked),):
        for number, part in enumerate(module.slices):
            _check_slice(recipe, part, number, module.stacked)


def open_inputs(
    recipe: Recipe,
    folder: Callable[[str], Path] = Path,
    scratch: Path | None = None,
    made: Mapping[str, Weights] | None = None,
) -> tuple[Weights, ...]:
    """The models of a recipe in the order of their names, adapters put in. made: documents, by name."""
    out: list[Weights] = []
    for name in recipe.models:
        known = recipe.references.get(name, Reference(name))
        model = (made or {}).get(known.path) or open_checkpoint(folder(known.path))
        out.append(model if known.adapter is None else adapted(model, folder(known.adapter), scratch))
    return tuple(out)


def plan_of(recipe: Recipe, inputs: Sequence[Weights], scratch: Path | None = None) -> Plan:
    """The plan of a recipe for its models, in the order of their names. Raises InputError."""
    joined = join_tokens(recipe, recipe.models, inputs, scratch)
    return replace(_Planner(recipe, joined.inputs).plan(), joined=joined)


def _check_slice(recipe: Recipe, part: Slice, number: int, stacked: bool) -> None:
    method, base = recipe.method, part.base or recipe.base
    named = [i.model for i in part.sources]
    if method.base == "none":
        if base and not stacked and base not in named:
            if any(p.per_model and p.default is None and not p.optional for p in method.parameters.values()):
                recipe.refuse(
                    f"{method.name} takes no base model; list {base!r} among the models, or leave base_model "
                    "out",
                    recipe.lines.get("base_model", 0),
                )
            named = [*named, base]  # one model more, as in mergekit
        base = None
    if base and stacked and base not in named:
        recipe.refuse(f"the base model {base!r} must be a source of slice {number + 1}, too", part.line)
    try:
        method.check_models(sum(name != base for name in named), base=base is not None)
    except InputError as error:
        recipe.refuse(str(error), part.line or recipe.lines.get("merge_method", 0))


@dataclass(frozen=True, slots=True)
class _Group:
    """A module with the names of its tensors, of every model; and the prefix of the layers that it stacks."""

    module: Module
    names: frozenset[str]
    prefix: str = ""


class _Planner:
    """Holds what each step looks up."""

    def __init__(self, recipe: Recipe, inputs: tuple[Weights, ...]) -> None:
        self.recipe, self.names, self.inputs = recipe, recipe.models, inputs
        self.number = {name: i for i, name in enumerate(self.names)}
        self.layouts = [Layout(list(c)) for c in inputs]
        self.notes: list[str] = list(recipe.notes)
        self.unmerged: list[str] = []
        self.untied = False
        self._layers: dict[tuple[int, str], dict[int, list[str]]] = {}

    def plan(self) -> Plan:
        groups = [self.with_prefix(g) for g in self.groups()]
        tasks: list[Task] = []
        stacks: dict[str, Layers] = {}
        for group in groups:
            module = replace(group.module, slices=tuple(self.part(group, p) for p in group.module.slices))
            group = replace(group, module=module)
            tasks += self.stacked(group) if module.stacked else self.by_name(group)
            if module.stacked:
                stacks[group.prefix] = self.new_layers(module)
        if self.unmerged:
            self.notes.append(
                f"no floats, taken from the first model as they are: {listed(self.unmerged, 4)}"
            )
        layers = stacks.pop(groups[0].prefix) if self.recipe.stacked else None
        notes = tuple(dict.fromkeys(self.notes))
        return Plan(tuple(tasks), self.inputs, self.names, layers, notes, stacks, self.untied)

    def groups(self) -> list[_Group]:
        """The modules and what belongs to each; all of the model where the recipe has none."""
        recipe, every = self.recipe, dict.fromkeys(n for c in self.inputs for n in c)
        if not recipe.modules:
            whole = Module("", recipe.slices, recipe.stacked, line=recipe.slices[0].line)
            return [_Group(whole, frozenset(every))]
        found, none = owners(every, [m.name for m in recipe.modules])
        line = recipe.lines.get("modules", 0)
        parts = sorted(
            {n.partition(".")[0] for n in every} | {p.rstrip(".") for c in self.layouts for p in c.counts}
        )
        for module in recipe.modules:
            if module.name not in found.values():
                recipe.refuse(
                    f"no tensor belongs to the module {module.name!r}{nearest(module.name, parts)}; "
                    f"parts of the models are {listed(parts)}",
                    module.line,
                )
        if none:
            recipe.refuse(
                f"tensors that belong to no module: {listed(none, 4)}; "
                "a module called default takes the rest",
                line,
            )
        return [_Group(m, frozenset(n for n, o in found.items() if o == m.name)) for m in recipe.modules]

    def with_prefix(self, group: _Group) -> _Group:
        """The group with the stack that its slices mean."""
        module = group.module
        if not module.stacked:
            return group
        first = self.number[module.slices[0].sources[0].model]
        found = self.layouts[first].main(n for n in self.layouts[first].names if n in group.names)
        if len(found) > 1:
            self.recipe.refuse(
                f"{self.names[first]} has several stacks of layers ({listed(sorted(found))}); say which "
                "one the slices are of: give modules, each with its models or slices",
                module.line,
            )
        if not found:
            self.recipe.refuse(f"{self.names[first]} has no layers to stack", module.line)
        return replace(group, prefix=found[0])

    def part(self, group: _Group, part: Slice) -> Slice:
        """The slice with its base among the sources, and every range told, of a stack."""
        base = part.base or self.recipe.base
        sources = list(part.sources)
        if base and base not in [s.model for s in sources]:
            none = self.recipe.method.base == "none"
            if not none or not group.module.stacked:
                sources.append(Input(base, line=part.line))
            if none and not group.module.stacked:
                self.notes.append(f"{self.recipe.method.name} takes no base; {base} is one model more")
        if self.recipe.method.base == "none":
            base = None
        part = Slice(tuple(sources), base, part.parameters, part.line)
        if group.module.stacked:
            self.check_ranges(group, part)
        else:
            self.check_stacks(group, part)
        return part

    def check_ranges(self, group: _Group, part: Slice) -> None:
        for source in part.sources:
            count = self.layout(source).counts.get(group.prefix, 0)
            if not count:
                self.refuse_prefix(source, group.prefix)
            if source.layers and source.layers[1] > count:
                self.recipe.refuse(f"{source.model} has {count} layers, not {source.layers[1]}", source.line)

    def check_stacks(self, group: _Group, part: Slice) -> None:
        """All models must have the same stacks."""
        counts = [self.counts(s, group) for s in part.sources]
        for prefix in dict.fromkeys(p for c in counts for p in c):
            here = [c.get(prefix, 0) for c in counts]
            if len(set(here)) == 1:
                continue
            if 0 in here:
                lost, full = here.index(0), here.index(max(here))
                if prefix in self.layout(part.sources[full]).main(group.names):
                    self.refuse_prefix(part.sources[lost], prefix)
                continue  # the tensors that lack are told
            told = listed(f"{s.model}: {n}" for s, n in zip(part.sources, here, strict=True))
            what = f" {prefix.rstrip('.')!r}" if len(counts[0]) > 1 else ""
            self.recipe.refuse(f"models have different numbers of layers{what} ({told})", part.line)

    def counts(self, source: Input, group: _Group) -> dict[str, int]:
        layout = self.layout(source)
        out: dict[str, int] = {}
        for name, (prefix, number) in layout.places.items():
            if name in group.names:
                out[prefix] = max(out.get(prefix, 0), number + 1)
        return out

    def refuse_prefix(self, source: Input, prefix: str) -> None:
        own = listed(repr(p) for p in self.layout(source).counts) or "(none)"
        self.recipe.refuse(
            f"layers are called {own} in {source.model}, and {prefix!r} in another model; models of "
            "different architectures cannot be merged",
            source.line,
        )

    def layout(self, source: Input) -> Layout:
        return self.layouts[self.number[source.model]]

    def model(self, source: Input) -> Weights:
        return self.inputs[self.number[source.model]]

    def by_name(self, group: _Group) -> Iterator[Task]:
        (part,) = group.module.slices
        given = [[n for n in self.model(s) if n in group.names] for s in part.sources]
        for name, named in self.common(part, given):
            depth = max(self.layout(s).depth(n) for s, n in zip(part.sources, named, strict=True))
            yield self.task(group, part, name, named, depth)

    def stacked(self, group: _Group) -> Iterator[Task]:
        parts = group.module.slices
        yield from self.beside(group, parts[0], first=True)
        start = 0
        for part in parts:
            yield from self.layers(group, part, start)
            start += self.length(part)
        yield from self.beside(group, parts[-1], first=False)

    def beside(self, group: _Group, part: Slice, *, first: bool) -> Iterator[Task]:
        given = [
            [n for n in self.model(s) if n in group.names and self.layer(s, n, group.prefix) is None]
            for s in part.sources
        ]
        for name, named in self.common(part, given):
            if bool(_FIRST.search(name)) == first:
                yield self.task(group, part, name, named, self.layout(part.sources[0]).depth(named[0]))

    def layers(self, group: _Group, part: Slice, start: int) -> Iterator[Task]:
        length = self.length(part)
        for step in range(length):
            depth = step / (length - 1) if length > 1 else 1.0
            heads = [f"{group.prefix}{(s.layers or (0, 0))[0] + step}" for s in part.sources]
            rests = [self.rests(s, step, group.prefix, h) for s, h in zip(part.sources, heads, strict=True)]
            for rest, _ in self.common(part, rests, step):
                name = f"{group.prefix}{start + step}{rest}"
                yield self.task(group, part, name, [h + rest for h in heads], depth)

    @staticmethod
    def length(part: Slice) -> int:
        first, after = part.sources[0].layers or (0, 0)
        return after - first

    def new_layers(self, module: Module) -> Layers:
        firsts = [(self.number[p.sources[0].model], p.sources[0].layers or (0, 0)) for p in module.slices]
        return tuple((model, i) for model, (a, b) in firsts for i in range(a, b))

    def layer(self, source: Input, name: str, prefix: str) -> int | None:
        found = self.layout(source).place(name)
        return found[1] if found and found[0] == prefix else None

    def rests(self, source: Input, step: int, prefix: str, head: str) -> list[str]:
        number = (source.layers or (0, 0))[0] + step
        return [n[len(head) :] for n in self.by_layer(self.number[source.model], prefix).get(number, [])]

    def by_layer(self, model: int, prefix: str) -> Mapping[int, list[str]]:
        if (model, prefix) not in self._layers:
            found: dict[int, list[str]] = {}
            for name, (own, number) in self.layouts[model].places.items():
                if own == prefix:
                    found.setdefault(number, []).append(name)
            self._layers[model, prefix] = found
        return self._layers[model, prefix]

    def common(
        self, part: Slice, given: Sequence[list[str]], step: int | None = None
    ) -> list[tuple[str, list[str]]]:
        """Names that all sources have, with the name in each; buffers may be lacking, heads that are tied are
        the embedding, anything else is told.
        """
        sets = [set(g) for g in given]
        every = dict.fromkeys(n for g in given for n in g)
        lacking = [n for n in every if not all(n in s for s in sets)]
        out = {n: [n] * len(sets) for n in every if n not in lacking}
        for name in [n for n in lacking if not n.endswith(BUFFERS)]:
            if step is None and (tied := self.tied(part, name, sets)) is not None:
                out |= tied
                continue
            without = [s.model for s, found in zip(part.sources, sets, strict=True) if name not in found]
            where = "" if step is None else f" (layer {step} of the slice)"
            same_lack = [n for n in lacking if not n.endswith(BUFFERS)]
            self.recipe.refuse(
                f"tensors that not all models have{where}: {listed(same_lack, 4)}; "
                f"{listed(without)} lacks {name}{self.why_untied(part, name, sets)}",
                part.line,
            )
        return [(n, out[n]) for n in every if n in out]

    def tied(self, part: Slice, name: str, sets: Sequence[set[str]]) -> dict[str, list[str]] | None:
        """The embedding in place of a head where a model leaves its head out; nothing where all are tied;
        None where that cannot be said.
        """
        twins = [twin(self.model(s), name) for s in part.sources]
        without = [i for i, s in enumerate(sets) if name not in s]
        if any(twins[i] is None for i in without):
            return None
        says = [says_tied(self.model(s)) for s in part.sources]
        holders = [i for i in range(len(sets)) if i not in without]
        own = [(self.model(part.sources[i]), twins[i]) for i in holders]
        equal = all(t is not None and same(model, name, t) for model, t in own)
        if any(says[i] is False or (says[i] is None and not equal) for i in without):
            return None
        lacks = listed(part.sources[i].model for i in without)
        if equal and (
            0 in [self.number[part.sources[i].model] for i in without] or says_tied(self.inputs[0])
        ):
            self.notes.append(f"{name} is left out: it is tied to the embedding in every model")
            return {}
        self.notes.append(f"{lacks} has no {name}: it is tied to {twins[without[0]]} there, which is taken")
        self.untied |= says_tied(self.inputs[0]) is not False
        return {name: [name if i in holders else str(twins[i]) for i in range(len(sets))]}

    def why_untied(self, part: Slice, name: str, sets: Sequence[set[str]]) -> str:
        source = next(s for s, found in zip(part.sources, sets, strict=True) if name not in found)
        if twin(self.model(source), name) is None:
            return ""
        return (
            f"; it may be tied to the embedding there, but config.json of {source.model} does not say "
            "tie_word_embeddings: true"
        )

    def task(self, group: _Group, part: Slice, name: str, named: Sequence[str], depth: float) -> Task:
        places = [self.model(s)[n].entry for s, n in zip(part.sources, named, strict=True)]
        self.check_shapes(part, name, [p.shape for p in places])
        sources = [Source(self.number[s.model], n) for s, n in zip(part.sources, named, strict=True)]
        bases = [i for i, s in enumerate(part.sources) if s.model == part.base]
        own = bases[0] if bases else 0
        if any(p.dtype not in FLOATS for p in places):
            if any(p.dtype in FLOATS for p in places):
                told = listed(f"{s.model}: {p.dtype}" for s, p in zip(part.sources, places, strict=True))
                self.recipe.refuse(f"{name} has floats in some models and none in others ({told})", part.line)
            self.unmerged.append(name)
            return Task(name, places[own].dtype, places[own].shape, (sources[own],))
        self.check_scales(part, sources)
        rest = [i for i in range(len(sources)) if i not in bases]
        stored = {p.dtype for p in places}
        dtype = self.recipe.out_dtype or self.recipe.dtype
        dtype = dtype or (stored.pop() if len(stored) == 1 else wider(tuple(p.dtype for p in places)))
        levels = (part.parameters, group.module.parameters, self.recipe.parameters)
        given = [(part.sources[i], named[i]) for i in rest]
        shared, each = values_of(self.recipe, levels, name, given, depth)
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
