"""`conjoin info`: what is inside a bundle, what it costs, what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from conjoin.cli.options import Bundle, Force, Json
from conjoin.cli.show import console, facts, print_json, say

MOST_COLUMNS = 30


def info(
    bundle: Bundle,
    *,
    check: Annotated[
        bool, typer.Option("--check", metavar=" ", help="Also load it: verify every digest and part.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Plot loss against cost, members and Pareto front: .svg, .png, .html, .json."
        ),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Show what is inside a bundle, what it costs and what it needs.

    Only its conjoin.json is read, and its own digest checked; --check loads all of it.

    [bold]Examples[/]

      conjoin info loans.conjoin

      conjoin info loans.conjoin --json | jq .columns

      conjoin info loans.conjoin --plot pareto.svg
    """
    from conjoin.bundle import load

    if bundle.suffix == ".onnx" and bundle.is_file():
        found = _of_onnx(bundle)
    else:
        from conjoin.bundle import inspect

        document = inspect(bundle)
        found = {k: v for k, v in document.items() if k not in ("parts", "plan")}
        found["bytes"] = sum(f["bytes"] for f in document["files"].values())
        if check:
            load(bundle)
            found["checked"] = True
    if plot is not None:
        _plot(found, plot, force)
    if json:
        print_json(found)
    else:
        _print(str(bundle), found)


def _of_onnx(path: Any) -> dict[str, Any]:
    from conjoin.bundle import load
    from conjoin.bundle.write import document_card

    return {**document_card(load(path).card, {}), "bytes": path.stat().st_size, "members": [], "fuser": None}


def _plot(found: Mapping[str, Any], path: Path, force: bool) -> None:
    from conjoin.bundle.place import check_file
    from conjoin.report.plots import pareto

    check_file(path, force=force)
    pareto(found.get("scores") or [], path)


def _print(path: str, found: Mapping[str, Any]) -> None:
    from conjoin.bundle.readme import bytes_text, seconds_text
    from conjoin.errors import listed
    from conjoin.report import tables

    cost = (found.get("cost") or {}).get("cpu_seconds_per_row")
    data = found.get("data") or {}
    rows = [
        ("bundle", path),
        ("answers", f"{found['kind']}{_of_what(found)}"),
        ("target", data.get("target")),
        ("trained on", f"{data['rows']} rows" if "rows" in data else None),
        ("size", bytes_text(found["bytes"])),
        ("cost", f"{seconds_text(cost)} CPU per row" if cost else None),
        ("fuser", (found.get("fuser") or {}).get("type")),
        ("licence", found.get("licence")),
        ("written by", found.get("written_by")),
        ("checked", "every digest and part is sound" if found.get("checked") else None),
    ]
    facts([(word, value) for word, value in rows if value is not None])
    out = console()
    if found["members"]:
        out.print(tables.members(found["members"]))
    scores = found.get("scores")
    if isinstance(scores, list) and scores:
        out.print(tables.trained(scores))
    out.print(tables.columns(found["columns"][:MOST_COLUMNS]))
    rest = [c["name"] for c in found["columns"][MOST_COLUMNS:]]
    if rest:
        say(f"and {len(rest)} more columns: {listed(rest)}")


def _of_what(found: Mapping[str, Any]) -> str:
    from conjoin.errors import listed

    if found.get("classes"):
        return f" of {len(found['classes'])} classes: {listed(found['classes'])}"
    return f" at {listed(found['levels'])}" if found.get("levels") else ""
