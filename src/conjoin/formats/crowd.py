"""Files of annotators: CSV of task, worker, label; dense CSV with a column a worker; CSV of task, label.

The header says which. Fields are parted by commas, or by tabs where the header has one. An empty label is no
answer. Gzip is read by its first bytes and written where the name ends in .gz.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError, listed, nearest
from conjoin.formats.record import Format, Found, read_text, write_text
from conjoin.outputs import Labels, Output, Probabilities

if TYPE_CHECKING:
    from conjoin.outputs import Array

TASK, WORKER, LABEL = "task", "worker", "label"
MOST_CELLS = 500_000_000
"""`read` lays workers x tasks side by side, at most so many; `read_answers` has no such limit."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One label of one worker, empty where it abstains, and the line where it was read."""

    line: int
    task: str
    worker: str
    label: str


def read(files: Mapping[str, Path], truth: Path | None) -> Found:
    """Labels by worker. Rows are the tasks of the answers in the order of the files, then those of the truth.

    A file of `task,worker,label`, or a dense one (`task`, then a column a worker), brings its own names of
    workers; one of `task,label` is the answers of the member that it is given for. Classes are the labels
    that occur, sorted. Raises InputError with file and line, where a worker gave a task two different
    labels too; FileError.
    """
    said: dict[tuple[str, str], str] = {}
    tasks: dict[str, None] = {}
    names: set[str] = set()
    for name, path in files.items():
        for answer in _answers(path, name):
            tasks.setdefault(answer.task)
            names.add(answer.worker)
            if answer.label:
                _add(said, answer, path)
    true = _truth(truth) if truth is not None else None
    tasks.update(dict.fromkeys(true or {}))
    workers = sorted(names)
    if len(workers) * len(tasks) > MOST_CELLS:
        raise InputError(
            f"{len(workers)} workers x {len(tasks)} tasks are too many to lay side by side; in Python, "
            "Triples.of(*read_answers(path)) needs memory for the answers only"
        )
    classes = sorted({*said.values(), *(true or {}).values()})
    rows = np.empty(len(tasks), dtype=object)
    rows[:] = list(tasks)
    at = {t: i for i, t in enumerate(tasks)}
    code = {c: k for k, c in enumerate(classes)}
    codes = {w: np.full(len(tasks), -1, dtype=np.int64) for w in workers}
    for (task, worker), label in said.items():
        codes[worker][at[task]] = code[label]
    outputs: dict[str, Output] = {w: Labels(c, tuple(classes)) for w, c in codes.items()}
    return Found(rows, outputs, None if true is None else _laid(true, at, code))


def read_answers(path: Path, member: str = "") -> tuple[list[str], list[str], list[str]]:
    """Tasks, workers and labels of one file, one entry for each answer: what `Triples.of` takes.

    member: the worker's name for a file of `task,label`. A worker may answer a task twice here. Raises
    InputError with file and line, FileError.
    """
    tasks: list[str] = []
    workers: list[str] = []
    labels: list[str] = []
    for answer in (a for a in _answers(path, member or path.stem) if a.label):
        tasks.append(answer.task)
        workers.append(answer.worker)
        labels.append(answer.label)
    return tasks, workers, labels


def write(output: Output, found: Found, path: Path) -> None:
    """`task,label`, and for probabilities a column p[class] for each class. No answer is an empty field.

    Raises InputError for outputs of another kind, FileError.
    """
    if isinstance(output, Probabilities):
        labels, values = output.labels(), np.asarray(output.values, dtype=np.float64)
        heads = [f"p[{c}]" for c in output.classes]
    elif isinstance(output, Labels):
        labels, values, heads = output, np.zeros((len(output), 0)), []
    else:
        raise InputError(f"{output.kind} cannot be written as labels; give labels or probabilities")
    if len(output) != len(found.rows):
        raise InputError(f"{len(output)} answers for {len(found.rows)} tasks")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([TASK, LABEL, *heads])
    for task, label, row, told in zip(found.rows, labels.names(), values, output.answered, strict=True):
        writer.writerow([task, label or "", *(map(repr, row.tolist()) if told else [""] * len(heads))])
    write_text(path, text.getvalue())


