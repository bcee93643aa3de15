"""The run: one member after another, until the portfolio or the time ends."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conjoin.train.budget import Clock, Memory
from conjoin.train.learners import LEARNERS, Fitted, OutOfTimeError
from conjoin.train.portfolio import Entry, can_hurry, hurried
from conjoin.train.problem import Problem
from conjoin.train.progress import Event, Progress


@dataclass(frozen=True, eq=False)
class Tried:
    """A member that was fitted: its entry as it was used, its seed, its loss on the held-out rows."""

    entry: Entry
    seed: int
    fitted: Fitted
    loss: float
    seconds: float


LAST_SECONDS = 3.0
"""What a member may take that is fitted although the time is over."""
LONG = 1.5
"""A member that would take so many times what it may is tried after the others."""
MOMENT = 0.5
"""Seconds below which a time is more overhead than work."""


@dataclass(frozen=True)
class Pace:
    """How long members took against their guesses: the machine's share of it."""

    factor: float = 1.0
    seen: int = 0

    def after(self, guess: float, taken: float) -> Pace:
        """The pace with one more member; a single one cannot move it by more than a factor of 4.

        Members of a moment say nothing.
        """
        if guess < MOMENT and taken < MOMENT:
            return self
        ratio = float(np.clip(taken / max(guess, 1e-3), self.factor / 4, self.factor * 4))
        weight = 1 / min(self.seen + 1, 3)
        return Pace(float(np.exp((1 - weight) * np.log(self.factor) + weight * np.log(ratio))), self.seen + 1)


@dataclass(frozen=True)
class Course:
    """What a run goes by: the problem, the clock that ends it, the memory limit, who is told."""

    problem: Problem
    clock: Clock
    memory: Memory
    seed: int
    progress: Progress
    done: Mapping[str, Tried]
    keep: Callable[[Tried], None]


def run(course: Course, entries: Sequence[Entry]) -> tuple[list[Tried], list[str]]:
    """Fit the entries in order, each with its share of the time left. Returns members and notes.

    One that would take far more than its share, and cannot hurry, is tried last. Members of `course.done` are
    taken as they are. A member that fails is left out, and a note says so. Where nothing could be fitted in
    time, the first booster gets a few rounds: there is always a member, unless the run was stopped.
    """
    tried: list[Tried] = []
    notes: list[str] = []
    pace, waiting, late = Pace(), deque(entries), set[str]()
    while waiting:
        rest = tuple(waiting)
        entry = waiting.popleft()
        found = course.done.get(entry.name)
        reason = "" if found else _reason_against(course, entry, rest, pace)
        if reason:
            notes.append(f"{entry.name} was left out: {reason}")
        elif found is None and waiting and entry.name not in late and _long(course, entry, rest, pace):
            late.add(entry.name)
            waiting.append(entry)
        elif found is None:
            found, pace = _try(course, entry, rest, pace, notes)
        if found is not None:
            tried.append(found)
            _tell(course, tried, len(entries))
    if not tried and not course.clock.stopped.is_set():
        tried.append(_last_resort(course, entries))
        notes.append("the time was too short for a whole member: one was fitted with a few rounds")
    return tried, notes


def fit_entry(
    problem: Problem, entry: Entry, seed: int, *, clock: Clock, record: Mapping[str, Any] | None = None
) -> Tried:
    """Fit one entry. With a record the clock is not asked. Raises OutOfTimeError."""
    begin = time.monotonic()
    fitted = LEARNERS[entry.learner].fit(problem, entry.settings, seed=seed, clock=clock, record=record)
    return Tried(entry, seed, fitted, problem.loss(fitted.answers), time.monotonic() - begin)


