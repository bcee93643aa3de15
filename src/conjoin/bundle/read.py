"""Reads a bundle that may come from anybody: everything is checked before anything is made of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.bundle import coding, tensors
from conjoin.bundle.format import (
    DOCUMENT,
    MAX_BYTES,
    Document,
    PartRecord,
    file_error,
    read_bounded,
    read_document,
    strangers,
)
from conjoin.bundle.parts import ONNX_ARRAYS, check_children, class_of
from conjoin.bundle.write import SECTIONS, card_of, document_card
from conjoin.errors import BundleError, ConjoinError, FileError, MissingExtraError

if TYPE_CHECKING:
    from conjoin.contracts import Member
    from conjoin.outputs import Array


def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a bundle says of itself, without loading it: the JSON of `conjoin.json`, checked.

    Raises FileError where there is no bundle, BundleError where it is damaged or from a later format.
    """
    return dict(read_document(Path(path)).json)


def load(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Member[Any]:
    """The member of a bundle, or of a single `.onnx` file.

    Nothing in a bundle can name code: its parts are made from a fixed table of types, after lengths, digests,
    paths, headers and operator domains were checked. max_bytes bounds the files, and the arrays made of them.
    Raises FileError where there is nothing to read, BundleError where a bundle is damaged, hostile, or from a
    later format.
    """
    folder = Path(path)
    if folder.suffix == ".onnx" and folder.is_file():
        return _load_onnx(folder, max_bytes)
    document = read_document(folder)
    files = _read_files(folder, document, max_bytes)
    made = _make_parts(document, _Arrays(files, max_bytes))
    return _check_root(made[0], document)


def _load_onnx(path: Path, max_bytes: int) -> Member[Any]:
    from conjoin.members.onnx import onnx_member
    from conjoin.members.wrapped import Given

    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise FileError(
                f"{str(path)!r} has {size} bytes; at most {max_bytes} are read (load(max_bytes=...))"
            )
        raw = path.read_bytes()
    except OSError as error:
        raise file_error(error, path, "read") from error
    return onnx_member(raw, Given(name=path.stem))


def _read_files(folder: Path, document: Document, max_bytes: int) -> dict[str, bytes]:
    total = sum(f.bytes for f in document.files.values())
    if total > max_bytes:
        raise BundleError(
            f"the bundle declares {total} bytes; at most {max_bytes} are read (load(max_bytes=...))"
        )
    extra = list(strangers(folder, document))
    if extra:
        raise BundleError(
            f"the bundle's folder holds {extra[0]!r}, which {DOCUMENT} does not list; take it out"
        )
    files = {}
    for name, record in document.files.items():
        raw = read_bounded(folder / name, max_bytes, record.bytes)
        if hashlib.sha256(raw).hexdigest() != record.sha256:
            raise BundleError(
                f"{name!r} was altered: its SHA-256 is not the one in {DOCUMENT}; copy the bundle again"
            )
        files[name] = raw
    return files


class _Arrays:
    """The arrays of a bundle's files, decoded once each and bounded together."""

    def __init__(self, files: Mapping[str, bytes], max_bytes: int) -> None:
        self._files = files
        self._left = max_bytes
        self._made: dict[str, Array] = {}
        self._tensors: dict[str, Array] = {}
        for name, raw in files.items():
            if name.endswith(".safetensors"):
                self._tensors |= tensors.load(raw, name)

    def array(self, record: Mapping[str, Any], *, onnx: bool) -> Array:
        """The array of a record. Raises BundleError."""
        if "file" in record:
            name = record["file"]
            if not onnx or set(record) != {"file"} or not isinstance(name, str):
                raise BundleError("only an ONNX model may be a file of its own")
            if not name.endswith(".onnx") or name not in self._files:
                raise BundleError(f"the ONNX model {name[:80]!r} is not among the bundle's files")
            return np.frombuffer(self._files[name], dtype=np.uint8)
        name = record.get("tensor")
        if not isinstance(name, str) or name not in self._tensors:
            raise BundleError(f"the tensor {str(name)[:80]!r} is not among the bundle's arrays")
        key = f"{name} {sorted(record.items())}"
        if key not in self._made:
            self._made[key] = self._decoded(record, self._tensors[name])
        return self._made[key]

    def _decoded(self, record: Mapping[str, Any], tensor: Array) -> Array:
        self._left -= coding.decoded_bytes(record, tensor)
        if self._left < 0:
            raise BundleError("the bundle's arrays take more bytes than are allowed (load(max_bytes=...))")
        array = coding.decode(record, tensor)
        array.setflags(write=False)
        return array


def _make_parts(document: Document, arrays: _Arrays) -> list[Any]:
    made: list[Any] = [None] * len(document.parts)
    for i in range(len(made) - 1, -1, -1):
        part = document.parts[i]
        try:
            check_children(part.type, [(k, document.parts[c].type) for k, c in part.children])
            found = {k: arrays.array(r, onnx=ONNX_ARRAYS.get(part.type) == k) for k, r in part.arrays.items()}
            children = {k: made[c] for k, c in part.children}
            made[i] = class_of(part.type).unpack(found, _meta(i, part, document), children)
        except MissingExtraError:
            raise
        except ConjoinError as error:
            raise BundleError(f"part {i} ({part.type[:80]}) of the bundle: {error}") from error
        except Exception as error:  # whatever a part's own code makes of nonsense
            raise BundleError(
                f"part {i} ({part.type[:80]}) of the bundle does not make sense: "
                f"{type(error).__name__}: {error}"
            ) from error
    return made


def _meta(index: int, part: PartRecord, document: Document) -> Mapping[str, Any]:
    """The part's JSON, with what the document says elsewhere put back into its card."""
    card = part.meta.get("card")
    if not isinstance(card, dict):
        return part.meta
    if index > 0:
        first = document.parts[0].meta.get("card")
        columns = first.get("columns") if isinstance(first, dict) and card.get("columns") is None else None
        return part.meta if columns is None else {**part.meta, "card": {**card, "columns": columns}}
    provenance = {k: document.json[k] for k in SECTIONS if document.json.get(k) is not None}
    return {**part.meta, "card": {**card, "provenance": provenance | (document.json.get("provenance") or {})}}


def _check_root(root: Any, document: Document) -> Member[Any]:
    card = card_of(root)
    if card is None:
        raise BundleError(f"the bundle's first part, {document.parts[0].type!r}, is no member")
    own = document_card(card, {})
    own["columns"] = [c["name"] for c in own["columns"]]
    shown = {k: document.json.get(k) for k in ("name", "kind", "classes", "levels")}
    shown["columns"] = [c.get("name") if isinstance(c, dict) else None for c in document.json["columns"]]
    for key, value in shown.items():
        if value != own[key]:
            raise BundleError(f"{DOCUMENT} says {key} {str(value)[:80]}, its first part {str(own[key])[:80]}")
    return cast("Member[Any]", root)
