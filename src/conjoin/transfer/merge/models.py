"""Merging of models: by a recipe, of folders, of state dicts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conjoin.errors import InputError
from conjoin.transfer.checkpoints import open_checkpoint
from conjoin.transfer.checkpoints.dtypes import dtype_of, read_as
from conjoin.transfer.merge.documents import Folder, merge_documents, run_seen
from conjoin.transfer.merge.files import files_of
from conjoin.transfer.merge.memory import greedy_soup, merge_in_memory, method_for
from conjoin.transfer.merge.plan import plan
from conjoin.transfer.merge.recipe import Case, Input, Recipe, Setting, Slice, read_recipes
from conjoin.transfer.merge.states import named
from conjoin.transfer.merge.stream import SHARD_BYTES, Report, check_place, working_folder
from conjoin.transfer.weights import NEEDING, Method, checked


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge that is done: where it lies, of what, how many tensors and bytes, and notes."""

    path: Path
    method: str
    models: tuple[str, ...]
    tensors: int
    bytes: int
    notes: tuple[str, ...]


def merge_recipe(
    recipe: Path,
    out: Path,
    *,
    seed: int = 0,
    threads: int = 1,
    shard_bytes: int = SHARD_BYTES,
    report: Report | None = None,
    allow_nan: bool = False,
    keep: bool = False,
    force: bool = False,
) -> Merged:
    """Merge as a recipe says, into the folder `out`.

    Folders in the recipe are looked for from here, then from the recipe's folder. Everything that can be told
    from the recipe and from headers is told before anything is written. allow_nan: NaN and infinite numbers
    are told in a note; else they are an error, with tensor and model, and nothing is put at `out`. keep: of
    several documents, those that others name stay in the hidden folder beside `out`.

    Raises InputError, FileError.
    """
    found = read_recipes(recipe)

    def folder(name: str) -> Path:
        near = recipe.parent / name
        return near if near.exists() and not Path(name).exists() else Path(name)

    def answer(one: Recipe, places: Folder, shown: Report | None) -> Merged:
        return _run(one, places, out, seed, threads, shard_bytes, shown, force, allow_nan)

    if len(found) == 1:
        return answer(found[0], folder, report)
    check_place(out, force=force)
    return merge_documents(
        found,
        folder,
        out,
        last=answer,
        seed=seed,
        threads=threads or os.cpu_count() or 1,
        shard_bytes=shard_bytes,
        report=report,
        allow_nan=allow_nan,
        keep=keep,
    )


