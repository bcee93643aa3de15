"""More rows for a teacher to answer: new rows near those of a table.

A student that copies a teacher needs rows, not truths. Both ways keep every column's own values apart from
noise in numbers, so that types, categories and missing values stay what they were.

- Bucila, Caruana, Niculescu-Mizil (2006), Model compression. KDD: MUNGE.
- Fakoor, Mueller, Erickson, Chaudhari, Smola (2020), Fast, accurate, and simple models for tabular data via
  augmented distillation. NeurIPS. Its software has the simpler way that is called spunge here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import InputError, listed, nearest

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array

NEAR = 3
"""A neighbour is drawn from so many nearest ones."""
SEARCHED = 20_000
"""Neighbours are looked for among at most so many rows, drawn at random where there are more."""


def munge(
    batch: Batch, near: Array, size: int, *, seed: int, share: float = 0.5, steepness: float = 1.0
) -> tuple[dict[str, Array], Array]:
    """Rows whose cells are swapped, each with a probability, for those of a near row; numbers get noise.

    batch: n rows. near: (n, k) positions of each row's nearest neighbours. size: rows to make. share: the
    probability of a swap. A number x with the neighbour's x' becomes a draw from a normal distribution with
    mean x' and deviation |x - x'| / steepness, kept within the column's range; all else becomes x'.

    Returns the new rows and (size,) the row that each was made of.

    >>> rows = {"x": np.array([1.0, 2.0, 9.0]), "job": np.array(["a", "b", "b"], dtype=object)}
    >>> made, origin = munge(rows, np.array([[1], [0], [1]]), 4, seed=0)
    >>> origin, set(made["job"].tolist()) <= {"a", "b"}
    (array([0, 1, 2, 0]), True)
    """
    rng = np.random.default_rng(seed)
    origin = np.arange(size) % len(near)
    other = near[origin, rng.integers(0, near.shape[1], size)]
    out = {}
    for name, column in batch.items():
        swap = rng.random(size) < share
        noise = rng.standard_normal(size)
        out[name] = _mixed(column, column[origin], _towards(column, origin, other, noise, steepness), swap)
    return out, origin


def spunge(
    batch: Batch, size: int, *, seed: int, share: float = 0.1, noise: float = 0.1
) -> tuple[dict[str, Array], Array]:
    """Rows some of whose cells are swapped for those of any other row; some numbers get noise.

    From one cell to the share of all columns are swapped in a row. A number gets, with probability `share`,
    normal noise of `noise` times its column's deviation. No neighbours are needed.

    Returns the new rows and (size,) the row that each was made of.

    >>> made, origin = spunge({"x": np.array([1, 2, 9])}, 6, seed=0)
    >>> len(made["x"]), made["x"].dtype == np.array([1]).dtype
    (6, True)
    """
    rng = np.random.default_rng(seed)
    n = len(next(iter(batch.values())))
    origin = np.arange(size) % n
    most = max(1, int(share * len(batch)))
    count = rng.integers(1, most + 1, size)
    place = rng.random((size, len(batch))).argsort(axis=1).argsort(axis=1)
    out = {}
    for k, (name, column) in enumerate(batch.items()):
        swapped = np.where(
            _wide(place[:, k] < count, column), column[rng.integers(0, n, size)], column[origin]
        )
        draws, some = rng.standard_normal(size), rng.random(size) < share
        out[name] = _mixed(column, swapped, _shaken(column, swapped, draws * noise), some)
    return out, origin


def neighbours(features: Array, *, seed: int, k: int = NEAR) -> Array:
    """(n, k) positions of each row's nearest other rows, by Euclidean distance of dense features (n, e).

    A table with one row has itself as its neighbour.
    """
    from conjoin.graph.neighbours import search

    n = len(features)
    if n < 2:
        return np.zeros((n, 1), dtype=np.int64)
    among = np.arange(n)
    if n > SEARCHED:
        among = np.sort(np.random.default_rng(seed).permutation(n)[:SEARCHED])
    k = min(k, len(among) - 1)
    found = among[search(features[among], features, k + 1)[0]]
    own = found == np.arange(n)[:, None]
    own[~own.any(axis=1), -1] = True  # a twin of the row took its place
    return cast("Array", found[~own].reshape(n, k))


def _towards(column: Array, origin: Array, other: Array, noise: Array, steepness: float) -> Array:
    """The neighbour's cells, numbers and dates with noise as wide as they differ."""
    target = column[other]
    numbers = _numbers(column)
    if numbers is None:
        return target
    a, b = numbers[origin], numbers[other]
    width = np.abs(a - b) / steepness
    return _back(column, b + noise * np.where(np.isfinite(width), width, 0.0), target)


def _shaken(column: Array, cells: Array, noise: Array) -> Array:
    """Cells, numbers with noise in deviations of the column."""
    numbers = _numbers(column)
    if numbers is None:
        return cells
    known = numbers[np.isfinite(numbers)]
    spread = float(known.std()) if len(known) else 0.0
    return _back(column, cast("Array", _numbers(cells)) + noise * spread, cells)


def _numbers(column: Array) -> Array | None:
    """A column of numbers or dates as float64, NaN where missing; None for anything else."""
    if column.ndim != 1:
        return None
    if column.dtype.kind == "M":
        return cast("Array", np.where(np.isnat(column), np.nan, column.astype(np.int64).astype(np.float64)))
    return column.astype(np.float64) if column.dtype.kind in "iuf" else None


def _back(column: Array, values: Array, instead: Array) -> Array:
    """float64 values in the column's type and range; `instead` where they are not finite."""
    numbers = cast("Array", _numbers(column))
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        return instead
    values = np.clip(values, known.min(), known.max())
    finite = np.isfinite(values)
    if column.dtype.kind != "f":
        values = np.rint(np.where(finite, values, 0.0)).astype(np.int64)
    return np.where(finite, values.astype(column.dtype), instead)


def _mixed(column: Array, a: Array, b: Array, take_b: Array) -> Array:
    return np.where(_wide(take_b, column), b, a).astype(column.dtype)


def _wide(mask: Array, column: Array) -> Array:
    """A mask of rows, shaped so that it fits a column of tensors."""
    return mask.reshape(-1, *([1] * (column.ndim - 1)))


AUGMENTERS: Mapping[str, Callable[..., tuple[dict[str, Array], Array]] | None] = {
    "munge": munge,
    "spunge": spunge,
    "none": None,
}
"""The ways by name. munge needs neighbours; "none" makes no rows."""


def check_augment(name: str) -> None:
    """Raises InputError on a name that is not in `AUGMENTERS`."""
    if name not in AUGMENTERS:
        raise InputError(
            f"no augmentation {name!r}{nearest(name, AUGMENTERS)}; there are {listed(AUGMENTERS)}"
        )


def augmented(
    batch: Batch, features: Callable[[], Any], how: str, size: int, *, seed: int
) -> tuple[dict[str, Array], Array]:
    """So many new rows by one of `AUGMENTERS`, and the row that each was made of.

    features: gives the dense features (n, e) of the rows, asked for only where neighbours are needed.
    """
    check_augment(how)
    n = len(next(iter(batch.values()), ()))
    if how == "none" or size <= 0 or n < 2:
        return {k: v[:0] for k, v in batch.items()}, np.zeros(0, dtype=np.int64)
    if how == "munge":
        return munge(batch, neighbours(features(), seed=seed), size, seed=seed)
    return spunge(batch, size, seed=seed)
