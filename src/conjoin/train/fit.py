"""`fit`: a table in, an ensemble out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

from conjoin.compose import Ensemble
from conjoin.errors import InputError, StoppedError
from conjoin.scores import Score
from conjoin.tables import batch_of
from conjoin.train.budget import Clock, Memory
from conjoin.train.finish import Limits, finish, score_rows, with_provenance
from conjoin.train.plan import Plan, fingerprint, plan_of
from conjoin.train.portfolio import entries
from conjoin.train.prepare import ROWS_A_SECOND, Request, prepare
from conjoin.train.progress import Event, Progress, silent
from conjoin.train.run import Course, run


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
    quantiles: Sequence[float] = (),
    balance: bool = False,
    members: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    max_latency: float | None = None,
    max_size: int | None = None,
    memory_limit: float | None = None,
    threads: int = 0,
    plan: Any = None,
    name: str = "ensemble",
    progress: Progress = silent,
) -> Ensemble:
    """Train several models on a table and fuse them.

    data: any dataframe, a mapping of arrays, or whatever `tables.batch_of` takes. target: the column to predict.
    task: "binary", "multiclass", "classification", "regression", "quantile", or None to find out.
    metric: a score's name, or a Score; log-loss, RMSE or pinball loss by default.
    time_limit: seconds on the clock for all of it. preset: "fast", "balanced" or "best".
    """
    request = Request(
        target, task, metric, seed, folds, groups, weights, tuple(quantiles), balance, tuple(ignore), threads
    )
    if not time_limit > 0:
        raise InputError(f"time_limit is in seconds and must be above 0, not {time_limit!r}")
    clock = Clock.seconds(time_limit)
    limits = Limits(max_latency, max_size)
    with _one_thread_each(), _interruptible(clock):
        batch = batch_of(data)
        if plan is not None:
            return _repeat(batch, request, Plan.from_json(plan), name)
        progress(Event("encode", "encoding the table", seconds_left=clock.left()))
        most = max(2_000, int(ROWS_A_SECOND * time_limit))
        prepared = prepare(batch, request, most_rows=most)
        tried, notes = _members(
            prepared, request, preset, members, clock, Memory.of(memory_limit), time_limit, progress
        )
        if not tried:
            raise StoppedError("the fit was interrupted before a single member was done")
        progress(Event("fuse", "choosing the fuser", seconds_left=clock.left()))
        ensemble, fused = finish(prepared, tried, limits=limits, clock=clock, seed=seed)
        costs = {n: m.card.cost for n, m in ensemble.members.items()}
        data_record = {
            "fingerprint": fingerprint(batch),
            "rows": len(prepared.problem),
            "target": target,
            "target_type": prepared.problem.truth.original,
            "columns": list(prepared.batch),
        }
        truth = prepared.problem.truth
        used = replace(request, task=truth.task, folds=len(prepared.problem.splits))
        made = plan_of(used, prepared.score.name, most, tried, fused.plan, data_record["fingerprint"])
        provenance = {
            "scores": score_rows(prepared, tried, fused, costs),
            "plan": made.to_json(),
            "data": data_record,
            "choice": dict(fused.choice),
            "notes": [*prepared.notes, *notes],
        }
        return with_provenance(ensemble, name, provenance)


def _members(prepared, request, preset, members, clock, memory, limit, progress):
    reserve = min(0.2 * limit, 1.0 + 0.08 * limit)
    course = Course(
        prepared.problem, clock.before(reserve), memory, request.seed, progress, {}, lambda _: None
    )
    wanted = entries(prepared.problem, preset, None if members is None else tuple(members))
    return run(course, wanted)


def _repeat(batch, request, plan, name):
    raise NotImplementedError


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Matrix libraries use one thread: folds run side by side instead."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


@contextmanager
def _interruptible(clock: Clock) -> Iterator[None]:
    """The first Ctrl-C ends the training in good order, the second raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if clock.stopped.is_set():
            raise KeyboardInterrupt
        clock.stopped.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
