"""`conjoin evaluate`: the leaderboard of a bundle on rows whose truth is known."""

from __future__ import annotations

from typing import Annotated

import typer

from conjoin.cli.options import Bundle, Json, Table
from conjoin.cli.show import console, note, print_json, say


def evaluate(
    bundle: Bundle,
    file: Table,
    *,
    target: Annotated[
        str | None,
        typer.Option(
            "-t", "--target", metavar="COL", help="Column with the truth; by default the trained one."
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="By default the one that was trained for.")
    ] = None,
    weights: Annotated[str | None, typer.Option(metavar="COL", help="Column with weights of rows.")] = None,
    json: Json = False,
) -> None:
    """Score a bundle on rows whose truth is known: every member, every fusion tried, and the fused model.

    Each value has half of its 95 % interval beside it, and the paired difference to the fused model on the
    same rows: above 0 is worse than the fused model, and p says how likely chance alone gives such a
    difference. A second table shows the fusions that the fit compared by cross-validation.

    [bold]Examples[/]

      conjoin evaluate loans.conjoin test.csv

      conjoin evaluate loans.conjoin test.csv --metric auc --json
    """
    from conjoin.bundle import load
    from conjoin.report import evaluate as score
    from conjoin.report import tables
    from conjoin.tables import read_table

    record = score(load(bundle), read_table(file), target=target, metric=metric, weights=weights)
    if json:
        print_json(record)
        return
    for text in record["notes"]:
        note(text)
    console().print(tables.leaderboard(record["leaderboard"], metric=record["metric"]))
    for title, rows in tables.choice({k: v for k, v in record["choice"].items() if k != "front"}):
        say(title)
        console().print(rows)
    say(f"{record['rows']:,} rows; {record['better']} {record['metric']} is better")
