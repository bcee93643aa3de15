"""ONNX files as members: which kind they answer is read from the graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from conjoin.contracts import Card, Column, ColumnType, Cost, ExportableMember
from conjoin.errors import BundleError, ColumnError, FileError, InputError, MemberError, NotExportableError
from conjoin.graph.session import Session
from conjoin.members import columns as read
from conjoin.members.answers import answer_of, as_batch, no_rows, rows_of
from conjoin.members.onnx_graph import Slot, answer_slot, checked_model, classes_in, input_slots, squash
from conjoin.members.portable import card_from_json, card_to_json
from conjoin.members.wrapped import Given

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json, Output

FLOAT, INT64, STRING, BOOL, DOUBLE = 1, 7, 8, 9, 11
_DTYPES: dict[int, Any] = {
    FLOAT: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, INT64: np.int64, STRING: np.object_,
    BOOL: np.bool_, 10: np.float16, DOUBLE: np.float64,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class OnnxMember:
    """A member that runs an ONNX model. Made by `wrap` and `conjoin.load`.

    model: serialised ModelProto, checked. inputs: its inputs. output: the name of the output that is the
    answer, and width: how many numbers it has in a row, None where the graph does not say. by_name: False
    where one matrix input takes the columns x0, x1, ... or all columns of numbers.
    """

    card: Card
    model: bytes
    inputs: tuple[Slot, ...]
    output: str
    width: int | None
    by_name: bool

    def predict(self, batch: Batch, /) -> Output:
        """One answer for each row. Raises ColumnError, and MemberError where the model fails."""
        batch = as_batch(batch)
        rows = rows_of(batch)
        if rows == 0:
            return no_rows(self.card)
        feeds = self._feeds(batch)
        try:
            (raw,) = self._session.run(feeds, [self.output])
        except Exception as error:  # onnxruntime raises a class of its own per status code
            raise MemberError(f"member {self.card.name!r}: onnxruntime fails: {str(error)[:300]}") from error
        return answer_of(raw, self.card, rows)

    def emit(self, graph: Graph, /) -> str:
        """Add the model's nodes to the graph, its inputs bound to the columns on the card."""
        kind = self.card.kind
        if kind not in ("probabilities", "values", "quantiles") or not self.card.columns:
            why = (
                f"answers {kind}" if self.card.columns else "takes any number of columns; give columns=[...]"
            )
            raise NotExportableError(f"member {self.card.name!r} {why}, so it has no place in a graph")
        tensors = [graph.column(c) for c in self.card.columns]
        first = self.inputs[0]
        if self._matrix:
            joined = graph.concat(
                [_cast(graph, t, c, first) for t, c in zip(tensors, self.card.columns, strict=True)]
            )
            bound = {first.name: joined}
        else:
            trio = zip(self.inputs, tensors, self.card.columns, strict=True)
            bound = {s.name: _shaped(graph, _cast(graph, t, c, s), s) for s, t, c in trio}
        try:
            tensor = graph.splice(self._proto(), bound)[self.output]
        except RuntimeError as error:  # of the converter between versions of operators
            raise NotExportableError(
                f"member {self.card.name!r} cannot be brought to the current version of ONNX: {error}"
            ) from error
        tensor = graph.cast(tensor, FLOAT if kind == "probabilities" else DOUBLE)
        wanted = {"probabilities": len(self.card.classes), "quantiles": len(self.card.levels)}.get(kind)
        width = self.width or wanted or 1
        tensor = graph.op("Reshape", tensor, graph.const(np.array([-1, width], dtype=np.int64)))
        if kind == "probabilities" and width == 1:
            one = graph.const(np.ones((1, 1), dtype=np.float32))
            return graph.concat([graph.op("Sub", one, tensor), tensor])
        return tensor

    def named(self, name: str) -> OnnxMember:
        """The same member under another name."""
        return replace(self, card=self.card.named(name))

    def children(self) -> Mapping[str, Storable]:
        """No parts inside."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The model's bytes, the card, and what is known of inputs and output."""
        inputs = [asdict(s) | {"shape": list(s.shape)} for s in self.inputs]
        meta = {"card": card_to_json(self.card), "inputs": inputs, "output": self.output, "width": self.width}
        return {"model": np.frombuffer(self.model, dtype=np.uint8)}, cast(
            "dict[str, Json]", meta | {"by_name": self.by_name}
        )

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError; the model is checked again."""
        try:
            given = cast("dict[str, Any]", dict(meta))
            slots = tuple(Slot(s["name"], s["element"], tuple(s["shape"])) for s in given["inputs"])
            model = arrays["model"].tobytes()
            member = cls(
                card_from_json(given["card"]), model, slots, given["output"], given["width"], given["by_name"]
            )
        except (KeyError, TypeError) as error:
            raise BundleError(f"a packed ONNX member lacks a part: {error!r}") from error
        checked_model(model)
        return member

    @property
    def _matrix(self) -> bool:
        return len(self.inputs) == 1 and (not self.by_name or self.inputs[0].row != 1) and not self._tensor

    @property
    def _tensor(self) -> bool:
        return len(self.card.columns) == 1 and self.card.columns[0].type == "tensor"

    def _feeds(self, batch: Batch) -> dict[str, Array]:
        from conjoin.tables import conform

        first = self.inputs[0]
        if not self.by_name:
            data = read.by_position(batch, first.row)
            return {first.name: _as(data, first)}
        columns = conform(batch, self.card.columns)
        if self._matrix:
            parts = [_as(columns[c.name], first) for c in self.card.columns]
            return {first.name: np.concatenate(parts, axis=1)}
        pairs = zip(self.inputs, self.card.columns, strict=True)
        return {s.name: s.fold(_as(columns[c.name], s)) for s, c in pairs}

    @cached_property
    def _session(self) -> Session:
        return Session(self.model)

    def _proto(self) -> Any:
        import onnx

        return onnx.load_from_string(self.model)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_session"}


def onnx_member(
    source: str | Path | bytes | Any, given: Given, *, output: str | None = None, softmax: bool = False
) -> OnnxMember:
    """A member of an ONNX file, its bytes or a ModelProto.

    The kind is read from the graph: a label and (n, K) probabilities as converters of scikit-learn write
    them, a float output (n, K) as probabilities, (n,) or (n, 1) as values; a graph exported by conjoin says
    itself. `given` overrules. output: the name of the output that is the answer, where there are several.
    softmax: the output holds logits; one logit gets a sigmoid.
    Raises FileError, BundleError where the file is damaged, has external data, or uses operators of another
    domain than "" and "ai.onnx.ml", and InputError where the graph leaves open what it answers.
    """
    model, name = _bytes_of(source)
    proto = checked_model(model)
    said = _metadata(proto)
    slot, kind = answer_slot(proto, output or said.get("output"), given.kind or said.get("kind"))
    if given.levels is not None and given.kind is None:
        kind = "quantiles"
    inputs = input_slots(proto)
    columns, by_name = _columns(inputs, given.column_list() or said.get("columns", ()))
    if softmax:
        proto, slot = squash(proto, slot)
    if given.levels is None and "levels" in said:
        given = replace(given, levels=said["levels"])
    classes: tuple[str, ...] = ()
    if kind in ("probabilities", "labels"):
        found = said.get("classes") or classes_in(proto, slot.row)
        classes = given.class_names(found)
        if kind == "probabilities" and not classes:
            raise InputError("the graph does not say how many classes it has: wrap(..., classes=[...])")
    fields: dict[str, Any] = {"columns": columns, "classes": classes, "cost": Cost(bytes=len(model))}
    card = given.card(said.get("name") or name, kind, **fields)
    member = OnnxMember(card, proto.SerializeToString(), inputs, slot.name, slot.row, by_name)
    member._session  # noqa: B018  a graph that does not run is refused here, not at the first row
    return member


def _bytes_of(source: Any) -> tuple[bytes, str]:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), "onnx"
    if isinstance(source, str | Path):
        path = Path(source)
        try:
            return path.read_bytes(), path.stem
        except OSError as error:
            raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    return cast(bytes, source.SerializeToString()), source.graph.name or "onnx"


def _metadata(proto: Any) -> dict[str, Any]:
    """What a graph exported by conjoin says about itself; empty for others."""
    said = {p.key: p.value for p in proto.metadata_props}
    found: dict[str, Any] = {}
    try:
        if "classes" in said:
            found["classes"] = [str(c) for c in json.loads(said["classes"])]
        output = json.loads(said.get("outputs", "{}")).get(said.get("kind"), said.get("kind"))
        if {"kind", "columns", "name"} <= said.keys() and output in {o.name for o in proto.graph.output}:
            columns = json.loads(said["columns"])
            found["columns"] = tuple(Column(c["name"], c["type"], tuple(c["shape"])) for c in columns)
            found |= {"kind": said["kind"], "output": output, "name": said["name"]}
            if json.loads(said.get("levels", "[]")):
                found["levels"] = tuple(json.loads(said["levels"]))
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"the metadata of this ONNX file does not make sense: {error!r}") from error
    return found


def _columns(inputs: tuple[Slot, ...], given: tuple[Column, ...]) -> tuple[tuple[Column, ...], bool]:
    first = inputs[0]
    if len(inputs) == 1 and len(first.shape) == 1 and first.row != 1:
        whole = len(given) == 1 and given[0].type == "tensor" and given[0].shape == first.shape
        if given and first.row is not None and len(given) != first.row and not whole:
            raise InputError(f"{len(given)} columns were given; the graph reads {first.row}")
        if given:
            return given, True
        if first.element == STRING:
            raise InputError(f"input {first.name!r} is a matrix of texts: name its columns with columns=...")
        return read.numbered(first.row or 0), False
    if given and len(given) != len(inputs):
        raise InputError(f"{len(given)} columns were given; the graph has {len(inputs)} inputs")
    return given or tuple(_column(s) for s in inputs), True


def _column(slot: Slot) -> Column:
    if slot.row == 1:
        kind: ColumnType = "category" if slot.element == STRING else "number"
        return Column(slot.name, kind)
    if any(d is None for d in slot.shape):
        raise InputError(f"input {slot.name!r} has a free axis besides its rows; give columns=[Column(...)]")
    return Column(slot.name, "tensor", cast("tuple[int, ...]", slot.shape))


def _as(array: Array, slot: Slot) -> Array:
    dtype = np.dtype(_DTYPES[slot.element])
    if dtype.kind in "iu" and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ColumnError(f"input {slot.name!r} takes integers, so its column may not have missing values")
    return array if dtype == array.dtype else array.astype(dtype)


def _cast(graph: Graph, tensor: str, column: Column, slot: Slot) -> str:
    text = column.type in ("category", "text")
    if text != (slot.element == STRING):
        raise NotExportableError(f"column {column.name!r} is {column.type}; the graph's input is not")
    return tensor if text else graph.cast(tensor, slot.element)


def _shaped(graph: Graph, tensor: str, slot: Slot) -> str:
    if len(slot.shape) == 1:
        return tensor
    shape = np.array([-1, *slot.shape], dtype=np.int64)
    return graph.op("Reshape", tensor, graph.const(shape))


def onnx_form(member: Any) -> OnnxMember:
    """What is stored of a member that answers natively: its graph, under the same name and classes.

    Raises NotExportableError where it has none.
    """
    from conjoin.members.compiled import export_model

    card: Card = member.card
    if not isinstance(member, ExportableMember):
        raise NotExportableError(
            f"member {card.name!r}, a {type(member).__name__}, has no ONNX form, so it cannot be saved"
        )
    made = onnx_member(export_model(cast(Any, member)), Given())
    cost = replace(card.cost, bytes=len(made.model))
    return replace(made, card=replace(card, columns=made.card.columns, cost=cost))
