"""`conjoin transplant`: the weights of one architecture go into another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conjoin.cli.options import Force, Json, Output, names
from conjoin.cli.show import console, note, print_json, say

if TYPE_CHECKING:
    from conjoin.transfer.transplant import Transplanted

MOST_LAYERS = 60
"""Rows of the table at most; the rest is counted."""


def transplant(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Folder or file of safetensors to take from.", show_default=False
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="TARGET", help="The same, of the fresh model to fill.", show_default=False),
    ],
    output: Output,
    *,
    match: Annotated[
        str, typer.Option(metavar="RULE", help="auto, name, shape, structure, or none (the map alone).")
    ] = "auto",
    mapping: Annotated[
        Path | None,
        typer.Option("--map", metavar="FILE", help="JSON or YAML: target name or pattern -> source name."),
    ] = None,
    width: Annotated[
        str, typer.Option(metavar="RULE", help="Other widths: even, importance, grow, crop, none.")
    ] = "even",
    depth: Annotated[
        str, typer.Option(metavar="RULE", help="Other depths: even, repeat, first, last, none.")
    ] = "even",
    channels: Annotated[
        str, typer.Option(metavar="RULE", help="Input layer: repeat (as timm), mean, first, fresh.")
    ] = "repeat",
    positions: Annotated[
        str, typer.Option(metavar="RULE", help="Position embeddings: resample, grid, line, crop, fresh.")
    ] = "resample",
    prefix: Annotated[
        int | None, typer.Option(metavar="N", help="Positions before the grid, of class tokens.")
    ] = None,
    source_classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Classes of the source, one a line; else its config.")
    ] = None,
    target_classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Classes of the target, one a line; else its config.")
    ] = None,
    source_tokenizer: Annotated[
        Path | None, typer.Option(metavar="FILE", help="tokenizer.json of the source; else in its folder.")
    ] = None,
    target_tokenizer: Annotated[
        Path | None, typer.Option(metavar="FILE", help="tokenizer.json of the target; else in its folder.")
    ] = None,
    unseen: Annotated[
        str, typer.Option(metavar="RULE", help="Tokens that the source lacks: pieces, mean, zero, fresh.")
    ] = "pieces",
    leave: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Target names that stay fresh; stars allowed; may be repeated."),
    ] = None,
    align: Annotated[
        float | None,
        typer.Option(metavar="T", help="Permute the source's units to the target's, then average; T of it."),
    ] = None,
    heads: Annotated[
        int | None, typer.Option(metavar="N", help="Attention heads of the source; else its config.")
    ] = None,
    noise: Annotated[
        float, typer.Option(metavar="X", help="Noise on grown tensors, as a part of their deviation.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the noise, and of the alignment.")] = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Carry the weights of one architecture into another: other widths, depths, heads, tokens.

    The target's weights are the fresh start; the answer has its names, shapes, types and other files. Every
    tensor is told: carried, adapted (how), or fresh (why). What is not clear is left fresh, never
    guessed. Memory holds one tensor at a time, but for --align.

    [bold]Examples[/]

      conjoin transplant small large -o start --noise 0.01

      conjoin transplant bert my-bert -o start --width importance --leave "cls.*"

      conjoin transplant source target -o start --match none --map names.yml
    """
    from conjoin.transfer.transplant import transplant

    done = transplant(
        source,
        target,
        out=output,
        match=match,
        mapping=mapping,
        width=width,
        depth=depth,
        channels=channels,
        positions=positions,
        prefix=prefix,
        source_classes=source_classes,
        target_classes=target_classes,
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
        unseen=unseen,
        leave=names(leave),
        align=align,
        heads=heads,
        noise=noise,
        seed=seed,
        force=force,
    )
    for text in done.notes:
        note(text)
    if json:
        print_json({"path": str(output), **done.document()})
        return
    _table(done)
    say(f"wrote {output}: matched by {done.matched}")


def _table(done: Transplanted) -> None:
    from rich.table import Table
    from rich.text import Text

    from conjoin.bundle.readme import printable
    from conjoin.transfer.transplant.report import KINDS

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("layer", overflow="fold")
    for kind in KINDS:
        table.add_column(kind, justify="right", no_wrap=True)
    table.add_column("how", overflow="fold")
    layers = done.layers()
    for layer in layers[:MOST_LAYERS]:
        whole = max(sum(layer.parameters.values()), 1)
        shares = [f"{layer.parameters[k] / whole:.0%}" if layer.tensors[k] else "" for k in KINDS]
        table.add_row(Text(printable(layer.name)), *shares, Text(printable("; ".join(layer.told[:4]))))
    if len(layers) > MOST_LAYERS:
        table.add_row(f"and {len(layers) - MOST_LAYERS} more", "", "", "", "--json tells every tensor")
    counts, sizes = done.tensors(), done.parameters()
    whole = max(sum(sizes.values()), 1)
    told = [f"{sizes[k] / whole:.0%}" for k in KINDS]
    rest = ", ".join(f"{counts[k]} tensors {k}" for k in KINDS)
    table.add_row(Text("all", style="bold"), *told, f"{rest}; of {whole:,} parameters")
    console().print(table)
    if done.unused:
        shown = [f"{n} {s}" for n, s in list(done.unused.items())[:8]]
        more = f" and {len(done.unused) - 8} more" if len(done.unused) > 8 else ""
        say(f"not used of the source: {', '.join(shown)}{more}")
