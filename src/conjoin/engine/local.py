"""An ordered map over the threads of this process.

Training libraries release the interpreter's lock while they work, so threads are enough and the data is
shared without copying.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, final


@final
@dataclass(frozen=True, slots=True)
class Local:
    """Runs tasks on `threads` threads (default: one per core), results in the order of the tasks.

    Tasks are drawn as threads become free, so an endless iterable is fine. The first error stops the map:
    tasks not yet begun are dropped, those that run are waited for, and the error is raised.

    >>> list(Local(threads=2).map(lambda task, shared: task * shared, [1, 2, 3], shared=10))
    [10, 20, 30]
    """

    threads: int = 0

    @property
    def count(self) -> int:
        """How many tasks run at once."""
        return self.threads or os.cpu_count() or 1

    def map(self, fn: Callable[..., Any], tasks: Iterable[Any], /, *, shared: Any = None) -> Iterator[Any]:
        """Results of `fn(task)`, or of `fn(task, shared)` where something is shared, in task order."""
        call = fn if shared is None else lambda task: fn(task, shared)
        threads = self.count
        if threads == 1:
            yield from map(call, tasks)
            return
        waiting: deque[Future[Any]] = deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="conjoin") as pool:
            try:
                for task in tasks:
                    waiting.append(pool.submit(call, task))
                    if len(waiting) >= 2 * threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
