"""`Triples`: who said what about which task, as three flat arrays. Memory grows with the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

import numpy as np

from conjoin.errors import OutputsError, listed
from conjoin.fusion.stack import Weights, named_weights
from conjoin.kernels.labels import grouped
from conjoin.outputs import Array, Labels, Output, Probabilities
from conjoin.outputs.base import class_names


@dataclass(frozen=True, slots=True, eq=False)
class Triples:
    """t answers: tasks[i] got labels[i] from workers[i].

    tasks: (t,) int, 0 to rows - 1. workers: (t,) int, positions in members. labels: (t,) int, positions in
    classes. rows: the number of tasks n. members: M names of workers, different. classes: K names, different.
    names: (n,) object, names of the tasks, or None. A worker may answer a task more than once.

    The answers are kept in the order of tasks, in each task in the order of workers' names, so that sums do
    not depend on the order given; offsets (n + 1,) cut them into tasks. Raises OutputsError.

    >>> t = Triples.of(["t1", "t1", "t2"], ["ann", "bob", "ann"], ["yes", "no", "yes"])
    >>> t.members, t.classes, t.offsets
    (('ann', 'bob'), ('no', 'yes'), array([0, 2, 3]))
    """

    tasks: Array
    workers: Array
    labels: Array
    rows: int
    members: tuple[str, ...]
    classes: tuple[str, ...]
    names: Array | None = None
    offsets: Array = field(init=False)

    def __post_init__(self) -> None:
        members, classes = class_names(self.members, "workers"), class_names(self.classes, "labels")
        if self.rows < 0:
            raise OutputsError(f"triples: the number of tasks must not be negative, not {self.rows}")
        by_name = sorted(range(len(members)), key=members.__getitem__)
        place = np.empty(len(members), dtype=np.int64)
        place[by_name] = np.arange(len(members))
        tasks = _codes(self.tasks, self.rows, "tasks")
        workers = _codes(self.workers, len(members), "workers")
        labels = _codes(self.labels, len(classes), "labels")
        if not len(tasks) == len(workers) == len(labels):
            raise OutputsError(
                f"triples: {len(tasks)} tasks, {len(workers)} workers, {len(labels)} labels; give one of each"
            )
        if self.names is not None and len(self.names) != self.rows:
            raise OutputsError(f"triples: {len(self.names)} names for {self.rows} tasks")
        offsets, tasks, workers, labels = _sorted(tasks, place[workers], labels, self.rows, len(members))
        changed = {"members": tuple(members[i] for i in by_name), "classes": classes, "tasks": tasks}
        for name, value in {**changed, "workers": workers, "labels": labels, "offsets": offsets}.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """The number of answers t."""
        return len(self.tasks)

    @classmethod
    def of(
        cls,
        tasks: Sequence[object],
        workers: Sequence[object],
        labels: Sequence[object],
        *,
        classes: Sequence[object] | None = None,
    ) -> Triples:
        """Triples of names, one of each for every answer. Tasks keep the order in which they come first.

        classes: the labels allowed, in order; by default those that occur, sorted. Raises OutputsError on a
        label outside them.
        """
        lengths = {len(tasks), len(workers), len(labels)}
        if len(lengths) > 1:
            raise OutputsError(f"triples: {len(tasks)} tasks, {len(workers)} workers, {len(labels)} labels")
        task_codes, names = _interned(tasks)
        worker_codes, members = _interned(workers)
        label_codes, said = _interned(labels)
        known = sorted(said) if classes is None else [str(c) for c in classes]
        at = {c: k for k, c in enumerate(known)}
        outside = [c for c in said if c not in at]
        if outside:
            raise OutputsError(f"labels {listed(sorted(outside))} are not among {listed(known)}")
        table = np.array([at[c] for c in said], dtype=np.int64)
        row_names = np.empty(len(names), dtype=object)
        row_names[:] = names
        return cls(
            task_codes, worker_codes, table[label_codes], len(names), tuple(members), tuple(known), row_names
        )

    def counts(self, weights: Array | None = None) -> Array:
        """(n, K): how many answers, or how much weight (M,) of workers, each class got."""
        width = len(self.classes)
        mass = None if weights is None else weights[self.workers]
        flat = np.bincount(self.tasks * width + self.labels, mass, self.rows * width)
        return cast(Array, flat.astype(np.float64).reshape(self.rows, width))

    @property
    def answered(self) -> Array:
        """(n,) bool: tasks with an answer."""
        return cast(Array, np.diff(self.offsets) > 0)

    def outputs(self) -> dict[str, Labels]:
        """`Labels` of each worker, dense: M x n codes. The last answer counts where a worker gave several."""
        codes = np.full((len(self.members), self.rows), -1, dtype=np.int64)
        codes[self.workers, self.tasks] = self.labels
        return {name: Labels(row, self.classes) for name, row in zip(self.members, codes, strict=True)}

    def kept(self, which: Array) -> Triples:
        """The triples with only these answers ((t,) bool); workers, tasks and classes stay."""
        return replace(self, tasks=self.tasks[which], workers=self.workers[which], labels=self.labels[which])


Answers: TypeAlias = "Mapping[str, Labels] | Triples"
"""What the operators of this package take: `Labels` by name of the member, or `Triples`."""


def triples_of(outputs: Answers, weights: Weights = None) -> tuple[Triples, Array]:
    """The answers as triples, and a weight for each worker that is left; workers of weight 0 are left out.

    Probabilities count by their most probable class. Raises OutputsError where outputs or weights do not fit.
    """
    if isinstance(outputs, Triples):
        named = named_weights(dict.fromkeys(outputs.members), weights)
        mass = np.array([named[n] for n in outputs.members])
        return (outputs, mass) if (mass > 0).all() else _without(outputs, mass)
    given = _checked(outputs)
    named = named_weights(given, weights)
    names = [n for n in sorted(given) if named[n] > 0]
    classes = tuple(dict.fromkeys(c for n in names for c in given[n].classes))
    rows = len(next(iter(given.values())))
    parts = [given[n].align(classes).codes for n in names]
    at = [np.flatnonzero(codes >= 0) for codes in parts]
    tasks = np.concatenate(at)
    workers = np.repeat(np.arange(len(names)), [len(a) for a in at])
    labels = np.concatenate([codes[a] for codes, a in zip(parts, at, strict=True)])
    laid = Triples(tasks, workers, labels, rows, tuple(names), classes)
    return laid, np.array([named[n] for n in names])


def known_codes(known: Labels | None, triples: Triples) -> tuple[Triples, Array]:
    """The known classes (n,) of tasks, -1 where unknown, and the triples with their classes added.

    Raises OutputsError where the rows differ.
    """
    if known is None:
        return triples, np.full(triples.rows, -1, dtype=np.int64)
    if not isinstance(known, Labels) or len(known) != triples.rows:
        told = f"{len(known)} rows of {known.kind}" if isinstance(known, Output) else type(known).__name__
        raise OutputsError(f"known answers must be labels of the {triples.rows} tasks, not {told}")
    said = {known.classes[k] for k in np.unique(known.codes[known.codes >= 0])}
    more = [c for c in known.classes if c in said and c not in triples.classes]
    if more:
        triples = replace(triples, classes=(*triples.classes, *more))
    at = {c: k for k, c in enumerate(triples.classes)}
    table = np.array([*(at.get(c, -1) for c in known.classes), -1], dtype=np.int64)
    return triples, table[known.codes]


def fused(values: Array, triples: Triples) -> Probabilities:
    """Probabilities (n, K); tasks without an answer are not answered."""
    return Probabilities(values, triples.classes, triples.answered)


def _checked(outputs: Mapping[str, Any]) -> dict[str, Labels]:
    if not outputs:
        raise OutputsError(
            "there are no outputs to fuse; give a mapping of member name to labels, or Triples"
        )
    given = {}
    for name, output in outputs.items():
        if not isinstance(name, str):
            raise OutputsError(f"members are named by strings, not {name!r}")
        if isinstance(output, Probabilities):
            output = output.labels()
        if not isinstance(output, Labels):
            kind = output.kind if isinstance(output, Output) else type(output).__name__
            raise OutputsError(f"member {name!r} answered with {kind}; this fuser takes labels")
        given[name] = output
    lengths = {n: len(o) for n, o in given.items()}
    if len(set(lengths.values())) > 1:
        raise OutputsError(f"members must answer the same rows; rows answered: {lengths}")
    return given


def _without(triples: Triples, mass: Array) -> tuple[Triples, Array]:
    some = mass > 0
    kept = triples.kept(some[triples.workers])
    place = np.cumsum(some) - 1
    members = tuple(n for n, s in zip(triples.members, some, strict=True) if s)
    return replace(kept, workers=place[kept.workers], members=members), mass[some]


def _codes(codes: Any, size: int, what: str) -> Array:
    found = np.asarray(codes)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise OutputsError(
            f"triples: {what} must be whole numbers of one axis, not {found.dtype} {found.shape}"
        )
    found = np.ascontiguousarray(found, dtype=np.int64)
    if found.size and (found.min() < 0 or found.max() >= size):
        at = int(np.flatnonzero((found < 0) | (found >= size))[0])
        raise OutputsError(f"triples: {what} must lie in 0 to {size - 1}; answer {at} has {found[at]}")
    return found


def _sorted(tasks: Array, workers: Array, labels: Array, rows: int, members: int) -> tuple[Array, ...]:
    ordered = bool((np.diff(tasks) >= 0).all())
    if ordered:
        same = np.diff(tasks) == 0
        ordered = bool((np.diff(workers)[same] >= 0).all())
    if ordered:
        offsets = np.concatenate([[0], np.cumsum(np.bincount(tasks, minlength=rows))]).astype(np.int64)
        return offsets, tasks, workers, labels
    _, first = grouped(workers, members)
    offsets, second = grouped(tasks[first], rows)
    order = first[second]
    return offsets, tasks[order], workers[order], labels[order]


def _interned(values: Sequence[object]) -> tuple[Array, list[str]]:
    """Codes (t,) of values as str, in the order in which they come first, and these strings."""
    at: dict[str, int] = {}
    codes = np.fromiter((at.setdefault(str(v), len(at)) for v in values), dtype=np.int64, count=len(values))
    return codes, list(at)
