"""What the files of a kind say together, and what a format does."""

from __future__ import annotations

import contextlib
import gzip
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conjoin.errors import FileError
from conjoin.outputs import Array, Output

MOST_BYTES = 4 << 30
"""A file that is larger, or unpacks to more, is refused."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Outputs of several systems for the same rows.

    rows: (n,) object: names of the rows (queries, images, tasks, utterances, line numbers), the union over
    all files. outputs: by name of the system, n rows each; a row that a file lacks is not answered.
    truth: n rows, not answered where the truth file lacks the row; None without one.
    context: what `Format.write` needs of the inputs.
    """

    rows: Array
    outputs: dict[str, Output]
    truth: Output | None
    context: Any = None


@dataclass(frozen=True, slots=True)
class Format:
    """The files of a kind.

    told: a line for people: which files. read: (files by name of the system, the truth's file or None) ->
    Found. write: (fused output, what was read, path). Both raise InputError (with file and line) and
    FileError; a file is written whole or not at all.
    """

    kind: str
    told: str
    read: Callable[[Mapping[str, Path], Path | None], Found]
    write: Callable[[Output, Found, Path], None]


@contextlib.contextmanager
def place(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, moved there when the block ends well. Raises FileError."""
    target = Path(os.path.realpath(path))
    ends = "".join(target.suffixes[-2:])
    working = target.with_name(f".{target.name[:60]}.{secrets.token_hex(4)}{ends}")
    try:
        if target.is_dir():
            raise FileError(f"{path} is a folder; give the name of a file")
        yield working
        os.replace(working, target)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            working.unlink(missing_ok=True)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, unpacked where it is gzip. Raises FileError, also above MOST_BYTES."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise FileError(f"there is no file {str(path)!r}") from error
    except (OSError, EOFError) as error:
        raise FileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(raw) > MOST_BYTES:
        raise FileError(f"{path} holds more than {MOST_BYTES >> 30} GiB")
    return raw


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, unpacked where it is gzip; a mark of byte order is left out.

    Raises FileError, with the line where a byte is no UTF-8.
    """
    raw = read_bytes(path)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise FileError(f"{path}, line {line}: not UTF-8 (byte {raw[error.start]:#04x})") from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, packed where the name ends in .gz, whole or not at all. Raises FileError."""
    raw = text.encode("utf-8")
    with place(path) as working:
        working.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)
