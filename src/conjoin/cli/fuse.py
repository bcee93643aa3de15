"""`conjoin fuse`: what several models answered, from files, becomes one answer."""

from __future__ import annotations

import json as json_
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from conjoin.cli.options import Force, Json, Output, amount, names
from conjoin.cli.show import console, note, print_json, say
from conjoin.errors import InputError, listed, nearest

Kind = Annotated[
    str,
    typer.Argument(
        metavar="KIND",
        help="probabilities, values, quantiles, labels, ranking, boxes, masks, spans, texts, embeddings.",
        show_default=False,
    ),
]
Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILES", help="Answers to the same rows, a file per model.", show_default=False),
]
Id = Annotated[
    str | None,
    typer.Option(metavar="COL", help='Column that names the rows; by default "id" where all tables have it.'),
]
Target = Annotated[
    str | None, typer.Option("-t", "--target", metavar="COL", help="Which column of --truth it is.")
]


def fuse(
    kind: Kind,
    files: Files,
    output: Output,
    *,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The truth of the rows, to learn from and to score.")
    ] = None,
    target: Target = None,
    method: Annotated[
        str, typer.Option("-m", "--method", metavar="NAME", help="An operator, or auto: see above.")
    ] = "auto",
    weights: Annotated[
        str | None, typer.Option(metavar="WEIGHTS", help="Of the models, by file name: a=0.6,b=0.4.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the method, such as k=60."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to be good at; by default the field's.")
    ] = None,
    id: Id = None,  # noqa: A002
    time_limit: Annotated[str, typer.Option(metavar="TIME", help="For choosing among methods.")] = "60",
    seed: Annotated[int, typer.Option(metavar="N", help="Seed.")] = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Fuse what several models answered to the same rows.

    Files by kind: tables (CSV, parquet, JSON lines) or .npz of probabilities, values or quantiles, with a
    column for each class or level; labels as CSV of task,worker,label; ranking as TREC runs; boxes as COCO
    results JSON; masks as .npz, NIfTI or folders of PNG; spans as JSON lines; texts as lines, or as CTM of
    speech recognisers; embeddings as .npz. The truth is in the field's own form: qrels, COCO annotations,
    STM. Models are called by the names of their files.

    With --truth, auto compares the operators of the kind by cross-validation, prints the table and takes the
    best that is surely better than the simple ones; rows that the truth lacks are fused too. Without it, auto
    is the operator that the field trusts most, and says which. The message about a wrong --method
    lists all of the kind.

    Numbers and probabilities. Without truth: mean, linear_pool (with --weights), log_pool, median,
    trimmed_mean, vote, product, maximum, minimum, weighted_sum. They learn from the truth: linear_pool,
    log_pool, greedy_selection, stacking, nnls, class_weights, network, gate, best_single, inverse_error.

    [bold]Examples[/]

      conjoin fuse probabilities a.csv b.csv c.csv --truth y.csv -o fused.csv

      conjoin fuse values a.csv b.csv --weights a=0.7,b=0.3 -o fused.csv

      conjoin fuse ranking bm25.run dense.run -m rrf --set k=60 -o fused.run

      conjoin fuse boxes yolo.json nanodet.json --truth coco.json -o fused.json
    """
    from conjoin.bundle.place import check_file
    from conjoin.report.fuse import How
    from conjoin.report.fuse import fuse as fused_of
    from conjoin.report.sources import sources

    check_file(output, force=force)
    deadline = time.monotonic() + amount(time_limit, "time", "--time-limit")
    read = sources(kind, files, truth, id=id, target=target)
    found = read.found
    how = How(method, read_weights(weights, found.outputs), metric, seed, deadline, read_options(option))
    fused, record = fused_of(found, how)
    columns = _write(read, fused, output)
    silent = int((~fused.answered).sum())  # type: ignore[attr-defined]
    record = {
        "output": str(output),
        "rows": len(fused),
        "unanswered": silent,
        "columns": columns,
        "id": read.id,
        "matched": read.matched,
        **record,
    }
    if json:
        print_json(record)
    else:
        _print(record)


def _write(read: Any, fused: Any, output: Path) -> list[str]:
    """Write the fused answer in the form of the kind; returns the names of its columns, for tables."""
    from conjoin.cli.predict import answer_columns
    from conjoin.tables import write_table

    if read.write is not None:
        read.write(fused, output)
        return []
    kept = {} if read.id is None or read.ids is None else {read.id: read.ids}
    columns = answer_columns(fused, kept)
    write_table(columns, output)
    return list(columns)


def read_options(words: Sequence[str] | None) -> dict[str, Any]:
    """Parameters as `name=value`; a value is JSON, or a plain word. Raises InputError.

    >>> read_options(["k=60", "norm=min_max"])
    {'k': 60, 'norm': 'min_max'}
    """
    found: dict[str, Any] = {}
    for word in words or ():
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise InputError(f"--set must be such as k=60, not {word!r}")
        try:
            found[name.strip().replace("-", "_")] = json_.loads(value)
        except ValueError:
            found[name.strip().replace("-", "_")] = value
    return found


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
    if record.get("leaderboard"):
        out.print(tables.leaderboard(record["leaderboard"], metric=record["metric"]))
        if record.get("cross_validated"):
            note(f"{record['method']} is scored by cross-validation; its answers come from a fit on all rows")
    for title, rows in tables.choice(record.get("choice") or {}):
        say(title)
        out.print(rows)
    if record.get("weights"):
        say("weights: " + ", ".join(f"{n} {w:.4g}" for n, w in record["weights"].items()))
    if record["unanswered"]:
        note(f"{record['unanswered']:,} rows are not answered: no model answered them")
    told = f"{record['rows']:,} rows, fused by {record['method']}, matched {record['matched']}"
    say(f"wrote {record['output']}: {told}")
