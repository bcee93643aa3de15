"""Writing tables to files: CSV, JSON lines, Parquet. A file appears whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, final

import numpy as np

from conjoin.contracts import Batch
from conjoin.errors import ColumnError, FileError, listed

if TYPE_CHECKING:
    from conjoin.outputs import Array


def write_table(batch: Batch, path: str | os.PathLike[str]) -> None:
    """Write a batch; the name says the format: .csv, .tsv, .jsonl, .ndjson (each also .gz), .parquet.

    Missing values are empty in CSV and null elsewhere; columns with several axes are JSON texts in CSV and
    Parquet. The file is written beside its place and moved there. Raises FileError.
    """
    with TableWriter(path) as writer:
        writer.append(batch)


@final
class TableWriter:
    """Writes a table batch by batch: `with TableWriter(path) as w: w.append(batch)`.

    The file appears when the block ends well; after an error nothing of it is left and what was there before
    stays. All batches need the same columns. Raises FileError on a name of no known format, and where the
    disk or the rights do not allow it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._make = _format_of(self.path)
        self._target = Path(os.path.realpath(self.path))
        self._names: list[str] | None = None
        direct = (
            self._target.exists() and not self._target.is_file()
        )  # a pipe or a device: no moving into place
        if self._target.is_dir():
            raise FileError(f"{self.path} is a folder; give the name of a file")
        beside = self._target.with_name(f".{self._target.name}.{secrets.token_hex(4)}.tmp")
        self._working = self._target if direct else beside
        with self._explained():
            self._sink = self._make(self._working)

    def append(self, batch: Batch) -> None:
        """Add the rows of a batch."""
        names = [str(n) for n in batch]
        if self._names is None:
            self._names = names
        elif names != self._names:
            raise ColumnError(
                f"every batch needs the columns {listed(self._names)}; this one has {listed(names)}"
            )
        with self._explained():
            self._sink.append({n: np.asarray(v) for n, v in zip(names, batch.values(), strict=True)})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            with contextlib.suppress(OSError, FileError):
                self._sink.close(False)
            self._clear()
            return
        with self._explained():
            self._sink.close(True)
            if self._working != self._target:
                os.replace(self._working, self._target)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._clear()
            raise FileError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def _clear(self) -> None:
        if self._working != self._target:
            self._working.unlink(missing_ok=True)


class _Sink(Protocol):
    """What a format does with batches."""

    def append(self, batch: dict[str, Array]) -> None:
        """Write the rows."""

    def close(self, whole: bool) -> None:
        """Finish the file, or where not whole just let go of it."""


@final
class _Text:
    """Lines of text, plain or gzip (without a time in it: same rows, same bytes)."""

    def __init__(
        self, path: Path, packed: bool, lines: Callable[[Any, dict[str, Array], bool], None]
    ) -> None:
        self._raw = open(path, "wb")  # noqa: SIM115  (closed in `close`)
        layer: Any = gzip.GzipFile("", "wb", 6, self._raw, mtime=0) if packed else self._raw
        self._file = io.TextIOWrapper(layer, encoding="utf-8", newline="")
        self._lines = lines
        self._first = True

    def append(self, batch: dict[str, Array]) -> None:
        self._lines(self._file, batch, self._first)
        self._first = False

    def close(self, whole: bool) -> None:
        try:
            self._file.close()
        finally:
            self._raw.close()


@final
class _Parquet:
    """Rows are collected by DuckDB, in a temporary folder where they are many, and written at the end."""

    def __init__(self, path: Path) -> None:
        import duckdb

        self._path = path
        path.touch()  # so that a place where nothing may be written is known at once
        self._folder = tempfile.TemporaryDirectory(prefix="conjoin-")
        self._connection = duckdb.connect(
            config={
                "threads": 2,
                "memory_limit": "300MB",
                "temp_directory": self._folder.name,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )
        self._names: list[str] = []

    def append(self, batch: dict[str, Array]) -> None:
        keyed = {f"c{k}": _for_duckdb(v) for k, v in enumerate(batch.values())}
        self._connection.register("batch", keyed)
        casts = ", ".join(f"{k}::varchar as {k}" if v.dtype == object else k for k, v in keyed.items())
        if self._names:
            self._do(f"insert into t select {casts} from batch")
        else:
            self._do(f"create temp table t as select {casts} from batch")
        self._names = list(batch)
        self._connection.unregister("batch")

    def close(self, whole: bool) -> None:
        try:
            if whole and self._names:
                quoted = ['"' + n.replace('"', '""') + '"' for n in self._names]
                names = ", ".join(f"c{k} as {q}" for k, q in enumerate(quoted))
                place = str(self._path).replace("'", "''")
                self._do(f"copy (select {names} from t order by rowid) to '{place}' (format parquet)")
        finally:
            self._connection.close()
            self._folder.cleanup()

    def _do(self, sql: str) -> None:
        import duckdb

        try:
            self._connection.execute(sql)
        except duckdb.Error as error:
            raise OSError(str(error).partition("\n")[0]) from error


def _for_duckdb(values: Array) -> Array:
    if values.ndim > 1:
        return _cells(values)
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _cells(values: Array) -> Array:
    """(n,) object array of what a row of a CSV or of JSON holds; None is missing."""
    if values.ndim > 1:
        given: list[Any] = [json.dumps(v) for v in values.tolist()]
    elif values.dtype.kind == "M":
        given = [None if v == "NaT" else v for v in np.datetime_as_string(values).tolist()]
    elif values.dtype == np.float32:
        given = [None if v == "nan" else float(v) for v in values.astype(str).tolist()]
    elif values.dtype.kind == "f":
        given = [None if v != v else v for v in values.tolist()]
    else:
        given = values.tolist()
    out = np.empty(len(given), dtype=object)
    out[:] = given
    return out


def _csv(delimiter: str) -> Callable[[Any, dict[str, Array], bool], None]:
    def lines(file: Any, batch: dict[str, Array], first: bool) -> None:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        if first:
            writer.writerow(batch)
        writer.writerows(zip(*(_cells(v).tolist() for v in batch.values()), strict=True))

    return lines


def _json(file: Any, batch: dict[str, Array], first: bool) -> None:
    columns = [v.tolist() if v.ndim > 1 else _cells(v).tolist() for v in batch.values()]
    names = list(batch)
    for row in zip(*columns, strict=True):
        file.write(json.dumps(dict(zip(names, map(_finite, row), strict=True)), ensure_ascii=False) + "\n")


def _finite(value: Any) -> Any:
    return str(value) if value in (np.inf, -np.inf) else value


_LINES: dict[str, Callable[[Any, dict[str, Array], bool], None]] = {
    ".csv": _csv(","),
    ".tsv": _csv("\t"),
    ".jsonl": _json,
    ".ndjson": _json,
}


def _format_of(path: Path) -> Callable[[Path], _Sink]:
    name = path.name.lower()
    if name.endswith(".parquet"):
        return _Parquet
    packed = name.endswith(".gz")
    lines = _LINES.get(os.path.splitext(name.removesuffix(".gz"))[1])
    if lines is None:
        raise FileError(
            f"{path}: the name must end with .parquet or with {listed(_LINES)}, which may be followed by .gz"
        )
    return lambda working: _Text(working, packed, lines)
