"""The command line: one file per verb, each of which calls public functions of the library.

Heavy libraries are imported inside the verbs, so that `conjoin --help` stays quick. With `--json` a verb
writes one JSON document to stdout; tables go to stdout, progress and notes to stderr. Exit statuses are in
`errors.py`; a bad command line is 2.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType
from typing import Annotated, Any

import typer

from conjoin.cli import distil, evaluate, export, finetune, fit, fuse, info, merge, predict, score, transplant
from conjoin.cli.show import error_text, note, print_error, print_json
from conjoin.errors import ConjoinError, StoppedError

DEBUG = "CONJOIN_DEBUG"

VERBS: dict[str, Callable[..., None]] = {
    "fit": fit.fit,
    "evaluate": evaluate.evaluate,
    "predict": predict.predict,
    "info": info.info,
    "fuse": fuse.fuse,
    "score": score.score,
    "merge": merge.merge,
    "distil": distil.distil,
    "transplant": transplant.transplant,
    "finetune": finetune.finetune,
    "export": export.export,
}
"""Every verb of the command line."""


def _help(text: str) -> str:
    """A docstring for a terminal: paragraphs in one line each, set-in lines as they are."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(p if p.startswith(" ") else " ".join(p.split()) for p in paragraphs)


def _guarded(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb, which ends with an exit status instead of an error, and tells of it in one message."""

    @functools.wraps(verb)
    def call(*words: Any, **options: Any) -> None:
        with _interrupts() as interrupted:
            try:
                with warnings.catch_warnings():
                    _quiet()
                    verb(*words, **options)
                    sys.stdout.flush()
            except KeyboardInterrupt:
                raise typer.Exit(_stopped(json=options["json"])) from None
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # it will be flushed once more
            except Exception as error:
                told = isinstance(error, StoppedError)
                if interrupted.is_set() and not told:  # a library being imported tells of it in its own way
                    raise typer.Exit(_stopped(json=options["json"])) from None
                raise typer.Exit(_told(error, json=options["json"])) from error

    return call


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Set at the first Ctrl-C, which raises KeyboardInterrupt as ever; a verb that ends leaves no trace."""
    seen = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        seen.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield seen
    finally:
        if not seen.is_set():  # else the process is ending, and one more must not cut its message
            signal.signal(signal.SIGINT, before)


def _stopped(*, json: bool) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient one more must not cut the message
    return _told(StoppedError("stopped; nothing was written"), json=json)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"conjoin {version('conjoin')}")
        raise typer.Exit


def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop."),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", metavar=" ", help=f"Show Python's traceback of an error; {DEBUG}=1 does the same."
        ),
    ] = False,
) -> None:
    if debug:
        os.environ[DEBUG] = "1"


def _application(names: Iterable[str]) -> typer.Typer:
    """The command with these verbs."""
    found = typer.Typer(
        name="conjoin",
        help="Many models, one answer: train or bring several models, fuse them, use them as one.",
        epilog="First steps: conjoin fit loans.csv --target status -o loans.conjoin",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    found.callback()(_common)
    for name in names:
        verb = VERBS[name]
        found.command(name, help=_help(verb.__doc__ or ""), no_args_is_help=True)(_guarded(verb))
    return found


app = _application(VERBS)


def main() -> None:
    """The command `conjoin`: runs the verb on the command line and exits with its status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a sign shows another one
    status = run(sys.argv[1:])
    if status == StoppedError.exit_status:  # threads may still be deep in a library: nothing is torn down
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run a command line; returns its exit status."""
    alone = arguments[:1] if arguments and arguments[0] in VERBS else None
    try:  # options of other verbs take a while to look at
        (_application(alone) if alone else app)(list(arguments), prog_name="conjoin")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    return 0


def _told(error: BaseException, *, json: bool) -> int:
    """The exit status of an error, after it was told."""
    if os.environ.get(DEBUG, "") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
    kind, message = error_text(error)
    print_error(message)
    if json:
        print_json({"error": {"type": kind, "message": message}})
    return error.exit_status if isinstance(error, ConjoinError) else 1


def _quiet() -> None:
    """Warnings of libraries are not for users of a command; what a table had to be changed is a note."""

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if category.__module__.partition(".")[0] == "conjoin":
            note(str(message))

    warnings.simplefilter("always")
    warnings.showwarning = show
