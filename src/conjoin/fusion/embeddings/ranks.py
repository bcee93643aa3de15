"""`RankMean`: ranks of cosines among the rows that it was fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, OutputsError
from conjoin.fusion.embeddings.laid import Vectors, lay
from conjoin.fusion.packing import ask, known, members_of
from conjoin.fusion.stack import checked
from conjoin.outputs import Values

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json


@dataclass(frozen=True, slots=True, eq=False)
class RankMean:
    """Weighted mean over members of the share of known cosines that a pair's cosine exceeds.

    weights: by member name. cosines: of each member, those of the rows it was fitted to, sorted.
    """

    weights: Mapping[str, float]
    cosines: Mapping[str, Array]

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", checked({n: float(w) for n, w in sorted(self.weights.items())}))
        if set(self.weights) != set(self.cosines):
            raise OutputsError("a rank mean needs known cosines for each member with a weight")

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members it knows."""
        return tuple(self.weights)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members with weight."""
        return tuple(n for n, w in self.weights.items() if w > 0)

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Values:
        """Values (n,) in 0 to 1. Raises OutputsError on a member it was not fitted to."""
        known(self.members, outputs)
        some = {n: o for n, o in outputs.items() if self.weights[n] > 0}
        if not some:
            rows = len(next(iter(outputs.values()))) if outputs else 0
            return Values(np.full(rows, np.nan), np.zeros(rows, dtype=bool))
        laid = lay(some, {n: self.weights[n] for n in some})
        found, cosines = np.zeros(laid.rows), laid.cosines()
        for m, share in enumerate(laid.shares()):
            table = self.cosines[laid.names[m]]
            below, upto = (np.searchsorted(table, cosines[m], side=s) for s in ("left", "right"))
            found += share * (below + upto) / (2.0 * max(len(table), 1))
        return Values(found, laid.spoken)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Weights, and the cosines one after another."""
        tables = [self.cosines[n] for n in self.weights]
        arrays = {
            "weights": np.array(list(self.weights.values())),
            "cosines": np.concatenate([np.zeros(0), *tables]),
            "lengths": np.array([len(t) for t in tables], dtype=np.int64),
        }
        return arrays, {"members": list(self.weights)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names = members_of(meta)
        weights, lengths = (ask(arrays, k, (len(names),)) for k in ("weights", "lengths"))
        flat, ends = ask(arrays, "cosines", (None,)), np.cumsum(lengths).astype(np.int64)
        if (lengths < 0).any() or (len(ends) and ends[-1] != len(flat)):
            raise BundleError("the lengths of a packed rank mean do not fit its cosines")
        tables = dict(zip(names, np.split(flat, ends[:-1]), strict=True))
        if any((np.diff(t) < 0).any() for t in tables.values()):
            raise BundleError("the cosines of a packed rank mean must rise")
        try:
            return cls(dict(zip(names, weights.tolist(), strict=True)), tables)
        except OutputsError as error:
            raise BundleError(f"a packed rank mean does not make sense: {error}") from error


def rank_mean_of(laid: Vectors, weights: Mapping[str, float] | None = None) -> RankMean:
    """The record that knows the cosines of these rows."""
    cosines = laid.cosines()
    tables = {n: np.sort(c[~np.isnan(c)]) for n, c in zip(laid.names, cosines, strict=True)}
    return RankMean(weights or dict(zip(laid.names, laid.weights.tolist(), strict=True)), tables)
