"""Predictions from several files, row beside row: matched by an id column, else by their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import ColumnError, InputError, OutputsError, listed, nearest
from conjoin.members.predictions import output_of
from conjoin.members.wrapped import Given
from conjoin.outputs import Probabilities
from conjoin.report.truth import truth_for
from conjoin.tables import name_of

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array, Output

KINDS = ("probabilities", "values", "quantiles")
"""Kinds that tables of predictions are read as."""
ID_NAMES = ("id", "row_id", "rowid", "index", "key", "uid", "uuid")
"""Names of columns that are taken for the rows' names where nobody says which, whatever their case."""
SUM = 1e-3
"""How far probabilities of a row may be from summing to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """Outputs of the same rows, by the name of their file; ids (n,) where rows are matched by the column
    `id`."""

    outputs: Mapping[str, Output]
    truth: Output | None
    id: str | None
    ids: Array | None


def align(
    files: Mapping[str, Batch],
    kind: str,
    *,
    id: str | None = None,  # noqa: A002  (the word that people use)
    truth: Batch | None = None,
    target: str | None = None,
) -> Aligned:
    """Predictions of the same rows, from the content of files.

    files: name -> columns. Probabilities: a column per class, under its name; classes are matched by name,
    and a text column "label" is left out. Values: one column of numbers, or the one called "prediction".
    kind: one of `KINDS`. id: the column that names the rows; by default one of `ID_NAMES` that all files
    have; without one the rows are matched by their order. truth: columns with the truth of the rows.
    target: which of them.

    Raises InputError, ColumnError, OutputsError.
    """
    if kind not in KINDS:
        raise InputError(f"tables hold {listed(KINDS)}, not {kind!r}")
    if not files:
        raise InputError("there are no files to fuse")
    everything = {**files, "the truth": truth} if truth is not None else dict(files)
    column = _id_column(cast("Mapping[str, Batch]", everything), id)
    first = next(iter(files))
    order = None if column is None else _names(files[first], column, first)
    outputs = {n: _output(b, n, kind, column, order, first) for n, b in files.items()}
    _same_rows(outputs)
    _same_classes(outputs)
    found = None if truth is None else _truth(truth, target, kind, outputs, column, order, first)
    return Aligned(outputs, found, column, None if column is None else np.asarray(files[first][column]))


def _id_column(files: Mapping[str, Batch], given: str | None) -> str | None:
    if given is not None:
        for name, batch in files.items():
            if given not in batch:
                raise ColumnError(
                    f"{name}: no column {given!r}{nearest(given, batch)}; there are {listed(batch)}"
                )
        return given
    common = [c for c in next(iter(files.values())) if all(c in b for b in files.values())]
    return next((c for c in common if c.casefold() in ID_NAMES), None)


def _names(batch: Batch, column: str, name: str) -> list[str]:
    """The rows' names; they must differ."""
    found = [name_of(v) for v in np.asarray(batch[column]).tolist()]
    seen: set[str] = set()
    doubled = [n for n in found if n in seen or seen.add(n)]  # type: ignore[func-returns-value]
    if doubled or "" in seen:
        what = f"{listed(doubled, most=5)} stand twice" if doubled else "one is empty"
        raise ColumnError(f"{name}: the column {column!r} must name each row once; {what}")
    return found


def _rows(batch: Batch, name: str, column: str | None, order: Sequence[str] | None, first: str) -> Any:
    """The positions of the rows of `order` in the batch."""
    if column is None or order is None:
        return slice(None)
    at = {n: i for i, n in enumerate(_names(batch, column, name))}
    lost = [n for n in order if n not in at]
    if lost:
        raise OutputsError(f"{name} lacks the rows {column} = {listed(lost, most=5)}, which {first} has")
    if len(at) > len(order):
        more = sorted(at.keys() - set(order))
        raise OutputsError(f"{name} has the rows {column} = {listed(more, most=5)}, which {first} lacks")
    return np.array([at[n] for n in order])


