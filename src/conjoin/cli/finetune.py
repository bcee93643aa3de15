"""`conjoin finetune`: a trained network learns a new task from rows of a table, or from arrays."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conjoin.cli.options import Force, Json, Output, amount, names
from conjoin.cli.show import console, note, print_json, say
from conjoin.errors import (
    FileError,
    InputError,
    MemberError,
    NotExportableError,
    StoppedError,
    listed,
    nearest,
)

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array
    from conjoin.outputs import Output as Answers
    from conjoin.transfer.finetune import FineTuned

LEARN, LAYERS, LIMITS, FILES = "What to learn", "Layers and rates", "Limits", "Modules and files"
ARRAYS = (".npz", ".npy")


def finetune(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A bundle with a network in it, or FILE.py:FUNCTION that answers a torch module.",
            show_default=False,
        ),
    ],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Rows: CSV, parquet, JSON lines; arrays: .npz, .npy.", show_default=False
        ),
    ],
    target: Annotated[
        str,
        typer.Option(
            "-t",
            "--target",
            metavar="COL",
            help="The column (or array of the .npz, or .npy file) to predict.",
            show_default=False,
        ),
    ],
    output: Output,
    *,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="classes or numbers; found out where not given.", rich_help_panel=LEARN
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="COLS", help="Columns that a module takes, in order.", rich_help_panel=LEARN),
    ] = None,
    validation: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the rows to hold out.", rich_help_panel=LEARN)
    ] = 0.2,
    balance: Annotated[
        bool,
        typer.Option(
            "--balance", metavar=" ", help="Rare classes weigh as much as common ones.", rich_help_panel=LEARN
        ),
    ] = False,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYERS",
            help="So many from the first (-1: all but the last), or names: layer1.*,embed.",
            rich_help_panel=LAYERS,
        ),
    ] = None,
    thaw: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="A layer more learns after every N epochs.", rich_help_panel=LAYERS
        ),
    ] = None,
    rate: Annotated[float, typer.Option(metavar="R", help="Learning rate.", rich_help_panel=LAYERS)] = 1e-3,
    rates: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RATES",
            help="A factor for each layer down (0.5), or layer=rate,layer=rate.",
            rich_help_panel=LAYERS,
        ),
    ] = None,
    adapter: Annotated[
        str, typer.Option(metavar="NAME", help="lora or none.", rich_help_panel=LAYERS)
    ] = "none",
    rank: Annotated[int, typer.Option(min=1, metavar="N", help="Of lora.", rich_help_panel=LAYERS)] = 8,
    head: Annotated[
        str | None, typer.Option(metavar="LAYER", help="The layer to replace.", rich_help_panel=LAYERS)
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES", help="Classes of the module as it is: rows are carried.", rich_help_panel=LAYERS
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, metavar="N", help="At most.", rich_help_panel=LIMITS)] = 30,
    batch_size: Annotated[
        int, typer.Option(min=1, metavar="N", help="Rows of a step.", rich_help_panel=LIMITS)
    ] = 32,
    patience: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Epochs without a better score; 0 never stops.", rich_help_panel=LIMITS
        ),
    ] = 5,
    time_limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="On the clock: 60, 10m, 1h.", rich_help_panel=LIMITS)
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="cpu, cuda, mps; a GPU where there is one.", rich_help_panel=LIMITS
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="NAME", help="float32 or bfloat16.", rich_help_panel=LIMITS)
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed.", rich_help_panel=LIMITS)] = 0,
    resume: Annotated[
        bool,
        typer.Option("--resume", metavar=" ", help="Go on where it was stopped.", rich_help_panel=LIMITS),
    ] = False,
    member: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which network of the bundle.", rich_help_panel=FILES),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Safetensors to put into the module first.", rich_help_panel=FILES),
    ] = None,
    save_weights: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write the weights as safetensors too.", rich_help_panel=FILES),
    ] = None,
    save_adapter: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Write the adapter too, a folder as peft has it.", rich_help_panel=FILES
        ),
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train a network further, for another task or on more rows, and save it as a bundle.

    MODEL is a bundle with a network that conjoin trained (conjoin fit --members network), or a function of
    yours that answers a torch.nn.Module: nothing else can bring code. Its head is replaced where the task has
    other classes; the best epoch on held-out rows is kept. Ctrl-C keeps what was done for --resume.

    [bold]Examples[/]

      conjoin finetune loans.conjoin new.csv -t status -o new.conjoin --rates 0.5

      conjoin finetune nets.py:small x.npz -t kind -o k.conjoin --weights small

      conjoin finetune nets.py:small x.npy -t y.npy -o y.conjoin --adapter lora
    """
    from conjoin.bundle.place import check_place
    from conjoin.cli.progress import shown
    from conjoin.transfer.finetune import Lora

    begin = time.monotonic()
    place = check_place(output, force=force)
    if adapter not in ("none", "lora"):
        raise InputError(
            f"--adapter must be none or lora, not {adapter!r}{nearest(adapter, ['none', 'lora'])}"
        )
    if save_adapter is not None and adapter == "none":
        raise InputError("--save-adapter needs --adapter lora")
    batch, column = _read(file, target)
    batch, truth, notes = _truth(batch, column, target, task)
    work = place.with_name(f".{place.name}.work")
    if resume and not work.is_dir():
        note("there is no stopped training to go on with; this one begins anew")
    options: dict[str, Any] = {
        "freeze": _freeze(freeze),
        "thaw": thaw,
        "rate": rate,
        "rates": _rates(rates),
        "adapter": Lora(rank=rank) if adapter == "lora" else None,
        "validation": validation,
        "balance": balance,
        "epochs": epochs,
        "batch_size": batch_size,
        "patience": patience or None,
        "seed": seed,
        "device": device,
        "precision": precision,
        "time_limit": amount(time_limit, "time", "--time-limit") if time_limit else None,
        "checkpoints": work,
        "resume": resume,
    }
    own = {"head": head, "classes": names(classes) or None, "columns": names(columns) or None}
    try:
        with shown() as report:
            done = _tuned(model, batch, truth, member, weights, own, {**options, "report": report})
    except KeyboardInterrupt:
        if not work.is_dir():
            raise
        raise StoppedError("stopped; --resume goes on with the last whole epoch") from None
    _save(done, output, force, save_weights, save_adapter)
    if done.stopped == "time":
        note("the time was over; the bundle holds the best epoch, and --resume --force goes on")
    else:
        shutil.rmtree(work, ignore_errors=True)
    record = _record(done, output, time.monotonic() - begin, (*notes, *done.notes))
    if json:
        print_json(record)
    else:
        _print(done, record)


