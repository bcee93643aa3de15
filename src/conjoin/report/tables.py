"""Tables for a terminal, made from JSON records. They fit 80 columns; text in them is never read as
markup."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conjoin.bundle.readme import bytes_text, categories, printable, seconds_text

if TYPE_CHECKING:
    from rich.table import Table

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a table: its title, what of a record stands in it, where, and whether it may be cut."""

    title: str
    text: Callable[[Record], str]
    right: bool = True
    cut: bool = False


def table(records: Sequence[Record], fields: Sequence[Field], *, title: str = "") -> Table:
    """A rich table of the records; fields that are empty in every record are left out."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    cells = [[printable(f.text(r)) for r in records] for f in fields]
    shown = [(f, column) for f, column in zip(fields, cells, strict=True) if any(column)]
    made = Table(
        box=SIMPLE_HEAD, title=title or None, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False
    )
    for f, _ in shown:
        overflow = "ellipsis" if f.cut else "fold"
        made.add_column(f.title, justify="right" if f.right else "left", no_wrap=True, overflow=overflow)  # type: ignore[arg-type]
    for i, record in enumerate(records):
        style = "bold" if record.get("role") == "fused" else None
        made.add_row(*(Text(column[i]) for _, column in shown), style=style)
    return made


def leaderboard(records: Sequence[Record], *, metric: str = "value") -> Table:
    """The table of what was scored: value, half the 95 % interval, difference to the fused model, cost, size.

    records: rows of `evaluate`. A difference is a difference of losses: above 0 is worse than the fused
    model.
    """
    fields = [
        Field("model", lambda r: str(r["name"]), right=False, cut=True),
        Field("what", lambda r: str(r.get("role") or ""), right=False),
        Field(metric, lambda r: number(r.get("value"))),
        Field("± 95 %", lambda r: number(_half(r), digits=2)),
        Field("to fused", lambda r: signed(_of(r, "difference", "mean"))),
        Field("p", lambda r: _p(_of(r, "difference", "p_value"))),
        Field("CPU/row", lambda r: _time(r.get("cpu_seconds_per_row"))),
        Field("size", lambda r: _size(r.get("bytes"))),
    ]
    return table(records, fields)


def trained(records: Sequence[Record]) -> Table:
    """The table of members of a fit: out-of-fold scores, cost, and which were kept."""
    metric = str(records[0].get("score", "value")) if records else "value"
    fields = [
        Field("member", lambda r: str(r["name"]), right=False, cut=True),
        Field(metric, lambda r: number(r.get("value"))),
        Field("± 95 %", lambda r: number(_half(r), digits=2)),
        Field("kept", lambda r: "yes" if r.get("kept") else "", right=False),
        Field("fit", lambda r: _time(r.get("fit_seconds"))),
        Field("CPU/row", lambda r: _time(r.get("cpu_seconds_per_row"))),
        Field("size", lambda r: _size(r.get("bytes"))),
    ]
    return table(records, fields)


def choice(record: Record) -> list[tuple[str, Table]]:
    """The tables of how the fuser was chosen, with their titles: what was compared, and the Pareto front."""
    titles = {"candidates": "Fusions compared by cross-validation", "pareto": "Pareto front"}
    return [(t, candidates(record[k])) for k, t in titles.items() if record.get(k)]


def candidates(records: Sequence[Record], *, metric: str = "score") -> Table:
    """The table of fusions that were compared by cross-validation."""
    keys = list(dict.fromkeys(k for r in records for k, v in r.items() if not isinstance(v, list | Mapping)))
    fields = [
        Field(
            {"score": metric}.get(k, k.replace("_", " ")),
            lambda r, k=k: _any(k, r.get(k)),  # type: ignore[misc]
            right=k not in ("name", "fuser"),
            cut=k == "name",
        )
        for k in keys
    ]
    return table(records, fields)


def members(records: Sequence[Record]) -> Table:
    """The table of members of a bundle, those inside others set in."""
    fields = [
        Field("member", lambda r: "  " * r["depth"] + str(r["name"]), right=False, cut=True),
        Field("answers", lambda r: str(r["kind"]), right=False),
        Field("weight", lambda r: number(r.get("weight"), digits=3)),
        Field("CPU/row", lambda r: _time(r.get("cpu_seconds_per_row"))),
        Field("size", lambda r: _size(r.get("bytes"))),
    ]
    return table(_flat(records, 0), fields)


def columns(records: Sequence[Record]) -> Table:
    """The table of columns that a bundle reads."""
    fields = [
        Field("column", lambda r: str(r["name"]), right=False, cut=True),
        Field("type", lambda r: str(r["type"]), right=False),
        Field("categories", categories, right=False, cut=True),
    ]
    return table(records, fields)


def _flat(records: Sequence[Record], depth: int) -> list[Record]:
    found: list[Record] = []
    for r in records:
        found += [{**r, "depth": depth}, *_flat(r.get("members") or [], depth + 1)]
    return found


def number(value: Any, *, digits: int = 5) -> str:
    """A number for people, empty where there is none.

    >>> number(0.123456789), number(1234567.0), number(None)
    ('0.12346', '1.2346e+06', '')
    """
    if not isinstance(value, int | float) or value != value:
        return ""
    return f"{value:.{digits}g}"


def signed(value: Any) -> str:
    """A difference for people, with its sign."""
    return "" if not isinstance(value, int | float) or value != value else f"{value:+.2g}" if value else "0"


def _p(value: Any) -> str:
    if not isinstance(value, int | float) or value != value:
        return ""
    return "<.001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 1 else "1"


def _half(record: Record) -> float | None:
    low, high = record.get("low"), record.get("high")
    return None if low is None or high is None else (high - low) / 2


def _of(record: Record, key: str, inner: str) -> Any:
    found = record.get(key)
    return found.get(inner) if isinstance(found, Mapping) else None


def _time(value: Any) -> str:
    return seconds_text(value) if isinstance(value, int | float) and value == value else ""


def _size(value: Any) -> str:
    return bytes_text(int(value)) if isinstance(value, int | float) and value == value else ""


def _any(key: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if "seconds" in key:
        return _time(value)
    if "bytes" in key:
        return _size(value)
    return number(value) if isinstance(value, int | float) else str(value)
