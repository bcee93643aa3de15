"""The bundle format, number 1: the document `conjoin.json`, its limits, and how it is read without trust.

The page is docs/format/bundle-1.md, the JSON schema is schema-1.json beside this file. Reading is strict:
sizes are bounded before bytes are read, nesting is bounded, doubled keys and numbers that are not finite are
refused, names of files stay inside the folder.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from conjoin.errors import BundleError, FileError, listed

FORMAT = 1
DOCUMENT = "conjoin.json"
ARRAYS = "arrays.safetensors"
README = "README.md"
SUFFIXES = (".safetensors", ".onnx", ".md")
"""What the names of a bundle's files end with, beside conjoin.json."""

MAX_DOCUMENT = 64 * 2**20
"""Bytes of conjoin.json."""
MAX_NESTING = 64
"""Lists and objects inside one another, and parts inside parts."""
MAX_PARTS = 100_000
"""Parts of a bundle, counted once for each place where a shared one is used."""
MAX_FILES = 10_000
MAX_BYTES = 2**32
"""Bytes of all files together, and of all arrays after decoding; `load(max_bytes=)` changes it."""

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file of the bundle: its length and SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PartRecord:
    """One part: its type in the table of parts, its JSON, its children by name, its arrays by name."""

    type: str
    meta: Mapping[str, Any]
    children: tuple[tuple[str, int], ...]
    arrays: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Document:
    """conjoin.json, checked: the whole JSON, and the records that loading needs."""

    json: Mapping[str, Any]
    parts: tuple[PartRecord, ...]
    files: Mapping[str, FileRecord]


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256 of the document without its own `digest`: keys sorted, no spaces, UTF-8."""
    rest = {k: v for k, v in document.items() if k != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def dump(document: Mapping[str, Any]) -> bytes:
    """The bytes of conjoin.json: a line per key, in `parts` and `files` a line per entry."""
    lines = []
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            body = "[\n" + ",\n".join("  " + _compact(v) for v in value) + "\n ]"
        elif key == "files":
            rows = (f"  {_compact(k)}: {_compact(v)}" for k, v in cast("dict[str, Any]", value).items())
            body = "{\n" + ",\n".join(rows) + "\n }"
        else:
            body = _compact(value)
        lines.append(f" {_compact(key)}: {body}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))


def read_document(folder: Path) -> Document:
    """conjoin.json of a bundle, checked. Raises FileError where there is none, BundleError where it errs."""
    path = folder / DOCUMENT
    if not folder.is_dir():
        what = "is not there" if not folder.exists() else "is a file, not a folder"
        raise FileError(
            f"{str(folder)!r} {what}; a bundle is a folder with {DOCUMENT}, as `conjoin fit` makes"
        )
    if not os.path.lexists(path):
        raise FileError(f"{str(folder)!r} is not a bundle: it has no {DOCUMENT}")
    return check_document(parse(read_bounded(path, MAX_DOCUMENT), DOCUMENT))


def parse(raw: bytes, what: str) -> Mapping[str, Any]:
    """JSON from somebody else: an object, with bounded nesting, finite numbers and no doubled keys."""
    try:
        text = raw.decode("utf-8")
        found = json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise BundleError(f"{what} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise BundleError(f"{what} nests lists and objects deeper than {MAX_NESTING}") from error
    except ValueError as error:
        raise BundleError(f"{what} is not JSON: {error}; the bundle is truncated or altered") from error
    if not isinstance(found, dict):
        raise BundleError(f"{what} must be a JSON object, not {type(found).__name__}")
    _check_values(found, what)
    return found


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [k for k, _ in pairs]
        raise ValueError(f"doubled keys {listed(sorted({k for k in names if names.count(k) > 1}))}")
    return found


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _check_values(found: Any, what: str) -> None:
    level = [found]
    for _ in range(MAX_NESTING):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, float) and value - value != 0:
                raise BundleError(f"{what} holds a number that is not finite")
        level = below
        if not level:
            return
    raise BundleError(f"{what} nests lists and objects deeper than {MAX_NESTING}")


def check_document(found: Mapping[str, Any]) -> Document:
    """Check the document's format, digest, files and part graph. Raises BundleError."""
    number = found.get("format")
    if not _whole(number):
        raise BundleError(f"{DOCUMENT} has no format number; this is not a bundle of conjoin")
    if number != FORMAT:
        made = found.get("written_by", "a later conjoin")
        raise BundleError(
            f"the bundle has format {number}, written by {str(made)[:80]!r}; this conjoin reads "
            f"format {FORMAT}: install a later conjoin (pip install -U conjoin)"
        )
    _expect(found, {"name": str, "kind": str, "columns": list, "parts": list, "files": dict, "digest": str})
    if digest_of(found) != found["digest"]:
        raise BundleError(f"{DOCUMENT} was altered: its content does not match its own digest")
    files = {n: _file(n, r) for n, r in found["files"].items()}
    if len(files) > MAX_FILES:
        raise BundleError(f"the bundle lists {len(files)} files; at most {MAX_FILES} are read")
    parts = tuple(_part(i, p, len(found["parts"])) for i, p in enumerate(found["parts"]))
    _check_graph(parts)
    return Document(found, parts, files)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _expect(found: Any, types: Mapping[str, type], where: str = DOCUMENT) -> None:
    if not isinstance(found, dict):
        raise BundleError(f"{where} must be an object, not {type(found).__name__}")
    for key, want in types.items():
        if not isinstance(found.get(key), want):
            raise BundleError(
                f"{where}: {key!r} must be a {want.__name__}, not {type(found.get(key)).__name__}"
            )


