"""Splits on sets of categories: which integers of a feature go left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array

BYTES = 4 << 20
"""What the columns of one group of trees may take for the rows that run at once: they stay in the cache."""
INT64, DOUBLE = 7, 11
_NO_MEMBERS = np.zeros(0, dtype=np.uint32)


@dataclass(frozen=True, slots=True, eq=False)
class Sets:
    """M sets of categories. Each is one more feature of the trees: 0 (left) for its members, else 1.

    feature: (M,) uint16, the feature whose integers it holds. member: flat uint32, cut into sets by `count`
    (M,). size: (M,) uint32, integers from 0 to size - 1 that are no members go right. rest: (M,) bool,
    whether all other numbers go left. missing: (M,) bool, whether NaN goes left.
    """

    feature: Array
    count: Array
    member: Array
    size: Array
    rest: Array
    missing: Array

    def __len__(self) -> int:
        return len(self.feature)

    @classmethod
    def of(
        cls,
        feature: Sequence[int] = (),
        members: Sequence[Array] = (),
        *,
        size: Sequence[int] | None = None,
        rest: Sequence[bool] | None = None,
        missing: Sequence[bool] | None = None,
    ) -> Sets:
        """Sets from a list of arrays of members; all else goes right unless said."""
        least = [int(m.max(initial=-1)) + 1 for m in members]
        no = np.zeros(len(members), dtype=bool)
        return cls(
            np.array(feature, dtype=np.uint16),
            np.array([len(m) for m in members], dtype=np.uint32),
            np.concatenate([_NO_MEMBERS, *members]).astype(np.uint32),
            np.array(least if size is None else size, dtype=np.uint32),
            no if rest is None else np.array(rest, dtype=bool),
            no if missing is None else np.array(missing, dtype=bool),
        )

    @classmethod
    def join(cls, parts: Sequence[Sets]) -> Sets:
        """All sets of all parts, in order."""
        names = ("feature", "count", "member", "size", "rest", "missing")
        return cls(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))

    def distinct(self) -> tuple[Sets, Array]:
        """Each set once, and for each set of this record which of those it is."""
        ends = np.cumsum(self.count, dtype=np.int64)
        raw, width = self.member.tobytes(), self.member.itemsize
        spans = zip((ends - self.count).tolist(), ends.tolist(), strict=True)
        members = [raw[a * width : b * width] for a, b in spans]
        rest = (getattr(self, n).tolist() for n in ("feature", "size", "rest", "missing"))
        found: dict[tuple[Any, ...], int] = {}
        which = np.array(
            [found.setdefault(k, len(found)) for k in zip(members, *rest, strict=True)], np.int64
        )
        first = np.full(len(found), len(self))
        np.minimum.at(first, which, np.arange(len(self)))
        kept = np.repeat(np.isin(np.arange(len(self)), first), self.count)
        names = ("feature", "count", "member", "size", "rest", "missing")
        return Sets(*(getattr(self, n)[kept if n == "member" else first] for n in names)), which

    def sizes(self) -> dict[int, int]:
        """For each feature that has sets, the greatest size."""
        greatest = np.zeros(int(self.feature.max(initial=0)) + 1, dtype=np.int64)
        np.maximum.at(greatest, self.feature, self.size)
        return {int(f): int(greatest[f]) for f in np.unique(self.feature)}

    def table(self, chosen: Array, size: int) -> Array:
        """(size + 2, m) uint8 for sets of one feature: 0 goes left. The last rows: other numbers, NaN."""
        count = self.count.astype(np.int64)
        offset = np.repeat((np.cumsum(count) - count)[chosen], count[chosen])
        column = np.repeat(np.arange(len(chosen)), count[chosen])
        rank = np.arange(len(column)) - np.repeat(np.cumsum(count[chosen]) - count[chosen], count[chosen])
        left = (np.arange(size + 2)[:, None] >= self.size[chosen]) & self.rest[chosen]
        left[self.member[offset + rank], column] = True
        left[size + 1] = self.missing[chosen]
        return cast("Array", (~left).astype(np.uint8))


def row_indices(sets: Sets, graph: Graph, x: str) -> dict[int, tuple[str, int]]:
    """For each feature with sets the tensor (n, 1) of rows of its table, and the table's size. x: double."""
    sizes = sets.sizes()
    if not sizes:
        return {}
    size = graph.const([list(sizes.values())], np.float64)
    columns = graph.op("Gather", x, graph.const(list(sizes), np.int64), axis=1)
    inside = graph.op("And", graph.op("Greater", columns, graph.const(-1.0)), graph.op("Less", columns, size))
    gone = graph.const(np.array([list(sizes.values())]) + 1, np.float64)
    other = graph.op("Where", graph.op("IsNaN", columns), gone, size)
    rows = graph.cast(graph.op("Where", inside, columns, other), INT64)
    count = len(sizes)
    each = (rows,) if count == 1 else graph.ops("Split", rows, count=count, axis=1, num_outputs=count)
    return dict(zip(sizes, zip(each, sizes.values(), strict=True), strict=True))


def emit_sets(sets: Sets, order: Array, graph: Graph, rows: Mapping[int, tuple[str, int]]) -> str:
    """Columns (n, m) double for these sets, which are ordered by their feature."""
    parts = []
    for f in np.unique(sets.feature[order]).tolist():
        row, size = rows[f]
        table = sets.table(order[sets.feature[order] == f], size)
        parts.append(graph.op("Gather", graph.const(table), row, axis=0))
    graph.limit_rows(BYTES // (8 * len(order)))
    joined = graph.op("Squeeze", graph.concat(parts, axis=2), graph.const([1], np.int64))
    return graph.cast(joined, DOUBLE)