def _reason_against(course: Course, entry: Entry, rest: Sequence[Entry], pace: Pace) -> str:
    learner = LEARNERS[entry.learner]
    if importlib.util.find_spec(learner.module) is None:
        return f"{learner.module} is not installed"
    if course.clock.over():
        return _why_over(course)
    need = learner.bytes(course.problem, entry.settings)
    if not course.memory.allows(need):
        return f"it needs about {need / 1e6:,.0f} MB, the limit leaves {course.memory.left() / 1e6:,.0f} MB"
    allowed = course.clock.left() * _share(rest)
    hopeless = 0.15 * _guess(course, entry) * pace.factor > allowed
    return "it would take far longer than its share of the time" if hopeless and pace.seen else ""


def _why_over(course: Course) -> str:
    return "stopped" if course.clock.stopped.is_set() else "no time was left"


def _long(course: Course, entry: Entry, rest: Sequence[Entry], pace: Pace) -> bool:
    """Whether an entry that cannot hurry would take far longer than it may."""
    allowed = course.clock.left() * _share(rest)
    return not can_hurry(entry) and _guess(course, entry) * pace.factor > LONG * allowed


def _share(rest: Sequence[Entry]) -> float:
    """The share of the time left that the first of the rest may take: at most three times its part."""
    total = sum(e.share for e in rest)
    return min(1.0, max(2.0 * rest[0].share / total, 0.25 if len(rest) > 2 else 1.0))


def _guess(course: Course, entry: Entry) -> float:
    """Seconds on the clock, before the pace of the machine."""
    problem = course.problem
    threads = min(len(problem.splits), problem.engine.count)
    return LEARNERS[entry.learner].seconds(problem, entry.settings) / threads


def _try(
    course: Course, entry: Entry, rest: Sequence[Entry], pace: Pace, notes: list[str]
) -> tuple[Tried | None, Pace]:
    allowed = course.clock.left() * _share(rest)
    if allowed <= 0:  # a Ctrl-C may come at any moment
        notes.append(f"{entry.name} was left out: {_why_over(course)}")
        return None, pace
    guess = _guess(course, entry)
    used = hurried(entry, guess * pace.factor / allowed)
    course.progress(Event("train", f"fitting {entry.name}", entry.name, seconds_left=course.clock.left()))
    begin = time.monotonic()
    try:
        found = fit_entry(course.problem, used, course.seed, clock=course.clock.within(allowed))
    except OutOfTimeError as error:
        notes.append(f"{entry.name} was left out: {error}")
        return None, pace
    except MemoryError:
        notes.append(f"{entry.name} was left out: the memory was not enough")
        return None, pace
    except _known_failures() as error:
        notes.append(f"{entry.name} failed and was left out: {type(error).__name__}: {str(error)[:200]}")
        return None, pace
    course.keep(found)
    return found, pace.after(_guess(course, used), time.monotonic() - begin)


def _known_failures() -> tuple[type[Exception], ...]:
    """What learners and their libraries raise: one that fails must not take the others with it."""
    return (ArithmeticError, ValueError, RuntimeError, np.linalg.LinAlgError, *_library_errors())


def _library_errors() -> list[type[Exception]]:
    names = (("lightgbm.basic", "LightGBMError"), ("xgboost.core", "XGBoostError"),
             ("catboost", "CatBoostError"))  # fmt: skip
    loaded = ((sys.modules.get(module), name) for module, name in names)
    return [getattr(module, name) for module, name in loaded if module is not None]


def _last_resort(course: Course, entries: Sequence[Entry]) -> Tried:
    entry = next((e for e in entries if "rounds" in e.settings), entries[0])
    settings = dict(entry.settings)
    quick = "rounds" in settings
    if quick:
        settings |= {"rounds": 11, "patience": 11, "step": 10}
    clock = Clock.endless() if quick else Clock.seconds(LAST_SECONDS)
    return fit_entry(course.problem, dataclasses.replace(entry, settings=settings), course.seed, clock=clock)


def _tell(course: Course, tried: Sequence[Tried], total: int) -> None:
    last = tried[-1]
    course.progress(
        Event(
            "train",
            f"{last.entry.name} fitted",
            last.entry.name,
            loss=last.loss,
            best=min(t.loss for t in tried),
            done=len(tried),
            total=total,
            seconds_left=course.clock.left(),
        )
    )