def _read(file: Path, target: str) -> tuple[dict[str, Array], Array]:
    """Columns or arrays, and the target of the rows. Raises FileError, TruthError."""
    from conjoin.tables import read_table
    from conjoin.train.truth import split

    if file.suffix.lower() == ".npy":
        if Path(target).suffix.lower() != ".npy":
            raise InputError(f"--target must be another .npy file where FILE is one, not {target!r}")
        found = {file.stem: _arrays(file)[""]}
        return found, _arrays(Path(target))[""]
    return split(_arrays(file) if file.suffix.lower() in ARRAYS else read_table(file), target)


def _arrays(path: Path) -> dict[str, Array]:
    """Arrays of an .npz, or the one of an .npy (""); never a pickle. Raises FileError."""
    import numpy as np

    try:
        found = np.load(path, allow_pickle=False)
        arrays = {"": found} if isinstance(found, np.ndarray) else {n: found[n] for n in found.files}
    except FileNotFoundError as error:
        raise FileError(f"there is no file {str(path)!r}") from error
    except (OSError, ValueError, EOFError) as error:
        raise FileError(f"{str(path)!r} holds no plain numpy arrays: {error}") from error
    if any(a.ndim == 0 for a in arrays.values()):
        raise FileError(f"{str(path)!r}: every array must have rows")
    return arrays


def _truth(
    batch: Batch, column: Array, target: str, task: str | None
) -> tuple[dict[str, Array], Answers, tuple[str, ...]]:
    """The rows that have a truth, and it. Raises TruthError."""
    import numpy as np

    from conjoin.outputs import Values
    from conjoin.train.truth import truth_of

    kinds = {None: None, "classes": "multiclass", "numbers": "regression"}
    if task not in kinds:
        raise InputError(f"--task must be classes or numbers, not {task!r}")
    if column.ndim == 2 and task != "classes":
        return dict(batch), Values(np.asarray(column, np.float64)), ()
    wanted = kinds[task]
    if wanted == "multiclass" and len({str(v) for v in column.ravel().tolist() if v is not None}) == 2:
        wanted = "binary"
    found = truth_of(column, target=target, task=wanted)
    return {n: a[found.rows] for n, a in batch.items()}, found.output(), found.notes


def _freeze(words: Sequence[str] | None) -> int | tuple[str, ...]:
    found = names(words)
    if len(found) == 1 and found[0].lstrip("-").isdigit():
        return int(found[0])
    return found


def _rates(words: Sequence[str] | None) -> float | dict[str, float] | None:
    """A factor, or a rate for each pattern. Raises InputError."""
    found = names(words)
    if not found:
        return None
    try:
        if len(found) == 1 and "=" not in found[0]:
            return float(found[0])
        pairs = [word.rpartition("=") for word in found]
        return {name: float(value) for name, _, value in pairs}
    except ValueError as error:
        raise InputError(f"--rates must be 0.5, or layer1=1e-5,head=1e-3, not {','.join(found)!r}") from error


