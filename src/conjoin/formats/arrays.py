"""NumPy archives (.npz) of probabilities, values or quantiles: one system a file, or several in one.

The array is called `probs`, `probabilities`, `oof`, `values`, `quantiles` or `predictions`: of shape (n, K)
or (n,) for one system, (M, n, K) or (M, n) for M systems named in `names`. `classes` names the K classes,
`levels` the Q levels. The truth is in `y` of the same file, or of the truth's file: class names, class codes
where there are `classes`, or numbers.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from conjoin.errors import FileError, InputError, OutputsError, listed
from conjoin.formats.record import Found, place
from conjoin.outputs import Array, Labels, Output, Probabilities, Quantiles, Values

NAMES = ("probs", "probabilities", "oof", "values", "quantiles", "predictions")
TRUTHS = ("y", "truth", "target", "y_test")
MOST_BYTES = 16 << 30


def read_arrays(kind: str, files: Mapping[str, Path], truth: Path | None) -> Found:
    """Outputs of the systems in the archives; rows are matched by order. Raises InputError, FileError."""
    outputs: dict[str, Output] = {}
    answer: Output | None = None
    for name, path in files.items():
        arrays = load(path)
        for system, output in _systems(kind, name, path, arrays).items():
            if system in outputs:
                raise InputError(f"{path}: a system called {system!r} was read before; names must differ")
            outputs[system] = output
        answer = answer or _truth(kind, path, arrays, outputs)
    if truth is not None:
        arrays = load(truth)
        answer = _truth(kind, truth, arrays, outputs)
        if answer is None:
            raise InputError(
                f"{truth}: no truth; it needs an array called {listed(TRUTHS)}, not {listed(arrays)}"
            )
    counts = {n: len(o) for n, o in outputs.items()} | ({} if answer is None else {"the truth": len(answer)})
    if len(set(counts.values())) > 1:
        raise InputError(f"numbers of rows differ: {listed(f'{n} {c}' for n, c in counts.items())}")
    rows = next(iter(counts.values()))
    return Found(np.arange(1, rows + 1).astype(object), outputs, answer)


def write_arrays(fused: Output, found: Found, path: Path) -> None:
    """The fused array, with its classes or levels. Raises FileError."""
    arrays: dict[str, Array] = {"answered": getattr(fused, "answered", np.ones(len(fused), bool))}
    if isinstance(fused, Probabilities):
        arrays |= {"probs": fused.values, "classes": np.array(fused.classes)}
    elif isinstance(fused, Quantiles):
        arrays |= {"quantiles": fused.values, "levels": np.array(fused.levels)}
    elif isinstance(fused, Values):
        arrays |= {"values": fused.values}
    else:
        raise OutputsError(f"{fused.kind} do not go into an archive of arrays")
    with place(path) as working, working.open("wb") as file:
        np.savez_compressed(file, **cast(Any, arrays))


def load(path: Path) -> dict[str, Array]:
    """The arrays of an archive; objects are refused. Raises FileError."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(i.file_size for i in archive.infolist())
        if size > MOST_BYTES:
            raise FileError(f"{path} unpacks to {size >> 30} GiB; at most {MOST_BYTES >> 30} are read")
        with np.load(path, allow_pickle=False) as archive:
            return {n: archive[n] for n in archive.files}
    except FileNotFoundError as error:
        raise FileError(f"there is no file {str(path)!r}") from error
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise FileError(f"{path} is no archive of plain arrays (.npz): {error}") from error


def _systems(kind: str, name: str, path: Path, arrays: Mapping[str, Array]) -> dict[str, Output]:
    key = next((k for k in NAMES if k in arrays), None)
    if key is None:
        raise InputError(f"{path}: no array called {listed(NAMES)}; there are {listed(arrays)}")
    array = np.asarray(arrays[key], dtype=np.float64 if arrays[key].dtype != np.float32 else np.float32)
    flat = 1 if kind == "values" else 2
    if array.ndim not in (flat, flat + 1):
        raise InputError(
            f"{path}: {key} has shape {array.shape}; {kind} have {flat} axes, several systems {flat + 1}"
        )
    if array.ndim == flat:
        return {name: _output(kind, path, array, arrays)}
    names = (
        [str(n) for n in arrays["names"]] if "names" in arrays else [f"{name}_{m}" for m in range(len(array))]
    )
    if len(names) != len(array) or len(set(names)) != len(names):
        raise InputError(f"{path}: {len(array)} systems need as many different `names`, not {listed(names)}")
    return {n: _output(kind, path, part, arrays) for n, part in zip(names, array, strict=True)}


def _output(kind: str, path: Path, array: Array, arrays: Mapping[str, Array]) -> Output:
    answered = cast(Array, ~np.isnan(array).reshape(len(array), -1).any(axis=1))
    try:
        if kind == "probabilities":
            return Probabilities(array, _classes(array.shape[1], arrays), answered)
        if kind == "quantiles":
            return Quantiles(array, tuple(float(q) for q in arrays["levels"]), answered)
    except (KeyError, OutputsError) as error:
        raise InputError(f"{path}: {error}") from error
    return Values(array, answered)


def _classes(width: int, arrays: Mapping[str, Array]) -> tuple[str, ...]:
    if "classes" in arrays:
        return tuple(str(c) for c in arrays["classes"])
    return tuple(str(k) for k in range(width))


def _truth(kind: str, path: Path, arrays: Mapping[str, Array], outputs: Mapping[str, Any]) -> Output | None:
    key = next((k for k in TRUTHS if k in arrays), None)
    if key is None:
        return None
    y = np.asarray(arrays[key])
    if kind != "probabilities":
        return Values(y.astype(np.float64), ~np.isnan(y.astype(np.float64)))
    classes = next(iter(outputs.values())).classes
    if y.dtype.kind in "iu" and not set(map(str, np.unique(y))) <= set(classes):
        if len(y) and (int(y.min()) < -1 or int(y.max()) >= len(classes)):
            raise InputError(
                f"{path}: codes of {key} must lie in 0 to {len(classes) - 1}, not {y.min()} to {y.max()}"
            )
        return Labels(y.astype(np.int64), classes)
    names: list[str | None] = [str(v) if str(v) else None for v in y]
    unknown = {n for n in names if n is not None} - set(classes)
    return Labels.of(names, (*classes, *sorted(unknown)))
