"""`python -m benchmarks.quality`: run what is not done yet, then write the tables."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import statistics
import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import outcomes, report, tables
from .environments import HERE, WORK, python_of
from .runs import RESULTS, Run, perform
from .systems import System, systems

console = Console(stderr=True)
GUESS_WITHOUT_LIMIT = 60.0
GUESS_BESIDE_LIMIT = 25.0


def main(
    table_names: Annotated[
        str, typer.Option("--tables", help="Names with commas between; all by default.")
    ] = "",
    system_names: Annotated[
        str, typer.Option("--systems", help="Names with commas between; all by default.")
    ] = "",
    limit: Annotated[float, typer.Option(help="Time limit in seconds; conjoin_short gets a sixth.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Seed of every system that takes one.")] = 0,
    fresh: Annotated[bool, typer.Option(help="Do the chosen runs again, also those already done.")] = False,
    keep: Annotated[bool, typer.Option(help="Keep the bundles under work/bundles.")] = False,
    only_report: Annotated[bool, typer.Option("--report", help="Run nothing, write the tables.")] = False,
    write: Annotated[bool, typer.Option(help="Write RESULTS.md when every table and system is in.")] = True,
) -> None:
    """Compare conjoin with its peers on twelve real tables, interleaved, one process at a time."""
    chosen_tables = [tables.table(name) for name in _names(table_names, list(tables.TASKS))]
    known = systems(limit)
    chosen_systems = [known[name] for name in _names(system_names, list(known))]
    planned = [Run(table, system, seed) for table in chosen_tables for system in chosen_systems]
    if not only_report:
        with _alone():
            _prepare(chosen_systems, planned, fresh=fresh)
            _perform(planned, keep=keep)
    text = report.make(planned)
    print(text)
    if write and not table_names and not system_names:
        _write(text, planned)


def _write(text: str, planned: list[Run]) -> None:
    """Keep the tables, unless a run is missing or was made with other sources than today's."""
    absent = [run.name for run in planned if not run.done]
    if absent:
        console.print(f"RESULTS.md is left as it was: {len(absent)} runs are to be done, {absent[0]} first")
        return
    (HERE / "RESULTS.md").write_text(text)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold a lock while runs are done: two benchmarks at once would measure each other."""
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print("another run of this benchmark is under way here; wait for it, or use --report")
            raise typer.Exit(1) from None
        yield


def _names(given: str, known: list[str]) -> list[str]:
    names = [name.strip() for name in given.split(",") if name.strip()] or known
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"no {name!r}; there are {', '.join(known)}")
    return names


def _prepare(chosen: list[System], planned: list[Run], *, fresh: bool) -> None:
    """Make the environments, forget what an interrupted run left, and what is to be done again."""
    for name in sorted({system.environment for system in chosen}):
        python_of(name, console.print)
    shutil.rmtree(WORK / "running", ignore_errors=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    if fresh:
        for run in planned:
            run.record.unlink(missing_ok=True)


def _perform(planned: list[Run], *, keep: bool) -> None:
    waiting = [run for run in planned if not run.done]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("starting", total=len(waiting), left="")
        taken: dict[str, list[float]] = {}
        for index, run in enumerate(waiting):
            left = sum(_guess(one.system, taken) for one in waiting[index:])
            progress.update(bar, description=run.name, left=f"about {left / 60:.0f} min left")
            start = time.perf_counter()
            record = perform(run, keep=keep)
            taken.setdefault(run.system.name, []).append(time.perf_counter() - start)
            progress.console.print(_line(run, record))
            progress.advance(bar)


def _guess(system: System, taken: dict[str, list[float]]) -> float:
    """Seconds that a run of this system will take, from those done, or from its limit."""
    if system.name in taken:
        return statistics.mean(taken[system.name])
    return system.limit + GUESS_BESIDE_LIMIT if system.limit else GUESS_WITHOUT_LIMIT


def _line(run: Run, record: dict[str, object]) -> str:
    if "failed" in record:
        return f"{run.name}: failed: {record['failed']}"
    found = outcomes.outcome(run)
    assert found is not None
    return f"{run.name}: {found.measure} {found.loss:.5g}, fit {record['fit_wall']:.1f} s"


typer.run(main)
