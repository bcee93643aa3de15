"""Embeddings: NumPy (.npz, .npy) and safetensors files of vectors; the truth also as .tsv or .csv.

| array or tensor                          | what it is                                               |
|------------------------------------------|----------------------------------------------------------|
| `emb1` and `emb2` (n, D)                 | the two vectors of each pair                              |
| `embeddings`, `vectors`, `emb`, `values` | vectors (n, D), or (n, P, D); an .npy file holds this one |
| `gold`, `truth`, `y` (n,)                | the truth, in a system's file or in the truth's           |
| `similarity` (n,)                        | similarities of pairs, instead of vectors; or the truth   |
| `index`, `ids`, `rows` (n,)              | names of rows; without them rows are matched by order     |
| `answered` (n,)                          | rows that hold a vector; a row with NaN holds none        |

A .tsv or .csv file has a column of the truth or of similarities and, if rows have names, one for them.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from conjoin.errors import FileError, InputError, OutputsError, listed
from conjoin.formats.record import MOST_BYTES, Format, Found, place, read_text, write_text
from conjoin.outputs import Array, Embeddings, Output, Values

VECTORS = ("embeddings", "vectors", "emb", "values")
PAIR = ("emb1", "emb2")
SIMILARITY = "similarity"
TRUTHS = ("gold", "truth", "y", SIMILARITY)
NAMES = ("index", "ids", "id", "rows")
TABLES = (".tsv", ".csv")


def read(files: Mapping[str, Path], truth: Path | None) -> Found:
    """Vectors of each system; rows matched by name where all files name them.

    Raises InputError and FileError.
    """
    given = {name: (path, _arrays(path)) for name, path in files.items()}
    vectors = {name: _vectors(path, arrays) for name, (path, arrays) in given.items()}
    source = (truth, _arrays(truth)) if truth is not None else None
    if source is None:
        source = next((g for g in given.values() if any(t in g[1] for t in TRUTHS[:-1])), None)
    gold = None if source is None else _gold(*source)
    named = {name: _names(path, arrays, len(vectors[name])) for name, (path, arrays) in given.items()}
    asked = named if source is None or gold is None else named | {"": _names(*source, len(gold))}
    if any(n is None for n in asked.values()):
        counts = {n: len(v) for n, v in vectors.items()} | ({} if gold is None else {"the truth": len(gold)})
        if len(set(counts.values())) > 1:
            raise InputError(
                f"numbers of rows differ and not every file names its rows ({listed(NAMES)}): {counts}"
            )
        rows = list(range(1, next(iter(counts.values())) + 1)) if counts else []
        found = dict.fromkeys(asked, rows)
    else:
        found = cast("dict[str, list[Any]]", asked)
        rows = list(dict.fromkeys(r for n in asked.values() for r in cast("list[Any]", n)))
    outputs: dict[str, Output] = {n: _spread(v, found[n], rows) for n, v in vectors.items()}
    right = None if gold is None else _spread(gold, found.get("", rows), rows)
    return Found(np.array(rows, dtype=object), outputs, right)


def write(fused: Output, found: Found, path: Path) -> None:
    """Write .npz, .npy, .safetensors, or (similarities) .tsv or .csv. Raises InputError, FileError.

    Pairs are `emb1` and `emb2`, other vectors `embeddings`, similarities `similarity`; names of rows are in
    `index` (not in .npy; not names of text in .safetensors).
    """
    if not isinstance(fused, Embeddings | Values):
        raise OutputsError(f"{fused.kind} are not embeddings and do not go into a file of vectors")
    end = path.suffix.lower()
    if end in TABLES and isinstance(fused, Values):
        _write_table(fused, found, path, "\t" if end == ".tsv" else ",")
        return
    if end not in (".npz", ".npy", ".safetensors"):
        tables = f", {listed(TABLES)}" if isinstance(fused, Values) else ""
        raise InputError(f"{path}: {fused.kind} are written to .npz, .npy, .safetensors{tables}")
    arrays: dict[str, Array] = {}
    if isinstance(fused, Values):
        arrays["similarity"] = fused.values
    elif fused.values.ndim == 3 and fused.values.shape[1] == 2:
        arrays |= {"emb1": fused.values[:, 0], "emb2": fused.values[:, 1]}
    else:
        arrays["embeddings"] = fused.values
    rows = np.array(found.rows.tolist())
    with place(path) as working:
        if end == ".npy":
            with working.open("wb") as file:
                np.save(file, fused.values, allow_pickle=False)
        elif end == ".npz":
            with working.open("wb") as file:
                np.savez_compressed(file, **cast(Any, arrays | {"index": rows, "answered": fused.answered}))
        else:
            from safetensors.numpy import save_file

            named = {"index": rows} if rows.dtype.kind in "iu" else {}
            kept = {n: np.ascontiguousarray(a) for n, a in (arrays | named).items()}
            save_file(kept | {"answered": fused.answered}, str(working))


def _write_table(fused: Values, found: Found, path: Path, comma: str) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=comma, lineterminator="\n")
    writer.writerow(["index", "similarity"])
    for row, value, answered in zip(found.rows, fused.values.tolist(), fused.answered, strict=True):
        writer.writerow([row, repr(value) if answered else ""])
    write_text(path, out.getvalue())


def _arrays(path: Path) -> dict[str, Array]:
    end = path.suffix.lower()
    if end in TABLES:
        return _table(path, "\t" if end == ".tsv" else ",")
    if end not in (".npz", ".npy", ".safetensors"):
        raise InputError(f"{path}: not a file of vectors; give .npz, .npy or .safetensors")
    try:
        if end == ".npz":
            with zipfile.ZipFile(path) as archive:
                size = sum(i.file_size for i in archive.infolist())
            _bounded(path, size)
            with np.load(path, allow_pickle=False) as archive:
                return {n: archive[n] for n in archive.files}
        _bounded(path, path.stat().st_size)
        if end == ".npy":
            return {VECTORS[0]: np.load(path, allow_pickle=False)}
        from safetensors.numpy import load_file

        return dict(load_file(str(path)))
    except FileNotFoundError as error:
        raise FileError(f"there is no file {str(path)!r}") from error
    except FileError:
        raise
    except Exception as error:  # SafetensorError is no OSError; numpy raises many kinds
        raise FileError(f"{path} holds no plain arrays that can be read: {error}") from error


def _bounded(path: Path, size: int) -> None:
    if size > MOST_BYTES:
        raise FileError(f"{path} unpacks to more than {MOST_BYTES >> 30} GiB")


def _table(path: Path, comma: str) -> dict[str, Array]:
    """The truth and the names of rows in a table with a header."""
    lines = io.StringIO(read_text(path), newline="")
    tabs = comma == "\t"
    reader = csv.reader(lines, delimiter=comma, quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL)
    head = next(reader, [])
    key = next((t for t in TRUTHS if t in head), None)
    if key is None:
        raise InputError(f"{path}, line 1: no column called {listed(TRUTHS)}; there are {listed(head)}")
    name = next((n for n in NAMES if n in head), None)
    values: list[float] = []
    names: list[str] = []
    for row in reader:
        if not row:
            continue
        if len(row) != len(head):
            raise InputError(
                f"{path}, line {reader.line_num}: {len(row)} cells under {len(head)} names of columns"
            )
        values.append(_number(path, reader.line_num, key, row[head.index(key)]))
        if name is not None:
            names.append(row[head.index(name)])
    return {key: np.array(values, dtype=np.float64)} | ({} if name is None else {name: np.array(names)})


def _number(path: Path, line: int, key: str, cell: str) -> float:
    try:
        return float(cell) if cell.strip() else math.nan
    except ValueError as error:
        raise InputError(f"{path}, line {line}: {key} must be a number, not {cell!r:.40}") from error


def _vectors(path: Path, arrays: Mapping[str, Array]) -> Embeddings | Values:
    """What a system answered: vectors, or similarities where it gives no vectors."""
    if all(n in arrays for n in PAIR):
        left, right = (np.asarray(arrays[n]) for n in PAIR)
        if left.shape != right.shape or left.ndim != 2:
            raise InputError(
                f"{path}: emb1 and emb2 must have one shape (n, D), not {left.shape} and {right.shape}"
            )
        values: Array = np.stack([left, right], axis=1)
    else:
        key = next((n for n in VECTORS if n in arrays), None)
        if key is None and SIMILARITY in arrays:
            return _numbers(path, SIMILARITY, arrays)
        if key is None:
            wanted = f"{listed(VECTORS)}, or emb1 and emb2"
            raise InputError(f"{path}: no array called {wanted}; there are {listed(arrays)}")
        values = np.asarray(arrays[key])
    if values.dtype.kind not in "fiu" or values.ndim not in (2, 3):
        raise InputError(
            f"{path}: vectors must be numbers of shape (n, D) or (n, P, D), not {values.dtype} {values.shape}"
        )
    values = values if values.dtype.kind == "f" else values.astype(np.float64)
    answered = ~np.isnan(values).any(axis=tuple(range(1, values.ndim)))
    told = np.asarray(arrays.get("answered", answered))
    if told.shape != answered.shape:
        raise InputError(f"{path}: `answered` must have shape {answered.shape}, not {told.shape}")
    return Embeddings(values, answered & told.astype(bool))


def _gold(path: Path, arrays: Mapping[str, Array]) -> Values:
    key = next((t for t in TRUTHS if t in arrays), None)
    if key is None and path.suffix.lower() == ".npy":
        key = VECTORS[0]
    if key is None:
        raise InputError(f"{path}: no truth called {listed(TRUTHS)}; there are {listed(arrays)}")
    return _numbers(path, key, arrays)


def _numbers(path: Path, key: str, arrays: Mapping[str, Array]) -> Values:
    values = np.asarray(arrays[key])
    if values.dtype.kind not in "fiu" or values.ndim != 1:
        raise InputError(f"{path}: {key} must be numbers of shape (n,), not {values.dtype} {values.shape}")
    values = values.astype(np.float64)
    return Values(values, ~np.isnan(values))


def _names(path: Path, arrays: Mapping[str, Array], rows: int) -> list[Any] | None:
    """Names of rows; whole numbers as such, however they are written. None where the file has none."""
    key = next((n for n in NAMES if n in arrays), None)
    if key is None:
        return None
    given = np.asarray(arrays[key])
    if given.shape != (rows,):
        raise InputError(f"{path}: {key} must name {rows} rows, not have shape {given.shape}")
    names = [int(n) if str(n).lstrip("-").isdecimal() else str(n) for n in given.tolist()]
    if len(set(names)) < rows:
        doubled = listed(sorted({str(n) for n in names if names.count(n) > 1})) if rows < 5000 else "some"
        raise InputError(f"{path}: {key} names rows twice: {doubled}")
    return names


def _spread(output: Any, names: list[Any], rows: list[Any]) -> Any:
    """The output with these rows; those it does not name are not answered."""
    if names == rows:
        return output
    at, known = _places(names, rows)
    values = np.full((len(rows), *output.values.shape[1:]), np.nan, dtype=output.values.dtype)
    values[known] = output.values[at[known]]
    answered = np.zeros(len(rows), dtype=bool)
    answered[known] = output.answered[at[known]]
    return type(output)(values, answered)


def _places(names: list[Any], rows: list[Any]) -> tuple[Array, Array]:
    """Where each row stands among the names, and which stand there."""
    place_of = {n: k for k, n in enumerate(names)}
    at = np.array([place_of.get(r, -1) for r in rows], dtype=np.int64)
    return at, at >= 0


FORMAT = Format(
    "embeddings",
    "vectors as .npz, .npy or .safetensors (emb1 and emb2 for pairs); truth: `gold` there, or .tsv, .csv",
    read,
    write,
)
