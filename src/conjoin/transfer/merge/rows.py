"""Tensors with a row for each token, brought to another vocabulary block by block."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.transfer.checkpoints import Entry, Place, Weights
from conjoin.transfer.checkpoints.dtypes import STORED, read_as, write_as
from conjoin.transfer.checkpoints.scratch import scratch_map

if TYPE_CHECKING:
    from conjoin.outputs import Array

BLOCK = 8 << 20
"""Bytes that are brought over at once."""
MANY = 256
"""Rows of a vocabulary that is no mere width of a layer."""
_LAYER = re.compile(r"(?:^|\.)\d+\.")
_OTHER = re.compile(r"pos|type|patch|wpe|vision|visual|audio|image|norm|class_emb", re.IGNORECASE)
_EMBEDDING = re.compile(
    r"(?:^|\.)(?:embed_tokens|wte|word_embeddings?|tok_embeddings|embed_in|token_embedding|tokens_embed"
    r"|shared|embeddings?)\.weight$"
)
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output_layer)\.weight$")
_WEAK = re.compile(r"head|output|decoder|predictions|embed|wte|shared|proj_out|logits|vocab")


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """How a tensor (rows, ...) of one model is made; dtype: of its file.

    own: (rows,), which row of the model's own tensor; -1 where it is none of its own. donors: model -> which
    rows are from there, and which ones of its tensor. averaged: rows -> (model, row) of those they are the
    mean of. mean: rows from this one on are the mean of those before. Any other row is 0.
    """

    dtype: str
    shape: tuple[int, ...]
    own: Array
    donors: Mapping[int, tuple[Array, Array]] = field(default_factory=dict)
    averaged: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    mean: int | None = None

    def told(self) -> str:
        """A digest."""
        found = hashlib.sha256(np.ascontiguousarray(self.own).tobytes())
        for model, (to, of) in sorted(self.donors.items()):
            found.update(str(model).encode() + to.tobytes() + of.tobytes())
        rest = [self.dtype, self.shape, sorted(self.averaged.items()), self.mean]
        found.update(json.dumps(rest).encode())
        return found.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Retokened(Weights):
    """A model with some tensors in the order of another vocabulary.

    inner: the model. rows: of these tensors. every: all models, for rows that come from others. scratch: the
    folder in which they are computed.
    """

    path: Path
    inner: Weights
    rows: Mapping[str, Rows]
    every: Sequence[Weights]
    scratch: Path | None = None

    def __getitem__(self, name: str) -> Place:
        place = self.inner[name]
        if name not in self.rows:
            return place
        found = self.rows[name]
        size = int(np.prod(found.shape, dtype=np.int64)) * np.dtype(STORED[found.dtype]).itemsize
        return Place(Entry(name, found.dtype, found.shape, 0, size), place.path, 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self.inner)

    def __len__(self) -> int:
        return len(self.inner)

    def told(self) -> list[Any]:
        """Of the model, and how rows are made."""
        return [self.inner.told(), {n: r.told() for n, r in sorted(self.rows.items())}]

    def array(self, name: str) -> Array:
        """A tensor; one in another order lies in a file without a name."""
        if name not in self.rows:
            return self.inner.array(name)
        return _filled(self, name, self.rows[name])


def _filled(view: Retokened, name: str, rows: Rows) -> Array:
    old, stored = view.inner.array(name), view.inner[name].entry.dtype
    count = rows.shape[0]
    if stored == rows.dtype and count <= len(old) and np.array_equal(rows.own, np.arange(count)):
        return old[:count]
    out = scratch_map(view.scratch, STORED[rows.dtype], rows.shape)
    step = max(1, BLOCK // max(1, out[:1].nbytes))
    for start in range(0, count, step):
        wanted = rows.own[start : start + step]
        here = np.flatnonzero(wanted >= 0)
        out[start + here] = _as(old[wanted[here]], stored, rows.dtype)
    for model, (to, of) in rows.donors.items():
        theirs, kind = view.every[model].array(name), view.every[model][name].entry.dtype
        for start in range(0, len(to), step):
            part = slice(start, start + step)
            out[to[part]] = _as(theirs[of[part]], kind, rows.dtype)
    for row, sources in rows.averaged.items():
        out[row] = _average(view, name, rows.dtype, sources)
    if rows.mean is not None:
        out[rows.mean :] = _mean(out[: rows.mean], rows.dtype, step)
    return out


def _as(array: Array, stored: str, wanted: str) -> Array:
    return array if stored == wanted else read_as(array, stored, wanted)


def _wide(dtype: str) -> str:
    return "F64" if dtype == "F64" else "F32"


def _average(view: Retokened, name: str, dtype: str, sources: Sequence[tuple[int, int]]) -> Array:
    wide = _wide(dtype)
    every = [
        read_as(np.atleast_1d(view.every[m].array(name)[r]), view.every[m][name].entry.dtype, wide)
        for m, r in sources
    ]
    total = np.sum(every, axis=0, dtype=np.float64) / len(every)
    found = write_as(total.astype(STORED[wide]), wide, dtype)
    return found if len(view[name].entry.shape) > 1 else found[0]


def _mean(rows: Array, dtype: str, step: int) -> Array:
    """The mean row, summed in float64."""
    wide = _wide(dtype)
    total = np.zeros(rows.shape[1:])
    for start in range(0, len(rows), step):
        total = total + read_as(rows[start : start + step], dtype, wide).sum(0, dtype=np.float64)
    found = (total / max(1, len(rows))).astype(STORED[wide])
    return write_as(np.atleast_1d(found), wide, dtype).reshape(rows.shape[1:])


def token_tensors(model: Weights, config_rows: int | None = None) -> dict[str, int]:
    """Tensors of a model that have a row for each token -> how many rows; the embedding is the first.

    config_rows: how many the model's config says. Found by name and shape; empty where there is none.

    >>> from conjoin.transfer.checkpoints import Checkpoint
    >>> sizes = {"lm_head.weight": (9, 4), "model.embed_tokens.weight": (9, 4), "model.norm.weight": (4,)}
    >>> places = {n: Place(Entry(n, "F32", s, 0, 0), Path(), 0) for n, s in sizes.items()}
    >>> token_tensors(Checkpoint(Path(), places, {}))
    {'model.embed_tokens.weight': 9, 'lm_head.weight': 9}
    """
    shapes = {n: model[n].entry.shape for n in model if not _LAYER.search(n) and not _OTHER.search(n)}
    shapes = {n: s for n, s in shapes.items() if len(s) in (1, 2)}
    found = {n: s[0] for n, s in shapes.items() if len(s) == 2 and _EMBEDDING.search(n)}
    if not found:
        return {}
    rows = config_rows if config_rows in found.values() else max(found.values())
    out = {n: r for n, r in found.items() if r == rows}
    for name, shape in shapes.items():
        weak = shape[0] == rows and _WEAK.search(name) and (len(shape) == 2 or name.endswith("bias"))
        if name not in out and (weak or (len(shape) == 2 and _HEAD.search(name))):
            out[name] = shape[0]
    return out


def looks_like_tokens(model: Weights, known: Mapping[str, int]) -> list[str]:
    """Tensors beside the layers that are as long as the vocabulary along some axis, and are not `known`."""
    rows = next(iter(known.values()), 0)
    beside = (n for n in model if n not in known and not _LAYER.search(n) and not _OTHER.search(n))
    return [n for n in beside if rows >= MANY and rows in model[n].entry.shape]
