"""Small helpers for tables in Markdown: nothing here knows what is measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Write a table, padded to be readable as text too; the first `left` columns left, others right."""
    body = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in [list(headers), *body]) for i in range(len(headers))]
    rule = ["-" * width if i < left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    lines = [_line(list(headers), widths, left), "| " + " | ".join(rule) + " |"]
    return "\n".join([*lines, *(_line(row, widths, left) for row in body)])


def _line(cells: list[str], widths: list[int], left: int) -> str:
    pairs = enumerate(zip(cells, widths, strict=True))
    padded = [cell.ljust(width) if i < left else cell.rjust(width) for i, (cell, width) in pairs]
    return "| " + " | ".join(padded) + " |"


def number(value: float | None, digits: int = 4) -> str:
    """Write a number with so many significant digits; a dash where there is none."""
    if value is None or math.isnan(value):
        return "-"
    if value != 0 and abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def percent(value: float | None) -> str:
    """Write a share as signed percents."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:+.1f} %"


def size(count: float | None) -> str:
    """Write bytes as megabytes."""
    return "-" if count is None else f"{count / 1e6:.2f} MB"


def seconds(value: float | None) -> str:
    """Write seconds with one decimal."""
    return "-" if value is None else f"{value:.1f}"
