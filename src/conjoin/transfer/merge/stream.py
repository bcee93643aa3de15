"""Runs a plan: tensors are merged where they lie and written in place, so that memory does not grow with the
model.

The answer grows in a hidden folder beside its place: files of their final size, made from the headers alone,
and a journal of the tensors that are done. Killed and started again with the same plan it goes on, and the
bytes are the same. When all is there, the folder is moved to its place.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import FileError, InputError
from conjoin.transfer.checkpoints import Checkpoint, Weights, write_header
from conjoin.transfer.checkpoints.checkpoint import INDEX, SINGLE
from conjoin.transfer.checkpoints.dtypes import STORED, formula_type, wider, write_as
from conjoin.transfer.checkpoints.header import SIZES
from conjoin.transfer.checkpoints.widened import widened
from conjoin.transfer.weights import METHODS, Given

if TYPE_CHECKING:
    from conjoin.outputs import Array

SHARD_BYTES = 5_000_000_000
JOURNAL, PLAN = "done.txt", "plan.txt"
CHUNK = 1 << 20
RANGE = 1 << 23
"""Elements of a range of a large tensor."""


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor of an input: which checkpoint (by number) and its name there."""

    model: int
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A tensor of the answer: name, type in the file, shape, and what it is made of.

    method: a name of `METHODS`; None copies the one source as it is. base: the base model's tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    sources: tuple[Source, ...]
    method: str | None = None
    base: Source | None = None
    shared: Mapping[str, Any] | None = None
    each: Mapping[str, tuple[Any, ...]] | None = None

    def told(self) -> list[Any]:
        """What makes two tasks the same, as JSON."""
        names = [[s.model, s.name] for s in self.sources]
        base = None if self.base is None else [self.base.model, self.base.name]
        return [self.name, self.dtype, self.shape, self.method, names, base, self.shared, self.each]


@dataclass(frozen=True, slots=True)
class Progress:
    """A tensor is done. bytes, all_bytes: of the answer."""

    name: str
    bytes: int
    all_bytes: int


Report = Callable[[Progress], None]
Check = Callable[[str, "Array", str], None]
"""Is called in any thread before a part of an answer is written: (tensor, numbers as stored, their type)."""


def run(
    tasks: Sequence[Task],
    inputs: Sequence[Weights],
    out: Path,
    *,
    seed: int = 0,
    threads: int = 1,
    shard_bytes: int = SHARD_BYTES,
    metadata: Mapping[str, str] | None = None,
    files: Mapping[str, bytes] | None = None,
    report: Report | None = None,
    check: Check | None = None,
    end: Callable[[], None] | None = None,
    force: bool = False,
) -> None:
    """Merge and write the checkpoint `out`, a folder.

    tasks: in the order of the files. files: others of the folder (config.json, say), by name. threads:
    tensors are merged side by side; the bytes do not depend on it. end: is called when all is merged and
    nothing is in its place yet; what it raises stops the run. force: replace a checkpoint that is there.

    Raises InputError where `out` holds something, FileError where the disk is full or cannot be written.
    """
    place = Path(os.path.realpath(out))
    check_place(out, force=force)
    working = working_folder(place)
    print_ = fingerprint(tasks, inputs, seed, shard_bytes, files or {})
    with _explained(out):
        shards = _shards(tasks, shard_bytes)
        done = _begin(working, print_, shards, metadata or {"format": "pt"})
        _merge(tasks, inputs, working, shards, done, seed, threads, report, check)
        if end is not None:
            end()
        for name, raw in (files or {}).items():
            (working / name).write_bytes(raw)
        if len(shards) > 1:
            (working / INDEX).write_bytes(_index_of(shards))
        for name in (PLAN, JOURNAL):
            (working / name).unlink()
        move(working, place)


def check_place(out: Path, *, force: bool) -> None:
    """Raises InputError where something is at `out` already."""
    place = Path(os.path.realpath(out))
    if place.exists() and not force and (not place.is_dir() or any(place.iterdir())):
        raise InputError(
            f"{str(out)!r} is already there; choose another name, or replace it with force (--force)"
        )


def working_folder(place: Path) -> Path:
    """The hidden folder in which the checkpoint `place` comes about."""
    return place.with_name(f".{place.name}.merging")


def fingerprint(
    tasks: Sequence[Task],
    inputs: Sequence[Weights],
    seed: int,
    shard_bytes: int,
    files: Mapping[str, bytes],
) -> str:
    """A digest of everything that the bytes of the answer depend on; of inputs, their files' sizes and
    times.
    """
    stats = [c.told() for c in inputs]
    others = {n: hashlib.sha256(raw).hexdigest() for n, raw in files.items()}
    told = [[t.told() for t in tasks], stats, seed, shard_bytes, others]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class _Shard:
    """A file of the answer: its name, its tasks, and where the data of each begin, counted from the data's
    start.
    """

    name: str
    tasks: tuple[Task, ...]
    starts: Mapping[str, int]
    bytes: int


