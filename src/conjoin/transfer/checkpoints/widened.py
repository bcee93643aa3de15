"""Weights of another type than formulas take, turned into it block by block, when a block is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.transfer.checkpoints.dtypes import STORED, read_as

if TYPE_CHECKING:
    from conjoin.outputs import Array


@dataclass(frozen=True, slots=True, eq=False)
class Widened:
    """An array of a file (`held`, of its `stored` type) that answers slices of its first axis as `wanted`."""

    held: Array
    stored: str
    wanted: str

    @property
    def dtype(self) -> Any:
        """The type of what slices answer."""
        return np.dtype(STORED[self.wanted])

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return tuple(self.held.shape)

    @property
    def ndim(self) -> int:
        """As of an array."""
        return self.held.ndim

    @property
    def size(self) -> int:
        """As of an array."""
        return math.prod(self.held.shape)

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, rows: Any) -> Array:
        return read_as(self.held[rows], self.stored, self.wanted)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(read_as(self.held, self.stored, self.wanted), dtype=dtype)

    def reshape(self, *shape: int) -> Widened:
        """As of an array."""
        return Widened(self.held.reshape(*shape), self.stored, self.wanted)


def widened(array: Array, stored: str, wanted: str) -> Any:
    """The array itself where it is of the wanted type, else a `Widened`."""
    return array if stored == wanted else Widened(array, stored, wanted)
