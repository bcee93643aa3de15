"""The mean of several parts that read the same features: models of several folds as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, InputError

if TYPE_CHECKING:
    from conjoin.contracts import Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json


@dataclass(frozen=True, slots=True, eq=False)
class Average:
    """Parts with one kind of answer; theirs is the mean of all answers, equally weighted."""

    parts: tuple[Any, ...]

    @classmethod
    def of(cls, parts: Sequence[Any]) -> Any:
        """The mean of the parts; a single part is itself. Raises InputError without parts."""
        if not parts:
            raise InputError("a mean needs at least one part")
        return parts[0] if len(parts) == 1 else cls(tuple(parts))

    def emit(self, graph: Graph, x: str) -> str:
        """Add all parts over the tensor x and their mean, in the type of their answers."""
        total = graph.op("Sum", *(part.emit(graph, x) for part in self.parts))
        share = graph.op("CastLike", graph.const(1 / len(self.parts), np.float64), total)
        return graph.op("Mul", total, share)

    def children(self) -> Mapping[str, Storable]:
        """The parts, by number."""
        return {f"part{k}": part for k, part in enumerate(self.parts)}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """How many parts; they are children."""
        return {}, {"parts": len(self.parts)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError where parts are missing."""
        count = meta.get("parts")
        if not isinstance(count, int) or count < 1 or any(f"part{k}" not in children for k in range(count)):
            raise BundleError(f"a packed mean names {count!r} parts and holds {len(children)}")
        return cls(tuple(children[f"part{k}"] for k in range(count)))
