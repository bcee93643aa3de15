"""What a run tells while it runs: one frozen event at a time to a callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["read", "encode", "train", "fuse", "compile", "done"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened.

    stage: what is being done. message: a sentence for people. member: which member it is about. loss: its
    out-of-fold loss, or of the fused model when done. best: the least loss of a member so far. done, total:
    members tried and to be tried. seconds_left: until the deadline, None without one.
    """

    stage: Stage
    message: str
    member: str | None = None
    loss: float | None = None
    best: float | None = None
    done: int = 0
    total: int = 0
    seconds_left: float | None = None


Progress = Callable[[Event], None]
"""Called in the thread that called `fit`. It must return soon and must not raise."""


def silent(_: Event) -> None:
    """Tells nobody."""