def _add(said: dict[tuple[str, str], str], answer: Answer, path: Path) -> None:
    before = said.setdefault((answer.task, answer.worker), answer.label)
    if before != answer.label:
        raise InputError(
            f"{path}, line {answer.line}: worker {answer.worker!r} says {answer.label!r} of task "
            f"{answer.task!r}, and said {before!r} before"
        )


def _answers(path: Path, member: str) -> Iterator[Answer]:
    header, lines = _lines(path)
    if header[:1] != [TASK] and TASK not in header:
        raise InputError(
            f"{path}, line 1: no column 'task' among {listed(header)}{nearest(TASK, header)}; the header is "
            "task,worker,label or task,label, or task and a column a worker"
        )
    at = header.index(TASK)
    if WORKER in header or LABEL in header:
        if LABEL not in header:
            raise InputError(
                f"{path}, line 1: no column 'label' among {listed(header)}{nearest(LABEL, header)}"
            )
        yield from _long(
            path, lines, at, header.index(LABEL), header.index(WORKER) if WORKER in header else member
        )
        return
    if len(header) < 2:
        raise InputError(f"{path}, line 1: only the column 'task'; labels are missing")
    for n, fields in lines:
        _name(path, n, TASK, fields[at])
        for column, label in zip(header, fields, strict=True):
            if column != TASK:
                yield Answer(n, fields[at], column, label)


def _long(
    path: Path, lines: Iterable[tuple[int, list[str]]], task: int, label: int, worker: int | str
) -> Iterator[Answer]:
    for n, fields in lines:
        _name(path, n, TASK, fields[task])
        who = worker if isinstance(worker, str) else _name(path, n, WORKER, fields[worker])
        yield Answer(n, fields[task], who, fields[label])


def _name(path: Path, line: int, what: str, value: str) -> str:
    if not value:
        raise InputError(f"{path}, line {line}: the {what} has no name")
    return value


def _truth(path: Path) -> dict[str, str]:
    header, lines = _lines(path)
    if WORKER in header or TASK not in header or LABEL not in header:
        raise InputError(f"{path}, line 1: the truth needs the columns task,label, not {listed(header)}")
    found: dict[str, str] = {}
    task, label = header.index(TASK), header.index(LABEL)
    for answer in (a for a in _long(path, lines, task, label, "") if a.label):
        before = found.setdefault(answer.task, answer.label)
        if before != answer.label:
            raise InputError(
                f"{path}, line {answer.line}: {answer.task!r} is {answer.label!r}, and was {before!r} before"
            )
    return found


def _lines(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The header, and the lines with their numbers. Raises InputError where a line has other fields."""
    text = read_text(path)
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in first else ",", strict=True)
    header = [h.strip() for h in _next(path, reader) or []]
    if not header:
        raise InputError(f"{path} is empty; the first line is a header, such as task,worker,label")
    doubled = sorted({h for h in header if header.count(h) > 1})
    if doubled:
        raise InputError(f"{path}, line 1: columns {listed(doubled)} come twice")
    return header, _rows(path, reader, len(header))


def _rows(path: Path, reader: Iterator[list[str]], width: int) -> Iterator[tuple[int, list[str]]]:
    while (fields := _next(path, reader)) is not None:
        if not fields:
            continue
        line = int(reader.line_num)  # type: ignore[attr-defined]
        if len(fields) != width:
            raise InputError(f"{path}, line {line}: {len(fields)} fields, the header has {width}")
        yield line, [f.strip() for f in fields]


def _next(path: Path, reader: Iterator[list[str]]) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from error  # type: ignore[attr-defined]


def _laid(true: Mapping[str, str], at: Mapping[str, int], code: Mapping[str, int]) -> Labels:
    codes: Array = np.full(len(at), -1, dtype=np.int64)
    for task, label in true.items():
        codes[at[task]] = code[label]
    classes: Sequence[str] = tuple(code)
    return Labels(codes, tuple(classes))


FORMAT = Format(
    "labels",
    "CSV of task,worker,label, or of task and a column a worker, or of task,label; truth: task,label",
    read,
    write,
)