def _shards(tasks: Sequence[Task], most: int) -> list[_Shard]:
    groups: list[list[Task]] = [[]]
    size = 0
    for task in tasks:
        if groups[-1] and size + _bytes(task) > most:
            groups.append([])
            size = 0
        groups[-1].append(task)
        size += _bytes(task)
    out = []
    for number, group in enumerate(groups, 1):
        name = SINGLE if len(groups) == 1 else f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        ends = np.cumsum([0, *(_bytes(t) for t in group)]).tolist()
        starts = {t.name: start for t, start in zip(group, ends, strict=False)}
        out.append(_Shard(name, tuple(group), starts, ends[-1]))
    return out


def _bytes(task: Task) -> int:
    return int(np.prod(task.shape, dtype=np.int64)) * SIZES[task.dtype]


def _begin(working: Path, print_: str, shards: Sequence[_Shard], metadata: Mapping[str, str]) -> set[str]:
    """Make the files, or go on with those of the same plan; the names of tensors that are done."""
    plan, journal = working / PLAN, working / JOURNAL
    if plan.is_file() and plan.read_text() == print_ and journal.is_file():
        lines = journal.read_text(encoding="utf-8").split("\n")
        journal.write_text("".join(f"{line}\n" for line in lines[:-1]), encoding="utf-8")
        return {json.loads(line) for line in lines[:-1]}  # a line that was cut off does not count
    shutil.rmtree(working, ignore_errors=True)
    working.mkdir(parents=True)
    for shard in shards:
        header = write_header(((t.name, t.dtype, t.shape) for t in shard.tasks), metadata)
        with (working / shard.name).open("wb") as file:
            file.write(header)
            file.flush()
            if shard.bytes:
                os.posix_fallocate(file.fileno(), len(header), shard.bytes)
    journal.write_text("")
    plan.write_text(print_)
    return set()


def _merge(
    tasks: Sequence[Task],
    inputs: Sequence[Weights],
    working: Path,
    shards: Sequence[_Shard],
    done: set[str],
    seed: int,
    threads: int,
    report: Report | None,
    check: Check | None,
) -> None:
    whole, ready = sum(s.bytes for s in shards), sum(_bytes(t) for t in tasks if t.name in done)
    homes = {t.name: s for s in shards for t in s.tasks}
    rest = sorted((t for t in tasks if t.name not in done), key=lambda t: -_bytes(t))
    pieces = [(t, part) for t in rest for part in _ranges(t, inputs)]
    left = Counter(t.name for t, _ in pieces)
    with (
        (working / JOURNAL).open("a", encoding="utf-8") as journal,
        ThreadPoolExecutor(max(1, threads)) as pool,
    ):
        begun = {
            pool.submit(_one, t, part, inputs, working, homes[t.name], seed, check): t for t, part in pieces
        }
        try:
            for future in as_completed(begun):
                future.result()
                task = begun[future]
                left[task.name] -= 1
                if left[task.name]:
                    continue
                journal.write(json.dumps(task.name, ensure_ascii=False) + "\n")
                journal.flush()
                ready += _bytes(task)
                if report is not None:
                    report(Progress(task.name, ready, whole))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _ranges(task: Task, inputs: Sequence[Weights]) -> list[slice | None]:
    """Ranges of a large tensor that threads merge side by side, where each number follows from those at its
    place alone; else None, the whole.
    """
    n = math.prod(task.shape)
    sources = (*task.sources, *([task.base] if task.base else []))
    alone = task.method is None or METHODS[task.method].elementwise
    stored = all(isinstance(inputs[s.model], Checkpoint) for s in sources)  # a view makes a tensor as a whole
    if n < 2 * RANGE or not alone or not stored:
        return [None]
    return [slice(start, min(start + RANGE, n)) for start in range(0, n, RANGE)]


def _one(
    task: Task,
    part: slice | None,
    inputs: Sequence[Weights],
    working: Path,
    shard: _Shard,
    seed: int,
    check: Check | None,
) -> None:
    """Merge one tensor, or a range of it, into its place."""
    if not _bytes(task):
        return
    with (working / shard.name).open("r+b", buffering=0) as file:
        begin = 8 + int.from_bytes(file.read(8), "little") + shard.starts[task.name]
        begin += 0 if part is None else part.start * SIZES[task.dtype]
        sink = _Sink(file.fileno(), begin, task, _kind(task, inputs), check)
        if task.method is None:
            _copy(inputs, task.sources[0], part, sink)
        else:
            _merged(task, part, inputs, working / f"{begin}-{shard.name}.part", sink, seed)


