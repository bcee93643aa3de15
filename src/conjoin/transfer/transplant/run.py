"""Steps done: tensor after tensor, in memory or in the files of the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError, listed
from conjoin.transfer.checkpoints.dtypes import read_as
from conjoin.transfer.transplant.plan import Step
from conjoin.transfer.transplant.report import Fate
from conjoin.transfer.transplant.weights import Weights, blocks_of, rounded, size_of
from conjoin.transfer.weights.alignment import align
from conjoin.transfer.weights.wiring import Wired, is_table

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.transfer.transplant.options import Options

_LAST_NORM = re.compile(
    r"^(?!.*\.\d+\.)(?!.*embed)(.*[._])?(norm|ln_f|ln|final_layer_?norm|layer_?norm)\.(weight|bias)$",
    re.IGNORECASE,
)


def made(step: Step, source: Weights, target: Weights, options: Options) -> Iterator[tuple[slice, Array]]:
    """A tensor of the answer, flat and as it is stored, block by block where that can be.

    Raises InputError for NaN, infinite weights, and ones too large for the target's type.
    """
    name, wanted = step.name, target.dtypes[step.name]
    if step.kind == "fresh":
        yield from blocks_of(target.read(name).reshape(-1))
        return
    if step.source is not None:
        source.check_finite(step.source)
    if step.changes:
        answer = _changed(step, source, target)
        if options.noise and step.grown:
            answer = _noisy(answer, name, options.noise, options.seed)
        yield slice(0, answer.size), rounded(name, answer.reshape(-1), wanted)
        return
    there = step.source or name
    stored = source.dtypes[there]
    for block, part in blocks_of(source.read(there).reshape(-1)):
        if stored == wanted:
            yield block, part
        else:
            wide = read_as(part, stored, "F64" if stored == "F64" else "F32")
            yield block, rounded(name, wide, wanted)


def _changed(step: Step, source: Weights, target: Weights) -> Array:
    own = target.numbers(step.name)
    answer = np.asarray(own if step.source is None else source.numbers(step.source))
    kind = np.result_type(answer.dtype, own.dtype)
    own = own.astype(kind, copy=False)
    for change in step.changes:
        answer = change(answer.astype(kind, copy=False), own)
    if answer.shape != own.shape:
        raise InputError(f"{step.name}: adapting gave the shape {answer.shape}, the target has {own.shape}")
    return answer


def _noisy(array: Array, name: str, noise: float, seed: int) -> Array:
    rng = np.random.default_rng([seed, *name.encode()])
    drawn = rng.standard_normal(array.shape) * (noise * float(array.std(dtype=np.float64)))
    return np.asarray(array + drawn, array.dtype)


def whole(step: Step, source: Weights, target: Weights, options: Options) -> Array:
    """A tensor of the answer as it is stored."""
    parts = [part for _, part in made(step, source, target, options)]
    flat = (
        parts[0]
        if len(parts) == 1
        else np.concatenate(parts)
        if parts
        else target.read(step.name).reshape(-1)
    )
    return np.array(flat).reshape(target.shapes[step.name])


def fates(steps: Sequence[Step], source: Weights, target: Weights) -> tuple[Fate, ...]:
    """The report of steps."""
    return tuple(
        Fate(
            s.name,
            s.kind,
            s.source,
            s.how,
            None if s.source is None else source.shapes[s.source],
            target.shapes[s.name],
            size_of(target.shapes[s.name]),
        )
        for s in steps
    )


def averaged(
    steps: Sequence[Step], source: Weights, target: Weights, options: Options, wired: Wired
) -> tuple[dict[str, Array], str]:
    """The answer's tensors where the source, brought into the target's order of units, is averaged with it.

    target + align * (permuted - target), for floats that are not fresh; others as in `made`. And what was
    gained. Takes the memory of both models in float64. Raises InputError, MissingExtraError.
    """
    share = float(options.align or 0)
    if wired.kind == "sizes":
        raise InputError(
            "align needs to know which units hang together; these names are neither a plain chain of layers "
            "nor a transformer's, and no module to trace was given"
        )
    floats = [s for s in steps if target.floating(s.name)]
    given = {s.name: _numbers(whole(s, source, target, options), target.dtypes[s.name]) for s in floats}
    own = {s.name: np.asarray(target.numbers(s.name)) for s in floats}
    groups = wired.sure()
    lost = [n for n, every in groups.axes.items() if n not in given and any(every)]
    if lost:
        raise InputError(f"align: tensors that are no floats share their units with others: {listed(lost)}")
    fresh = {s.name for s in floats if s.kind == "fresh"}
    done = align(given, own, groups, seed=options.seed)
    answer = {}
    for step in steps:
        name = step.name
        if name in own and name not in fresh:
            mixed = own[name] + share * (np.asarray(done.tensors[name], np.float64) - own[name])
            kind = np.float64 if target.dtypes[name] == "F64" else np.float32
            answer[name] = rounded(name, mixed.astype(kind), target.dtypes[name])
        else:
            answer[name] = whole(step, source, target, options)
    moved = sum(int((order != np.arange(len(order))).any()) for order in done.chosen.values())
    told = (
        f"aligned by {wired.kind} wiring: {moved} of {len(done.chosen)} groups of units changed their order; "
        f"agreement {done.before:.4g} before, {done.after:.4g} after; {share:g} of the source"
    )
    if any(re.search(r"running_(mean|var)$", s.name) for s in steps):
        told += "; statistics of batch norms are averaged too: let data run through to renew them"
    return answer, told


def _numbers(array: Array, dtype: str) -> Array:
    return np.asarray(read_as(array, dtype, "F64" if dtype == "F64" else "F32"))


def untied(
    steps: Sequence[Step], source: Weights, target: Weights, *, tied: bool, notes: dict[str, None]
) -> list[Step]:
    """Steps where the last norm makes up for a head that is the embedding, and grew with it.

    Units of an embedding are repeated, c times each; as a head it sums over them, and would answer c times as
    much. Steps are as they were where the head is a tensor of its own, or no norm stands at the end.
    """
    tables = [s for s in steps if s.source and s.grown and is_table(s.name, target.shapes[s.name])]
    norms = [s for s in steps if s.source and s.grown and _LAST_NORM.search(s.name)]
    if not tied or not tables or not norms:
        return list(steps)
    old, new = source.shapes[norms[-1].source or ""][0], target.shapes[norms[-1].name][0]
    name = norms[-1].name.rpartition(".")[0]
    notes[f"the head is the embedding: {name} is divided by {new / old:g}, as often as units repeat"] = None

    def divided(x: Array, _: Array) -> Array:
        return x * (old / new)

    return [
        replace(s, changes=(*s.changes, divided), how=f"{s.how}, times {old / new:g}")
        if s.name.rpartition(".")[0] == name
        else s
        for s in steps
    ]


def shared(steps: Sequence[Step], ties: Mapping[str, str]) -> list[Step]:
    """Steps where tied tensors of the target take one and the same: the first that takes anything.

    ties: name -> the first name of the same memory.
    """
    best: dict[str, Step] = {}
    for step in steps:
        first = ties.get(step.name, step.name)
        if first not in best or (best[first].kind == "fresh" and step.kind != "fresh"):
            best[first] = step
    answer = []
    for step in steps:
        lead = best[ties.get(step.name, step.name)]
        answer.append(
            step if lead.name == step.name else replace(lead, name=step.name, how=f"tied to {lead.name}")
        )
    return answer
