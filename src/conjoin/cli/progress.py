"""What a fit tells while it runs, on stderr: a line that changes on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from conjoin.cli.show import console

if TYPE_CHECKING:
    from conjoin.train.progress import Event, Progress


@contextmanager
def shown() -> Iterator[Progress]:
    """A callback for `conjoin.fit` that shows its events."""
    from rich.text import Text

    err = console(stderr=True)
    if not sys.stderr.isatty():
        yield lambda event: err.print(Text(_line(event), style="dim"), soft_wrap=True)
        return
    with err.status("starting") as status:

        def show(event: Event) -> None:
            if event.stage == "train" and event.loss is not None:
                err.print(Text(_line(event), style="dim"))
            status.update(Text(_line(event)))

        yield show


def _line(event: Event) -> str:
    from conjoin.bundle.readme import printable

    parts = [event.message]
    if event.loss is not None and f"{event.loss:.4g}" not in event.message:
        parts.append(f"loss {event.loss:.5g}")
    if event.total:
        parts.append(f"{event.done} of {event.total}")
    if event.seconds_left is not None:
        parts.append(f"{event.seconds_left:.0f} s left")
    return printable(", ".join(parts))
