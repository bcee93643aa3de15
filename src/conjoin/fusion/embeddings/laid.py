"""Vectors of several members laid side by side: names sorted, lengths 1, what fits checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.stack import Weights, named_weights
from conjoin.outputs import Array, Embeddings, Output


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """M members' vectors of the same n rows, those of weight 0 left out.

    names: sorted. weights: (M,). parts: M arrays (n, P, D_m) of length 1 (a zero vector stays zero), 0 where
    not answered. answered: (M, n). flat: vectors were (n, D), so P is 1.
    """

    names: tuple[str, ...]
    weights: Array
    parts: tuple[Array, ...]
    answered: Array
    flat: bool

    @property
    def spoken(self) -> Array:
        """(n,) bool: rows that some member answered."""
        return cast(Array, self.answered.any(axis=0))

    @property
    def rows(self) -> int:
        """The number of rows n."""
        return int(self.answered.shape[1])

    @property
    def per_row(self) -> int:
        """P."""
        return int(self.parts[0].shape[1])

    def shares(self) -> Array:
        """(M, n): weights that sum to 1 over the members that answered the row; 0 where nobody did."""
        mass = self.weights[:, None] * self.answered
        total = mass.sum(axis=0)
        return cast(Array, np.divide(mass, total, out=np.zeros_like(mass), where=total > 0))

    def output(self, values: Array) -> Embeddings:
        """Embeddings from values (n, P, D); rows that nobody answered are not answered."""
        return Embeddings(values[:, 0] if self.flat else values, self.spoken)

    def cosines(self) -> Array:
        """(M, n): each member's cosine of the two vectors of a row; NaN where it did not answer.

        Raises OutputsError where a row does not hold two vectors.
        """
        if self.flat or self.per_row != 2:
            told = "one" if self.flat else str(self.per_row)
            raise OutputsError(
                f"similarities need two vectors a row, values of shape (n, 2, D); these rows hold {told}"
            )
        found = np.array([np.einsum("nd,nd->n", p[:, 0], p[:, 1], dtype=np.float64) for p in self.parts])
        return np.where(self.answered, found, np.nan)

    def complete(self) -> Array:
        """(n,) bool: rows that every member answered."""
        return cast(Array, self.answered.all(axis=0))

    def stacked(self, m: int, rows: Array) -> Array:
        """(rows * P, D_m) float64: the vectors of one member, one below the other."""
        part = self.parts[m][rows]
        return part.reshape(-1, part.shape[-1]).astype(np.float64)


def lay(outputs: Mapping[str, Any], weights: Weights = None) -> Vectors:
    """Vectors side by side. Raises OutputsError where kinds, rows, vectors a row or weights do not fit.

    float32 where all members answer in float16 or float32, else float64.
    """
    if not outputs:
        raise OutputsError("there are no outputs to fuse; give a mapping of member name to output")
    for name, output in outputs.items():
        if not isinstance(name, str):
            raise OutputsError(f"members are named by strings, not {name!r}")
        if not isinstance(output, Embeddings):
            kind = output.kind if isinstance(output, Output) else type(output).__name__
            raise OutputsError(f"member {name!r} answered with {kind}; this fuser takes embeddings")
    mass = named_weights(outputs, weights)
    lengths = {n: len(o) for n, o in outputs.items()}
    if len(set(lengths.values())) > 1:
        raise OutputsError(f"members must answer the same rows; rows answered: {lengths}")
    each = {n: o.values.shape[1:-1] for n, o in outputs.items()}
    if len(set(each.values())) > 1:
        raise OutputsError(f"members must give the same number of vectors a row, not {each}")
    names = tuple(n for n in sorted(outputs) if mass[n] != 0)
    small = all(outputs[n].values.dtype in (np.float16, np.float32) for n in names)
    parts = tuple(_unit(n, outputs[n], np.float32 if small else np.float64) for n in names)
    answered = np.array([outputs[n].answered for n in names])
    return Vectors(names, np.array([mass[n] for n in names]), parts, answered, each[names[0]] == ())


def _unit(name: str, output: Embeddings, kind: Any) -> Array:
    values = output.values.astype(kind)
    if values.ndim == 2:
        values = values[:, None]
    if not output.answered.all():
        values = np.where(output.answered[:, None, None], values, kind(0))
    made = unit(values)
    bad = ~np.isfinite(made[..., :1]).all(axis=(1, 2)) if made.shape[-1] else np.zeros(len(made), dtype=bool)
    if bad.any():
        raise OutputsError(
            f"member {name!r}: the vector of row {int(np.argmax(bad))} holds NaN or infinity; mark "
            "the row as not answered if there is none"
        )
    return made


def unit(values: Array) -> Array:
    """The vectors of the last axis with length 1; zero stays zero, a vector with NaN or infinity is NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        square = np.einsum("...d,...d->...", values, values)
        plain = np.isfinite(square) & (square > 1e-30)
        scale = np.where(plain, 1.0 / np.sqrt(np.where(plain, square, 1)), 1)
        made: Array = values * scale[..., None].astype(values.dtype)
        odd = values[~plain]  # squares overflow or vanish, or something is not finite
        most = np.abs(odd).max(axis=-1, keepdims=True, initial=0.0)
        odd = odd / np.where(most > 0, most, 1)
        length = np.sqrt((odd * odd).sum(axis=-1, keepdims=True))
        made[~plain] = np.where(np.isfinite(most), odd / np.where(length > 0, length, 1), np.nan)
    return made
