"""`conjoin fit`: train several models on a table, fuse them, save the bundle."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from conjoin.cli.options import Force, Json, Output, Table, amount, names, numbers
from conjoin.cli.show import console, note, print_json, say
from conjoin.errors import FileError

if TYPE_CHECKING:
    from conjoin.compose import Ensemble
    from conjoin.train.progress import Progress

JOURNAL = "journal.json"
LEARN, LIMITS, REPEAT = "What to learn", "Limits", "Repeat or go on"


def fit(
    file: Table,
    target: Annotated[
        str, typer.Option("-t", "--target", metavar="COL", help="The column to predict.", show_default=False)
    ],
    output: Output,
    *,
    time_limit: Annotated[
        str, typer.Option(metavar="TIME", help="Time on the clock: 60, 10m, 1h.", rich_help_panel=LIMITS)
    ] = "60",
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="fast, balanced or best.", rich_help_panel=LIMITS)
    ] = "balanced",
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What to be good at: log_loss, auc, f1, rmse, mae, ...",
            rich_help_panel=LEARN,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="binary, multiclass, regression or quantile; found out where not given.",
            rich_help_panel=LEARN,
        ),
    ] = None,
    quantiles: Annotated[
        str | None,
        typer.Option(metavar="LEVELS", help="Levels to predict: 0.1,0.5,0.9.", rich_help_panel=LEARN),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="COL", help="Column with weights of rows.", rich_help_panel=LEARN)
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="COL", help="Rows of one group stay in one fold: a person, a day.", rich_help_panel=LEARN
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="COLS", help="Columns not to learn from.", rich_help_panel=LEARN),
    ] = None,
    balance: Annotated[
        bool,
        typer.Option(
            "--balance", metavar=" ", help="Rare classes weigh as much as common ones.", rich_help_panel=LEARN
        ),
    ] = False,
    folds: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Folds of cross-validation.", rich_help_panel=LEARN)
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed.", rich_help_panel=REPEAT)] = 0,
    members: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Only these, such as lightgbm,linear.", rich_help_panel=LEARN),
    ] = None,
    max_latency: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="CPU time of one row at most: 0.5ms.", rich_help_panel=LIMITS),
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Size at most: 10MB.", rich_help_panel=LIMITS)
    ] = None,
    memory_limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory at most: 4GB.", rich_help_panel=LIMITS)
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, metavar="N", help="Threads; 0 is one per core.", rich_help_panel=LIMITS)
    ] = 0,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="How the bundle calls itself.", rich_help_panel=REPEAT)
    ] = "ensemble",
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Repeat the plan of a bundle (or a JSON file), byte for byte.",
            rich_help_panel=REPEAT,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", metavar=" ", help="Go on with a fit that was stopped.", rich_help_panel=REPEAT
        ),
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train several models on a table, fuse them, and save them as one bundle.

    The time limit is kept. Ctrl-C ends the training in good order: the bundle then holds what was done, and
    the same command with --resume goes on.

    [bold]Examples[/]

      conjoin fit loans.csv --target status -o loans.conjoin

      conjoin fit houses.parquet -t price -o houses.conjoin --metric mae

      conjoin fit loans.csv -t status -o again.conjoin --plan loans.conjoin
    """
    from conjoin.bundle import save
    from conjoin.bundle.place import check_place
    from conjoin.cli.progress import shown

    begin = time.monotonic()
    place = check_place(output, force=force or resume)
    options: dict[str, Any] = {
        "target": target,
        "time_limit": amount(time_limit, "time", "--time-limit"),
        "preset": preset,
        "metric": metric,
        "task": task,
        "seed": seed,
        "folds": folds,
        "groups": groups,
        "weights": weights,
        "balance": balance,
        "threads": threads,
        "quantiles": numbers(quantiles, "--quantiles") if quantiles else (),
        "max_latency": amount(max_latency, "time", "--max-latency") if max_latency else None,
        "max_size": int(amount(max_size, "size", "--max-size")) if max_size else None,
        "memory_limit": amount(memory_limit, "size", "--memory-limit") / 1e6 if memory_limit else None,
        "members": names(members) or None,
        "ignore": names(ignore),
        "plan": read_plan(plan) if plan else None,
        "name": name,
    }
    work = Work(place.with_name(f".{place.name}.work"))
    with shown() as progress, _terminated_as_interrupted(), work.kept_if_worth():
        ensemble = _fit(file, options, work, resume, progress)
        _save_somewhere(ensemble, output, force or resume, save)
    work.finish(ensemble)
    record = _record(ensemble, output, time.monotonic() - begin)
    if json:
        print_json(record)
    else:
        _print(record)


