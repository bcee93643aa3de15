"""`conjoin score`: how good the answers in files are, by the metrics of their field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from conjoin.cli.fuse import Files, Id, Kind, Target
from conjoin.cli.options import Json, names
from conjoin.cli.show import console, print_json


def score(
    kind: Kind,
    files: Files,
    *,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The truth of the rows; an .npz may hold it itself.")
    ] = None,
    target: Target = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAMES", help="Which metrics; by default all of the field.")
    ] = None,
    id: Id = None,  # noqa: A002
    json: Json = False,
) -> None:
    """Score what models answered, by the metrics of the field, each with its 95 % interval.

    The files are those of `conjoin fuse`, and what it writes. Rows without a truth do not count.

    [bold]Examples[/]

      conjoin score ranking bm25.run dense.run --truth qrels.txt

      conjoin score boxes yolo.json fused.json --truth coco.json --metric ap
    """
    from conjoin.report.fuse import score_files
    from conjoin.report.sources import sources
    from conjoin.report.tables import scored

    read = sources(kind, files, truth, id=id, target=target)
    rows = score_files(read.found, names(metric) or None)
    record: dict[str, Any] = {"kind": kind, "rows": len(read.found.rows), "files": rows}
    if json:
        print_json(record)
    else:
        console().print(scored(rows))
