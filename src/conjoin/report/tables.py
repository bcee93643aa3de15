"""Tables for a terminal, made from JSON records. They fit 80 columns; text in them is never read as
markup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from conjoin.bundle.readme import bytes_text, categories, printable, seconds_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a table: its title, what of a record stands in it, where, and whether it may be cut."""

    title: str
    text: Callable[[Record], str]
    right: bool = True
    cut: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A table that takes the width of the console that prints it: fields that may be cut give way."""

    records: Sequence[Record]
    fields: Sequence[Field]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        """The rich table; fields that are empty in every record are left out."""
        from rich.box import SIMPLE_HEAD
        from rich.cells import cell_len
        from rich.table import Table
        from rich.text import Text

        cells = [[printable(f.text(r)) for r in self.records] for f in self.fields]
        shown = [(f, column) for f, column in zip(self.fields, cells, strict=True) if any(column)]
        widths = [max(map(cell_len, [f.title, *column])) for f, column in shown]
        widths = _narrowed(widths, [f.cut for f, _ in shown], options.max_width)
        while len(widths) > 3 and _taken(widths) > options.max_width:
            widths, shown = widths[:-1], shown[:-1]  # on a narrow terminal the last fields are left out
        made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for (f, _), width in zip(shown, widths, strict=True):
            justify: Literal["left", "right"] = "right" if f.right else "left"
            made.add_column(f.title, justify=justify, no_wrap=True, overflow="ellipsis", width=width)
        for i, record in enumerate(self.records):
            style = "bold" if record.get("role") == "fused" or record.get("outcome") == "chosen" else None
            made.add_row(*(Text(column[i]) for _, column in shown), style=style)
        yield made


def _narrowed(widths: Sequence[int], cut: Sequence[bool], most: int) -> list[int]:
    """Widths of columns for `most` signs a line: the widest that may be cut gives way, to 8 signs."""
    found = list(widths)
    while _taken(found) > most:
        able = [i for i, c in enumerate(cut) if c and found[i] > 8]
        if not able:
            break
        found[max(able, key=lambda i: found[i])] -= 1
    return found


def _taken(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * len(widths)


def leaderboard(records: Sequence[Record], *, metric: str = "value") -> Fitted:
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
    return Fitted(records, fields)


def judged(records: Sequence[Record], *, metric: str = "score") -> Fitted:
    """The table of a judged merge: values, and how much better the merge is on the same rows.

    records: standings of `Judgement.record`. A gain above 0 is in favour of the merge.
    """
    fields = [
        Field("model", lambda r: str(r["name"]), right=False, cut=True),
        Field("what", lambda r: str(r.get("role") or ""), right=False),
        Field(metric, lambda r: number(r.get("value"))),
        Field("± 95 %", lambda r: number(_half(r), digits=2)),
        Field("merge gains", lambda r: signed(_of(r, "gain", "mean"))),
        Field("± 95 %", lambda r: number(_half(r.get("gain") or {}), digits=2)),
        Field("p", lambda r: _p(_of(r, "gain", "p_value"))),
    ]
    return Fitted(records, fields)


def trained(records: Sequence[Record]) -> Fitted:
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
    return Fitted(records, fields)


def choice(record: Record) -> list[tuple[str, Fitted]]:
    """The tables of a record of `fusion.choose`, with their titles: what was compared, and the Pareto
    front."""
    metric = str(record.get("score") or "score")
    found = []
    if record.get("candidates"):
        found.append(
            ("Fusions compared by cross-validation", candidates(record["candidates"], metric=metric))
        )
    if any(r.get("cpu_seconds_per_row") or r.get("bytes") for r in record.get("front") or []):
        found.append(("Pareto front: no other members are better in score, time and size", front(record)))
    return found


def candidates(records: Sequence[Record], *, metric: str = "score") -> Fitted:
    """The table of fusions that were compared: a difference below 0 is better than the incumbent."""
    fields = [
        Field("fusion", lambda r: str(r["name"]), right=False, cut=True),
        Field(metric, lambda r: number(r.get("score"))),
        Field("± 95 %", lambda r: number(_double(r.get("standard_error")), digits=2)),
        Field("gain", lambda r: signed(_negative(r.get("difference")))),
        Field("p", lambda r: _p(r.get("p"))),
        Field("outcome", lambda r: _short(str(r.get("outcome") or "")), right=False),
    ]
    return Fitted(records, fields)


def _short(outcome: str) -> str:
    """An outcome of `fusion.choose` in a few words.

    >>> [_short(t) for t in ("took over from mean", "better than a, but not beyond chance", "needs 9, ...")]
    ['took over', 'within chance', 'needs 9']
    """
    if outcome.endswith("not beyond chance"):
        return "within chance"
    for end in (" than ", " from ", ", "):
        outcome = outcome.partition(end)[0]
    return outcome.removeprefix("the ").removesuffix(" incumbent")[:24]


def scored(records: Sequence[Record]) -> Fitted:
    """The table of files and their scores: a row for each file and metric, with the 95 % interval."""
    rows = [{"file": r["name"], "metric": m, **v} for r in records for m, v in r["scores"].items()]
    fields = [
        Field("file", lambda r: str(r["file"]), right=False, cut=True),
        Field("metric", lambda r: str(r["metric"]), right=False),
        Field("value", lambda r: number(r.get("value"))),
        Field("± 95 %", lambda r: number(_half(r), digits=2)),
    ]
    return Fitted(rows, fields)


def front(record: Record) -> Fitted:
    """The table of sets of members than which no other is better in score, CPU time and bytes at once."""
    fields = [
        Field("members", lambda r: ", ".join(map(str, r.get("members") or [])), right=False, cut=True),
        Field(str(record.get("score") or "score"), lambda r: number(r.get("loss"))),
        Field("CPU/row", lambda r: _time(r.get("cpu_seconds_per_row"))),
        Field("size", lambda r: _size(r.get("bytes"))),
    ]
    return Fitted(record["front"], fields)


def members(records: Sequence[Record]) -> Fitted:
    """The table of members of a bundle, those inside others set in."""
    fields = [
        Field("member", lambda r: "  " * r["depth"] + str(r["name"]), right=False, cut=True),
        Field("answers", lambda r: str(r["kind"]), right=False),
        Field("weight", lambda r: number(r.get("weight"), digits=3)),
        Field("CPU/row", lambda r: _time(r.get("cpu_seconds_per_row"))),
        Field("size", lambda r: _size(r.get("bytes"))),
    ]
    return Fitted(_flat(records, 0), fields)


def columns(records: Sequence[Record]) -> Fitted:
    """The table of columns that a bundle reads."""
    fields = [
        Field("column", lambda r: str(r["name"]), right=False, cut=True),
        Field("type", lambda r: str(r["type"]), right=False),
        Field("categories", categories, right=False, cut=True),
    ]
    return Fitted(records, fields)


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


def _double(value: Any) -> float | None:
    return 1.96 * value if isinstance(value, int | float) else None


def _negative(value: Any) -> float | None:
    return -value if isinstance(value, int | float) else None


def _of(record: Record, key: str, inner: str) -> Any:
    found = record.get(key)
    return found.get(inner) if isinstance(found, Mapping) else None


def _time(value: Any) -> str:
    return seconds_text(value) if isinstance(value, int | float) and value == value else ""


def _size(value: Any) -> str:
    return bytes_text(int(value)) if isinstance(value, int | float) and value == value else ""
