"""`Projected`: each member's vectors mapped into one common space by a matrix of its own, and added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from conjoin.errors import BundleError, OutputsError
from conjoin.fusion.embeddings.laid import lay
from conjoin.fusion.packing import ask, known, members_of, text
from conjoin.fusion.stack import checked
from conjoin.outputs import Embeddings

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json

METHODS = ("procrustes", "pca", "gcca")


@dataclass(frozen=True, slots=True, eq=False)
class Projected:
    """sum_m w_m (x_m / |x_m| - c_m) A_m / sum_m w_m, over the members that answered the row.

    name: how it was found: "procrustes", "pca" or "gcca". weights: by member name. centres: (D_m,) of each
    member; matrices: (D_m, d) of each.
    """

    name: str
    weights: Mapping[str, float]
    centres: Mapping[str, Array]
    matrices: Mapping[str, Array]

    def __post_init__(self) -> None:
        found = checked({str(n): float(w) for n, w in sorted(self.weights.items())})
        object.__setattr__(self, "weights", found)
        widths = {self.matrices[n].shape[1] for n in found}
        fits = all(self.centres[n].shape == self.matrices[n].shape[:1] for n in found)
        if len(widths) != 1 or not fits:
            raise OutputsError("the matrices of a projection must lead to one space, centres fit them")

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members it knows."""
        return tuple(self.weights)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members with weight."""
        return tuple(n for n, w in self.weights.items() if w > 0)

    @property
    def width(self) -> int:
        """The length d of the fused vectors."""
        return int(next(iter(self.matrices.values())).shape[1])

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Embeddings:
        """Embeddings (n, d) or (n, P, d), float64.

        Raises OutputsError on a member it was not fitted to, and on vectors of another length.
        """
        known(self.members, outputs)
        if not outputs:
            raise OutputsError("there are no outputs to fuse; give a mapping of member name to output")
        some = {n: o for n, o in outputs.items() if self.weights[n] > 0}
        if not some:
            first = next(iter(outputs.values()))
            values = np.full((*first.values.shape[:-1], self.width), np.nan)
            return Embeddings(values, np.zeros(len(first), dtype=bool))
        laid = lay(some, {n: self.weights[n] for n in some})
        out = np.zeros((laid.rows, laid.per_row, self.width))
        for name, part, share in zip(laid.names, laid.parts, laid.shares(), strict=True):
            matrix = self.matrices[name]
            if part.shape[-1] != len(matrix):
                raise OutputsError(
                    f"member {name!r} gave vectors of length {part.shape[-1]}; it was fitted to {len(matrix)}"
                )
            out += share[:, None, None] * ((part - self.centres[name]) @ matrix)
        return laid.output(out)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Weights, centres and matrices, members one below another."""
        arrays = {
            "weights": np.array(list(self.weights.values())),
            "centres": np.concatenate([self.centres[n] for n in self.weights]),
            "matrices": np.concatenate([self.matrices[n] for n in self.weights]),
            "lengths": np.array([len(self.centres[n]) for n in self.weights], dtype=np.int64),
        }
        return arrays, {"members": list(self.weights), "name": self.name}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names, name = members_of(meta), text(meta, "name", METHODS)
        weights, lengths = (ask(arrays, k, (len(names),)) for k in ("weights", "lengths"))
        centres, matrices = ask(arrays, "centres", (None,)), ask(arrays, "matrices", (None, None))
        ends = np.cumsum(lengths).astype(np.int64)
        if not names or (lengths < 0).any() or not ends[-1] == len(centres) == len(matrices):
            raise BundleError("the lengths of a packed projection do not fit its matrices")
        cut = [
            dict(zip(names, cast("list[Array]", np.split(a, ends[:-1])), strict=True))
            for a in (centres, matrices)
        ]
        try:
            return cls(name, dict(zip(names, weights.tolist(), strict=True)), *cut)
        except OutputsError as error:
            raise BundleError(f"a packed projection does not make sense: {error}") from error
