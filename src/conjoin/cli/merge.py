"""`conjoin merge`: the weights of several models become one model, by a recipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conjoin.cli.options import Json, amount
from conjoin.cli.show import console, note, print_json, say
from conjoin.errors import InputError, StoppedError

if TYPE_CHECKING:
    from conjoin.transfer.merge.searching import Budget
    from conjoin.transfer.merge.stream import Progress, Report

PAUSE = 0.1
"""Seconds between two changes of the line of progress."""


def merge(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="YAML, as mergekit reads it.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The folder of the merged model.", show_default=False)
    ],
    *,
    threads: Annotated[
        int, typer.Option(min=0, metavar="N", help="Threads; 0 is one per core. The bytes do not change.")
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of methods that draw.")] = 0,
    shard_size: Annotated[str, typer.Option(metavar="SIZE", help="Size of a file at most.")] = "5GB",
    force: Annotated[
        bool, typer.Option("--force", metavar=" ", help="Replace what is already at OUT.")
    ] = False,
    allow_nan: Annotated[
        bool, typer.Option("--allow-nan", metavar=" ", help="NaN and infinite weights are told, no error.")
    ] = False,
    keep: Annotated[
        bool,
        typer.Option("--keep", metavar=" ", help="Keep the models of named documents, hidden beside OUT."),
    ] = False,
    evaluate: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="Judge the merge: a bundle, a .onnx file, or file.py:function."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Held-out rows for the bundle of --evaluate.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("-t", "--target", metavar="COL", help="Column of --data with the truth.")
    ] = None,
    score: Annotated[
        str | None, typer.Option(metavar="NAME", help="What counts; by default that of the kind.")
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", metavar=" ", help="Find the numbers of the recipe on --data.")
    ] = False,
    budget: Annotated[
        str | None, typer.Option(metavar="N|TIME", help="Of --search: merges to try (40), or a time (2m).")
    ] = None,
    fallback: Annotated[
        bool,
        typer.Option(
            "--fallback/--no-fallback", metavar=" ", help="Write what is better, where the merge is worse."
        ),
    ] = True,
    json: Json = False,
) -> None:
    """Merge the weights of several models of one architecture into one model.

    Models are folders of safetensors (or of pytorch_model.bin, read without running code), with an adapter
    as folder+adapter; of several documents, one that has a name is a model for others. The recipe is checked
    against their headers before anything is written; a message names its line. Memory does not grow with the
    models. A merge that was stopped goes on when the same command is run again, and the bytes are the same.
    config.json and the tokenizer are those of the base, or of the first model, unless the recipe says
    tokenizer_source: base, union or a model; then the rows of all models are matched by token. Models whose
    vocabularies have different sizes need it.

    Methods: linear, slerp, nuslerp, multislerp, karcher, passthrough, task_arithmetic, ties, dare_ties,
    dare_linear, breadcrumbs, breadcrumbs_ties, della, della_linear, model_stock, nearswap, sce, arcee_fusion,
    ram, ramplus_tl.

    --evaluate compares the merge on held-out data with every model alone, with their plain average and with
    the base. A bundle answers the rows of --data with the merged weights put into its graph, by the names of
    its tensors; a function of yours gets the folder of a model and returns a number, larger is better. Where
    the merge is worse, OUT holds the better one; one part of the rows decides this, another is reported.
    --search tries other numbers for the recipe, on a third part. OUT gets evaluation.json, and recipe.yml
    where numbers were searched.

    [bold]Examples[/]

      conjoin merge ties.yml merged

      conjoin merge ties.yml merged --threads 2 --shard-size 2GB --force

      conjoin merge ties.yml merged --evaluate net.conjoin --data rows.csv -t y
    """
    from conjoin.cli.judged import budget_of, judge_of, print_judgement
    from conjoin.transfer.merge import merge_recipe

    if evaluate is not None:
        by = judge_of(evaluate, data, target, score)
        options = {"seed": seed, "force": force, "threads": threads, "allow_nan": allow_nan}
        options["shard_bytes"] = int(amount(shard_size, "size", "--shard-size"))
        record = _judged(recipe, out, by, budget_of(budget) if search or budget else None, fallback, options)
        (print_json if json else print_judgement)(record)
        return
    if data or target or score or search or budget:
        raise InputError("--data, --target, --score, --search and --budget need --evaluate")
    begin = time.monotonic()
    shard_bytes = int(amount(shard_size, "size", "--shard-size"))
    try:
        with _shown() as report:
            done = merge_recipe(
                recipe,
                out,
                seed=seed,
                threads=threads,
                shard_bytes=shard_bytes,
                report=report,
                allow_nan=allow_nan,
                keep=keep,
                force=force,
            )
    except KeyboardInterrupt:
        raise StoppedError("stopped; what is merged is kept, and the same command goes on from it") from None
    seconds = time.monotonic() - begin
    for text in done.notes:
        note(text)
    if json:
        print_json(
            {
                "path": str(out),
                "method": done.method,
                "models": list(done.models),
                "tensors": done.tensors,
                "bytes": done.bytes,
                "seconds": seconds,
                "notes": list(done.notes),
            }
        )
        return
    from conjoin.errors import bytes_text

    say(
        f"wrote {out}: {done.method} of {len(done.models)} models, {done.tensors} tensors, "
        f"{bytes_text(done.bytes)}, {seconds:.1f} s"
    )


def _judged(
    recipe: Path, out: Path, by: Any, budget: Budget | None, fallback: bool, options: dict[str, Any]
) -> dict[str, Any]:
    """Merge, judge, and search where there is a budget for it; the record, with the path."""
    from conjoin.cli.judged import watched
    from conjoin.transfer.merge.judging import judge_recipe
    from conjoin.transfer.merge.searching import search_recipe

    try:
        if budget is None:
            with _shown() as report:
                done = judge_recipe(recipe, out, by, fallback=fallback, report=report, **options)
        else:
            with watched() as watch:
                done = search_recipe(recipe, out, by, budget=budget, watch=watch, **options)
    except KeyboardInterrupt:
        raise StoppedError("stopped; nothing is written, as nothing was judged to the end") from None
    return {"path": str(out), **done.record()}


@contextmanager
def _shown() -> Iterator[Report | None]:
    """Shows how far the merge is, on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.text import Text

    from conjoin.errors import bytes_text, printable

    last, begun = time.monotonic(), None
    with console(stderr=True).status("reading headers") as status:

        def show(progress: Progress) -> None:
            nonlocal last, begun
            now = time.monotonic()
            begun = begun or (now, progress.bytes)
            if now - last > PAUSE:
                last = now
                told = f"{bytes_text(progress.bytes)} of {bytes_text(progress.all_bytes)}"
                left = seconds_left(
                    now - begun[0], progress.bytes - begun[1], progress.all_bytes - progress.bytes
                )
                status.update(Text(printable(f"{told}{left}, {progress.name}")))

        yield show


def seconds_left(seconds: float, done: int, rest: int) -> str:
    """A word of the time left, told once enough is done to know the pace.

    >>> seconds_left(10, 100, 50), seconds_left(100, 100, 500), seconds_left(0.2, 100, 50)
    (', 5 s left', ', 8 min left', '')
    """
    if seconds < 1 or done <= 0:
        return ""
    left = seconds * rest / done
    return f", {left:.0f} s left" if left < 100 else f", {left / 60:.0f} min left"