def merge(
    models: Mapping[str, Any] | Sequence[Any],
    method: str,
    *,
    base: Any = None,
    parameters: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | Sequence[Any] | None = None,
    statistics: Mapping[str, Any] | Sequence[Any] | None = None,
    score: Callable[[Any], float] | None = None,
    forward: Callable[[Any, Any, str], Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
    seed: int = 0,
    threads: int = 1,
    force: bool = False,
) -> Any:
    """Several models become one of the same shape.

    models: folders or files of safetensors; state dicts (name -> array of float32, float64, float16, or
    bfloat16 bits as uint16; or torch tensors); or torch modules of one class; in order, or by name. base: the
    model that they come from, where the method takes one. parameters: of the method, by name; those of the
    models as one value, or a list with one for each model.

    Methods: every one of recipes; uniform_soup; greedy_soup, which needs `score`; and fisher, regmean,
    regmean++ and adamerging, which need data. data: for each model, by name or in order, its own inputs: an
    array, (inputs, labels), or batches of these; they run through torch modules. Batch normalisation is
    counted anew on them, whatever the method; without data its statistics are averaged. statistics: in place
    of data, for each model what its inputs say, by name of tensor: Gram matrices for regmean, Fisher
    diagonals for fisher; so state dicts without torch will do. score: a model -> its score on held-out data,
    larger is better; "auto" chooses a method by it (`choose` of merge/choose.py), and is the plain average
    without it. forward: (module, batch, name of the model) -> logits, where module(batch) is not what
    the model answers.

    out: the folder to write, for folders. dtype: of the written weights. seed: of random methods.

    Returns the path of the folder; a state dict of arrays or tensors in the types (and on the device) of the
    first model; or a new module like the first. Raises InputError where models do not fit together, naming
    tensor and models.

    >>> import numpy as np
    >>> merge([{"w": np.ones(2)}, {"w": np.zeros(2)}], "linear", parameters={"weight": [3, 1]})
    {'w': array([0.75, 0.75])}
    """
    if method == "auto":
        return _chosen(models, score, base, parameters, seed)
    found, given = method_for(method), named(models)
    found.check_names(parameters or {})
    found.check_models(len(given), base=base is not None)
    paths = [isinstance(m, str | os.PathLike) for m in (*given.values(), *([] if base is None else [base]))]
    if any(paths):
        if not all(paths):
            raise InputError("models must be all folders, all state dicts or all torch modules")
        if out is None:
            raise InputError("folders are merged into a folder; give out=")
        folders = {n: os.fspath(m) for n, m in given.items()}
        if method == "greedy_soup":
            soup = greedy_soup({n: _opened(m) for n, m in folders.items()}, score)
            found = method_for("uniform_soup")
            folders = dict(list(folders.items())[i] for i in soup.taken)
        elif method in NEEDING or data is not None:
            raise InputError(f"{method} with data works on torch modules and state dicts, not folders")
        recipe = _recipe(found, list(folders.values()), base, parameters or {}, dtype)
        return _run(recipe, Path, Path(out), seed, threads, SHARD_BYTES, None, force).path
    if out is not None or dtype is not None:
        raise InputError("out and dtype are for folders; a model in memory is returned")
    return merge_in_memory(
        given,
        found,
        base=base,
        parameters=parameters,
        data=None if data is None else _by_name("data", data, given),
        statistics=None if statistics is None else _by_name("statistics", statistics, given),
        score=score,
        forward=forward,
        seed=seed,
    )


def _chosen(models: Any, score: Any, base: Any, parameters: Any, seed: int) -> Any:
    """The merge that held-out data hold best, of models in memory; without data the plain average."""
    from conjoin.transfer.merge.choose import choose

    if parameters:
        raise InputError("method 'auto' takes no parameters; it tries methods with theirs")
    if any(isinstance(m, str | os.PathLike) for m in named(models).values()):
        raise InputError("method 'auto' is for state dicts and torch modules; folders need a method")
    if score is None:
        return merge(models, "linear", parameters={"weight": 1.0})
    return choose(models, score, base=base, seed=seed).model


def _opened(folder: str) -> dict[str, Any]:
    """The tensors of a folder as a state dict: read when they are looked at, but for 8-bit floats."""
    found = open_checkpoint(Path(folder))
    out = {}
    for name, place in found.items():
        kind, array = place.entry.dtype, found.array(name)
        out[name] = read_as(array, kind, "F32") if kind.startswith("F8") else array
    return out


def _by_name(what: str, values: Any, given: Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(values, Mapping):
        return values
    if not isinstance(values, Sequence) or len(values) != len(given):
        raise InputError(
            f"{what} must hold one entry for each of the {len(given)} models, by name or in order"
        )
    return dict(zip(given, values, strict=True))


def _run(
    recipe: Recipe,
    folder: Any,
    out: Path,
    seed: int,
    threads: int,
    shard_bytes: int,
    report: Report | None,
    force: bool,
    allow_nan: bool = False,
) -> Merged:
    place = Path(os.path.realpath(out))
    found = plan(recipe, folder, working_folder(place))
    files, notes = files_of(recipe, found)
    if any(place == Path(os.path.realpath(c.path)) for c in found.inputs):
        raise InputError(f"{str(out)!r} is a model of the recipe; choose another name")
    seen = run_seen(
        found,
        files,
        out,
        seed=seed,
        threads=threads or os.cpu_count() or 1,
        shard_bytes=shard_bytes,
        report=report,
        allow_nan=allow_nan,
        force=force,
    )
    size = sum(p.stat().st_size for p in Path(out).iterdir())
    every = (*found.notes, *notes, *seen)
    return Merged(Path(out), recipe.method.name, found.models, len(found.tasks), size, every)


def _recipe(
    method: Method, models: Sequence[str], base: Any, parameters: Mapping[str, Any], dtype: str | None
) -> Recipe:
    each: list[dict[str, Setting]] = [{} for _ in models]
    shared = {}
    for name, value in parameters.items():
        if not method.parameters[name].per_model:
            shared[name] = _setting(method, name, value)
            continue
        for settings, one in zip(each, _each(method, name, value, len(models)), strict=True):
            settings[name] = _setting(method, name, one)
    inputs = tuple(Input(m, None, s) for m, s in zip(models, each, strict=True))
    wanted = None if dtype is None else dtype_of(dtype)
    return Recipe(
        "",
        method,
        (Slice(inputs),),
        None if base is None else os.fspath(base),
        parameters=shared,
        dtype=wanted,
    )


def _each(method: Method, name: str, value: Any, count: int) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value] * count
    if len(value) != count:
        raise InputError(f"{method.name}: {len(value)} values of {name!r} for {count} models")
    return list(value)


def _setting(method: Method, name: str, value: Any) -> Setting:
    return Setting((Case(None, checked(method, name, value)),))
