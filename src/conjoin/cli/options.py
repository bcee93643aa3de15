"""Options that several verbs have, and how words on a command line are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from conjoin.errors import InputError

Json = Annotated[
    bool, typer.Option("--json", metavar=" ", help="Write one JSON document to stdout, for machines.")
]
Force = Annotated[
    bool, typer.Option("--force", metavar=" ", help="Replace what is already at the place of -o.")
]
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

_UNITS = {
    "size": {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30},
    "time": {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "m": 60.0, "min": 60.0, "h": 3600.0},
}
_AMOUNT = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-zµ]*)\s*", re.IGNORECASE)


def amount(text: str, unit: str, option: str) -> float:
    """A size in bytes or a time in seconds, with an optional unit. Raises InputError.

    >>> amount("20MB", "size", "--max-size"), amount("0.5 ms", "time", "--max-latency")
    (20000000.0, 0.0005)
    """
    found = _AMOUNT.fullmatch(text)
    units = _UNITS[unit]
    if not found or found[2].lower() not in units or not float(found[1]) > 0:
        example = "20MB" if unit == "size" else "1ms"
        raise InputError(f"{option} must be a {unit} above 0, such as {example}, not {text!r}")
    return float(found[1]) * units[found[2].lower()]


def names(words: Sequence[str] | None, known: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of an option that may be repeated, with commas between them; a known name may hold a comma.

    >>> names(["a, b", "c,d"], known=["c,d"])
    ('a', 'b', 'c,d')
    """
    found: list[str] = []
    for word in words or ():
        found += [word] if word in known else [n.strip() for n in word.split(",") if n.strip()]
    return tuple(dict.fromkeys(found))


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Numbers between commas. Raises InputError.

    >>> numbers("0.1, 0.9", "--quantiles")
    (0.1, 0.9)
    """
    try:
        return tuple(float(n) for n in text.split(",") if n.strip())
    except ValueError as error:
        raise InputError(
            f"{option} must be numbers between commas, such as 0.1,0.5,0.9, not {text!r}"
        ) from error
