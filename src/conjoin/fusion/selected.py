"""`Selected`: a fuser that was fitted to some of the members, and lets the others be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from conjoin.errors import OutputsError, listed
from conjoin.fusion.packing import child, known, names_of

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.fusion.stack import Dense
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json


@dataclass(frozen=True, slots=True, eq=False)
class Selected:
    """`fuser`, given the outputs of its own members; those of the `ignored` members are not looked at."""

    fuser: Any
    ignored: tuple[str, ...]

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members it knows, the ignored ones too."""
        return tuple(sorted({*self.fuser.members, *self.ignored}))

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members whose output matters."""
        return tuple(self.fuser.needs)

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Dense:
        """Fuse. Raises OutputsError on a member it does not know, and where only ignored ones answered."""
        fused: Dense = self.fuser(self._own(outputs), batch=batch)
        return fused

    def emit(self, graph: Graph, outputs: Mapping[str, str], /) -> str:
        """Nodes of the fuser."""
        return str(self.fuser.emit(graph, self._own(outputs)))

    def children(self) -> Mapping[str, Storable]:
        """The fuser."""
        return {"fuser": self.fuser}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The names of the ignored members."""
        return {}, {"ignored": list(self.ignored)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        return cls(child(children, "fuser"), names_of(meta, "ignored"))

    def _own(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        known(self.members, outputs)
        own = {n: o for n, o in outputs.items() if n not in self.ignored}
        if not own:
            raise OutputsError(f"of the members {listed(self.fuser.members)} none answered")
        return own
