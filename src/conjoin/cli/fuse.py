"""`conjoin fuse`: predictions of several models, from files, become one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from conjoin.cli.options import Force, Json, Output, amount, names
from conjoin.cli.show import console, note, print_json, say
from conjoin.errors import InputError, listed, nearest


def fuse(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="probabilities or values.", show_default=False)],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES", help="Predictions of the same rows, a file per model.", show_default=False
        ),
    ],
    output: Output,
    *,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The truth of the rows, to learn from and to score.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("-t", "--target", metavar="COL", help="Which column of --truth it is.")
    ] = None,
    method: Annotated[
        str, typer.Option("-m", "--method", metavar="NAME", help="A fuser, or auto: see above.")
    ] = "auto",
    weights: Annotated[
        str | None, typer.Option(metavar="WEIGHTS", help="Of the models, by file name: a=0.6,b=0.4.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to be good at; log_loss or rmse by default.")
    ] = None,
    id: Annotated[  # noqa: A002
        str | None,
        typer.Option(
            metavar="COL", help='Column that names the rows; by default "id" where all files have it.'
        ),
    ] = None,
    time_limit: Annotated[str, typer.Option(metavar="TIME", help="For choosing among methods.")] = "60",
    seed: Annotated[int, typer.Option(metavar="N", help="Seed.")] = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Fuse predictions that several models made of the same rows.

    A file of probabilities has a column for each class, under its name, as `conjoin predict` writes it; a
    file of values has one column of numbers. Rows are matched by an id column where there is one, else by
    their order. Models are called by the names of their files.

    With --truth, auto compares many methods by cross-validation, prints the table and takes the best that is
    surely better than the simple ones; without it, auto is the mean. Methods that need no truth: mean,
    linear_pool (with --weights), log_pool, median, trimmed_mean, vote, product, maximum, minimum,
    weighted_sum. Methods that learn from it: linear_pool, log_pool, greedy_selection, stacking, nnls,
    class_weights, network, gate, best_single, inverse_error; and choice, which is auto, but with an honest
    score of the choosing itself (five times the work).

    [bold]Examples[/]

      conjoin fuse probabilities a.csv b.csv c.csv --truth y.csv -o fused.csv

      conjoin fuse values a.csv b.csv --weights a=0.7,b=0.3 -o fused.csv

      conjoin fuse probabilities a.csv b.csv -m log_pool -o fused.parquet
    """
    from conjoin.bundle.place import check_file
    from conjoin.cli.predict import answer_columns
    from conjoin.report.align import align
    from conjoin.report.fuse import How
    from conjoin.report.fuse import fuse as fused_of
    from conjoin.tables import read_table, write_table

    check_file(output, force=force)
    deadline = time.monotonic() + amount(time_limit, "time", "--time-limit")
    given = {n: read_table(p) for n, p in _named(files).items()}
    found = align(given, kind, id=id, truth=None if truth is None else read_table(truth), target=target)
    how = How(method, read_weights(weights, given), metric, seed, deadline)
    fused, record = fused_of(found, how)
    kept = {} if found.id is None or found.ids is None else {found.id: found.ids}
    columns = answer_columns(fused, kept)
    write_table(columns, output)
    record = {"output": str(output), "rows": len(fused), "columns": list(columns), "id": found.id, **record}
    if json:
        print_json(record)
    else:
        _print(record)


def _named(files: Sequence[Path]) -> dict[str, Path]:
    """The files by the shortest ends of their paths that differ."""
    stems = [p.name.split(".")[0] or p.name for p in files]
    paths = [str(p) for p in files]
    if len(set(paths)) != len(paths):
        raise InputError(f"a file is given twice: {listed(p for p in paths if paths.count(p) > 1)}")
    return dict(zip(stems if len(set(stems)) == len(stems) else paths, files, strict=True))


def read_weights(text: str | None, known: Mapping[str, object]) -> dict[str, float] | None:
    """Weights as `a=0.6,b=0.4`; a model without one has weight 0. Raises InputError.

    >>> read_weights("a=0.6, b=0.4", {"a": 0, "b": 0, "c": 0})
    {'a': 0.6, 'b': 0.4, 'c': 0.0}
    """
    if text is None:
        return None
    found = dict.fromkeys(known, 0.0)
    for word in names([text]):
        name, _, number = word.rpartition("=")
        if name not in found:
            raise InputError(
                f"--weights names {name or word!r}{nearest(name, known)}; there are {listed(known)}"
            )
        try:
            found[name] = float(number)
        except ValueError as error:
            raise InputError(f"--weights must be such as a=0.6,b=0.4; {word!r} is not") from error
    return found


def _print(record: Mapping[str, Any]) -> None:
    from conjoin.report import tables

    out = console()
    matched = f"by the column {record['id']!r}" if record["id"] else "by their order"
    if record.get("leaderboard"):
        out.print(tables.leaderboard(record["leaderboard"], metric=record["metric"]))
        if record.get("cross_validated"):
            note(f"{record['method']} is scored by cross-validation; its answers come from a fit on all rows")
    for title, rows in tables.choice(record.get("choice") or {}):
        say(title)
        out.print(rows)
    if record.get("weights"):
        say("weights: " + ", ".join(f"{n} {w:.4g}" for n, w in record["weights"].items()))
    say(f"wrote {record['output']}: {record['rows']:,} rows, fused by {record['method']}, matched {matched}")
