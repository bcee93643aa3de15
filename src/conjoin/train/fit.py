"""`fit`: a table in, an ensemble out."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from conjoin.compose import Ensemble
from conjoin.contracts import Batch
from conjoin.errors import FileError, InputError, StoppedError, need
from conjoin.scores import Score
from conjoin.tables import batch_of
from conjoin.train.budget import Clock, Memory
from conjoin.train.finish import PRESET_LIMITS, Finished, Limits, finish, measured_of
from conjoin.train.journal import Journal
from conjoin.train.plan import Plan, fingerprint, fingerprint_of, plan_of, versions
from conjoin.train.portfolio import PRESETS, entries
from conjoin.train.prepare import ROWS_A_SECOND, Prepared, Request, prepare
from conjoin.train.progress import Event, Progress, silent
from conjoin.train.run import Course, Tried, fit_entry, run

LEAST_ROWS = 2_000
"""At least so many rows are used, however short the time limit."""


def fit(
    data: Any,
    *,
    target: str,
    task: str | None = None,
    metric: str | Score | None = None,
    time_limit: float = 60.0,
    preset: str = "balanced",
    seed: int = 0,
    folds: int | None = None,
    groups: Any = None,
    weights: Any = None,
    quantiles: Sequence[float] | None = None,
    balance: bool = False,
    members: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    max_latency: float | None = None,
    max_size: int | None = None,
    memory_limit: float | None = None,
    threads: int = 0,
    plan: Any = None,
    work: str | os.PathLike[str] | None = None,
    resume: bool = False,
    name: str = "ensemble",
    progress: Progress = silent,
) -> Ensemble:
    """Train several models on a table and fuse them. Same data, seed and plan: same bytes.

    data: a dataframe (pandas, polars, pyarrow), a mapping of arrays, or what else `tables.batch_of` takes.
    target: the column to predict; rows without it are left out.
    task: "binary", "multiclass", "classification", "regression", "quantile"; None finds out: text, booleans
      and whole numbers of at most 10 values are classes.
    metric: a score of `conjoin.scores.SCORES`, by name, or a Score. It stops the training and chooses the
      fuser. Default: log-loss, RMSE or pinball loss.
    time_limit: seconds on the clock for all of it. preset: "fast", "balanced" or "best".
    folds: models per member, each not shown one part of the rows; by default 6 for small tables, 2 for huge.
    groups: column or (n,) array; rows of one group are never on both sides of a fold. weights: column or (n,)
      array. balance: give every class the same total weight (then probabilities are not calibrated).
    quantiles: levels in (0, 1), rising: a quantile regression.
    members: learners to use, of `conjoin.train.LEARNERS`, instead of those of the preset. ignore: columns to
      leave out.
    max_latency: CPU seconds that one row may cost. max_size: bytes of all members. memory_limit: megabytes
      that the process may hold. threads: folds that are trained side by side (default: cores).
    plan: `provenance["plan"]` of an ensemble's card: repeats that run, whatever the clock does.
    work: a folder for a journal of finished members; resume: go on with the journal that is there.
    progress: called with an `Event` now and then.

    Ctrl-C ends the training and makes the ensemble of what is done; a second one aborts.
    Raises InputError (TruthError, ColumnError, ...) on bad data or arguments, StoppedError where it was
    interrupted before there was anything to keep.
    """
    request = Request(
        target=target,
        task=task,
        metric=metric,
        seed=seed,
        folds=folds,
        groups=groups,
        weights=weights,
        quantiles=tuple(quantiles or ()),
        balance=balance,
        ignore=(ignore,) if isinstance(ignore, str) else tuple(ignore),
        threads=threads,
    )
    wanted = None if members is None else ((members,) if isinstance(members, str) else tuple(members))
    how = _How(
        time_limit, preset, wanted, _limits(preset, max_latency, max_size), name, work, resume, progress
    )
    _check(how, threads)
    with _one_thread_each(), _interruptible(how.clock):
        batch = batch_of(data)
        if plan is not None:
            return _repeat(batch, request, Plan.from_json(plan), how)
        return _fit(batch, request, how, Memory.of(memory_limit))


@dataclass(frozen=True, slots=True)
class _How:
    """How to go about it: what is asked for apart from the data and what is learned."""

    time_limit: float
    preset: str
    members: tuple[str, ...] | None
    limits: Limits
    name: str
    work: str | os.PathLike[str] | None
    resume: bool
    progress: Progress
    clock: Clock = None  # type: ignore[assignment]  # set below

    def __post_init__(self) -> None:
        if self.clock is None:
            limit = self.time_limit if self.time_limit > 0 else 0.0
            object.__setattr__(self, "clock", Clock.seconds(limit))

    def tell(self, stage: Any, message: str) -> None:
        """An event without numbers."""
        self.progress(Event(stage, message, seconds_left=self.clock.left()))


def _limits(preset: str, latency: float | None, size: int | None) -> Limits:
    """The caller's limits, or those of the preset."""
    if latency is None and size is None:
        return PRESET_LIMITS.get(preset, Limits(asked=False))
    return Limits(latency, size)


def _check(how: _How, threads: int) -> None:
    if not how.time_limit > 0:
        raise InputError(f"time_limit is in seconds and must be above 0, not {how.time_limit!r}")
    if threads < 0:
        raise InputError(f"threads must be 0 (one per core) or more, not {threads}")
    for label, value in (("max_latency", how.limits.latency), ("max_size", how.limits.size)):
        if value is not None and not value > 0:
            raise InputError(f"{label} must be above 0, not {value!r}")
    if how.resume and how.work is None:
        raise InputError("resume=True needs the work folder of the run to go on with")


