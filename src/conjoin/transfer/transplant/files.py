"""The answer as a checkpoint: the target's files over again, with other weights."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import FileError, InputError
from conjoin.transfer.checkpoints import Checkpoint, open_checkpoint, write_header
from conjoin.transfer.checkpoints.checkpoint import INDEX
from conjoin.transfer.checkpoints.dtypes import STORED
from conjoin.transfer.checkpoints.header import SIZES, read_header
from conjoin.transfer.checkpoints.pickled import ENDS

if TYPE_CHECKING:
    from conjoin.outputs import Array

BESIDE = (".json", ".txt", ".model", ".jinja", ".vocab", ".md")
"""Endings of files beside the weights that are copied: config, tokenizer, templates."""
MOST = 500_000_000
Blocks = Callable[[str], Iterator[tuple[slice, "Array"]]]
"""Name of a tensor -> its blocks, flat, as they are stored."""


def check_free(out: Path, given: Mapping[str, Path], *, force: bool) -> None:
    """Raises InputError where `out` is already there, or is one of the given models."""
    place = Path(os.path.realpath(out))
    for side, path in given.items():
        other = Path(os.path.realpath(path))
        if place == other or place in other.parents or (other in place.parents and other.is_file()):
            raise InputError(f"{str(out)!r} is, or holds, the {side}; choose another name")
    if place.suffix in ENDS:
        raise InputError(f"{str(out)!r}: answers are safetensors, not pickles; choose another ending")
    if place.exists() and not force and (not place.is_dir() or any(place.iterdir())):
        raise InputError(
            f"{str(out)!r} is already there; choose another name, or replace it with force (--force)"
        )


def write(target: Path, out: Path, blocks: Blocks) -> None:
    """Write `out` in the target's layout: a file for a file, a folder with shards for such a folder.

    It grows under a hidden name beside its place and is moved there at the end. Raises FileError.
    """
    checkpoint = open_checkpoint(target)
    place = Path(os.path.realpath(out))
    working = place.with_name(f".{place.name}.transplanting")
    with _explained(out):
        _clear(working)
        try:
            if target.is_dir():
                working.mkdir(parents=True)
                _beside(target, working)
                shards = list(dict.fromkeys(p.path for p in checkpoint.values()))
                for shard in shards:
                    _write(shard, working / _named(shard), checkpoint, blocks)
                if len(shards) > 1 and not (working / INDEX).exists():
                    (working / INDEX).write_bytes(_index(checkpoint))
            else:
                working.parent.mkdir(parents=True, exist_ok=True)
                _write(target, working, checkpoint, blocks)
            _move(working, place)
        except BaseException:
            _clear(working)
            raise


def _write(old: Path, new: Path, checkpoint: Checkpoint, blocks: Blocks) -> None:
    names = [n for n, p in checkpoint.items() if p.path == old]
    entries = [checkpoint[n].entry for n in sorted(names, key=lambda n: checkpoint[n].entry.start)]
    metadata = {"format": "pt"} if old.suffix in ENDS else read_header(old).metadata
    header = write_header(((e.name, e.dtype, e.shape) for e in entries), metadata)
    size = sum(SIZES[e.dtype] * e.elements for e in entries)
    with new.open("wb") as file:
        file.write(header)
        file.flush()
        if size:
            os.posix_fallocate(file.fileno(), len(header), size)
    start = len(header)
    for entry in entries:
        if entry.elements:
            out = np.memmap(new, STORED[entry.dtype], "r+", start, (entry.elements,))
            for block, part in blocks(entry.name):
                out[block] = part
            out.flush()
            del out
        start += SIZES[entry.dtype] * entry.elements


def _named(shard: Path) -> str:
    """The name of a file of the answer: as the target's, of safetensors where that is a pickle."""
    if shard.suffix not in ENDS:
        return shard.name
    return f"{shard.stem.replace('pytorch_model', 'model')}.safetensors"


def _index(checkpoint: Checkpoint) -> bytes:
    names = {n: _named(p.path) for n, p in sorted(checkpoint.items())}
    total = sum(SIZES[p.entry.dtype] * p.entry.elements for p in checkpoint.values())
    found = {"metadata": {"total_size": total}, "weight_map": names}
    return (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode()


def _beside(target: Path, working: Path) -> None:
    for path in sorted(target.iterdir()):
        fine = path.suffix.lower() in BESIDE and not path.name.startswith(".") and path.is_file()
        if (
            fine and path.stat().st_size <= MOST and not path.name.endswith(".index.json")
        ) or path.name == INDEX:
            (working / path.name).write_bytes(path.read_bytes())


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _move(working: Path, place: Path) -> None:
    old = place.with_name(f".{place.name}.old")
    _clear(old)
    there = place.exists()
    if there:
        place.rename(old)
    try:
        working.rename(place)
    except OSError:
        if there:
            old.rename(place)
        raise
    _clear(old)


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    """Tells of a full disk in words."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full; free some space" if full else error.strerror or error
        raise FileError(f"{out} cannot be written: {why}") from error
