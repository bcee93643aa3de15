"""The region of competence: where a row lies, and which of the rows fitted to are its nearest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import ColumnError, listed, nearest
from conjoin.kernels.neighbours import least

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array

CELLS = 500_000
"""Numbers that a block of distances holds at most; so it stays in the cache."""
_FLOAT32, _FLOAT64 = 2e-7, 1e-12  # error of a squared distance, relative to the largest
_LEAST = 1e-36  # what float32 takes for 0
_SPARE = 4  # candidates beside the k nearest whose distance is worked out exactly


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """What tells where a row lies.

    columns: of the batch, numbers (n,) or (n, d); centres, scales: (D,) by which they are standardised.
    neighbours: instead, the column of the batch that holds each row's nearest rows of those fitted to,
    (n, k') whole numbers, nearest first, -1 for none; distances: the column of their distances, or "".
    With neither, rows lie where the members' outputs put them.
    """

    columns: tuple[str, ...]
    centres: Array
    scales: Array
    neighbours: str = ""
    distances: str = ""

    @property
    def of_outputs(self) -> bool:
        """Whether the members' outputs are the space."""
        return not self.columns and not self.neighbours

    def points(self, batch: Batch | None, rows: int) -> Array:
        """(n, D) standardised numbers; a missing one lies in the middle. Raises ColumnError."""
        raw = raw_points(batch, self.columns, rows)
        if raw.shape[1] != len(self.centres):
            told = f"{raw.shape[1]} numbers a row, the fuser was fitted to {len(self.centres)}"
            raise ColumnError(f"the columns {listed(self.columns)} hold {told}")
        return np.asarray(np.nan_to_num((raw - self.centres) / self.scales, copy=False, nan=0.0))


def raw_points(batch: Batch | None, columns: Sequence[str], rows: int) -> Array:
    """(n, D) float64 of these columns side by side. Raises ColumnError."""
    parts = []
    for name in columns:
        values = column(batch, name, rows)
        if values.dtype.kind not in "fiub":
            raise ColumnError(f"column {name!r} must hold numbers to lie near or far, not {values.dtype}")
        parts.append(values.reshape(rows, math.prod(values.shape[1:])).astype(np.float64))
    found = np.concatenate(parts, axis=1) if parts else np.zeros((rows, 0))
    if np.isinf(found).any():
        raise ColumnError(f"the columns {listed(columns)} hold infinities; make them missing (NaN)")
    return found


def column(batch: Batch | None, name: str, rows: int) -> Array:
    """A column of the batch with this many rows. Raises ColumnError."""
    if batch is None:
        raise ColumnError(f"dynamic selection looks at the batch: give batch= with the column {name!r}")
    if name not in batch:
        raise ColumnError(f"column {name!r} is missing{nearest(name, batch)}; the batch has {listed(batch)}")
    values = np.asarray(batch[name])
    if len(values) != rows:
        raise ColumnError(f"column {name!r} has {len(values)} rows, the outputs have {rows}")
    return values


def space_of(
    batch: Batch | None,
    rows: int,
    *,
    columns: Sequence[str] | None,
    neighbours: str | None,
    distances: str | None,
    standardise: bool,
) -> tuple[Space, Array]:
    """The space that a batch makes, and where its rows lie: (n, D), D is 0 where not in columns."""
    none = np.zeros(0)
    if neighbours is not None:
        return Space((), none, none, neighbours, distances or ""), np.zeros((rows, 0))
    if batch is None and columns is None:
        return Space((), none, none), np.zeros((rows, 0))
    names = number_columns(batch or {}) if columns is None else tuple(columns)
    if not names:
        raise ColumnError(
            f"the batch has no column of numbers to lie near or far by; it has {listed(batch or {})}"
        )
    raw = raw_points(batch, names, rows)
    with np.errstate(all="ignore"):
        known = np.maximum(np.isfinite(raw).sum(axis=0), 1)
        centres = np.nansum(raw, axis=0) / known
        spread = np.sqrt(np.nansum((raw - centres) ** 2, axis=0) / known)
    scales = np.where(spread > 0, spread, 1.0) if standardise else np.ones(len(centres))
    space = Space(names, centres if standardise else np.zeros(len(centres)), scales)
    return space, space.points(batch, rows)


def number_columns(batch: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the columns of numbers, in the order of the batch."""
    return tuple(n for n, v in batch.items() if np.asarray(v).dtype.kind in "fiub")


def nearest_rows(queries: Array, rows: Array, k: int, apart: Array | None = None) -> tuple[Array, Array]:
    """(n, k) places of the nearest rows by Euclidean distance, nearest first, and their distances.

    Ties go to the earlier row. apart: (n,) a row that each query must not find (itself), or -1.
    Candidates come from one product of matrices in float32, their distances are then worked out exactly;
    where rounding could have hidden a nearer row, the query is asked again in float64.
    """
    n, total = len(queries), len(rows)
    k = min(k, total - (apart is not None))
    at, far = np.zeros((n, max(k, 0)), dtype=np.int64), np.zeros((n, max(k, 0)))
    if k <= 0 or n == 0:
        return at, far
    middle = rows.mean(axis=0)
    base = rows - middle
    length = np.einsum("ij,ij->i", base, base)
    table = np.concatenate([-2.0 * base, length[:, None]], axis=1)
    with np.errstate(over="ignore"):
        small = table.astype(np.float32)
    wide = min(total, k + _SPARE + (apart is not None))
    step = max(1, CELLS // max(total, wide * rows.shape[1]))
    reach = 2.0 * float(length.max())
    for start in range(0, n, step):
        cut = slice(start, start + step)
        asked = queries[cut] - middle
        size = np.einsum("ij,ij->i", asked, asked)
        asked = np.concatenate([asked, np.ones((len(asked), 1))], axis=1)
        own = None if apart is None else apart[cut]
        with np.errstate(over="ignore", invalid="ignore"):
            found, last = _candidates(asked.astype(np.float32), small, wide, own, 0.0)
        at[cut], far[cut] = _exact(queries[cut], rows, found, own, k)
        doubt = _FLOAT32 * math.sqrt(table.shape[1]) * (size + reach) + _LEAST
        sure = (far[cut][:, -1] ** 2 - size + 2 * doubt < last) & np.isfinite(last)
        again = np.flatnonzero(~sure)
        if wide < total and len(again):
            more = None if own is None else own[again]
            found, _ = _candidates(asked[again], table, wide, more, _FLOAT64 * (float(size.max()) + reach))
            at[start + again], far[start + again] = _exact(queries[cut][again], rows, found, more, k)
    return at, far


def _candidates(
    asked: Array, table: Array, wide: int, own: Array | None, slack: float
) -> tuple[Array, Array]:
    """(n, wide) places of the least squared distances, but for |query|^2; and the greatest of these, (n,)."""
    crude = asked @ table.T
    if own is not None:
        some = np.flatnonzero(own >= 0)
        crude[some, own[some]] = np.inf
    found, kept = np.empty((len(crude), wide), dtype=np.int64), np.empty((len(crude), wide))
    least(crude, slack, found, kept)
    return found, kept[:, -1]


def _exact(queries: Array, rows: Array, found: Array, own: Array | None, k: int) -> tuple[Array, Array]:
    found.sort(axis=1)
    away = rows[found]
    away -= queries[:, None, :]
    exact = np.sqrt(np.einsum("nkd,nkd->nk", away, away))
    if own is not None:
        exact[found == own[:, None]] = np.inf
    order = np.argsort(exact, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(exact, order, axis=1)


def nearest_of_each_class(
    queries: Array, rows: Array, codes: Array, k: int, apart: Array | None = None
) -> tuple[Array, Array]:
    """As `nearest_rows`, but as many of each class (K-nearest neighbour equality, Mendialdua et al. 2015).

    What is left of k after equal shares goes to the classes whose next row is nearest.
    """
    kinds = np.unique(codes)
    each = k // len(kinds)
    places, distances, levels = [], [], []
    for code in kinds:
        own = np.flatnonzero(codes == code)
        inside = None
        if apart is not None:
            slot = np.full(len(codes), -1)
            slot[own] = np.arange(len(own))
            inside = np.where(apart >= 0, slot[np.maximum(apart, 0)], -1)
        at, far = nearest_rows(queries, rows[own], k, inside)
        places.append(own[at])
        distances.append(far)
        levels.append(np.broadcast_to(np.maximum(np.arange(at.shape[1]) - each + 1, 0), at.shape))
    at, far = np.concatenate(places, axis=1), np.concatenate(distances, axis=1)
    order = np.lexsort((far, np.concatenate(levels, axis=1)), axis=1)[:, :k]
    return np.take_along_axis(at, order, axis=1), np.take_along_axis(far, order, axis=1)


def given_rows(
    space: Space, batch: Batch | None, where: Array, k: int, apart: Array | None = None
) -> tuple[Array, Array]:
    """Nearest rows that the batch gives; where: (N,) place of a row fitted to, -1 where it was left out.

    (n, k) places, -1 where there are fewer; distances, 1 where they are not given. Raises ColumnError.
    """
    given = np.asarray((batch or {}).get(space.neighbours, ()))
    raw = column(batch, space.neighbours, len(given))
    if raw.ndim != 2 or raw.dtype.kind not in "iu" or raw.shape[1] == 0:
        told = f"{raw.dtype} of shape {raw.shape}"
        raise ColumnError(f"column {space.neighbours!r} must hold whole numbers (n, neighbours), not {told}")
    if raw.size and (raw.max() >= len(where) or raw.min() < -1):
        raise ColumnError(
            f"column {space.neighbours!r} names rows from {raw.min()} to {raw.max()}; "
            f"the fuser was fitted to rows 0 to {len(where) - 1} (-1 is none)"
        )
    far = np.ones(raw.shape)
    if space.distances:
        far = column(batch, space.distances, len(raw)).astype(np.float64)
        if far.shape != raw.shape or not np.isfinite(far).all() or (far < 0).any():
            raise ColumnError(f"column {space.distances!r} must hold {raw.shape} distances, none negative")
    at = np.where(raw >= 0, where[np.maximum(raw, 0)], -1)
    if apart is not None:
        at = np.where(at == apart[:, None], -1, at)
    order = np.argsort(at < 0, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(at, order, axis=1), np.take_along_axis(far, order, axis=1)