def _output(
    batch: Batch, name: str, kind: str, column: str | None, order: Sequence[str] | None, first: str
) -> Output:
    rows = _rows(batch, name, column, order, first)
    data = {n: np.asarray(a)[rows] for n, a in batch.items() if n not in (column, "label")}
    if kind == "values" and len(data) > 1:
        if "prediction" not in data:
            raise ColumnError(
                f'{name}: values need one column of numbers, or one called "prediction"; '
                f"there are {listed(data)}. Is one of them the rows' name (--id)?"
            )
        data = {"prediction": data["prediction"]}
    if kind == "probabilities" and len(data) < 2:
        raise ColumnError(
            f"{name}: probabilities need a column for each class; there are {listed(data) or 'none'}"
        )
    levels = None
    if kind == "quantiles":
        levels, data = _levels(data, name)
    try:
        output = output_of(data, Given(kind=kind, levels=levels))
    except InputError as error:
        raise type(error)(f"{name}: {error}") from error
    if isinstance(output, Probabilities):
        _check_probabilities(output, name)
    return output


def _levels(data: Mapping[str, Array], name: str) -> tuple[list[float], dict[str, Array]]:
    """The levels that the columns are named by, rising, and the columns in that order."""
    try:
        found = sorted((float(c.rpartition("[")[2].rstrip("]")), c) for c in data)
    except ValueError as error:
        raise ColumnError(
            f"{name}: quantiles need columns that are named by their levels, such as 0.1, 0.5 and 0.9; "
            f"there are {listed(data)}"
        ) from error
    return [q for q, _ in found], {c: data[c] for _, c in found}


def _check_probabilities(output: Probabilities, name: str) -> None:
    values = output.values[output.answered]
    with np.errstate(invalid="ignore"):
        bad = ~((values >= -SUM).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= SUM))
    if bad.any():
        row = int(np.flatnonzero(output.answered)[np.argmax(bad)])
        shown = ", ".join(f"{c} {v:.4g}" for c, v in zip(output.classes, output.values[row], strict=True))
        raise OutputsError(
            f"{name}: probabilities of a row must be 0 or more and sum to 1; row {row + 1} has {shown[:200]} "
            f"({int(bad.sum())} of {len(output)} rows are so)"
        )


def _same_rows(outputs: Mapping[str, Output]) -> None:
    counts = {n: len(o) for n, o in outputs.items()}
    if len(set(counts.values())) > 1:
        shown = listed(f"{n} {c}" for n, c in counts.items())
        raise OutputsError(
            f"the files have different numbers of rows ({shown}); give all of them an id column (--id)"
        )
    if not next(iter(counts.values())):
        raise OutputsError("the files have no rows")


def _same_classes(outputs: Mapping[str, Output]) -> None:
    found = {n: o.classes for n, o in outputs.items() if isinstance(o, Probabilities)}
    first = next(iter(found), None)
    for name, classes in found.items():
        if first is not None and not set(classes) & set(found[first]):
            raise OutputsError(
                f"{name} has the classes {listed(classes)}, {first} has {listed(found[first])}: none is "
                "the same"
            )


def _truth(
    batch: Batch,
    target: str | None,
    kind: str,
    outputs: Mapping[str, Output],
    column: str | None,
    order: Sequence[str] | None,
    first: str,
) -> Output:
    rest = [n for n in batch if n != column]
    if target is None and len(rest) != 1:
        raise ColumnError(
            f"the truth has the columns {listed(rest) or 'none'}; say which one it is (--target)"
        )
    name = rest[0] if target is None else target
    if name not in batch:
        raise ColumnError(f"the truth has no column {name!r}{nearest(name, batch)}; there are {listed(rest)}")
    found = _truth_of_rows(batch, name, column, order, first)
    count = len(next(iter(outputs.values())))
    if len(found) != count:
        raise OutputsError(f"the truth has {len(found)} rows, the predictions have {count}")
    classes = dict.fromkeys(c for o in outputs.values() if isinstance(o, Probabilities) for c in o.classes)
    return truth_for(found, kind=kind, classes=tuple(classes), name=name)


def _truth_of_rows(
    batch: Batch, name: str, column: str | None, order: Sequence[str] | None, first: str
) -> Array:
    """The true value of each row; None where the truth lacks the row."""
    values = np.asarray(batch[name])
    if column is None or order is None:
        return values
    at = {n: i for i, n in enumerate(_names(batch, column, "the truth"))}
    more = sorted(at.keys() - set(order))
    if more:
        raise OutputsError(f"the truth has the rows {column} = {listed(more, most=5)}, which {first} lacks")
    found = np.full(len(order), None, dtype=object)
    for row, key in enumerate(order):
        if key in at:
            found[row] = values[at[key]]
    return found if len(at) < len(order) else values[[at[n] for n in order]]
