"""What `conjoin merge --evaluate` judges by: a bundle and held-out rows, or a function of the user's."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.cli.options import amount
from conjoin.cli.show import console, note, say
from conjoin.errors import ColumnError, FileError, InputError, listed, nearest

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.transfer.merge.evidence import HeldOut
    from conjoin.transfer.merge.searching import Budget, Step


def judge_of(
    what: str, data: Path | None, target: str | None, score: str | None
) -> HeldOut | Callable[..., Any]:
    """What a merge is judged by. Raises InputError, FileError, BundleError."""
    if Path(what).exists():
        if data is None:
            raise InputError("--evaluate with a bundle needs held-out rows: --data FILE")
        return held_out(Path(what), data, target, score)
    name, _, inner = what.rpartition(":")
    if not name or not inner.isidentifier():
        raise FileError(
            f"{what!r} is neither there nor a function; give a bundle, a .onnx file, module:function or "
            "file.py:function"
        )
    if data is not None or target is not None or score is not None:
        raise InputError("--data, --target and --score are for a bundle; a function reads its own data")
    return function_of(name, inner)


def function_of(name: str, inner: str) -> Callable[..., Any]:
    """A function of a module or of a file that the user names. Raises InputError, FileError."""
    try:
        if name.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(name).stem, name)
            if spec is None or spec.loader is None or not Path(name).is_file():
                raise FileError(f"there is no file {name!r}")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            if "" not in sys.path:
                sys.path.insert(0, "")
            module = importlib.import_module(name)
    except FileError:
        raise
    except Exception as error:  # the user's code
        raise InputError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, inner, None)
    if not callable(found):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise InputError(f"{name} has no function {inner!r}{nearest(inner, known)}; it has {listed(known)}")
    return found  # type: ignore[no-any-return]


def held_out(bundle: Path, data: Path, target: str | None, score: str | None) -> HeldOut:
    """Held-out rows that the graph of a bundle answers with the weights of a folder."""
    from conjoin.bundle import load
    from conjoin.members.onnx import OnnxMember, onnx_form
    from conjoin.members.onnx_weights import with_weights
    from conjoin.report.truth import truth_for
    from conjoin.scores import score_of
    from conjoin.tables import batch_of, read_table
    from conjoin.transfer.merge.evidence import HeldOut

    if score is not None:
        score_of(score)
    loaded = load(bundle)
    member = loaded if isinstance(loaded, OnnxMember) else onnx_form(loaded)
    batch = batch_of(read_table(data))
    trained = loaded.card.provenance.get("data")
    name = target or (trained.get("target") if isinstance(trained, Mapping) else None)
    if name is None:
        raise InputError("--evaluate needs the column with the truth: --target")
    if name not in batch:
        raise ColumnError(
            f"no column {name!r} in {data}{nearest(str(name), batch)}; there are {listed(batch)}"
        )
    card = member.card
    truth = truth_for(np.asarray(batch[name]), kind=card.kind, classes=card.classes, name=str(name))
    rows = {n: a for n, a in batch.items() if n != name}
    return HeldOut(lambda folder: with_weights(member, weights_in(folder)).predict(rows), truth, score)


def weights_in(folder: Path) -> dict[str, Array]:
    """Every tensor of floats of a checkpoint as float32 or float64, by name."""
    from conjoin.transfer.checkpoints import open_checkpoint
    from conjoin.transfer.checkpoints.dtypes import FLOATS, read_as

    found = open_checkpoint(folder)
    kinds = {n: found[n].entry.dtype for n in found}
    return {
        n: read_as(found.array(n), k, "F64" if k == "F64" else "F32") for n, k in kinds.items() if k in FLOATS
    }


def budget_of(text: str | None) -> Budget:
    """A number of evaluations (40), or a time (2m). Raises InputError."""
    from conjoin.transfer.merge.searching import Budget

    if text is None:
        return Budget()
    if text.strip().isdigit():
        if not int(text):
            raise InputError("--budget must be above 0")
        return Budget(evaluations=int(text))
    return Budget(seconds=amount(text, "time", "--budget"))


@contextmanager
def watched() -> Iterator[Callable[[Step], None] | None]:
    """Shows how far a search is, on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    last = time.monotonic()
    with console(stderr=True).status("scoring the models") as status:

        def show(step: Step) -> None:
            nonlocal last
            if time.monotonic() - last < 0.1:
                return
            last = time.monotonic()
            total = "" if step.total is None else f" of {step.total}"
            left = "" if step.seconds_left is None else f", {step.seconds_left:.0f} s left"
            status.update(f"{step.done}{total} merges tried, best {step.best:.5g}{left}")

        yield show


def print_judgement(record: Mapping[str, Any]) -> None:
    """The table of a judgement, and whether merging helped."""
    from conjoin.report.tables import judged

    for text in record["notes"]:
        note(text)
    if record["optimistic"]:
        note("decided and reported on the same data: the values are too good by chance")
    console().print(judged(record["standings"], metric=record["metric"]))
    rows = "" if record["rows"] is None else f" on {record['rows']:,} rows"
    verb = "helped" if record["helped"] else "did not help"
    say(f"merging {verb}{rows}; {record['better']} {record['metric']} is better")
    say(f"wrote {record['path']}: {record['chosen']}")
