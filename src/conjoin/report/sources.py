"""Answers of several systems from their files, of any kind, and fused answers back into a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError, listed, nearest
from conjoin.formats import FORMATS, Found, format_of
from conjoin.formats.arrays import read_arrays, write_arrays
from conjoin.report import align as tables
from conjoin.tables import read_table

if TYPE_CHECKING:
    from conjoin.outputs import Array, Output

KINDS = (*tables.KINDS, *FORMATS)
"""Kinds that are read from files."""
WORDS = "words"


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """What the files say, and how it is written back.

    kind: of the files. found: rows, outputs, truth. matched: how rows were matched, for people. id, ids: the
    column that names the rows of a table. write: (fused output, path).
    """

    kind: str
    found: Found
    matched: str
    id: str | None
    ids: Array | None
    write: Callable[[Output, Path], None] | None


def sources(
    kind: str,
    files: Sequence[Path],
    truth: Path | None = None,
    *,
    id: str | None = None,  # noqa: A002  (the word that people use)
    target: str | None = None,
) -> Sources:
    """Read the files of a kind; systems are called by the names of their files.

    Tables of probabilities, values or quantiles: see `align`; an .npz file of them may hold several systems.
    Other kinds: see `conjoin.formats`. Texts with word times (.ctm) are `words`.
    Raises InputError and FileError, with file and line.
    """
    if kind not in KINDS:
        raise InputError(f"no kind {kind!r}{nearest(kind, KINDS)}; there are {listed(KINDS, 20)}")
    if not files:
        raise InputError("there are no files to fuse")
    if kind in tables.KINDS:
        return _dense(kind, files, truth, id, target)
    for option, given in (("--id", id), ("--target", target)):
        if given is not None:
            raise InputError(f"{option} is for tables; {kind} name their rows themselves")
    if kind == "texts" and any(".ctm" in p.name for p in files):
        kind = WORDS
    format_ = format_of(kind)
    found = format_.read(named(files), truth)
    return Sources(kind, found, "by name", None, None, lambda fused, path: format_.write(fused, found, path))


def named(files: Sequence[Path]) -> dict[str, Path]:
    """The files by their names without endings; by their paths where two names are equal."""
    stems = [p.name.split(".")[0] or p.name for p in files]
    paths = [str(p) for p in files]
    if len(set(paths)) != len(paths):
        raise InputError(f"a file is given twice: {listed(p for p in paths if paths.count(p) > 1)}")
    return dict(zip(stems if len(set(stems)) == len(stems) else paths, files, strict=True))


def _dense(
    kind: str,
    files: Sequence[Path],
    truth: Path | None,
    id: str | None,  # noqa: A002
    target: str | None,
) -> Sources:
    if all(p.suffix == ".npz" for p in files):
        found = read_arrays(kind, named(files), truth)
        return Sources(
            kind, found, "by their order", None, None, lambda fused, path: write_arrays(fused, found, path)
        )
    batches: Mapping[str, Any] = {n: read_table(p) for n, p in named(files).items()}
    laid = tables.align(
        batches, kind, id=id, truth=None if truth is None else read_table(truth), target=target
    )
    rows = len(next(iter(laid.outputs.values())))
    names = np.arange(1, rows + 1).astype(object) if laid.ids is None else laid.ids
    matched = "by their order" if laid.id is None else f"by the column {laid.id!r}"
    return Sources(kind, Found(names, dict(laid.outputs), laid.truth), matched, laid.id, laid.ids, None)