def _file(name: str, record: Any) -> FileRecord:
    if not _FILE_NAME.fullmatch(name) or not name.endswith(SUFFIXES):
        raise BundleError(
            f"the bundle lists a file {name[:80]!r}; files lie in the bundle's own folder, their names are "
            f"letters, digits, '_', '-' and '.', and end with {', '.join(SUFFIXES)}"
        )
    _expect(record, {"bytes": int, "sha256": str}, f"file {name!r}")
    if not _whole(record["bytes"]) or not _SHA256.fullmatch(record["sha256"]):
        raise BundleError(f"file {name!r}: bytes must be a whole number and sha256 64 hexadecimal digits")
    return FileRecord(record["bytes"], record["sha256"])


def _part(index: int, part: Any, count: int) -> PartRecord:
    where = f"part {index}"
    _expect(part, {"type": str, "meta": dict, "children": list, "arrays": dict}, where)
    children: list[tuple[str, int]] = []
    for child in part["children"]:
        if not (
            isinstance(child, list) and len(child) == 2 and isinstance(child[0], str) and _whole(child[1])
        ):
            raise BundleError(f"{where}: a child is [name, number of its part], not {str(child)[:80]}")
        if not index < child[1] < count:
            raise BundleError(
                f"{where}: child {child[0][:80]!r} is part {child[1]}; children come after their parents, "
                f"so it must lie in {index + 1} to {count - 1}"
            )
        children.append((child[0], child[1]))
    if len(dict(children)) != len(children):
        raise BundleError(f"{where}: two children have one name")
    for name, array in part["arrays"].items():
        _expect(array, {}, f"{where}, array {name[:80]!r}")
    return PartRecord(part["type"], part["meta"], tuple(children), part["arrays"])


def _check_graph(parts: tuple[PartRecord, ...]) -> None:
    """Bound depth and the number of uses: shared children could stand for exponentially many."""
    if not 0 < len(parts) <= MAX_PARTS:
        raise BundleError(f"a bundle has 1 to {MAX_PARTS} parts, not {len(parts)}")
    uses, depth = [1] * len(parts), [1] * len(parts)
    for i in range(len(parts) - 1, -1, -1):
        below = [c for _, c in parts[i].children]
        uses[i] += sum(uses[c] for c in below)
        depth[i] += max((depth[c] for c in below), default=0)
        if uses[i] > MAX_PARTS or depth[i] > MAX_NESTING:
            raise BundleError(
                f"part {i} holds parts to depth {depth[i]} and uses {uses[i]} of them; "
                f"at most {MAX_NESTING} and {MAX_PARTS}"
            )


def read_bounded(path: Path, most: int, expected: int | None = None) -> bytes:
    """The bytes of a regular file that is no link, at most `most`, exactly `expected` where that is known."""
    try:
        status = os.lstat(path)
    except FileNotFoundError as error:
        raise BundleError(f"the bundle lacks its file {path.name!r}; copy it again in full") from error
    except OSError as error:
        raise file_error(error, path, "read") from error
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path.name!r} in the bundle is a link or no plain file; it is not followed")
    size = status.st_size
    if expected is not None and size != expected:
        raise BundleError(
            f"{path.name!r} has {size} bytes, the bundle says {expected}: it is truncated or "
            "altered; copy it again"
        )
    if size > most:
        raise BundleError(f"{path.name!r} has {size} bytes; at most {most} are read")
    try:
        with path.open("rb") as stream:
            return stream.read(size + 1)[:size]
    except OSError as error:
        raise file_error(error, path, "read") from error


def strangers(folder: Path, document: Document) -> Iterator[str]:
    """Names in the folder that the bundle does not list; hidden files of the system are passed over."""
    known = {DOCUMENT, *document.files}
    return (n for n in sorted(os.listdir(folder)) if n not in known and not n.startswith("."))


_REASONS = {
    errno.ENOSPC: "no space is left on the disk; make room or choose another place",
    errno.EDQUOT: "the disk quota is used up; make room or choose another place",
    errno.EACCES: "there is no permission; choose another place or change the folder's rights",
    errno.EPERM: "there is no permission; choose another place or change the folder's rights",
    errno.EROFS: "the disk is read-only; choose another place",
    errno.ENOENT: "the folder it is in is not there; make it first",
    errno.ENOTDIR: "a folder on its way is a file",
    errno.ENAMETOOLONG: "its name is too long",
}


def file_error(error: OSError, path: Path | str, verb: str) -> FileError:
    """The FileError that says what the operating system refused and what to do."""
    reason = _REASONS.get(error.errno or 0, error.strerror or type(error).__name__)
    return FileError(f"cannot {verb} {str(path)!r}: {reason}")
