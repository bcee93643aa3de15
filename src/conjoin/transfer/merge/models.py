"""Merging of models: by a recipe, of folders, of state dicts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError, listed, need
from conjoin.transfer.checkpoints.dtypes import dtype_of
from conjoin.transfer.merge.files import files_of
from conjoin.transfer.merge.plan import plan
from conjoin.transfer.merge.recipe import Case, Input, Recipe, Setting, Slice, read_recipe
from conjoin.transfer.merge.stream import SHARD_BYTES, Report, run, working_folder
from conjoin.transfer.weights import Method, checked, merge_tensors, method_of

if TYPE_CHECKING:
    from conjoin.outputs import Array


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
    force: bool = False,
) -> Merged:
    """Merge as a recipe says, into the folder `out`.

    Folders in the recipe are looked for from here, then from the recipe's folder. Everything that can be told
    from the recipe and from headers is told before anything is written. Raises InputError, FileError.
    """
    found = read_recipe(recipe)

    def folder(name: str) -> Path:
        near = recipe.parent / name
        return near if near.exists() and not Path(name).exists() else Path(name)

    return _run(found, folder, out, seed, threads, shard_bytes, report, force)


def merge(
    models: Mapping[str, Any] | Sequence[Any],
    method: str,
    *,
    base: Any = None,
    parameters: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
    seed: int = 0,
    threads: int = 1,
    force: bool = False,
) -> Any:
    """Several models become one of the same shape.

    models: folders of safetensors, or state dicts (name -> array of float32, float64, float16, or bfloat16
    bits as uint16; or torch tensors), or torch modules; in order, or by name. base: the model that they come
    from, where the method takes one. parameters: of the method, by name; those of the models as one value, or
    a list with one for each model. out: the folder to write, for folders. dtype: of the written weights.

    Returns the path of the folder, or a state dict of the kind that was given. Raises InputError.

    >>> merge([{"w": np.ones(2)}, {"w": np.zeros(2)}], "linear", parameters={"weight": [3, 1]})
    {'w': array([0.75, 0.75])}
    """
    found = method_of(method)
    given = list(models.values()) if isinstance(models, Mapping) else list(models)
    if not given:
        raise InputError("there is no model to merge")
    found.check_names(parameters or {})
    found.check_models(len(given), base=base is not None)
    paths = [isinstance(m, str | os.PathLike) for m in (*given, *([] if base is None else [base]))]
    if all(paths):
        if out is None:
            raise InputError("folders are merged into a folder; give out=")
        recipe = _recipe(found, [os.fspath(m) for m in given], base, parameters or {}, dtype)
        return _run(recipe, Path, Path(out), seed, threads, SHARD_BYTES, None, force).path
    if any(paths):
        raise InputError("models must be all folders, or all state dicts")
    if out is not None or dtype is not None:
        raise InputError("out and dtype are for folders; a state dict is returned")
    return _states(given, method, base, parameters, seed)


def _run(
    recipe: Recipe,
    folder: Any,
    out: Path,
    seed: int,
    threads: int,
    shard_bytes: int,
    report: Report | None,
    force: bool,
) -> Merged:
    place = Path(os.path.realpath(out))
    found = plan(recipe, folder, working_folder(place))
    files, notes = files_of(recipe, found)
    if any(place == Path(os.path.realpath(c.path)) for c in found.inputs):
        raise InputError(f"{str(out)!r} is a model of the recipe; choose another name")
    run(
        found.tasks,
        found.inputs,
        out,
        seed=seed,
        threads=threads or os.cpu_count() or 1,
        shard_bytes=shard_bytes,
        files=files,
        report=report,
        force=force,
    )
    size = sum(p.stat().st_size for p in Path(out).iterdir())
    every = (*found.notes, *notes)
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


def _states(
    given: Sequence[Any], method: str, base: Any, parameters: Mapping[str, Any] | None, seed: int
) -> dict[str, Any]:
    states = [_state(m) for m in (*given, *([] if base is None else [base]))]
    every = dict.fromkeys(n for s in states for n in s)
    lost = [n for n in every if not all(n in s for s in states)]
    if lost:
        raise InputError(f"tensors that not all models have: {listed(lost, 6)}")
    own = states[0] if base is None else states[-1]
    out = {}
    for name in own:
        values = [s[name] for s in states]
        if len(kinds := {type(v).__module__ for v in values}) > 1:
            raise InputError(f"{name}: arrays of different libraries: {listed(sorted(kinds))}")
        out[name] = _merged(name, values, own[name], method, base is not None, parameters, seed)
    return out


def _state(model: Any) -> Mapping[str, Any]:
    found = model.state_dict() if callable(getattr(model, "state_dict", None)) else model
    if not isinstance(found, Mapping):
        raise InputError(
            f"a model must be a folder, a state dict or a torch module, not {type(model).__name__}"
        )
    return found


def _merged(
    name: str,
    values: Sequence[Any],
    own: Any,
    method: str,
    based: bool,
    parameters: Mapping[str, Any] | None,
    seed: int,
) -> Any:
    if _is_torch(own):
        return _merged_torch(name, values, own, method, based, parameters, seed)
    arrays = list(_wide(name, values))
    if arrays[0].dtype.kind in "ib":
        return np.array(own)
    base = arrays.pop() if based else None
    answer = merge_tensors(arrays, method, base=base, parameters=parameters, name=name, seed=seed)
    return answer.astype(np.asarray(own).dtype, copy=False)


def _wide(name: str, values: Sequence[Any]) -> Iterator[Array]:
    for value in values:
        array = np.asarray(value)
        if array.dtype.kind not in "fuib" or (array.dtype.kind == "u" and array.dtype != np.uint16):
            raise InputError(f"{name}: {array.dtype} cannot be merged")
        yield array.astype(np.float32) if array.dtype == np.float16 else array


def _is_torch(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch"


def _merged_torch(
    name: str,
    values: Sequence[Any],
    own: Any,
    method: str,
    based: bool,
    parameters: Mapping[str, Any] | None,
    seed: int,
) -> Any:
    """Torch tensors through arrays that share their memory; bfloat16 as its bits."""
    torch = need("torch")
    if not own.is_floating_point():
        return own.clone()
    halves = own.dtype == torch.bfloat16
    plain = [v.detach().cpu().contiguous() for v in values]
    if any(v.dtype != own.dtype for v in plain):
        raise InputError(f"{name}: types differ: {listed(v.dtype for v in plain)}")
    arrays = [(v.view(torch.int16).numpy().view(np.uint16) if halves else v.numpy()) for v in plain]
    found = _merged(name, arrays, arrays[-1 if based else 0], method, based, parameters, seed)
    tensor = (
        torch.from_numpy(found.view(np.int16)).view(torch.bfloat16) if halves else torch.from_numpy(found)
    )
    return tensor.to(own.device)
