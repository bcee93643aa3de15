"""The feature encoder as it is stored and as it runs: columns of a table -> a float32 matrix of features.

`train.features` fits it. Features stand in this order: numbers and booleans, categories, dates, texts,
tensors. Missing numbers and dates stay NaN (the "tree view"); `DenseView` makes the matrix finite.

A text is cut into words at spaces, because that is what the operator StringSplit of ONNX does;
`tables.conform` turns other white space into spaces first.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from conjoin.contracts import Column, ColumnType, Storable
from conjoin.errors import BundleError
from conjoin.graph.builder import MISSING_DATE
from conjoin.graph.dense import DenseView

if TYPE_CHECKING:
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json

__all__ = ["Category", "DenseView", "Encoder", "Words"]

HUGE = float(np.finfo(np.float32).max)
"""Numbers beyond the range of float32, infinities among them, are clipped to it."""

MOST_WORDS = 128
"""Words of a text after the first 127 count as one word that nobody knows."""

DATE_FEATURES = ("year", "month", "day", "weekday", "hour", "days")
"""What a date becomes; weekday 0 is Monday, days count from the median of the training rows."""


@dataclass(frozen=True, slots=True, eq=False)
class Category:
    """One column of categories: every level has a row in a table of features.

    levels: (L,) str, "" where missing is one. rows: (L,) int row of the table for each level. table: (R, w)
    float32, the last row for levels never seen. names: w feature names. codes: how many values the first
    feature has where that is a code 0, 1, ... (so that it can be one-hot encoded), else 0.
    """

    column: Column
    levels: tuple[str, ...]
    rows: Array
    table: Array
    names: tuple[str, ...]
    codes: int


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """One column of text: its features are the sum of its words' vectors over the root of the number of
    words, and that number.

    words: (W,) str as they stand in texts. rows: (W,) int row of the matrix for each. matrix: (V, c) float32.
    """

    column: Column
    words: tuple[str, ...]
    rows: Array
    matrix: Array


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """Fitted features of a table. `emit` gives float32 (n, d), d = len(names).

    numbers: columns of numbers and booleans; a number x becomes float32((x - shift) * scale) in double.
    dates: columns of dates; median: (k,) int64 seconds; kept: which of the k x 6 date features are used.
    """

    numbers: tuple[Column, ...] = ()
    shift: Array = cast("Array", None)
    scale: Array = cast("Array", None)
    categories: tuple[Category, ...] = ()
    dates: tuple[Column, ...] = ()
    median: Array = cast("Array", None)
    kept: Array = cast("Array", None)
    texts: tuple[Words, ...] = ()
    tensors: tuple[Column, ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """The input columns that it reads."""
        categories = tuple(c.column for c in self.categories)
        return self.numbers + categories + self.dates + tuple(t.column for t in self.texts) + self.tensors

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features, in the order of the matrix."""
        names = [c.name for c in self.numbers]
        for group in self.groups():
            names += [n for c in group for n in c.names]
        if self.dates:
            stamps = [f"{c.name}.{f}" for c in self.dates for f in DATE_FEATURES]
            names += [stamps[k] for k in self.kept]
        for t in self.texts:
            names += [f"{t.column.name}.{k}" for k in range(t.matrix.shape[1])] + [f"{t.column.name}.words"]
        for c in self.tensors:
            names += [f"{c.name}[{k}]" for k in range(int(np.prod(c.shape)))]
        return tuple(names)

    @property
    def codes(self) -> dict[int, int]:
        """Which features are codes 0, 1, ... of a category -> how many values they have."""
        found, at = {}, len(self.numbers)
        for group in self.groups():
            for c in group:
                if c.codes:
                    found[at] = c.codes
                at += len(c.names)
        return found

    def groups(self) -> list[list[Category]]:
        """The categories by the width of their tables, narrow ones first: one group is one lookup."""
        widths = sorted({c.table.shape[1] for c in self.categories})
        return [[c for c in self.categories if c.table.shape[1] == w] for w in widths]

    def emit(self, graph: Graph) -> str:
        """Add the nodes; returns the tensor of features, float32 (n, d)."""
        blocks = []
        if self.numbers:
            blocks.append(_emit_numbers(graph, self))
        blocks += [_emit_categories(graph, group) for group in self.groups()]
        if self.dates:
            blocks.append(_emit_dates(graph, self))
        blocks += [tensor for t in self.texts for tensor in _emit_words(graph, t)]
        for c in self.tensors:
            size = graph.const([0, int(np.prod(c.shape))], np.int64)
            blocks.append(graph.op("Reshape", graph.column(c), size))
        return graph.concat(blocks)

    def children(self) -> Mapping[str, Storable]:
        """An encoder holds no other parts."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Arrays and JSON; strings as UTF-8 with offsets."""
        arrays: dict[str, Array] = {}
        if self.numbers:
            arrays |= {"shift": self.shift, "scale": self.scale}
        if self.dates:
            arrays |= {"median": self.median, "kept": self.kept}
        for k, c in enumerate(self.categories):
            arrays |= _pack_strings(f"category{k}", c.levels)
            arrays |= {f"category{k}.rows": c.rows.astype(np.int32), f"category{k}.table": c.table}
        for k, t in enumerate(self.texts):
            arrays |= _pack_strings(f"text{k}", t.words)
            arrays |= {f"text{k}.rows": t.rows.astype(np.int32), f"text{k}.matrix": t.matrix}
        meta: dict[str, Json] = {
            "numbers": [[c.name, c.type] for c in self.numbers],
            "categories": [[c.column.name, list(c.names), c.codes] for c in self.categories],
            "dates": [c.name for c in self.dates],
            "texts": [t.column.name for t in self.texts],
            "tensors": [[c.name, list(c.shape)] for c in self.tensors],
        }
        return arrays, meta

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError where the arrays do not make sense."""
        try:
            encoder = cls._unpack(arrays, cast("Mapping[str, Any]", meta))
            _check(encoder)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise BundleError(f"the stored encoder does not make sense: {error!r}") from error
        return encoder

    @classmethod
    def _unpack(cls, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> Self:
        categories = tuple(
            Category(
                Column(str(name), "category"),
                _unpack_strings(f"category{k}", arrays),
                arrays[f"category{k}.rows"].astype(np.int64),
                arrays[f"category{k}.table"],
                tuple(map(str, names)),
                int(codes),
            )
            for k, (name, names, codes) in enumerate(meta["categories"])
        )
        texts = tuple(
            Words(
                Column(str(name), "text"),
                _unpack_strings(f"text{k}", arrays),
                arrays[f"text{k}.rows"].astype(np.int64),
                arrays[f"text{k}.matrix"],
            )
            for k, name in enumerate(meta["texts"])
        )
        return cls(
            tuple(Column(str(n), cast("ColumnType", t)) for n, t in meta["numbers"]),
            cast("Array", arrays.get("shift")),
            cast("Array", arrays.get("scale")),
            categories,
            tuple(Column(str(n), "date") for n in meta["dates"]),
            cast("Array", arrays.get("median")),
            cast("Array", arrays.get("kept")),
            texts,
            tuple(Column(str(n), "tensor", tuple(map(int, s))) for n, s in meta["tensors"]),
        )


def _check(encoder: Encoder) -> None:
    """Raise ValueError where indices or shapes would fail, or read beyond a table, when the graph runs."""
    p, k = len(encoder.numbers), len(encoder.dates)
    if any(c.type not in ("number", "boolean") for c in encoder.numbers):
        raise ValueError("a number column of another type")
    if p and (encoder.shift.shape != (p,) or encoder.scale.shape != (p,)):
        raise ValueError("shift and scale must hold one number per column")
    dated = k * len(DATE_FEATURES)
    if k and (encoder.median.shape != (k,) or not _inside(encoder.kept, dated) or not len(encoder.kept)):
        raise ValueError("median and kept do not fit the dates")
    for c in encoder.categories:
        if c.table.ndim != 2 or c.table.shape[1] != len(c.names) or len(c.levels) != len(c.rows):
            raise ValueError(f"category {c.column.name!r}: table, names and levels do not fit together")
        if not _inside(c.rows, len(c.table)) or not len(c.table) or not c.names:
            raise ValueError(f"category {c.column.name!r}: a row outside the table")
    for t in encoder.texts:
        if t.matrix.ndim != 2 or len(t.words) != len(t.rows) or not _inside(t.rows, len(t.matrix)):
            raise ValueError(f"text {t.column.name!r}: words and matrix do not fit together")
    if any(min(c.shape, default=0) < 1 for c in encoder.tensors):
        raise ValueError("a tensor column without a shape")
    if len({c.name for c in encoder.columns}) != len(encoder.columns) or not encoder.columns:
        raise ValueError("columns are doubled, or there are none")


def _inside(index: Array, size: int) -> bool:
    return index.ndim == 1 and bool(((index >= 0) & (index < size)).all())


def _emit_numbers(graph: Graph, encoder: Encoder) -> str:
    x = graph.concat([graph.column(c) for c in encoder.numbers])
    if encoder.shift.any():
        x = graph.op("Sub", x, graph.const(encoder.shift[None], np.float64))
    if (encoder.scale != 1).any():
        x = graph.op("Mul", x, graph.const(encoder.scale[None], np.float64))
    x = graph.op("Clip", x, graph.const(-HUGE, np.float64), graph.const(HUGE, np.float64))
    return graph.cast(x, 1)


def _emit_categories(graph: Graph, group: Sequence[Category]) -> str:
    """One lookup for all columns whose tables are equally wide: their tables are stacked."""
    ids, at = [], 0
    for c in group:
        ids.append(_look_up(graph, graph.column(c.column), c.levels, c.rows + at, at + len(c.table) - 1))
        at += len(c.table)
    table = np.concatenate([c.table for c in group])
    width = table.shape[1]
    if width == 1:
        return graph.op("Gather", graph.const(table[:, 0], np.float32), graph.concat(ids), axis=0)
    found = graph.op("Gather", graph.const(table, np.float32), graph.concat(ids), axis=0)
    return graph.op("Reshape", found, graph.const([0, len(group) * width], np.int64))


def _look_up(graph: Graph, tensor: str, keys: Sequence[str], values: Array, default: int) -> str:
    if not keys:
        keys, values = ["\0"], np.array([default])
    return graph.op(
        "LabelEncoder",
        tensor,
        domain="ai.onnx.ml",
        keys_strings=list(keys),
        values_int64s=[int(v) for v in values],
        default_int64=default,
    )


_DAY = 86_400
_BEGIN = 719_468
"""Days from 0000-03-01 to 1970-01-01 in the Gregorian calendar."""
_LEAST, _MOST = -62_135_596_800, 253_402_300_799
"""Seconds of the first moment of the year 1 and of the last of the year 9999; dates are clipped to these."""


def _four_years() -> Array:
    """(1461, 3) year (0 to 4), month and day for each day of four years that begin on 1 March."""
    days = np.datetime64("2000-03-01") + np.arange(1461)
    years = days.astype("datetime64[Y]").astype(int) - 30
    months = days.astype("datetime64[M]")
    return np.stack([years, months.astype(int) % 12 + 1, (days - months).astype(int) + 1], axis=1)


def _emit_dates(graph: Graph, encoder: Encoder) -> str:
    """Integer arithmetic of the Gregorian calendar: cycles of 400, 100 and 4 years, then a table."""

    def whole(op: str, tensor: str, number: int) -> str:
        return graph.op(op, tensor, graph.const(number, np.int64))

    given = graph.concat([graph.column(c) for c in encoder.dates])
    gone = whole("Equal", given, MISSING_DATE)
    seconds = graph.op("Clip", given, graph.const(_LEAST, np.int64), graph.const(_MOST, np.int64))
    counted = whole("Add", seconds, _BEGIN * _DAY)
    days = whole("Div", counted, _DAY)
    hour = whole("Div", whole("Mod", counted, _DAY), 3600)
    weekday = whole("Mod", whole("Add", days, 2), 7)
    of_era = whole("Mod", days, 146_097)
    century = graph.op("Min", whole("Div", of_era, 36_524), graph.const(3, np.int64))
    of_century = graph.op("Sub", of_era, whole("Mul", century, 36_524))
    parts = graph.op("Gather", graph.const(_four_years(), np.int64), whole("Mod", of_century, 1461), axis=0)
    before = graph.op(
        "Sum",
        *(
            graph.cast(whole("Mul", cycle, years), 1)
            for cycle, years in (
                (whole("Div", days, 146_097), 400),
                (century, 100),
                (whole("Div", of_century, 1461), 4),
            )
        ),
    )
    since = graph.op("Sub", seconds, graph.const(encoder.median[None], np.int64))
    since = graph.op("Div", graph.cast(since, 11), graph.const(float(_DAY), np.float64))

    last = graph.const([2], np.int64)
    year, rest = graph.ops("Split", graph.cast(parts, 1), graph.const([1, 2], np.int64), count=2, axis=2)
    year = graph.op("Add", year, graph.op("Unsqueeze", before, last))
    clock = [graph.op("Unsqueeze", graph.cast(t, 1), last) for t in (weekday, hour, since)]
    stacked = graph.op("Concat", year, rest, *clock, axis=2)
    known = graph.op("Where", graph.op("Unsqueeze", gone, last), graph.const(np.float32(np.nan)), stacked)
    k = len(encoder.dates) * len(DATE_FEATURES)
    flat = graph.op("Reshape", known, graph.const([0, k], np.int64))
    if len(encoder.kept) == k:
        return flat
    return graph.op("Gather", flat, graph.const(encoder.kept, np.int64), axis=1)


def _emit_words(graph: Graph, text: Words) -> tuple[str, str]:
    words, counts = graph.ops("StringSplit", graph.column(text.column), count=2, maxsplit=MOST_WORDS - 1)
    unknown, width = text.matrix.shape
    rows = _look_up(graph, words, text.words, text.rows, unknown)
    matrix = np.concatenate([text.matrix, np.zeros((1, width), np.float32)])
    vectors = graph.op("Gather", graph.const(matrix, np.float32), rows, axis=0)
    total = graph.op("ReduceSum", vectors, graph.const([1, 2], np.int64), keepdims=0)
    count = graph.cast(counts, 1)
    root = graph.op("Sqrt", graph.op("Max", count, graph.const(np.float32(1))))
    return graph.op("Div", total, root), count


def _pack_strings(name: str, strings: Sequence[str]) -> dict[str, Array]:
    parts = [s.encode() for s in strings]
    ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    data = np.frombuffer(b"".join(parts), dtype=np.uint8)
    return {f"{name}.utf8": data, f"{name}.offsets": ends.astype(np.int32)}


def _unpack_strings(name: str, arrays: Mapping[str, Array]) -> tuple[str, ...]:
    data, ends = arrays[f"{name}.utf8"].tobytes(), arrays[f"{name}.offsets"].tolist()
    if not ends or ends[0] != 0 or ends[-1] != len(data) or any(a > b for a, b in itertools.pairwise(ends)):
        raise ValueError(f"the offsets of {name} do not fit its text")
    return tuple(data[a:b].decode() for a, b in itertools.pairwise(ends))
