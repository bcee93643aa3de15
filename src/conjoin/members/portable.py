"""A member made of parts that have an ONNX form: an encoder, perhaps a dense view, and a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

from conjoin.contracts import Card, Column, Cost
from conjoin.errors import BundleError
from conjoin.members.compiled import Compiled, compiled

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json, Output


class Source(Protocol):
    """Columns to features: `emit` returns a tensor (n, d) float32. `graph.encoder.Encoder` is one."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that it reads."""

    def emit(self, graph: Graph, /) -> str:
        """Add the nodes; returns the tensor of features."""

    def children(self) -> Mapping[str, Storable]:
        """The parts inside."""

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Named arrays and JSON."""


class Step(Protocol):
    """Features to something: a dense view, or a model (trees, linear, neighbours, a network)."""

    def emit(self, graph: Graph, x: str, /) -> str:
        """Add the nodes over the tensor x; returns the tensor of answers."""

    def children(self) -> Mapping[str, Storable]:
        """The parts inside."""

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Named arrays and JSON."""


@dataclass(frozen=True, eq=False)
class Portable:
    """A member whose parts have an ONNX form: columns -> encoder -> view (if any) -> model.

    Members with the same encoder (or view) object share its nodes when they are compiled together.
    Make one with `portable`, which fills in the card.
    """

    card: Card
    encoder: Source
    view: Step | None
    model: Step

    def predict(self, batch: Batch, /) -> Output:
        """One answer for each row. Raises ColumnError where columns are missing or do not fit."""
        return self._compiled.outputs(batch)[self.card.name]

    def emit(self, graph: Graph, /) -> str:
        """Add encoder, view and model to the graph; returns the tensor of answers."""
        x = cast(str, graph.once(self.encoder, lambda: self.encoder.emit(graph)))
        if self.view is not None:
            view = self.view
            x = cast(str, graph.once(view, lambda t: view.emit(graph, t), x))
        return cast(str, graph.once(self.model, lambda t: self.model.emit(graph, t), x))

    def named(self, name: str) -> Portable:
        """The same member under another name."""
        return replace(self, card=self.card.named(name))

    def children(self) -> Mapping[str, Storable]:
        """Encoder, view and model."""
        parts = {"encoder": self.encoder, "view": self.view, "model": self.model}
        return cast("Mapping[str, Storable]", {k: v for k, v in parts.items() if v is not None})

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The card; the parts are children."""
        return {}, {"card": card_to_json(self.card)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError where a part is missing."""
        lost = [k for k in ("encoder", "model") if k not in children]
        if lost:
            raise BundleError(f"a packed member lacks its {' and '.join(lost)}")
        card = card_from_json(meta.get("card"))
        return cls(card, children["encoder"], children.get("view"), children["model"])

    @cached_property
    def _compiled(self) -> Compiled:
        return compiled({self.card.name: self})

    def __getstate__(self) -> dict[str, Any]:
        return {"card": self.card, "encoder": self.encoder, "view": self.view, "model": self.model}


def portable(card: Card, encoder: Source, model: Step, *, view: Step | None = None) -> Portable:
    """A member of these parts; its card gets the encoder's columns and the packed size of view and model.

    The encoder is not counted, because members share it.
    """
    size = bytes_of(model) + (bytes_of(view) if view is not None else 0)
    card = replace(card, columns=encoder.columns, cost=replace(card.cost, bytes=size))
    return Portable(card, encoder, view, model)


def bytes_of(part: Any) -> int:
    """The size of a part and the parts inside it, packed."""
    arrays, _ = part.pack()
    return int(sum(a.nbytes for a in arrays.values())) + sum(bytes_of(c) for c in part.children().values())


def card_to_json(card: Card) -> dict[str, Json]:
    """The card as JSON."""
    return cast("dict[str, Json]", asdict(card) | {"provenance": dict(card.provenance)})


def card_from_json(json: Any) -> Card:
    """The inverse of `card_to_json`. Raises BundleError where fields are missing or unknown."""
    try:
        given: dict[str, Any] = dict(json)
        columns = tuple(Column(c["name"], c["type"], tuple(c["shape"])) for c in given.pop("columns"))
        cost = Cost(**given.pop("cost"))
        classes, levels = tuple(given.pop("classes")), tuple(given.pop("levels"))
        return Card(columns=columns, classes=classes, levels=levels, cost=cost, **given)
    except (TypeError, KeyError, ValueError) as error:
        raise BundleError(f"a packed card does not make sense: {error!r}") from error
