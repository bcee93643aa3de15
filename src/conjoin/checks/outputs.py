"""Laws of outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conjoin.checks.compare import LawBroken, must_match
from conjoin.outputs import Output, concat, unpack


def _subject(output: Output) -> str:
    return f"output of {len(output)} {output.kind}"


def answered_marks_every_row(output: Output) -> None:
    """`answered` is one boolean for each row; a row that was not answered holds no number."""
    law, marks = "answered marks every row", output.arrays().get("answered")
    if marks is None or marks.dtype != bool or marks.shape != (len(output),):
        raise LawBroken(law, _subject(output), "answered is not (n,) bool")
    for name, array in output.arrays().items():
        if name not in (*output.ragged, "offsets", "answered") and array.dtype.kind == "f":
            held = ~np.isnan(array[~marks]).reshape(int((~marks).sum()), -1).all(axis=1)
            if output.kind != "texts" and held.any():
                row = int(np.flatnonzero(~marks)[np.argmax(held)])
                raise LawBroken(law, _subject(output), "an unanswered row holds a number", row=row)


def survives_packing(output: Output) -> None:
    """Packed to arrays of numbers and JSON, and unpacked, it is the same."""
    law, (arrays, meta) = "survives packing", output.pack()
    strange = [n for n, a in arrays.items() if a.dtype.kind not in "fiub"]
    if strange:
        raise LawBroken(law, _subject(output), f"array {strange[0]!r} holds no numbers")
    must_match(law, _subject(output), output, unpack(arrays, meta), "unpacked, it differs")


def rows_can_be_taken(output: Output) -> None:
    """Two halves of its rows joined again are the whole."""
    half = len(output) // 2
    joined = concat([output.take(slice(0, half)), output.take(slice(half, None))])
    must_match("rows can be taken", _subject(output), output, joined, "halved and joined, it differs")


def columns_have_its_rows(output: Output) -> None:
    """As columns of a batch it has as many rows, and their names begin with the name that was given."""
    law = "columns have its rows"
    for name, column in output.columns("it").items():
        if len(column) != len(output) or not name.startswith("it"):
            raise LawBroken(law, _subject(output), f"column {name!r} has {len(column)} rows")


OUTPUT_LAWS: dict[str, Callable[[Any], None]] = {
    "answered marks every row": answered_marks_every_row,
    "survives packing": survives_packing,
    "rows can be taken": rows_can_be_taken,
    "columns have its rows": columns_have_its_rows,
}
"""Name -> law of outputs."""