def _tuned(
    model: str,
    batch: Batch,
    truth: Answers,
    member: str | None,
    weights: Path | None,
    own: Mapping[str, Any],
    options: Mapping[str, Any],
) -> FineTuned:
    """Fine-tune what MODEL means."""
    from conjoin.transfer.finetune import finetune as tune

    path, colon, function = model.rpartition(":")
    if colon and path.endswith(".py"):
        if member is not None:
            raise InputError("--member is for bundles; the function answers one module")
        return tune(_module(Path(path), function, weights), batch, truth, **own, **options)
    if model.endswith(".py"):
        raise InputError(f"say which function of {model!r} makes the module: {model}:FUNCTION")
    given = [f"--{n}" for n, v in own.items() if v] + ["--weights"] * (weights is not None)
    if given:
        raise InputError(
            f"{listed(given)}: for a module of your own (FILE.py:FUNCTION); a bundle knows these"
        )
    from conjoin.bundle import load
    from conjoin.transfer.finetune.networks import finetune_member

    return finetune_member(load(model), batch, truth, of=member, **options)


def _module(path: Path, function: str, weights: Path | None) -> Any:
    """What a function in the user's file answers, with weights from safetensors. Raises InputError."""
    import importlib.util
    import sys

    from conjoin.errors import need

    if not path.is_file():
        raise FileError(f"there is no file {str(path)!r}")
    torch = need("torch")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileError(f"{str(path)!r} cannot be read as Python")
    code = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(code)
        make = getattr(code, function, None)
        if not callable(make):
            known = [n for n, v in vars(code).items() if callable(v) and not n.startswith("_")]
            raise InputError(
                f"{str(path)!r} has no function {function!r}{nearest(function, known)}; "
                f"it has {listed(known)}"
            )
        module = make()
    except InputError:
        raise
    except Exception as error:  # whatever the user's own code raises
        raise InputError(f"{path}:{function} raised {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"{path}:{function} answered a {type(module).__name__}, not a torch.nn.Module")
    return module if weights is None else _with_weights(module, weights)


def _with_weights(module: Any, path: Path) -> Any:
    from conjoin.transfer import saved

    given, _ = saved.read_tensors(path)
    own = saved.tensors_of(module)
    missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or extra:
        raise InputError(
            f"{str(path)!r} is of another module: it lacks {listed(missing) or 'nothing'}, and has "
            f"{listed(extra) or 'nothing'} besides; conjoin transplant carries weights between architectures"
        )
    wrong = [n for n in own if own[n].shape != given[n].shape]
    if wrong:
        shapes = f"{tuple(given[wrong[0]].shape)}, not {tuple(own[wrong[0]].shape)}"
        raise InputError(f"{str(path)!r}: {wrong[0]!r} has the shape {shapes}")
    saved.put(module, given)
    return module


def _save(
    done: FineTuned, output: Path, force: bool, save_weights: Path | None, save_adapter: Path | None
) -> None:
    """Write the bundle and what else is wanted; without an ONNX form the weights: no work is lost."""
    from conjoin.bundle import save
    from conjoin.transfer.saved import tensors_of, write_tensors

    if save_weights is not None:
        write_tensors(save_weights, tensors_of(done.module), {"format": "pt"})
    if save_adapter is not None and done.adapter is not None:
        done.adapter.save(save_adapter)
    try:
        save(done.member, output, force=force)
    except (NotExportableError, MemberError, InputError) as error:
        if isinstance(error, FileError):
            raise
        rescue = output.with_name(f"{output.name}.safetensors")
        write_tensors(rescue, tensors_of(done.module), {"format": "pt"})
        raise NotExportableError(f"{error}. The weights were saved as {str(rescue)!r}") from error


def _record(done: FineTuned, output: Path, seconds: float, notes: Sequence[str]) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "bundle": str(output),
        "bytes": sum(p.stat().st_size for p in output.iterdir()),
        "seconds": seconds,
        "kind": done.kind,
        "classes": list(done.classes),
        "head": asdict(done.head),
        "layers": [asdict(u) for u in done.layers],
        "trained": done.trained,
        "frozen": done.frozen,
        "scores": {n: asdict(e) for n, e in done.scores.items()},
        "history": [asdict(e) for e in done.history],
        "best": done.best,
        "stopped": done.stopped,
        "device": done.device,
        "precision": done.precision,
        "notes": list(notes),
    }


def _print(done: FineTuned, record: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from conjoin.bundle.readme import bytes_text, printable

    for text in record["notes"]:
        note(text)
    shown = Table("layer", "parameters", "rate", "from epoch", box=None, pad_edge=False)
    for use in done.layers:
        cells = ("frozen", "") if use.rate is None else (f"{use.rate:.3g}", str(use.begin + 1))
        shown.add_row(Text(printable(use.layer or "(module)")), f"{use.numbers:,}", *cells)
    console().print(shown)
    head = done.head
    if head.replaced:
        kept = f"; carried {listed(head.carried)}" if head.carried else ""
        say(f"new head {head.name}: {head.before} outputs become {head.after}{kept}")
    say(f"{done.trained:,} parameters learned, {done.frozen:,} did not; epoch {done.best} is kept")
    for name, e in done.scores.items():
        say(f"{name} {e.value:.4g} ({e.low:.4g} to {e.high:.4g}) on held-out rows")
    say(f"wrote {record['bundle']}: {bytes_text(record['bytes'])}, {record['seconds']:.1f} s")
