"""Where the entries of a zip archive lie, read without trust; entries are never unpacked.

Only what PyTorch writes is read: entries that are not compressed, one after another, the directory last.
Format: PKWARE, APPNOTE 6.3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NoReturn

from conjoin.errors import FileError

MOST_DIRECTORY, MOST_ENTRIES = 100_000_000, 1_000_000
_END, _LOCATOR, _END64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
_ENTRY, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"
_TAIL = 22 + 65_535
_WIDE = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry: where its bytes begin in the file, and how many there are."""

    start: int
    size: int


@dataclass(frozen=True, slots=True)
class _Listed:
    name: bytes
    method: int
    flags: int
    packed: int
    size: int
    header: int


def read_archive(path: Path) -> Mapping[str, Stored]:
    """Name -> place of every entry. Raises FileError.

    Refused: compressed or encrypted entries, two of one name, names that lead out of a folder; sizes and
    places that leave the file, overlap, or differ between the directory and the entry's own header.
    """
    try:
        with path.open("rb") as file:
            return _Reader(path, file).entries()
    except FileNotFoundError as error:
        raise FileError(f"there is no file {str(path)!r}") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


class _Reader:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.end = file.seek(0, 2)

    def refuse(self, message: str) -> NoReturn:
        raise FileError(f"{self.path}: {message}")

    def at(self, place: int, count: int) -> bytes:
        if place < 0 or place + count > self.end:
            self.refuse("the archive is cut off, or its places lie")
        self.file.seek(place)
        raw = self.file.read(count)
        if len(raw) < count:
            self.refuse("the archive is cut off")
        return raw

    def directory(self) -> tuple[int, int, int]:
        """Where the directory lies, its size, and how many entries it lists."""
        first = max(0, self.end - _TAIL)
        tail = self.at(first, self.end - first)
        place = tail.rfind(_END)
        if place < 0 or len(tail) - place < 22:
            self.refuse("it is no archive of PyTorch, or it is cut off")
        count, size, start = struct.unpack("<HII", tail[place + 10 : place + 20])
        if tail[place - 20 : place - 16] == _LOCATOR and place >= 20:
            (far,) = struct.unpack("<Q", tail[place - 12 : place - 4])
            raw = self.at(far, 56)
            if raw[:4] != _END64:
                self.refuse("the archive's directory is not where it should be")
            count, size, start = struct.unpack("<QQQ", raw[32:56])
        return start, size, count

    def entries(self) -> Mapping[str, Stored]:
        start, size, count = self.directory()
        if size > MOST_DIRECTORY or count > MOST_ENTRIES:
            self.refuse(f"its directory lists {count} entries in {size} bytes, more than any model has")
        found: dict[str, Stored] = {}
        taken: list[tuple[int, int, str]] = []
        for listed in self.listed(self.at(start, size), count):
            name = self.name(listed.name)
            if name in found:
                self.refuse(f"the entry {name[:80]!r} is there twice")
            if listed.method or listed.packed != listed.size:
                program = "/code/" in name
                why = "it is a program (TorchScript), not weights" if program else "PyTorch writes none so"
                self.refuse(f"the entry {name[:80]!r} is compressed; {why}")
            if listed.flags & 1:
                self.refuse(f"the entry {name[:80]!r} is encrypted")
            begin = self.data(listed, name)
            if begin + listed.size > start:
                self.refuse(f"the entry {name[:80]!r} reaches beyond the archive's data")
            found[name] = Stored(begin, listed.size)
            taken.append((listed.header, begin + listed.size, name))
        taken.sort()
        for (_, stop, _), (begin, _, name) in pairwise(taken):
            if begin < stop:
                self.refuse(f"the entry {name[:80]!r} overlaps another one")
        return found

    def listed(self, raw: bytes, count: int) -> Iterator[_Listed]:
        place = 0
        for _ in range(count):
            if raw[place : place + 4] != _ENTRY or len(raw) - place < 46:
                self.refuse("the archive's directory makes no sense")
            flags, method = struct.unpack("<HH", raw[place + 8 : place + 12])
            packed, size, named, extra, told = struct.unpack("<IIHHH", raw[place + 20 : place + 34])
            (header,) = struct.unpack("<I", raw[place + 42 : place + 46])
            name = raw[place + 46 : place + 46 + named]
            more = raw[place + 46 + named : place + 46 + named + extra]
            size, packed, header = self.wide(more, size, packed, header)
            yield _Listed(name, method, flags, packed, size, header)
            place += 46 + named + extra + told

    def wide(self, raw: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
        """The 64-bit values of an entry, where the 32-bit ones are all ones."""
        place, values = 0, [size, packed, header]
        while place + 4 <= len(raw):
            kind, count = struct.unpack("<HH", raw[place : place + 4])
            inner = raw[place + 4 : place + 4 + count]
            if kind == 1:
                given = [v for (v,) in struct.iter_unpack("<Q", inner[: len(inner) // 8 * 8])]
                for i, value in enumerate(values):
                    if value == _WIDE and given:
                        values[i] = given.pop(0)
                break
            place += 4 + count
        return values[0], values[1], values[2]

    def data(self, listed: _Listed, name: str) -> int:
        """Where an entry's bytes begin, by its own header, which must name it as the directory does."""
        raw = self.at(listed.header, 30)
        named, extra = (int(v) for v in struct.unpack("<HH", raw[26:30]))
        own = self.at(listed.header + 30, named)
        if raw[:4] != _LOCAL or own != listed.name or struct.unpack("<H", raw[8:10])[0] != listed.method:
            self.refuse(f"the entry {name[:80]!r} is another one in its own header than in the directory")
        return listed.header + 30 + named + extra

    def name(self, raw: bytes) -> str:
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            self.refuse(f"the name of an entry is no UTF-8: {raw[:40]!r}")
        parts = name.split("/")
        if not name or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
            self.refuse(f"the entry {name[:80]!r} leads out of the archive")
        return name
