"""Writes a member as a bundle: part by part, shared parts once, moved into place in one step."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.bundle import coding, tensors
from conjoin.bundle.format import ARRAYS, DOCUMENT, FORMAT, README, digest_of, dump
from conjoin.bundle.parts import ONNX_ARRAYS, storable, type_of
from conjoin.bundle.place import check_file, check_place, write_file, write_folder
from conjoin.bundle.readme import readme
from conjoin.contracts import ExportableMember
from conjoin.errors import NotExportableError
from conjoin.graph.encoder import Encoder

if TYPE_CHECKING:
    from conjoin.contracts import Card, Column, Member, Storable
    from conjoin.outputs import Array

SECTIONS = ("scores", "choice", "plan", "data", "versions")
"""What of the root card's provenance has a place of its own in the document; the rest is `provenance`."""
DEFLATED_ONNX = 0.5
"""An ONNX model is kept as a file of its own, unless deflating leaves at most this share of it (trees do)."""
MOST_CATEGORIES = 50
"""Categories of a column that the document shows."""


def save(member: Member[Any], path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write the member as a bundle, a new folder at `path`.

    The folder appears whole or not at all, and the same member gives the same bytes. With `force` a bundle
    that is already there is replaced; anything else is left alone. Raises FileError where the place is taken
    or cannot be written, NotExportableError where a part has no stored form (a plain function).
    """
    place = check_place(path, force=force)
    write_folder(place, pack(member))


def export(member: Member[Any], path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write the member as one ONNX graph that runs anywhere onnxruntime runs, without conjoin.

    Inputs: an (n, 1) tensor per column. Outputs: `probabilities` (n, K) and `label` (n,), or `values` (n, 1),
    or `quantiles` (n, Q). With `force` a file that is already there is replaced. Raises FileError where the
    place is taken or cannot be written, NotExportableError where a part has no ONNX form.
    """
    from conjoin.members.compiled import export_model

    check_file(path, force=force)
    if not isinstance(member, ExportableMember):
        raise NotExportableError(f"{member.card.name!r}, a {type(member).__name__}, has no ONNX form")
    raw = export_model(cast(Any, member)).SerializeToString(deterministic=True)
    write_file(path, raw, force=force)


def pack(member: Member[Any]) -> dict[str, bytes]:
    """The files of the member's bundle by name, `conjoin.json` last."""
    card = member.card
    packed = _pack_parts(member, card.name)
    document: dict[str, Any] = {"format": FORMAT, "written_by": f"conjoin {_version()}"}
    document |= document_card(card, packed.levels())
    document["members"] = packed.tree(0)
    document["fuser"] = packed.fuser()
    provenance = {k: finite(v) for k, v in card.provenance.items()}
    document |= {k: provenance.pop(k, None) for k in SECTIONS}
    document["provenance"] = provenance
    document["parts"] = packed.records
    files = dict(packed.files)
    if packed.tensors:
        files[ARRAYS] = tensors.dump(packed.tensors)
    files[README] = readme(document, sum(map(len, files.values()))).encode()
    document["files"] = {
        n: {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()} for n, raw in sorted(files.items())
    }
    return {**files, DOCUMENT: dump({**document, "digest": digest_of(document)})}


def document_card(card: Card, levels: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What the document says of the root's card. levels: categories of columns, where they are known."""
    return {
        "name": card.name,
        "kind": card.kind,
        "columns": [_column(c, levels.get(c.name)) for c in card.columns],
        "classes": list(card.classes),
        "levels": list(card.levels),
        "deterministic": card.deterministic,
        "rowwise": card.rowwise,
        "licence": card.licence,
        "cost": {
            "cpu_seconds_per_row": card.cost.cpu_seconds_per_row,
            "bytes": card.cost.bytes,
            "price_per_1000": card.cost.price_per_1000,
        },
    }


def _column(column: Column, levels: Sequence[str] | None) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": column.name, "type": column.type}
    if column.shape:
        shown["shape"] = list(column.shape)
    if levels is not None:
        shown |= {"categories": list(levels[:MOST_CATEGORIES]), "categories_in_all": len(levels)}
    return shown


def finite(value: Any) -> Any:
    """JSON with null where a number is not finite."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("conjoin")
    except PackageNotFoundError:
        return "unknown"


@dataclass(slots=True)
class _Packed:
    """Parts in the order of the document, and what they hold."""

    parts: list[Storable] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    known: dict[bytes, dict[str, Any]] = field(default_factory=dict)

    def add(self, part: Storable, children: list[tuple[str, int]]) -> None:
        index, name = len(self.records), type_of(part)
        arrays, meta = part.pack()
        meta = self._lean(index, meta)
        self.parts.append(part)
        self.sizes.append(0)
        stored = {k: self._array(index, name, k, a) for k, a in arrays.items()}
        children_json = [[k, i] for k, i in children]
        self.records.append({"type": name, "meta": meta, "children": children_json, "arrays": stored})

    def _lean(self, index: int, meta: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON of a part without what the document says elsewhere: records of the fit, equal columns."""
        card = meta.get("card")
        if not isinstance(card, dict):
            return dict(meta)
        if index == 0:
            return {**meta, "card": {**card, "provenance": {}}}
        first = self.records[0]["meta"].get("card", {}).get("columns")
        same = first is not None and card.get("columns") == first
        return {**meta, "card": {**card, "columns": None}} if same else dict(meta)

    def _array(self, index: int, part: str, name: str, array: Array) -> dict[str, Any]:
        key = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).digest()
        if key not in self.known:
            tensor, record = coding.encode(array)
            if ONNX_ARRAYS.get(part) == name and tensor.nbytes > DEFLATED_ONNX * array.nbytes:
                self.known[key] = {"file": f"{index}.{name}.onnx"}
                self.files[f"{index}.{name}.onnx"] = array.tobytes()
                self.sizes[index] += array.nbytes
            else:
                self.known[key] = {"tensor": f"{index}.{name}", **record}
                self.tensors[f"{index}.{name}"] = tensor
                self.sizes[index] += tensor.nbytes
        return self.known[key]

    def tree(self, index: int) -> list[dict[str, Any]]:
        """The members inside a part, and in those theirs."""
        found: list[dict[str, Any]] = []
        for name, child in self.records[index]["children"]:
            card = card_of(self.parts[child])
            if card is not None:
                shown = name.removeprefix("member:")
                row: dict[str, Any] = {"name": shown, "part": child, "child": name, "kind": card.kind}
                row |= {"bytes": self._own(child), "cpu_seconds_per_row": card.cost.cpu_seconds_per_row}
                found.append({**row, "members": self.tree(child)})
        return found

    def levels(self) -> dict[str, Sequence[str]]:
        """The categories of columns, as the encoders know them."""
        encoders = [p for p in self.parts if isinstance(p, Encoder)]
        return {c.column.name: [v for v in c.levels if v] for e in encoders for c in e.categories}

    def fuser(self) -> dict[str, Any] | None:
        """The root's fuser, where it has one."""
        for name, child in self.records[0]["children"]:
            if name == "fuser":
                return {"part": child, "type": self.records[child]["type"], "bytes": self._own(child)}
        return None

    def _own(self, index: int) -> int:
        """Stored bytes of a part and what is inside it and nowhere else."""
        parents: dict[int, int] = {}
        for record in self.records:
            for _, child in record["children"]:
                parents[child] = parents.get(child, 0) + 1
        total, todo = 0, [index]
        while todo:
            part = todo.pop()
            total += self.sizes[part]
            todo += [c for _, c in self.records[part]["children"] if parents[c] == 1]
        return total


def card_of(part: object) -> Card | None:
    """The card of a part that is a member."""
    from conjoin.contracts import Card, Member

    if not isinstance(part, Member):
        return None
    return part.card if isinstance(part.card, Card) else None


def _pack_parts(root: object, name: str) -> _Packed:
    order, below = _in_order(root, name)
    places = {id(part): i for i, part in enumerate(order)}
    packed = _Packed()
    for part in order:
        packed.add(part, [(k, places[id(c)]) for k, c in below[id(part)].items()])
    return packed


def _in_order(root: object, name: str) -> tuple[list[Storable], dict[int, dict[str, Storable]]]:
    """Every part once, parents before children, and the children of each by its id."""
    done: list[Storable] = []
    below: dict[int, dict[str, Storable]] = {}
    forms: dict[int, tuple[object, Storable]] = {}  # the original is kept, so that its id stays its own

    def visit(found: object, where: str) -> Storable:
        if id(found) not in forms:
            part = storable(found, where)
            forms[id(found)] = (found, part)
            forms[id(part)] = (part, part)
            below[id(part)] = {k: visit(c, k) for k, c in reversed(list(part.children().items()))}
            below[id(part)] = dict(reversed(list(below[id(part)].items())))
            done.append(part)
        return forms[id(found)][1]

    try:
        visit(root, name)
    except RecursionError as error:
        raise NotExportableError(f"{name!r} holds members inside members without end") from error
    return done[::-1], below
