"""Reading tables from files: CSV of any delimiter, JSON lines, Parquet; plain, gzip or zstd. By DuckDB.

The types of a CSV are decided here, not by DuckDB: a column is numbers only if every value is one, "00123"
is no number, and what a class is called stays as the file says.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from conjoin.contracts import Column
from conjoin.errors import ColumnError, FileError, listed
from conjoin.tables.batch import EXACT, TableWarning, column_of
from conjoin.tables.conform import MISSING_DATE, missing_columns, number_of, seconds_of
from conjoin.tables.sniff import Sniffed, cleaned, sniff
from conjoin.tables.words import GONE_NUMBER

if TYPE_CHECKING:
    from conjoin.outputs import Array

MEMORY = 300
"""Megabytes that DuckDB may hold of a stream, and one more for each column."""
SAMPLE = 2000
"""Columns whose first so many values are not all numbers are not looked at further."""
_T = TypeVar("_T")
_GONE = "'" + "|".join(map(re.escape, sorted(GONE_NUMBER))) + "'"
_COMMA = re.compile(r"[+-]?\d+(,\d+)?")
_CODE = re.compile(r"[+-]?0\d")


def read_table(path: str | os.PathLike[str]) -> dict[str, Array]:
    """A batch from a file: CSV with any of , ; tab | between its columns, JSON lines, Parquet.

    CSV and JSON may be compressed with gzip or zstd, and CSV may be UTF-8 (with or without byte-order mark),
    UTF-16 or, failing that, Windows-1252, which a TableWarning says. The first line of a CSV holds the names.

    Types of a CSV: a column is numbers where every value is one; empty cells and words such as NA, null, None
    and ? are then missing. Codes such as 00123 and integers that float64 could not tell apart stay text. With
    another delimiter than the comma, decimal commas are read. All ISO dates: dates. Anything else is text as
    it stands, only an empty cell is missing there, so that a class may be called None. (As input of a model,
    NA, None, null and nan are missing in columns of text too; see `words.GONE`.)

    Raises FileError with the line where a row has too many or too few columns, on an empty file, on one
    without rows, and on one that is no table; ColumnError on doubled names.
    """

    def read(connection: Any, found: Sniffed) -> dict[str, Array]:
        plan = _plan(connection, found)
        sql = ", ".join(f"{r.sql} as r{k}" for k, r in enumerate(plan))
        return _arrays(connection.execute(f"select {sql} from {found.scan()}").fetchnumpy(), plan)

    with _workplace() as (connection, folder):
        batch = _attempt(connection, folder, path, read)
    _some_rows(path, len(next(iter(batch.values()))))
    return {n: _as_integers(_as_dates(v)) for n, v in batch.items()}


def stream_table(
    path: str | os.PathLike[str],
    rows: int = 50_000,
    *,
    columns: Iterable[Column] | None = None,
    others: Iterable[str] = (),
) -> Iterator[dict[str, Array]]:
    """The same table as a stream of batches of so many rows, in bounded memory (about 400 MB).

    columns: those to read, with their types, as on a member's card; by default all, types decided from the
    whole file. others: names of further columns, read as they stand. What does not fit into memory is kept in
    a temporary folder meanwhile.

    Raises as `read_table` does; and ColumnError where a column is missing, or a number cannot be read, before
    the first batch.
    """
    wanted = None if columns is None else tuple(columns)
    more = tuple(others)

    def load(connection: Any, found: Sniffed) -> list[_Reading]:
        plan = _plan(connection, found) if wanted is None else _asked(connection, found, wanted, more)
        sql = ", ".join([f"{r.sql} as r{k}" for k, r in enumerate(plan)] + [_any(r.bad for r in plan)])
        connection.execute(f"set memory_limit = '{MEMORY + len(plan)}MB'")
        connection.execute(f"create or replace temp table t as select {sql} from {found.scan()}")
        if connection.execute("select count(*) from t where bad").fetchone()[0]:
            raise _first_bad(connection, found, plan)
        return plan

    with _workplace() as (connection, folder):
        plan = _attempt(connection, folder, path, load)
        n = int(connection.execute("select count(*) from t").fetchone()[0])
        _some_rows(path, n)
        keys = ", ".join(f"r{k}" for k in range(len(plan)))
        for a in range(0, n, rows):
            part = connection.execute(f"select {keys} from t where rowid >= {a} and rowid < {a + rows}")
            yield _arrays(part.fetchnumpy(), plan)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One column: its name, the SQL that gives its values, and the SQL that says which are no numbers."""

    name: str
    sql: str
    key: str = ""
    bad: str = ""


