"""What kind of table a file holds: its format, compression, encoding, delimiter and column names."""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import io
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from conjoin.errors import ColumnError, FileError, listed

HEAD = 1 << 20
"""So many bytes are looked at."""
DELIMITERS = (",", ";", "\t", "|")
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_PLAIN = frozenset(b"\t\n\r" + bytes(range(32, 127)))
_OTHERS = (
    (b"PK\x03\x04", "a zip archive (an Excel workbook?)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"ARROW1", "an Arrow file"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "an image"),
    (b"\x80\x04", "a pickle"),
    (b"SQLite format", "a database"),
)


@dataclass(frozen=True, slots=True)
class Sniffed:
    """A file and how to read it.

    path: what the user named. file: what is read (a clean copy where the path's bytes are not UTF-8).
    names: of the columns; empty for parquet and JSON, which carry them. skip: lines before the names.
    """

    path: Path
    file: Path
    format: Literal["csv", "json", "parquet"]
    compression: Literal["none", "gzip", "zstd"]
    encoding: str
    delimiter: str = ","
    names: tuple[str, ...] = ()
    skip: int = 0

    def scan(self) -> str:
        """The file as a table in SQL; the columns of a CSV are c0, c1, ... and all text."""
        where = _quoted("".join(f"[{c}]" if c in "[*?" else c for c in str(self.file)))
        if self.format == "parquet":
            return f"read_parquet({where}, hive_partitioning=false)"
        if self.format == "json":
            return (
                f"read_json({where}, format='auto', sample_size=-1, hive_partitioning=false, "
                f"compression='{self.compression}', maximum_object_size=67108864)"
            )
        columns = ", ".join(f"'c{k}': 'VARCHAR'" for k in range(len(self.names)))
        return (
            f"read_csv({where}, columns={{{columns}}}, auto_detect=false, header=true, skip={self.skip}, "
            "nullstr='', "
            f"delim={_quoted(self.delimiter)}, quote='\"', escape='\"', hive_partitioning=false, "
            f"compression='{self.compression}')"
        )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def sniff(path: str | os.PathLike[str], folder: Path, connection: Any) -> Sniffed:
    """Look at a file. `folder` takes a UTF-8 copy where one is needed. Raises FileError, ColumnError."""
    shown = Path(path)
    file = Path(os.path.abspath(shown))
    raw = _first_bytes(shown)
    if raw[:4] == b"PAR1":
        return Sniffed(shown, file, "parquet", "none", "")
    found = Sniffed(shown, file, "csv", "none", "utf-8")
    if raw[:2] == b"\x1f\x8b":
        found, raw = replace(found, compression="gzip"), _first_bytes(shown, gzip.open)
    elif raw[:4] == b"\x28\xb5\x2f\xfd":
        found = replace(found, compression="zstd")
        raw = _first_of_zstd(found, connection)
    found = replace(found, encoding=_encoding(shown, raw))
    if found.encoding.startswith(("utf-16", "utf-32")):
        found = copy_as_utf8(found, folder)
        raw = _first_bytes(found.file)
    text = raw.decode("utf-8-sig", errors="replace")
    if not text.strip():
        raise FileError(f"{shown} is empty: a table has a header line and rows")
    stem = shown.name.lower().removesuffix(".gz").removesuffix(".zst")
    if stem.endswith((".json", ".jsonl", ".ndjson")) or text.lstrip()[:2] in ("[{", '{"'):
        if text.lstrip()[0] not in "[{" or text.split() == ["{}"]:
            raise FileError(f"{shown} holds no rows: JSON lines are objects, one a line, name -> value")
        return replace(found, format="json")
    if found.compression != "zstd" and not (_is_utf8(raw) and _even_newlines(raw)):
        return cleaned(found, folder)
    return _dialect(found, text, whole=len(raw) < HEAD)


def _is_utf8(raw: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(raw)
    except UnicodeDecodeError:
        return False
    return True


def _even_newlines(raw: bytes) -> bool:
    return b"\r\n" not in raw or raw.count(b"\n") == raw.count(b"\r\n")


def cleaned(found: Sniffed, folder: Path) -> Sniffed:
    """A CSV whose bytes or newlines DuckDB refused, as a clean copy."""
    copy = copy_as_utf8(found, folder)
    raw = _first_bytes(copy.file)
    return _dialect(copy, raw.decode(errors="replace"), whole=len(raw) < HEAD)


def copy_as_utf8(found: Sniffed, folder: Path) -> Sniffed:
    """A copy in UTF-8 with plain newlines, in `folder`. What is not UTF-8 is taken for Windows-1252."""
    copy = folder / "table.txt"
    opener: Any = gzip.open if found.compression == "gzip" else open
    for encoding in dict.fromkeys((found.encoding, "cp1252", "latin-1")):
        try:
            with (
                opener(found.file, "rt", encoding=encoding, newline=None) as source,
                open(copy, "w", encoding="utf-8", newline="\n") as target,
            ):
                while block := source.read(1 << 20):
                    target.write(block)
            return replace(found, file=copy, compression="none", encoding=encoding)
        except UnicodeError:
            continue
        except (OSError, EOFError, zlib.error) as error:
            raise FileError(f"{found.path} cannot be read: {error}") from error
    raise FileError(f"{found.path} is not text in any known encoding")


def _first_bytes(path: Path, opener: Any = open) -> bytes:
    try:
        with opener(path, "rb") as file:
            return bytes(file.read(HEAD))
    except FileNotFoundError as error:
        raise FileError(f"there is no file {path}{_near(path)}") from error
    except IsADirectoryError as error:
        raise FileError(f"{path} is a folder, not a table; name one file") from error
    except PermissionError as error:
        raise FileError(f"{path} may not be read: permission denied") from error
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(f"{path} cannot be read: {error}") from error


def _near(path: Path) -> str:
    folder = path.parent
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    hits = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f"; did you mean {str(folder / hits[0])!r}?" if hits else ""


def _first_of_zstd(found: Sniffed, connection: Any) -> bytes:
    lines = replace(found, delimiter="\x01", names=("line",)).scan()
    plain = lines.replace("header=true", "header=false").replace(
        "quote='\"', escape='\"'", "quote='', escape=''"
    )
    rows = connection.execute(f"select c0 from {plain} limit 200").fetchall()
    return "\n".join(r[0] or "" for r in rows).encode()[:HEAD]


def _encoding(path: Path, raw: bytes) -> str:
    for mark, name in _BOMS:
        if raw.startswith(mark):
            return name
    for magic, what in _OTHERS:
        if raw.startswith(magic):
            raise FileError(f"{path} is {what}, not a table that can be read; save it as CSV or Parquet")
    for k, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        some = raw[:4096]
        zeros, plain = some[k::2].count(0), sum(b in _PLAIN for b in some[1 - k :: 2])
        if 5 * min(zeros, plain) > len(some):
            return name
    if b"\0" in raw:
        raise FileError(f"{path} holds binary data, not a table: CSV, JSON lines or Parquet can be read")
    return "utf-8"


def _dialect(found: Sniffed, text: str, *, whole: bool) -> Sniffed:
    """The delimiter that cuts the first lines evenly, and the names in the first line that is not blank.

    A line such as "sep=;", which spreadsheets write first, names the delimiter.
    """
    lines = text.splitlines(keepends=True)
    skip = next(k for k, line in enumerate(lines) if line.strip())
    named = lines[skip].strip().removeprefix("sep=") if lines[skip].startswith("sep=") else ""
    allowed = (named,) if named in DELIMITERS else DELIMITERS
    skip += named in DELIMITERS
    lines = lines[skip:] or [""]
    if not whole and len(lines) > 1:
        lines = lines[:-1]
    scored = []
    for delimiter in allowed:
        cut = list(csv.reader(io.StringIO("".join(lines[:200])), delimiter=delimiter))
        rows = [r for r in cut if r] or [[""]]
        even = sum(len(r) == len(rows[0]) for r in rows) / len(rows)
        scored.append((len(rows[0]) > 1, even == 1.0, len(rows[0]) * even, delimiter, rows[0]))
    first = max(scored, key=lambda s: s[:3])
    names = [n.strip() or f"column{k}" for k, n in enumerate(first[4])]
    doubled = sorted({n for n in names if names.count(n) > 1})
    if doubled:
        raise ColumnError(
            f"{found.path}, line 1: column names must differ; doubled: {listed(map(repr, doubled))} "
            "(a table needs its names in the first line)"
        )
    return replace(found, delimiter=first[3], names=tuple(names), skip=skip)
