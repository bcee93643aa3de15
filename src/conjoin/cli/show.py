"""What verbs print: tables, notes, errors, JSON. Text from files and bundles is never read as markup."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from conjoin.errors import ConjoinError

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160
"""Columns where the output is no terminal."""


def console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr, as wide as the terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def note(text: str) -> None:
    """A remark on stderr."""
    _stderr("note", text, "yellow")


def print_error(text: str) -> None:
    """What went wrong, on stderr."""
    _stderr("error", text, "bold red")


def _stderr(word: str, text: str, style: str) -> None:
    from rich.text import Text

    from conjoin.errors import printable

    lines = [printable(line) for line in text.splitlines()]
    console(stderr=True).print(Text.assemble((f"{word}: ", style), "\n".join(lines)), soft_wrap=True)


def error_text(error: BaseException) -> tuple[str, str]:
    """The type and the message of an error, for people."""
    kind = type(error).__name__
    if isinstance(error, ConjoinError):
        return kind, str(error)
    if isinstance(error, MemoryError):
        return kind, "the memory is used up; use fewer rows, --memory-limit, or --members with smaller models"
    first = (str(error).splitlines() or [""])[0]
    return (
        kind,
        f"unexpected {kind}: {first}\nThis is a fault of conjoin; CONJOIN_DEBUG=1 shows where it arose.",
    )


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout; numbers that are not finite are null."""
    from conjoin.bundle.write import finite

    sys.stdout.write(json.dumps(finite(document), ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line on stdout."""
    from rich.text import Text

    from conjoin.errors import printable

    console().print(Text(printable(text)), soft_wrap=True)


def facts(rows: Sequence[tuple[str, object]]) -> None:
    """Pairs of a word and what is known of it, on stdout."""
    from rich.table import Table
    from rich.text import Text

    from conjoin.errors import printable

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for word, value in rows:
        table.add_row(word, Text(printable(value)))
    console().print(table)
