"""The header of a safetensors file: read without trust, and planned before anything is written.

A file is 8 bytes (the header's length, little endian), the header (JSON: name -> dtype, shape,
data_offsets), then the data. Format: huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conjoin.errors import FileError

MOST_HEADER = 100_000_000
"""Bytes of a header; the same bound as in the reference reader."""
SIZES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
}
"""Bytes of an element, by the name of the type."""
ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of a file: its type and shape, and where its bytes lie, counted from the start of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """What a file holds. data: where its data begin. metadata: strings by name."""

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    data: int


def read_header(path: Path) -> Header:
    """The header of a file, checked against its size. Raises FileError, with the tensor's name.

    Refused: a header that is too long, is no JSON, or names a tensor twice; a type that is not known;
    offsets that leave the file, overlap, or do not fit the shape.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(8)
            length = int.from_bytes(first, "little")
            if len(first) < 8 or not 2 <= length <= MOST_HEADER or 8 + length > size:
                raise FileError(_not_safetensors(path, first))
            raw = file.read(length)
    except FileNotFoundError as error:
        raise FileError(f"there is no file {str(path)!r}") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        found = json.loads(raw, object_pairs_hook=lambda pairs: _once(path, pairs))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: the header is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise FileError(f"{path}: the header must be a JSON object")
    metadata = found.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FileError(f"{path}: __metadata__ must hold strings")
    entries = {name: _entry(path, name, given) for name, given in found.items()}
    _check_places(path, entries.values(), size - 8 - length)
    return Header(entries, metadata, 8 + length)


def write_header(entries: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """The first bytes of a file with these tensors (name, type, shape), in this order; data follow at once.

    >>> write_header([("a", "F32", (2,))], {})[8:]
    b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  '
    """
    found: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    start = 0
    for name, dtype, shape in entries:
        stop = start + SIZES[dtype] * math.prod(shape)
        found[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    raw = json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    raw += b" " * (-(8 + len(raw)) % ALIGNMENT)
    return len(raw).to_bytes(8, "little") + raw


def _not_safetensors(path: Path, first: bytes) -> str:
    if first[:2] == b"\x80\x02" or first[:4] == b"PK\x03\x04":
        return f"{path} is a pickle of PyTorch, whatever its name says; it is not read as safetensors"
    return f"{path} is no safetensors file, or it is cut off: its first bytes give no sound header length"


def _once(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [n for n, _ in pairs]
        doubled = next(n for n in names if names.count(n) > 1)
        raise FileError(f"{path}: the header names {doubled[:80]!r} twice")
    return found


def _entry(path: Path, name: str, given: Any) -> Entry:
    where = f"{path}, tensor {name[:80]!r}"
    if not isinstance(given, dict) or not {"dtype", "shape", "data_offsets"} <= given.keys():
        raise FileError(f"{where}: dtype, shape and data_offsets are needed")
    dtype, shape, offsets = given["dtype"], given["shape"], given["data_offsets"]
    if dtype not in SIZES:
        raise FileError(f"{where}: the type {dtype!r:.40} is not known")
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise FileError(f"{where}: shape {shape!r:.60} or data_offsets {offsets!r:.60} make no sense")
    if math.prod(shape) * SIZES[dtype] != offsets[1] - offsets[0]:
        raise FileError(
            f"{where}: {dtype} of shape {shape} does not fill the bytes {offsets[0]} to {offsets[1]}"
        )
    return Entry(name, dtype, tuple(shape), offsets[0], offsets[1])


def _counts(given: Any) -> bool:
    """Whether it is a list of whole numbers, none negative."""
    return isinstance(given, list) and all(
        isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in given
    )


def _check_places(path: Path, entries: Iterable[Entry], size: int) -> None:
    end = 0
    for entry in sorted(entries, key=lambda e: (e.start, e.stop)):
        where = f"{path}, tensor {entry.name[:80]!r}"
        if entry.stop > size:
            raise FileError(f"{where}: its data end at byte {entry.stop}, the file has {size}; it is cut off")
        if entry.start < end:
            raise FileError(f"{where}: its data overlap those of another tensor")
        end = entry.stop
