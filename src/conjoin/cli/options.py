"""Options that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout, for machines.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is already at the place of -o.")]
Bundle = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A bundle, or a .onnx file.", show_default=False)
]
Table = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A table: CSV (any separator, .gz too), parquet or JSON lines.",
        show_default=False,
    ),
]
Output = Annotated[
    Path, typer.Option("-o", "--output", metavar="PATH", help="Where to write.", show_default=False)
]


def names(text: str | None) -> tuple[str, ...]:
    """Names between commas.

    >>> names("a, b")
    ('a', 'b')
    """
    return tuple(n.strip() for n in text.split(",") if n.strip()) if text else ()
