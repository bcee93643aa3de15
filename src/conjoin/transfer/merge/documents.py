"""Recipes of several documents: one that has a `name` is a model for others, and is merged before them.

    name: first
    merge_method: ties
    ...
    ---
    merge_method: slerp          # the last one has no name, or no other document names it
    models: [{model: first}, {model: other/folder}]

Named documents are merged into a hidden folder beside the answer, each with a digest of all that its bytes
depend on; so a merge that was stopped goes on, and one whose recipe or models have changed begins anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from conjoin.errors import listed, nearest
from conjoin.transfer.checkpoints import Entry, Place, Weights
from conjoin.transfer.checkpoints.dtypes import STORED
from conjoin.transfer.checkpoints.header import SIZES
from conjoin.transfer.merge.files import files_of
from conjoin.transfer.merge.finite import Finite
from conjoin.transfer.merge.plan import Plan, check, open_inputs, plan, plan_of
from conjoin.transfer.merge.recipe import Recipe
from conjoin.transfer.merge.reference import Reference
from conjoin.transfer.merge.stream import Progress, Report, fingerprint, run, working_folder

if TYPE_CHECKING:
    from conjoin.outputs import Array

Folder = Callable[[str], Path]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Promised(Weights):
    """A model that is still to be merged: types and shapes are known, and every number is 0."""

    path: Path
    places: Mapping[str, Place]

    def __getitem__(self, name: str) -> Place:
        return self.places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def told(self) -> list[Any]:
        """Nothing yet."""
        return []

    def array(self, name: str) -> Array:
        """Zeros, which take no room."""
        entry = self.places[name].entry
        return np.broadcast_to(np.zeros((), STORED[entry.dtype]), entry.shape)


def in_order(recipes: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """The documents in an order in which each comes after those that it names; the last one is the answer.

    Raises InputError with the line: two of one name, a circle, or more than one that could be the answer.
    """
    names: dict[str, Recipe] = {}
    for recipe in recipes:
        if recipe.name in names:
            line = recipe.lines.get("name", recipe.lines["merge_method"])
            told = f"the name {recipe.name!r} is given twice" if recipe.name else "two documents have no name"
            recipe.refuse(f"{told}; the first is at line {_line(names[recipe.name])}", line)
        names[recipe.name] = recipe
    used = {n for r in recipes for n, _ in needs(r, names)}
    ends = [r for r in recipes if r.name == "" or r.name not in used]
    last = next((r for r in recipes if not r.name), ends[0] if len(ends) == 1 else None)
    if last is None:
        told = listed(repr(r.name) for r in ends)
        why = f"{told} are named by no other" if ends else "each is named by another one, in a circle"
        recipes[-1].refuse(
            f"which document is the answer? {why}; leave out the name of one", _line(recipes[-1])
        )
    out: list[Recipe] = []
    _after(last, names, out, [])
    return tuple(out)


def needs(recipe: Recipe, names: Container[str]) -> list[tuple[str, int]]:
    """The documents that a document names, with the line."""
    lines = {s.model: s.line for part in recipe.every_slice for s in part.sources}
    found = ((recipe.references.get(m, Reference(m)).path, lines.get(m)) for m in recipe.models)
    base = recipe.lines.get("base_model", 0)
    return [(path, base if line is None else line) for path, line in found if path and path in names]


def _line(recipe: Recipe) -> int:
    return recipe.lines.get("name", recipe.lines["merge_method"])


def _after(recipe: Recipe, names: Mapping[str, Recipe], out: list[Recipe], way: list[str]) -> None:
    """Put a document behind those that it names."""
    for name, line in needs(recipe, names):
        if name in (*way, recipe.name):
            circle = [*way, recipe.name, name]
            told = " -> ".join(circle[circle.index(name) :])
            recipe.refuse(f"documents name each other in a circle: {told}", line)
        if names[name] not in out:
            _after(names[name], names, out, [*way, recipe.name])
    out.append(recipe)


def check_all(recipes: Sequence[Recipe], folder: Folder, scratch: Path, names: set[str]) -> dict[str, int]:
    """Plan every document from headers, those of documents that are not merged yet too; bytes of each, by
    name. names: of all documents. Raises InputError and FileError, before anything is written.
    """
    made: dict[str, Weights | None] = {}
    sizes = {}
    for recipe in recipes:
        _check_names(recipe, names, folder)
        check(recipe)
        wanted = [name for name, _ in needs(recipe, made)]
        if any(made[n] is None for n in wanted) or (wanted and recipe.tokens is not None):
            made[recipe.name], sizes[recipe.name] = None, 0  # vocabularies are known when they are there
            continue
        held = {n: w for n, w in made.items() if w is not None}
        found = plan_of(recipe, open_inputs(recipe, folder, scratch, held), scratch)
        promised = _promised(scratch / recipe.name, found)
        made[recipe.name] = promised
        sizes[recipe.name] = sum(p.entry.stop for p in promised.values())
    return sizes


def _promised(path: Path, found: Plan) -> Promised:
    entries = (
        Entry(t.name, t.dtype, t.shape, 0, int(np.prod(t.shape, dtype=np.int64)) * SIZES[t.dtype])
        for t in found.tasks
    )
    return Promised(path, {e.name: Place(e, path, 0) for e in entries})


def _check_names(recipe: Recipe, names: set[str], folder: Folder) -> None:
    lines = {s.model: s.line for part in recipe.every_slice for s in part.sources}
    for model in recipe.models:
        path = recipe.references.get(model, Reference(model)).path
        if path not in names and not folder(path).exists():
            recipe.refuse(
                f"{path!r} is neither a document of this recipe nor a folder{nearest(path, names)}",
                lines.get(model) or recipe.lines.get("base_model", 0),
            )


def merge_documents(
    recipes: Sequence[Recipe],
    folder: Folder,
    out: Path,
    *,
    last: Callable[[Recipe, Folder, Report | None], T],
    report: Report | None,
    keep: bool = False,
    **options: Any,
) -> T:
    """Merge every named document that the answer needs, then the answer, by `last`. keep: the named ones are
    left in the hidden folder. options: seed, threads, shard_bytes and allow_nan of `run_seen`.

    Raises InputError, FileError.
    """
    place = Path(os.path.realpath(out))
    home = place.with_name(f".{place.name}.documents")
    steps = in_order(recipes)
    sizes = check_all(steps, folder, home, {r.name for r in recipes if r.name})
    homes = {r.name: home / str(number) for number, r in enumerate(steps[:-1])}

    def own(name: str) -> Path:
        return homes.get(name) or folder(name)

    whole, before = sum(sizes.values()), 0
    spare = [repr(r.name) for r in recipes if r not in steps]
    notes = [f"documents that nothing needs were not merged: {listed(spare)}"] if spare else []
    for recipe in steps[:-1]:
        found = plan(recipe, own, working_folder(homes[recipe.name]))
        files, told = files_of(recipe, found)
        notes += [f"{recipe.name}: {note}" for note in (*found.notes, *told)]
        _one(found, files, homes[recipe.name], _shown(report, recipe.name, before, whole), options)
        before += sizes[recipe.name]
    final = replace(steps[-1], notes=(*notes, *steps[-1].notes))
    answer = last(final, own, _shown(report, "", before, whole))
    if not keep:
        shutil.rmtree(home, ignore_errors=True)
    return answer


def _one(
    found: Plan, files: Mapping[str, bytes], place: Path, report: Report | None, options: Mapping[str, Any]
) -> None:
    """Merge a document, if it is not there already, of the same recipe and the same models."""
    mark = place.with_name(f"{place.name}.digest")
    digest = fingerprint(found.tasks, found.inputs, options["seed"], options["shard_bytes"], files)
    if place.is_dir() and mark.is_file() and mark.read_text() == digest:
        return
    run_seen(found, files, place, report=report, force=True, **options)
    mark.write_text(digest)


def run_seen(
    found: Plan,
    files: Mapping[str, bytes],
    out: Path,
    *,
    seed: int,
    threads: int,
    shard_bytes: int,
    report: Report | None,
    allow_nan: bool = False,
    force: bool = False,
) -> tuple[str, ...]:
    """Run a plan, and look for NaN and infinite numbers on the way; notes of those that are allowed.

    Raises InputError where they are not.
    """
    working = working_folder(Path(os.path.realpath(out)))
    check = Finite(working, {t.name: t for t in found.tasks}, found.inputs, found.models, allow_nan)
    notes: list[str] = []
    run(
        found.tasks,
        found.inputs,
        out,
        seed=seed,
        threads=threads,
        shard_bytes=shard_bytes,
        files=files,
        report=report,
        check=check,
        end=lambda: notes.extend(check.end()),
        force=force,
    )
    return tuple(notes)


def _shown(report: Report | None, name: str, before: int, whole: int) -> Report | None:
    """Progress of one document as a part of all."""
    if report is None:
        return None

    def show(progress: Progress) -> None:
        report(
            Progress(f"{name}: {progress.name}" if name else progress.name, before + progress.bytes, whole)
        )

    return show
