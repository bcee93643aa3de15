"""`conjoin distil`: a small model learns what a bundle answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conjoin.cli.options import Force, Json, Output, Table, amount
from conjoin.cli.show import console, note, print_json, say

if TYPE_CHECKING:
    from rich.table import Table as Shown

    from conjoin.transfer.distil import Report

LEARN, LIMITS = "What to learn", "Limits"


def distil(
    teacher: Annotated[
        Path, typer.Argument(metavar="TEACHER", help="A bundle, or a .onnx file.", show_default=False)
    ],
    file: Table,
    into: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="lightgbm, xgboost, catboost, extra_trees, random_forest, linear, mlp or tree.",
            show_default=False,
        ),
    ],
    output: Output,
    *,
    target: Annotated[
        str | None,
        typer.Option(
            "-t",
            "--target",
            metavar="COL",
            help="Column with the truth; by default the one that the teacher was trained on.",
            rich_help_panel=LEARN,
        ),
    ] = None,
    holdout: Annotated[
        str,
        typer.Option(
            metavar="FILE|SHARE",
            help="Rows for the report: a table that the teacher never saw, or a share; 0 is none.",
            rich_help_panel=LEARN,
        ),
    ] = "0.2",
    unlabelled: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="More rows, without a truth.", rich_help_panel=LEARN),
    ] = None,
    hard: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of the truth in what is learned.", rich_help_panel=LEARN),
    ] = None,
    temperature: Annotated[
        float, typer.Option(metavar="T", help="Softens the teacher's probabilities.", rich_help_panel=LEARN)
    ] = 1.0,
    augment: Annotated[
        str,
        typer.Option(metavar="NAME", help="How rows are made: munge, spunge or none.", rich_help_panel=LEARN),
    ] = "munge",
    factor: Annotated[
        float | None,
        typer.Option(metavar="N", help="Rows made for each row of the table.", rich_help_panel=LIMITS),
    ] = None,
    max_rows: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Rows to learn from at most.", rich_help_panel=LIMITS),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Score of the report: log_loss, auc, rmse, mae, ..."),
    ] = None,
    time_limit: Annotated[
        str, typer.Option(metavar="TIME", help="Time on the clock: 60, 10m, 1h.", rich_help_panel=LIMITS)
    ] = "60",
    threads: Annotated[
        int, typer.Option(min=0, metavar="N", help="Threads; 0 is one per core.", rich_help_panel=LIMITS)
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed.")] = 0,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="How the student calls itself.")] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Teach one small model what a bundle answers, and save it as a bundle.

    The student learns the teacher's probabilities, values or quantiles, on the rows of the table, on rows
    made of them and on unlabelled rows. It is compared with the same model taught by the truth alone, on rows
    that neither saw; the better one is saved.

    [bold]Examples[/]

      conjoin distil loans.conjoin loans.csv --into lightgbm -o small.conjoin

      conjoin distil loans.conjoin loans.csv --into tree -o tree.conjoin

      conjoin distil homes.conjoin n.csv --into mlp -o m.conjoin --time-limit 60
    """
    from conjoin.bundle import load, save
    from conjoin.bundle.place import check_place
    from conjoin.cli.progress import shown
    from conjoin.tables import read_table
    from conjoin.train.progress import Event
    from conjoin.transfer.distil import distil as teach

    place = check_place(output, force=force)
    share = _share(holdout)
    options: dict[str, Any] = {
        "target": target,
        "temperature": temperature,
        "augment": augment,
        "metric": metric,
        "time_limit": amount(time_limit, "time", "--time-limit"),
        "threads": threads,
        "seed": seed,
        "name": name,
        **{k: v for k, v in (("hard", hard), ("factor", factor), ("most_rows", max_rows)) if v is not None},
    }
    with shown() as progress:
        progress(Event("read", f"reading {file}"))
        options |= {
            "holdout": read_table(holdout) if share is None else share,
            "unlabelled": None if unlabelled is None else read_table(unlabelled),
        }
        done = teach(load(teacher), into, read_table(file), progress=progress, **options)
        save(done.student, output, force=force)
    size = sum(p.stat().st_size for p in place.iterdir())
    if json:
        print_json({"bundle": str(output), "bytes": size, **done.report.to_json()})
    else:
        _print(done.report, output, size)


def _share(text: str) -> float | None:
    """The share that a text spells; None where it is the name of a file."""
    try:
        return float(text)
    except ValueError:
        return None


def _print(report: Report, output: Path, size: int) -> None:
    from conjoin.bundle.readme import bytes_text

    for text in report.notes:
        note(text)
    if report.teacher is not None:
        console().print(_table(report))
    for line in _lines(report):
        say(line)
    say(f"wrote {output}: one {report.learner}, {bytes_text(size)}, {report.seconds:.1f} s")


def _table(report: Report) -> Shown:
    """Teacher, student alone and student distilled, one a row."""
    from rich.table import Table
    from rich.text import Text

    from conjoin.bundle.readme import bytes_text, printable

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for title in (report.metric, "± 95 %", "CPU µs a row", "size", "fit"):
        table.add_column(title, justify="right")
    roles = {
        "teacher": "teacher",
        "alone": f"{report.learner} alone",
        "distilled": f"{report.learner} distilled",
    }
    for role, label in roles.items():
        s = getattr(report, role)
        table.add_row(
            Text(printable(label), style="bold" if role == report.kept else ""),
            f"{s.value:.5g}",
            f"{(s.high - s.low) / 2:.2g}",
            f"{1e6 * s.cpu_seconds_per_row:.3g}",
            "" if s.bytes is None else bytes_text(s.bytes),
            "" if s.seconds is None else f"{s.seconds:.1f} s",
        )
    return table


def _lines(report: Report) -> list[str]:
    rows: Mapping[str, int] = report.rows
    told = [f"{rows['table']:,} rows of the table"]
    told += [
        f"{rows[k]:,} {what}" for k, what in (("unlabelled", "without a truth"), ("made", "made")) if rows[k]
    ]
    lines = [f"learned from {', '.join(told)}; {rows['held_out']:,} rows held out"]
    gap = report.gap
    if gap is not None and gap.share is not None:
        low, high = gap.share_low or 0.0, gap.share_high or 0.0
        lines.append(f"closed {gap.share:.0%} of the gap to the teacher (95 %: {low:.0%} to {high:.0%})")
    elif gap is not None:
        lines.append(
            f"there is no gap to close beyond chance: the student alone loses {gap.size:.3g} to the teacher "
            f"(95 %: {gap.low:.3g} to {gap.high:.3g})"
        )
    costs = ((report.times_faster, "faster"), (report.times_smaller, "smaller"))
    found = [f"{times:.3g} times {what}" for times, what in costs if times]
    if found:
        lines.append(f"the student {report.kept} is {' and '.join(found)} than the teacher")
    return lines
