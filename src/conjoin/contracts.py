"""The contracts of conjoin. Start reading here.

Three verbs: a `Member` answers, a `Learner` makes a member, a `Fuser` makes one output of several.
An ensemble of members is a member. What may be saved is `Storable`; what has an ONNX form is `Exportable`.
The kinds of output are in `outputs.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json, Output

Batch = Mapping[str, "np.ndarray[Any, Any]"]
"""Named columns of equal length, each a numpy array of shape (n,) or (n, ...).

Numbers are float or int arrays (NaN is missing), text and categories are object arrays of str (None is
missing), dates are datetime64 (NaT is missing). `conjoin.tables.batch_of` makes one from any dataframe.
"""

ColumnType = Literal["number", "category", "text", "date", "boolean", "tensor"]
OutputT_co = TypeVar("OutputT_co", bound="Output", covariant=True)


@dataclass(frozen=True, slots=True)
class Column:
    """One input column: its name, its type, and for a tensor the shape of one row."""

    name: str
    type: ColumnType
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """What one answer costs: CPU seconds per row, bytes on disk, price per 1,000 rows. None is unknown."""

    cpu_seconds_per_row: float | None = None
    bytes: int | None = None
    price_per_1000: float | None = None

    def __add__(self, other: Cost) -> Cost:
        """The cost of running both; unknown where either is unknown."""
        return Cost(
            _plus(self.cpu_seconds_per_row, other.cpu_seconds_per_row),
            _plus(self.bytes, other.bytes),
            _plus(self.price_per_1000, other.price_per_1000),
        )


def _plus(a: Any, b: Any) -> Any:
    return None if a is None or b is None else a + b


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a member without running it.

    name: how people call it. kind: the kind of its output ("probabilities", "values", ...).
    columns: the input columns it reads; empty means that it looks at the whole batch.
    classes: names of the classes in the order of its columns of probabilities, else empty.
    levels: quantile levels where the kind is "quantiles", else empty.
    deterministic: same batch, same output. rowwise: the answer for a row depends on that row alone.
    """

    name: str
    kind: str
    columns: tuple[Column, ...] = ()
    classes: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()
    deterministic: bool = True
    rowwise: bool = True
    cost: Cost = field(default_factory=Cost)
    licence: str | None = None
    provenance: Mapping[str, Json] = field(default_factory=dict)

    def named(self, name: str) -> Card:
        """The same card under another name."""
        return replace(self, name=name)


@runtime_checkable
class Member(Protocol[OutputT_co]):
    """One model. It never changes after it is made.

    A member that waits on a network also has `async apredict`.
    """

    @property
    def card(self) -> Card:
        """What is known of the member without running it."""

    def predict(self, batch: Batch, /) -> OutputT_co:
        """One answer for each row of the batch, of the kind on the card."""


class Learner(Protocol[OutputT_co]):
    """A recipe that makes a member: `fit` returns a new one and changes nothing."""

    def fit(self, batch: Batch, truth: Output, /, *, seed: int) -> Member[OutputT_co]:
        """Learn from the batch's rows and their truth. Same seed, same member."""


class Fuser(Protocol):
    """Turns outputs of several members, all of one kind, into one output. Pure.

    A member that is absent is a key that is absent. A row that nobody answered stays unanswered.
    An unfitted fuser is a plain function; a fitted one is a frozen record with `__call__`.
    """

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Any:
        """Fuse: name of member -> its output, all with the same number of rows."""


FitFuser = Callable[..., Fuser]
"""(outputs, truth, **parameters) -> a fitted fuser."""


@runtime_checkable
class Storable(Protocol):
    """Something that packs to named arrays plus JSON, and back. The only codec.

    A part that holds other parts (an ensemble its members, a member its encoder) names them in `children`;
    `unpack` gets them back under the same names. Shared children are stored once.
    """

    def children(self) -> Mapping[str, Storable]:
        """The parts inside this one, by name."""

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Named arrays and JSON that say all of this part but its children."""

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError where the arrays do not make sense."""


@runtime_checkable
class ExportableMember(Protocol):
    """A member with an ONNX form."""

    def emit(self, graph: Graph) -> str:
        """Add this member's nodes to the graph; returns the name of its output tensor.

        Inputs come from `graph.column(name, type)`. The tensor is float32 (n, K) probabilities, (n, 1)
        values or (n, Q) quantiles. Raises NotExportableError.
        """


@runtime_checkable
class ExportableFuser(Protocol):
    """A fuser with an ONNX form."""

    def emit(self, graph: Graph, outputs: Mapping[str, str], /) -> str:
        """Add the fuser's nodes: name of member -> its output tensor; returns the fused tensor's name."""


class Engine(Protocol):
    """Where work runs."""

    def map(self, fn: Callable[..., Any], tasks: Iterable[Any], /, *, shared: Any = None) -> Iterator[Any]:
        """Results of `fn(task)` (or `fn(task, shared)`) in the order of the tasks."""
