"""Merging of checkpoints: a plan from headers, run in a stream."""

from __future__ import annotations

from conjoin.transfer.merge.stream import Progress, Source, Task, run

__all__ = ["Progress", "Source", "Task", "run"]