def _fit(file: Path, options: Mapping[str, Any], work: Work, resume: bool, progress: Progress) -> Ensemble:
    from conjoin.tables import read_table
    from conjoin.train import fit as train
    from conjoin.train.progress import Event

    progress(Event("read", f"reading {file}"))
    batch = read_table(file)
    if options["plan"] is not None:
        return train(batch, progress=progress, **options)
    return train(batch, progress=progress, work=work.folder, resume=work.begin(resume=resume), **options)


@dataclass(frozen=True, slots=True)
class Work:
    """The folder beside a bundle in which a fit writes down what is done, for `--resume`."""

    folder: Path

    def begin(self, *, resume: bool) -> bool:
        """Whether there is something to go on with; where nobody asked for that, it is taken away."""
        there = (self.folder / JOURNAL).is_file()
        if resume and not there:
            note("there is no stopped fit to go on with; this one begins anew")
        if there and not resume:
            shutil.rmtree(self.folder)
        return resume and there

    @contextmanager
    def kept_if_worth(self) -> Iterator[None]:
        """After an error the folder stays where a member is in it."""
        try:
            yield
        except BaseException:
            if self.folder.is_dir() and {p.name for p in self.folder.iterdir()} <= {JOURNAL}:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def finish(self, ensemble: Ensemble) -> None:
        """Take the folder away, unless the fit was stopped before its end."""
        told = cast("list[Any]", ensemble.card.provenance.get("notes") or [])
        if any(str(text).endswith("stopped") for text in told):
            note("the fit was stopped; the bundle holds what was done, and --resume goes on")
        elif (self.folder / JOURNAL).is_file():
            shutil.rmtree(self.folder, ignore_errors=True)


def read_plan(path: Path) -> Any:
    """The plan of a bundle, or of a JSON file. Raises FileError, BundleError, InputError."""
    from conjoin.bundle import inspect
    from conjoin.bundle.format import MAX_DOCUMENT, file_error, parse
    from conjoin.errors import InputError

    if path.is_dir():
        found = inspect(path).get("plan")
        if not found:
            raise InputError(f"the bundle {str(path)!r} has no plan: it was not made by a fit")
        return found
    try:
        with path.open("rb") as stream:
            return parse(stream.read(MAX_DOCUMENT), f"the plan {str(path)!r}")
    except OSError as error:
        raise file_error(error, path, "read") from error


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """A polite kill does what Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _save_somewhere(ensemble: Ensemble, output: Path, force: bool, save: Any) -> None:
    """Save the ensemble; where the disk refuses, in the temporary folder, so that no work is lost."""
    try:
        save(ensemble, output, force=force)
    except FileError as error:
        rescue = Path(tempfile.mkdtemp(prefix="conjoin-")) / (output.name or "ensemble.conjoin")
        try:
            save(ensemble, rescue)
        except FileError:
            raise error from None
        raise FileError(
            f"{error}. The bundle was saved as {str(rescue)!r} instead; move it from there"
        ) from error


def _record(ensemble: Ensemble, output: Path, seconds: float) -> dict[str, Any]:
    known = ensemble.card.provenance
    size = sum(p.stat().st_size for p in output.iterdir())
    return {
        "bundle": str(output),
        "bytes": size,
        "seconds": seconds,
        "kind": ensemble.card.kind,
        "classes": list(ensemble.card.classes),
        "members": list(ensemble.members),
        "scores": known.get("scores") or [],
        "choice": known.get("choice") or {},
        "data": known.get("data") or {},
        "notes": known.get("notes") or [],
        "cpu_seconds_per_row": ensemble.card.cost.cpu_seconds_per_row,
    }


def _print(record: Mapping[str, Any]) -> None:
    from conjoin.bundle.readme import bytes_text
    from conjoin.report import tables

    for text in record["notes"]:
        note(str(text))
    out = console()
    out.print(tables.trained(record["scores"]))
    for title, rows in tables.choice(record["choice"]):
        say(title)
        out.print(rows)
    kept = len(record["members"])
    size = bytes_text(record["bytes"])
    say(f"wrote {record['bundle']}: {kept} member{'s' * (kept != 1)}, {size}, {record['seconds']:.1f} s")
