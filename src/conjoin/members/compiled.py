"""One ONNX graph for several members: a single pass over the encoder, shared by all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from conjoin.errors import MemberError, NotExportableError, listed
from conjoin.graph.builder import Graph
from conjoin.graph.session import Session
from conjoin.outputs import Output, Probabilities, Quantiles, Values

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Card, Column
    from conjoin.outputs import Array

FLOAT, STRING, DOUBLE = 1, 8, 11
"""Element types of ONNX."""

ELEMENT = {"probabilities": FLOAT, "values": DOUBLE, "quantiles": DOUBLE}
"""Kinds that have an ONNX form, with the element type of their tensor."""


class Emitter(Protocol):
    """A member with an ONNX form: a card and `emit`."""

    @property
    def card(self) -> Card:
        """What is known of the member without running it."""

    def emit(self, graph: Graph, /) -> str:
        """Add this member's nodes; returns the name of its output tensor."""


def compiled(members: Mapping[str, Emitter]) -> Compiled:
    """One graph for these members. Raises NotExportableError where a kind has no ONNX form."""
    for name, member in members.items():
        if member.card.kind not in ELEMENT:
            raise NotExportableError(
                f"member {name!r} answers {member.card.kind}; only {', '.join(ELEMENT)} have an ONNX form"
            )
    return Compiled(dict(members))


@dataclass(frozen=True, eq=False)
class Compiled:
    """Several members as one graph, built when it is first run. Made by `compiled`."""

    members: Mapping[str, Emitter]

    @property
    def model(self) -> Any:
        """The graph as a ModelProto: one output for each member, under its name."""
        return self._graph().build()

    @property
    def columns(self) -> tuple[Column, ...]:
        """The input columns that the graph reads."""
        return self._loaded[1]

    def outputs(self, batch: Batch) -> dict[str, Output]:
        """What each member answers, by name.

        Raises ColumnError where columns are missing or do not fit, MemberError where onnxruntime fails.
        """
        from conjoin.tables import conform

        session, columns = self._loaded
        feeds = conform(batch, columns)
        n = len(next(iter(feeds.values())))
        if n == 0:
            return {name: _wrap(_nothing(m.card), m.card) for name, m in self.members.items()}
        try:
            arrays = session.run(feeds)
        except Exception as error:  # onnxruntime raises a class of its own per status code
            raise MemberError(f"{listed(self.members)}: onnxruntime fails: {str(error)[:300]}") from error
        return {name: _wrap(a, m.card) for (name, m), a in zip(self.members.items(), arrays, strict=True)}

    @cached_property
    def _loaded(self) -> tuple[Session, tuple[Column, ...]]:
        graph = self._graph()
        return Session.of(graph), graph.columns

    def _graph(self) -> Graph:
        graph = Graph()
        for name, member in self.members.items():
            graph.output(f"out:{name}", member.emit(graph), ELEMENT[member.card.kind])
        return graph

    def __getstate__(self) -> dict[str, Any]:
        return {"members": self.members}  # a running session stays in its process


def export_model(member: Emitter) -> Any:
    """The member as a ModelProto that runs anywhere onnxruntime runs.

    Outputs: `probabilities` (n, K) float and `label` (n,) string, or `values` (n, 1) double, or `quantiles`
    (n, Q) double; where a column has that name already, the output's ends with an underscore. Inputs: one
    (n, 1) tensor per column. The model's metadata holds `name`, `kind`, and as JSON `columns`, `classes`,
    `levels`, `outputs` (what -> the output's name) and `rows_at_once` (more would take much memory).
    Raises NotExportableError.
    """
    card = member.card
    if card.kind not in ELEMENT:
        raise NotExportableError(f"{card.name!r} answers {card.kind}, which has no ONNX form")
    graph = Graph()
    tensor = member.emit(graph)
    given = [(card.kind, tensor, ELEMENT[card.kind])]
    if card.kind == "probabilities":
        names = graph.const(np.array(card.classes, dtype=object))
        best = graph.op("ArgMax", tensor, axis=1, keepdims=0)
        given.append(("label", graph.op("Gather", names, best, axis=0), STRING))
    taken = {c.name for c in graph.columns}
    outputs = {what: _free(what, taken) for what, _, _ in given}
    for what, found, element in given:
        graph.output(outputs[what], found, element)
    return graph.build(
        {
            "name": card.name,
            "kind": card.kind,
            "columns": json.dumps(
                [{"name": c.name, "type": c.type, "shape": list(c.shape)} for c in graph.columns]
            ),
            "classes": json.dumps(list(card.classes)),
            "levels": json.dumps(list(card.levels)),
            "outputs": json.dumps(outputs),
            "rows_at_once": json.dumps(graph.rows_at_once),
        }
    )


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _wrap(array: Array, card: Card) -> Output:
    if card.kind == "probabilities":
        return Probabilities(array, card.classes)
    if card.kind == "quantiles":
        return Quantiles(array, card.levels)
    return Values(array[:, 0] if array.shape[1] == 1 else array)


def _nothing(card: Card) -> Array:
    width = {"probabilities": len(card.classes), "quantiles": len(card.levels)}.get(card.kind, 1)
    return np.zeros((0, width), dtype=np.float32 if card.kind == "probabilities" else np.float64)
