"""Time and memory of a run: a deadline that everybody can ask about, and a limit on the process's memory."""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Self

from conjoin.errors import InputError


@dataclass(frozen=True, slots=True)
class Clock:
    """A moment at which work must end (seconds of `time.monotonic`), and a flag that ends it at once.

    Parts of the work get their own, earlier, deadline with `within`; all of them share the flag.

    >>> Clock.endless().over()
    False
    """

    deadline: float
    stopped: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def endless(cls) -> Clock:
        """A clock that never runs out: for repeating a plan."""
        return cls(math.inf)

    @classmethod
    def seconds(cls, limit: float) -> Clock:
        """A clock that runs out so many seconds from now."""
        return cls(time.monotonic() + limit)

    def left(self) -> float:
        """Seconds left; 0 when it is over."""
        return 0.0 if self.stopped.is_set() else max(0.0, self.deadline - time.monotonic())

    def over(self) -> bool:
        """True when no time is left or somebody said stop."""
        return self.stopped.is_set() or time.monotonic() >= self.deadline

    def within(self, seconds: float) -> Self:
        """A clock that runs out after so many seconds, at the latest with this one."""
        return replace(self, deadline=min(self.deadline, time.monotonic() + seconds))

    def before(self, seconds: float) -> Self:
        """A clock that runs out so many seconds before this one."""
        return replace(self, deadline=self.deadline - seconds)


@dataclass(frozen=True, slots=True)
class Memory:
    """A limit in bytes on what the process holds; None is no limit."""

    limit: int | None = None

    @classmethod
    def of(cls, megabytes: float | None) -> Memory:
        """A limit from megabytes. By default 80 % of what this machine can give to the process."""
        if megabytes is None:
            return cls(int(0.8 * (resident() + available())))
        if not megabytes > 0:
            raise InputError(f"memory_limit is in megabytes and must be above 0, not {megabytes!r}")
        return cls(int(megabytes * 1e6))

    def left(self) -> float:
        """Bytes that may still be taken; 0 when the process holds more than the limit."""
        return math.inf if self.limit is None else max(0.0, self.limit - resident())

    def allows(self, need: float) -> bool:
        """True when so many bytes more would stay within the limit."""
        return need <= self.left()


def resident() -> int:
    """Bytes of memory that this process holds now; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def available() -> int:
    """Bytes that the machine, and the control group of this process, can still give; 8 GB where unknown."""
    found = [_meminfo(), _cgroup()]
    known = [f for f in found if f is not None]
    return min(known) if known else 8 * 10**9


def _meminfo() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _cgroup() -> int | None:
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as most:
            limit = int(most.read())  # "max" is a ValueError: no limit
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as now:
            return max(0, limit - int(now.read()))
    except (OSError, ValueError):
        return None
