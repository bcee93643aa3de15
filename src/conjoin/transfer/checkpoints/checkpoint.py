"""A checkpoint: one safetensors file, or a folder with shards and their index. Tensors are read where they
lie.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import FileError, listed, nearest
from conjoin.transfer.checkpoints.dtypes import STORED
from conjoin.transfer.checkpoints.header import Entry, read_header

if TYPE_CHECKING:
    from conjoin.outputs import Array

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
MOST_INDEX = 200_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: its entry, the file, and where the file's data begin."""

    entry: Entry
    path: Path
    data: int


class Weights(Mapping[str, Place]):
    """Tensors of a model by name, wherever they come from: a checkpoint, or a view that changes one.

    path: of the folder or file. A view answers places whose entry has the type and shape of what `array`
    gives; their offsets mean nothing.
    """

    __slots__ = ()
    path: Path

    @abstractmethod
    def array(self, name: str) -> Array:
        """A tensor as a file holds it, a memory map; bfloat16 as uint16. Raises FileError."""

    @abstractmethod
    def told(self) -> list[Any]:
        """JSON of everything that the tensors depend on: of files, their sizes and times."""


def stamps(paths: Iterable[Path]) -> list[Any]:
    """Files with their sizes and times, as JSON."""
    found = [(str(p), p.stat()) for p in sorted(set(paths))]
    return [[p, s.st_size, s.st_mtime_ns] for p, s in found]


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint(Weights):
    """The tensors of a model, by name, in the order of the files.

    path: of the folder or file. places: by name. metadata: of the first file.
    """

    path: Path
    places: Mapping[str, Place]
    metadata: Mapping[str, str]

    def __getitem__(self, name: str) -> Place:
        return self.places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def told(self) -> list[Any]:
        """Its files with their sizes and times."""
        return stamps(p.path for p in self.places.values())

    def array(self, name: str) -> Array:
        """A tensor as it lies in the file, read when it is looked at; bfloat16 as uint16."""
        if name not in self.places:
            raise FileError(f"{self.path} has no tensor {name!r}{nearest(name, self.places)}")
        place = self.places[name]
        entry, kind = place.entry, np.dtype(STORED[place.entry.dtype])
        if not entry.elements:
            return np.empty(entry.shape, kind)
        try:
            begin = place.data + entry.start
            if begin % kind.itemsize:
                raw = np.memmap(place.path, np.uint8, "r", begin, (entry.stop - entry.start,))
                return np.frombuffer(raw.tobytes(), kind).reshape(entry.shape)
            return np.memmap(place.path, kind, "r", begin, entry.shape)
        except (OSError, ValueError) as error:
            raise FileError(f"{place.path} cannot be read: {error}") from error


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a folder (`model.safetensors`, or shards with their index) or a file. Raises
    FileError.

    Only headers are read. A shard that the index names and the folder lacks, and a tensor that a shard
    lacks, are told by name; files that the index names stay inside the folder.
    """
    if path.is_file():
        return _joined(path, [path], None)
    if not path.is_dir():
        raise FileError(f"there is no checkpoint {str(path)!r}")
    if (path / INDEX).is_file():
        wanted = _index(path / INDEX)
        shards = [path / name for name in dict.fromkeys(wanted.values())]
        lost = [s.name for s in shards if not s.is_file()]
        if lost:
            raise FileError(f"{path / INDEX} names shards that are not there: {listed(lost)}")
        return _joined(path, shards, wanted)
    if (path / SINGLE).is_file():
        return _joined(path, [path / SINGLE], None)
    found = sorted(path.glob("*.safetensors"))
    if not found:
        hint = "; there are pickles of PyTorch (.bin)" if any(path.glob("*.bin")) else ""
        raise FileError(f"no safetensors in {str(path)!r}{hint}")
    return _joined(path, found, None)


def _index(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_size > MOST_INDEX:
            raise FileError(f"{path} is larger than any index")
        found: Any = json.loads(path.read_bytes())
        names = found["weight_map"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileError(f"{path} is no index of shards: {error}") from error
    if not isinstance(names, dict) or not all(isinstance(v, str) for v in names.values()):
        raise FileError(f"{path}: weight_map must name a file for each tensor")
    outside = [v for v in names.values() if Path(v).name != v or v in ("", ".", "..")]
    if outside:
        raise FileError(f"{path}: shards must lie in the same folder, not {outside[0][:80]!r}")
    return names


def _joined(path: Path, shards: list[Path], wanted: Mapping[str, str] | None) -> Checkpoint:
    places: dict[str, Place] = {}
    metadata: dict[str, str] = {}
    for shard in shards:
        header = read_header(shard)
        metadata = metadata or dict(header.metadata)
        for name, entry in header.entries.items():
            if wanted is not None and wanted.get(name) != shard.name:
                continue  # the index is what counts
            if name in places:
                raise FileError(f"the tensor {name!r} stands in {places[name].path.name} and in {shard.name}")
            places[name] = Place(entry, shard, header.data)
    lost = [f"{n} ({f})" for n, f in (wanted or {}).items() if n not in places]
    if lost:
        raise FileError(f"{path}: tensors that the index names are not in their shards: {listed(lost, 5)}")
    return Checkpoint(path, places, metadata)
