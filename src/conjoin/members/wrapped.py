"""What every adapter makes of a foreign model: a card, a function that answers, perhaps an ONNX form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from conjoin.contracts import Card, Column, ColumnType
from conjoin.errors import ConjoinError, InputError, MemberError, NotExportableError, listed
from conjoin.members.answers import answer_of, as_batch, no_rows, rows_of
from conjoin.outputs import KINDS
from conjoin.tables import name_of

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Output


def class_names(classes: Sequence[object]) -> tuple[str, ...]:
    """Names of classes: text stays, 1 and 1.0 are "1"."""
    return tuple(c if isinstance(c, str) else name_of(c) or str(c) for c in classes)


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller of `wrap` said about the model; None is not said.

    columns: names, or `Column`s, or name -> type, in the order in which the model was fitted.
    """

    name: str | None = None
    kind: str | None = None
    classes: Sequence[object] | None = None
    levels: Sequence[float] | None = None
    columns: Sequence[str | Column] | Mapping[str, ColumnType] | None = None

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise InputError(f"kind {self.kind!r} is not one of {listed(KINDS)}")

    def column_list(self) -> tuple[Column, ...]:
        """The columns as records; empty where none were given. A bare name is a number."""
        if self.columns is None:
            return ()
        if isinstance(self.columns, Mapping):
            return tuple(Column(n, t) for n, t in self.columns.items())
        return tuple(c if isinstance(c, Column) else Column(str(c), "number") for c in self.columns)

    def class_names(self, found: Sequence[object]) -> tuple[str, ...]:
        """The given names of the classes, in the model's order, else those found in the model.

        Raises InputError where the numbers of classes differ.
        """
        known = class_names(found)
        if self.classes is None:
            return known
        names = class_names(self.classes)
        if known and len(names) != len(known):
            raise InputError(f"{len(names)} classes were given ({listed(names)}); the model has {len(known)}")
        return names

    def card(self, name: str, kind: str, **fields: Any) -> Card:
        """A card with this name, unless one was given; `levels` are filled in."""
        levels = tuple(float(q) for q in self.levels or ())
        if kind == "quantiles" and not levels:
            raise InputError("quantiles need their levels: wrap(..., levels=[0.1, 0.5, 0.9])")
        return Card(self.name or name, kind, levels=levels, **fields)


@dataclass(frozen=True, eq=False)
class Wrapped:
    """A member around a model of another library. Made by `wrap`.

    answer: batch -> an Output or an array, read as `answers.answer_of` says. export: adds the model's nodes
    to a graph, None where it has no ONNX form. Its answers are the library's own; what is saved or exported
    is the ONNX form.
    """

    card: Card
    answer: Callable[[Batch], Any] = field(repr=False)
    export: Callable[[Graph], str] | None = field(default=None, repr=False)

    def predict(self, batch: Batch, /) -> Output:
        """One answer for each row. Raises ColumnError, and MemberError where the model fails."""
        batch = as_batch(batch)
        rows = rows_of(batch)
        if rows == 0:
            return no_rows(self.card)
        try:
            raw = self.answer(batch)
        except ConjoinError:
            raise
        except Exception as error:
            raise MemberError(f"member {self.card.name!r} raised {type(error).__name__}: {error}") from error
        return answer_of(raw, self.card, rows)

    def emit(self, graph: Graph, /) -> str:
        """Add the model's nodes to the graph. Raises NotExportableError where it has no ONNX form."""
        if self.export is None:
            raise NotExportableError(
                f"member {self.card.name!r} has no ONNX form, so it cannot be saved or exported; "
                "keep it out of the bundle, or bring an ONNX file of it"
            )
        return self.export(graph)

    def named(self, name: str) -> Wrapped:
        """The same member under another name."""
        return replace(self, card=self.card.named(name))