def _fit(batch: Batch, request: Request, how: _How, memory: Memory) -> Ensemble:
    how.tell("encode", "encoding the table")
    most = max(LEAST_ROWS, int(ROWS_A_SECOND * how.time_limit))
    known = fingerprint_of(batch, request)
    journal = None if how.work is None else _journal(request, how, most, known)
    prepared = prepare(batch, request, most_rows=most)
    tried, notes = _members(prepared, request, how, memory, journal)
    if not tried:
        raise StoppedError(
            "the fit was interrupted before a single member was done; there is nothing to keep"
        )
    how.tell("fuse", "choosing the fuser")
    done = finish(prepared, tried, limits=how.limits, clock=how.clock, seed=request.seed)
    return _told(how, _recorded(prepared, request, how, done, most, known, notes))


def _members(
    prepared: Prepared, request: Request, how: _How, memory: Memory, journal: Journal | None
) -> tuple[list[Tried], list[str]]:
    """The members, with time kept back for choosing the fuser and for packing."""
    lost: list[str] = []

    def keep(tried: Tried) -> None:
        if journal is not None and not lost:
            try:
                journal.save(tried)
            except FileError as error:
                lost.append(str(error))

    done = {} if journal is None else journal.load()
    cells = len(prepared.problem) * max(1.0, prepared.problem.width / 4)
    back = min(0.25 * how.time_limit, 1.0 + 2e-4 * min(cells, 50_000))
    clock = how.clock.before(back)
    course = Course(prepared.problem, clock, memory, request.seed, how.progress, done, keep)
    tried, notes = run(course, entries(prepared.problem, how.preset, how.members))
    return tried, notes + lost


def _repeat(batch: Batch, request: Request, plan: Plan, how: _How) -> Ensemble:
    """The run of a plan again: no clock, no choice.

    On the same data only the members that were kept are fitted, and what was measured is taken over, so that
    the bytes are the same. On other data all of it is measured anew.
    """
    request = plan.applied(request)
    known = fingerprint_of(batch, request)
    same = known == plan.data
    how.tell("encode", "encoding the table")
    prepared = prepare(batch, request, most_rows=plan.most_rows)
    steps = [s for s in plan.steps if not same or s.entry.name in plan.fusion["members"]]
    tried = []
    for k, step in enumerate(steps):
        how.tell("train", f"fitting {step.entry.name}, {k + 1} of {len(steps)}, as planned")
        tried.append(
            fit_entry(prepared.problem, step.entry, step.seed, clock=Clock.endless(), record=step.record)
        )
    clock, costs = Clock.endless(), plan.costs() if same else None
    done = finish(
        prepared, tried, limits=how.limits, clock=clock, seed=request.seed, repeat=plan.fusion, costs=costs
    )
    if same:
        return _told(how, _named(prepared, how, done, plan))
    other = ["the plan was made on other data"]
    return _told(how, _recorded(prepared, request, how, done, plan.most_rows, known, other))


def _recorded(
    prepared: Prepared,
    request: Request,
    how: _How,
    done: Finished,
    most: int,
    known: str,
    notes: Sequence[str],
) -> Ensemble:
    """The ensemble with the record of how it came about."""
    truth = prepared.problem.truth
    used = replace(request, task=truth.task, folds=len(prepared.problem.splits))
    measured = measured_of(prepared, done) | {"notes": [*prepared.notes, *notes], "preset": how.preset}
    plan = plan_of(used, prepared.score.name, most, done.tried, done.fused.plan, known, measured)
    return _named(prepared, how, done, plan)


def _named(prepared: Prepared, how: _How, done: Finished, plan: Plan) -> Ensemble:
    """The ensemble with its name and the provenance that its plan tells."""
    data = {
        "fingerprint": plan.data,
        "rows": len(prepared.problem),
        "columns": list(prepared.batch),
        "target": plan.request["target"],
        "target_type": prepared.problem.truth.original,
    }
    whole: dict[str, Any] = {"versions": versions(), **plan.measured, "plan": plan.to_json(), "data": data}
    card = replace(done.ensemble.card, name=how.name, provenance=whole)
    return replace(done.ensemble, name=how.name, card=card)


def _told(how: _How, ensemble: Ensemble) -> Ensemble:
    how.tell("done", f"{len(ensemble.members)} members in the ensemble")
    return ensemble


def _journal(request: Request, how: _How, most: int, known: str) -> Journal:
    """The journal of this run: of this data, and all settings that change what a member is."""
    extra = {
        k: None if v is None else fingerprint({k: v})
        for k, v in (("g", request.groups), ("w", request.weights))
    }
    asked = replace(request, groups=extra["g"], weights=extra["w"], threads=0, metric=_metric_name(request))
    said = json.dumps([repr(asked), most, how.preset, how.members, known], default=str)
    return Journal.open(how.work or "", hashlib.sha256(said.encode()).hexdigest(), resume=how.resume)


def _metric_name(request: Request) -> str | None:
    return request.metric.name if isinstance(request.metric, Score) else request.metric


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Matrix libraries use one thread: folds run side by side instead."""
    with need("threadpoolctl").threadpool_limits(1):
        yield


@contextmanager
def _interruptible(clock: Clock) -> Iterator[None]:
    """The first Ctrl-C ends the training in good order, the second raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if clock.stopped.is_set():
            if callable(before):
                before(number, frame)
            raise KeyboardInterrupt
        clock.stopped.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


__all__ = ["PRESETS", "fit"]