@contextlib.contextmanager
def _workplace() -> Iterator[tuple[Any, Path]]:
    """A connection that fetches no extensions, and a temporary folder that goes with it."""
    import duckdb

    config: dict[str, Any] = {
        "threads": 2,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with tempfile.TemporaryDirectory(prefix="conjoin-") as folder:
        config["temp_directory"] = folder
        with duckdb.connect(config=config) as connection:
            yield connection, Path(folder)


def _attempt(
    connection: Any, folder: Path, path: str | os.PathLike[str], work: Callable[[Any, Sniffed], _T]
) -> _T:
    """Do the work; once more on a clean copy where the file is not UTF-8 or mixes its newlines."""
    import duckdb

    try:
        found = sniff(path, folder, connection)
        try:
            return work(connection, _noted(found))
        except duckdb.Error as error:
            if found.format != "csv" or found.file.parent == folder or not _UNCLEAN.search(str(error)):
                raise
        return work(connection, _noted(cleaned(found, folder)))
    except duckdb.Error as error:
        raise _explained(path, str(error)) from error


def _noted(found: Sniffed) -> Sniffed:
    if found.format == "csv" and not found.encoding.startswith("utf"):
        warnings.warn(f"{found.path} is not UTF-8; it is read as Windows-1252", TableWarning, stacklevel=4)
    return found


_UNCLEAN = re.compile(r"unicode|utf-8|state machine", re.IGNORECASE)
_RAGGED = re.compile(r"Expected Number of Columns: (\d+) Found: (\d+)")
_LINE = re.compile(r"CSV Error on Line: (\d+)\s+Original Line: ?([^\n]*)")


def _explained(path: str | os.PathLike[str], message: str) -> FileError:
    line, ragged = _LINE.search(message), _RAGGED.search(message)
    where, shown = (f"{path}, line {line[1]}", line[2][:80]) if line else (f"{path}", "")
    if ragged:
        return FileError(f"{where}: the header has {ragged[1]} columns, this row {ragged[2]}: {shown!r}")
    if "unterminated quote" in message:
        return FileError(f"{where}: a quote is not closed: {shown!r}")
    first = message.partition("\n")[0]
    return FileError(f"{where} cannot be read as a table: {first.partition(': ')[2] or first}")


def _some_rows(path: str | os.PathLike[str], rows: int) -> None:
    if not rows:
        raise FileError(f"{path} holds no rows: a table has a line of names and rows below it")


def _plan(connection: Any, found: Sniffed) -> list[_Reading]:
    """How to read every column of a file whose types nobody gave."""
    if found.format != "csv":
        return _typed(connection, found)
    numbers = _numbers(connection, found)
    return [_Reading(n, _as(found, f"c{k}", number=k in numbers)) for k, n in enumerate(found.names)]


def _as(found: Sniffed, key: str, *, number: bool) -> str:
    """SQL: the values of a column of a CSV, as numbers or as text."""
    return _sql(found, key, "{number}") if number else f"nullif(trim({key}), '')"


def _numbers(connection: Any, found: Sniffed) -> set[int]:
    """Places of the columns of a CSV in which every value that is not missing is a number."""
    head = connection.execute(f"select * from {found.scan()} limit {SAMPLE}").fetchall()
    maybe = [k for k, values in enumerate(zip(*head, strict=True)) if _maybe_numbers(found, values)]
    facts = _each(connection, found, maybe, ("count({key}) = count({number})", _CODED, "max(abs({number}))"))
    partly = [k for k, (whole, coded, _) in facts.items() if not whole and not coded]
    words = _each(connection, found, partly, (f"bool_or({_BAD})",))
    plain = {k for k, (whole, coded, _) in facts.items() if not coded and (whole or not words[k][0])}
    vast = [k for k in sorted(plain) if facts[k][2] is not None and not facts[k][2] < EXACT]
    return plain - {k for k in vast if _names(connection, found, k)}


_BAD = "({key} is not null and {number} is null and not regexp_full_match({value}, " + _GONE + "))"
_CODED = "bool_or(regexp_matches({value}, '_|^[+-]?0[0-9]'))"
_TOGETHER = 100
"""So many columns are asked about at once: DuckDB's planning grows with the square of them."""


def _sql(found: Sniffed, key: str, form: str) -> str:
    """SQL about a column of a CSV: {key} stands for the column, {value} its numbers' text, {number} them."""
    value = f"trim({key})" if found.delimiter == "," else f"replace(trim({key}), ',', '.')"
    for name, text in (("number", f"try_cast({value} as double)"), ("value", value), ("key", key)):
        form = form.replace("{" + name + "}", text)
    return form


def _each(
    connection: Any, found: Sniffed, places: list[int], forms: Sequence[str]
) -> dict[int, tuple[Any, ...]]:
    """Facts about each of these columns."""
    facts: dict[int, tuple[Any, ...]] = {}
    for a in range(0, len(places), _TOGETHER):
        some = places[a : a + _TOGETHER]
        sql = ", ".join(_sql(found, f"c{k}", form) for k in some for form in forms)
        row = connection.execute(f"select {sql} from {found.scan()}").fetchone()
        facts |= {k: row[j * len(forms) : (j + 1) * len(forms)] for j, k in enumerate(some)}
    return facts


def _names(connection: Any, found: Sniffed, k: int) -> bool:
    """Whether a column of huge numbers holds integers that float64 cannot tell apart: they are names."""
    whole = "regexp_full_match({value}, '[+-]?[0-9]+')"
    counts = f"bool_and({whole}), count(distinct {{value}}), count(distinct {{number}})"
    sql, known = (_sql(found, f"c{k}", form) for form in (counts, "{number} is not null"))
    integers, texts, numbers = connection.execute(
        f"select {sql} from {found.scan()} where {known}"
    ).fetchone()
    if not integers or texts == numbers:
        return False
    warnings.warn(
        f"{found.path}: column {found.names[k]!r} holds integers beyond 2**53 that float64 could not tell "
        "apart; it is read as text",
        TableWarning,
        stacklevel=5,
    )
    return True


def _maybe_numbers(found: Sniffed, values: tuple[str | None, ...]) -> bool:
    known = [v.strip() for v in values if v is not None and v.strip() not in GONE_NUMBER]
    if found.delimiter != "," and any("," in v for v in known):
        return all(_COMMA.fullmatch(v) and not _CODE.match(v) for v in known)
    return all(number_of(v) is not None and not _CODE.match(v) for v in known)


def _typed(connection: Any, found: Sniffed) -> list[_Reading]:
    """The columns of Parquet or JSON under their own names and types."""
    described = connection.execute(f"describe select * from {found.scan()}").fetchall()
    names = [str(row[0]) for row in described]
    if found.format == "parquet":
        names = _parquet_names(connection, found) or names
    doubled = sorted({n for n in names if names.count(n) > 1})
    if doubled:
        raise ColumnError(f"{found.path}: column names must differ; doubled: {listed(doubled)}")
    keys = ['"' + str(row[0]).replace('"', '""') + '"' for row in described]
    kinds = [str(row[1]) for row in described]
    return [_Reading(n, _plain(key, kind)) for n, key, kind in zip(names, keys, kinds, strict=True)]


def _plain(key: str, kind: str) -> str:
    if kind == "JSON":
        return f"json_extract_string({key}, '$')"
    return f"cast({key} as varchar)" if kind.startswith(("ENUM", "UUID", "STRUCT", "MAP", "UNION")) else key


def _parquet_names(connection: Any, found: Sniffed) -> list[str]:
    """Names of the top columns as they stand in the file; DuckDB renames those that differ in case alone."""
    scan = found.scan().replace("read_parquet", "parquet_schema").replace(", hive_partitioning=false", "")
    nodes = connection.execute(f"select name, num_children from {scan}").fetchall()
    names, skip = [], 0
    for name, children in nodes[1:]:
        if skip:
            skip += int(children or 0) - 1
            continue
        names.append(str(name))
        skip = int(children or 0)
    return names


def _asked(
    connection: Any, found: Sniffed, columns: tuple[Column, ...], others: tuple[str, ...]
) -> list[_Reading]:
    """How to read these columns, with the types they shall have."""
    if found.format == "csv":
        there = {n: f"c{k}" for k, n in enumerate(found.names)}
    else:
        there = {r.name: r.sql for r in _typed(connection, found)}
    gone = [c for c in columns if c.name not in there] or [
        Column(n, "text") for n in others if n not in there
    ]
    if gone:
        raise missing_columns([c.name for c in columns] + list(others), there)
    plan = []
    for c in columns:
        key = there[c.name]
        if found.format == "csv" and c.type == "number":
            bad = _sql(found, key, f"({_BAD} or contains({{value}}, '_'))")
            plan.append(_Reading(c.name, _as(found, key, number=True), key, bad))
        else:
            plan.append(_Reading(c.name, key))
    named = {c.name for c in columns}
    return plan + [_Reading(n, there[n]) for n in others if n not in named]


def _any(conditions: Iterable[str]) -> str:
    return f"coalesce({' or '.join(c for c in conditions if c) or 'false'}, false) as bad"


def _first_bad(connection: Any, found: Sniffed, plan: list[_Reading]) -> ColumnError:
    row = int(connection.execute("select min(rowid) from t where bad").fetchone()[0])
    keys = ", ".join(f"{r.key}, {r.bad}" for r in plan if r.bad)
    values = connection.execute(f"select {keys} from {found.scan()} limit 1 offset {row}").fetchone()
    names = [r.name for r in plan if r.bad]
    k = next(k for k in range(len(names)) if values[2 * k + 1])
    return ColumnError(
        f"{found.path}: column {names[k]!r} must be a number; row {row} holds {values[2 * k]!r}"
    )


def _arrays(found: dict[str, Any], plan: list[_Reading]) -> dict[str, Array]:
    return {r.name: column_of(found[f"r{k}"], r.name) for k, r in enumerate(plan)}


def _as_dates(values: Array) -> Array:
    """A column of texts that are all dates becomes datetime64; any other stays."""
    if values.dtype != object:
        return values
    given = values.tolist()
    known = [v for v in given[:SAMPLE] if v is not None]
    if not known or any(seconds_of(v) is None for v in known[:20]):
        return values
    read = {v: MISSING_DATE if v is None else seconds_of(v) for v in set(given)}
    if any(v is None for v in read.values()) or all(v == MISSING_DATE for v in read.values()):
        return values
    seconds = np.fromiter((cast("int", read[v]) for v in given), np.int64, len(given))
    return seconds.astype("datetime64[s]")


def _as_integers(values: Array) -> Array:
    """A column of float64 that are all integers becomes int64; any other stays."""
    if values.dtype != np.float64 or not (np.abs(values) <= EXACT).all() or (values % 1).any():
        return values
    return values.astype(np.int64)
