"""`conjoin predict`: a file of rows in, a file of answers out, in a stream."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conjoin.cli.options import Bundle, Force, Json, Output, Table, names
from conjoin.cli.show import note, print_json, say

if TYPE_CHECKING:
    from conjoin.contracts import Member
    from conjoin.outputs import Array
    from conjoin.outputs import Output as Answer

ROWS = 50_000
"""Rows in memory at once."""


def predict(
    bundle: Bundle,
    file: Table,
    output: Output,
    *,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="COLS", help="Columns to copy into the answers, such as an id."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows in memory at once.", hidden=True)] = ROWS,
    force: Force = False,
    json: Json = False,
) -> None:
    """Answer every row of a file with a bundle (or a .onnx file).

    Classes: the column "label", then a column of probabilities under the name of each class. Numbers: the
    column "prediction". Quantiles: a column for each level. Rows come out in the order in which they came
    in. The file of answers is CSV, JSON lines or parquet, by its name; a million rows need no more memory
    than 50,000.

    [bold]Examples[/]

      conjoin predict loans.conjoin new.csv -o answers.csv

      conjoin predict loans.conjoin new.csv -o answers.parquet --keep id,branch
    """
    from conjoin.bundle import load
    from conjoin.bundle.place import check_file

    check_file(output, force=force)
    member = load(bundle)
    begin, cpu = time.monotonic(), time.process_time()
    count, written, lost = answer_file(member, file, output, keep=names(keep), rows=rows)
    seconds, cpu = time.monotonic() - begin, time.process_time() - cpu
    if lost:
        note(f"{lost} of {count} rows have no answer; their cells are empty")
    if json:
        print_json(
            {"output": str(output), "rows": count, "unanswered": lost, "columns": written}
            | {"seconds": seconds, "cpu_seconds_per_row": cpu / count}
        )
    else:
        say(f"wrote {output}: {count:,} rows in {seconds:.1f} s")


def answer_file(
    member: Member[Any], file: Path, output: Path, *, keep: Sequence[str] = (), rows: int = ROWS
) -> tuple[int, list[str], int]:
    """Answer the rows of a file into another; returns how many rows, the columns, how many got no answer.

    Raises FileError, ColumnError, MemberError; then nothing is written.
    """
    from conjoin.tables import TableWriter

    count, lost, written = 0, 0, list[str]()
    with TableWriter(output) as writer:
        for batch in _batches(member, file, keep, rows):
            answer = member.predict(batch)
            found = answer_columns(answer, {n: batch[n] for n in keep})
            writer.append(found)
            written = list(found)
            count += len(answer)
            lost += int((~answer.answered).sum())
    return count, written, lost


def _batches(member: Member[Any], file: Path, keep: Sequence[str], rows: int) -> Iterator[dict[str, Array]]:
    from conjoin.tables import stream_table

    columns = member.card.columns
    if not columns:
        return stream_table(file, rows)
    known = {c.name for c in columns}
    return stream_table(file, rows, columns=columns, others=[n for n in keep if n not in known])


def answer_columns(answer: Answer, kept: Mapping[str, Array]) -> dict[str, Array]:
    """What the file of answers holds: the columns to keep, then those of the answer. Raises ColumnError."""
    from conjoin.errors import ColumnError, listed
    from conjoin.outputs import Labels, Probabilities, Quantiles

    if isinstance(answer, Probabilities):
        shown = {"label": answer.labels().names()}
        shown |= {c: answer.values[:, k] for k, c in enumerate(answer.classes)}
        doubled = [c for c in answer.classes if c == "label"]
    elif isinstance(answer, Quantiles):
        shown, doubled = {f"{q:g}": answer.values[:, k] for k, q in enumerate(answer.levels)}, []
    else:
        shown, doubled = dict(answer.columns("label" if isinstance(answer, Labels) else "prediction")), []
    doubled += [n for n in kept if n in shown]
    if doubled:
        raise ColumnError(
            f"the column {doubled[0]!r} would stand twice in the answers, which have {listed(shown)}; "
            "rename it, or leave it out of --keep"
        )
    return {**kept, **shown}