def _kind(task: Task, inputs: Sequence[Weights]) -> str:
    """The type that a tensor's answer comes in, before it is stored: float32 where the file's type is none
    that formulas know.
    """
    if task.method is not None:
        return formula_type(task.dtype)
    stored = inputs[task.sources[0].model][task.sources[0].name].entry.dtype
    return stored if stored == task.dtype else "F64" if stored == "F64" else "F32"


def _merged(
    task: Task, part: slice | None, inputs: Sequence[Weights], scratch: Path, sink: _Sink, seed: int
) -> None:
    """Merge one tensor into its sink; formulas that do not answer in parts fill a scratch file first."""
    places = [inputs[s.model][s.name].entry for s in (*task.sources, *([task.base] if task.base else []))]
    kind = wider(tuple(p.dtype for p in places))
    tensors = tuple(_tensor(inputs, s, kind, part) for s in task.sources)
    base = None if task.base is None else _tensor(inputs, task.base, kind, part)
    answer = np.memmap(scratch, STORED[sink.kind], "w+", shape=tensors[0].shape)
    try:
        shared, each = task.shared or {}, task.each or {}
        given = Given(task.name, tensors, base, shared, each, seed, answer, sink, sink.tell)
        with np.errstate(all="ignore"):  # NaN and infinite numbers are told by `check`
            METHODS[task.method or ""].merge(given)
        if not sink.taken:
            for block in _chunks(answer.size):
                sink(block.start, answer.reshape(-1)[block])
    except np.linalg.LinAlgError as error:
        why = f"{task.method} of {task.name} cannot be computed ({error}); are there NaN in the models?"
        raise InputError(why) from error
    finally:
        scratch.unlink()


class _Sink:
    """Takes a tensor's numbers in parts and puts them into the file. taken: how many so far."""

    def __init__(self, file: int, begin: int, task: Task, kind: str, check: Check | None) -> None:
        self.file, self.begin, self.task, self.kind, self.check = file, begin, task, kind, check
        self.taken = 0

    def __call__(self, start: int, numbers: Array) -> None:
        """numbers: from position `start` on, of type `kind`."""
        stored = write_as(numbers, self.kind, self.task.dtype)
        if self.check is not None:
            self.check(self.task.name, stored, self.task.dtype)
        raw, at = np.ascontiguousarray(stored).data.cast("B"), self.begin + start * stored.itemsize
        while raw:
            done = os.pwrite(self.file, raw, at)
            raw, at = raw[done:], at + done
        self.taken += len(numbers)

    def tell(self) -> None:
        """A model's tensor holds NaN or infinite numbers, which the answer may not show."""
        if self.check is not None:
            self.check(self.task.name, np.array([0x7FC0], np.uint16), "BF16")


def _tensor(inputs: Sequence[Weights], source: Source, kind: str, part: slice | None) -> Any:
    """A tensor as formulas of this type take it, or a range of its elements."""
    checkpoint = inputs[source.model]
    array = checkpoint.array(source.name)
    if part is not None:
        array = array.reshape(-1)[part]
    return widened(array, checkpoint[source.name].entry.dtype, kind)


def _copy(inputs: Sequence[Weights], source: Source, part: slice | None, sink: _Sink) -> None:
    """A tensor as it is, or in another type."""
    x = _tensor(inputs, source, sink.kind, part).reshape(-1)
    for block in _chunks(len(x)):
        sink(block.start, x[block])


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK))


def _index_of(shards: Sequence[_Shard]) -> bytes:
    names = {t.name: s.name for s in shards for t in s.tasks}
    found = {
        "metadata": {"total_size": sum(s.bytes for s in shards)},
        "weight_map": dict(sorted(names.items())),
    }
    return (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode()


def move(working: Path, place: Path) -> None:
    """Move a folder to its place; one that is there gives way only when all is well."""
    if place.is_dir():
        old = place.with_name(f".{place.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        place.rename(old)
        try:
            working.rename(place)
        except OSError:
            old.rename(place)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        working.rename(place)


@contextlib.contextmanager
def _explained(out: Path) -> Iterator[None]:
    """Tells of a full disk in words."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = (
            "the disk is full; free some space and run it again, it goes on"
            if full
            else error.strerror or error
        )
        raise FileError(f"{out} cannot be written: {why}") from error
