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
from conjoin.transfer.checkpoints.pickled import ENDS, read_pickled
from conjoin.transfer.checkpoints.scratch import scratch_map

if TYPE_CHECKING:
    from conjoin.outputs import Array

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
INDEX_BIN, SINGLE_BIN = "pytorch_model.bin.index.json", "pytorch_model.bin"
PICKLES = (*ENDS, ".pkl", ".pickle", ".ckpt")
"""Ends of names of files that hold pickles; only the first are read, by a reader that runs no code."""
MOST_INDEX = 200_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: its entry, the file, and where the file's data begin. strides: in elements, where
    it lies in another order than its shape says.
    """

    entry: Entry
    path: Path
    data: int
    strides: tuple[int, ...] = ()


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
            if place.strides:
                return _in_order(place, kind)
            if begin % kind.itemsize:
                raw = np.memmap(place.path, np.uint8, "r", begin, (entry.stop - entry.start,))
                return np.frombuffer(raw.tobytes(), kind).reshape(entry.shape)
            return np.memmap(place.path, kind, "r", begin, entry.shape)
        except (OSError, ValueError) as error:
            raise FileError(f"{place.path} cannot be read: {error}") from error


def _in_order(place: Place, kind: np.dtype[Any]) -> Array:
    """A tensor that lies in another order, in a scratch file in the order of its shape."""
    entry = place.entry
    held = np.memmap(
        place.path, kind, "r", place.data + entry.start, ((entry.stop - entry.start) // kind.itemsize,)
    )
    out = scratch_map(None, kind, entry.shape)
    steps = tuple(s * kind.itemsize for s in place.strides)
    out[...] = np.lib.stride_tricks.as_strided(held, entry.shape, steps, writeable=False)
    return out


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a folder (`model.safetensors`, or shards with their index) or a file. Raises
    FileError.

    Only headers are read. A shard that the index names and the folder lacks, and a tensor that a shard
    lacks, are told by name; files that the index names stay inside the folder. Where there are no
    safetensors, checkpoints of PyTorch are read (`pytorch_model.bin`, `.pt`), by a reader that runs no code.
    """
    if path.is_file():
        return _joined(path, [path], None)
    if not path.is_dir():
        raise FileError(f"there is no checkpoint {str(path)!r}")
    for index, single, pattern in (
        (INDEX, SINGLE, "*.safetensors"),
        (INDEX_BIN, SINGLE_BIN, "pytorch_model*.bin"),
    ):
        if (path / index).is_file():
            wanted = _index(path / index)
            shards = [path / name for name in dict.fromkeys(wanted.values())]
            lost = [s.name for s in shards if not s.is_file()]
            if lost:
                raise FileError(f"{path / index} names shards that are not there: {listed(lost)}")
            return _joined(path, shards, wanted)
        if (path / single).is_file():
            return _joined(path, [path / single], None)
        if found := sorted(path.glob(pattern)):
            return _joined(path, found, None)
    others = sorted(p.name for p in path.iterdir() if p.suffix in PICKLES)
    hint = f"; of pickles ({listed(others, 4)}) only .bin, .pt and .pth are read, named one by one"
    hint = hint if others else ""
    raise FileError(f"no safetensors in {str(path)!r}{hint}")


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


def _held(path: Path) -> tuple[dict[str, Place], dict[str, str]]:
    """The tensors of a file, and its metadata."""
    if path.suffix in ENDS:
        return {n: Place(t.entry, path, 0, t.strides) for n, t in read_pickled(path).items()}, {}
    header = read_header(path)
    return {n: Place(e, path, header.data) for n, e in header.entries.items()}, dict(header.metadata)


def _joined(path: Path, shards: list[Path], wanted: Mapping[str, str] | None) -> Checkpoint:
    places: dict[str, Place] = {}
    metadata: dict[str, str] = {}
    for shard in shards:
        held, told = _held(shard)
        metadata = metadata or told
        for name, place in held.items():
            if wanted is not None and wanted.get(name) != shard.name:
                continue  # the index is what counts
            if name in places:
                raise FileError(f"the tensor {name!r} stands in {places[name].path.name} and in {shard.name}")
            places[name] = place
    lost = [f"{n} ({f})" for n, f in (wanted or {}).items() if n not in places]
    if lost:
        raise FileError(f"{path}: tensors that the index names are not in their shards: {listed(lost, 5)}")
    return Checkpoint(path, places, metadata)
