"""Modalities laid side by side: each a standardised matrix, with who is there in which row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import BundleError, OutputsError, listed
from conjoin.fusion.packing import ask, known
from conjoin.outputs import Embeddings, Labels, Output, Probabilities, Values

if TYPE_CHECKING:
    from conjoin.outputs import Array, Json

MOST_WIDE = 256
"""Numbers of a modality; of a wider one the first principal components are taken."""
_FLOOR = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """How one modality becomes numbers: (raw - centre) / scale, then @ axes where there are any.

    raw: of embeddings and values the numbers, of labels 0 and 1, of probabilities their centred logarithms,
    classes in the order of `classes`. centre, scale: (D,). axes: (D, d), or (D, 0) for none.
    """

    kind: str
    classes: tuple[str, ...]
    centre: Array
    scale: Array
    axes: Array

    @property
    def width(self) -> int:
        """How many numbers it gives."""
        return int(self.axes.shape[1] or len(self.centre))

    def of(self, name: str, output: Any) -> tuple[Array, Array]:
        """(n, d) numbers, 0 where the row is not answered or the number missing; (n,) answered."""
        raw, answered = raw_of(name, output, self.classes)
        if output.kind != self.kind or raw.shape[1] != len(self.centre):
            told = f"{output.kind} of {raw.shape[1]} numbers"
            raise OutputsError(
                f"modality {name!r} was fitted as {self.kind} of {len(self.centre)} numbers, it gave {told}"
            )
        x = np.where(answered[:, None], (raw - self.centre) / self.scale, 0.0)
        x = np.nan_to_num(x, copy=False, nan=0.0)
        return (x @ self.axes if self.axes.shape[1] else x), answered


def raw_of(name: str, output: Any, classes: tuple[str, ...]) -> tuple[Array, Array]:
    """(n, D) float64 and (n,) answered. Raises OutputsError on other kinds and on infinities."""
    if isinstance(output, Labels):
        output = Probabilities(output.one_hot(), output.classes, output.answered)
    if isinstance(output, Probabilities):
        p = np.asarray((output.align(classes) if classes else output).values, np.float64)
        raw = np.log(np.maximum(p, _FLOOR))
        raw -= raw.mean(axis=1, keepdims=True)
    elif isinstance(output, Embeddings | Values):
        raw = np.asarray(output.values, np.float64)
        raw = raw[:, None] if raw.ndim == 1 else raw
    else:
        kind = output.kind if isinstance(output, Output) else type(output).__name__
        raise OutputsError(
            f"modality {name!r} is {kind}; embeddings, probabilities, labels or values are needed"
        )
    if np.isinf(raw[output.answered]).any():
        raise OutputsError(f"modality {name!r} holds infinities; make them missing (NaN)")
    return raw, output.answered


def fit_view(name: str, output: Any, rows: Array) -> View:
    """From the rows that are answered among these. A number that never varies gets scale 1."""
    classes = output.classes if isinstance(output, Probabilities | Labels) else ()
    raw, answered = raw_of(name, output, classes)
    some = raw[rows[answered[rows]]]
    if not len(some):
        raise OutputsError(f"modality {name!r} answered none of the rows that have a truth; leave it out")
    count = np.maximum(np.isfinite(some).sum(axis=0), 1)
    centre = np.nansum(some, axis=0) / count
    spread = np.sqrt(np.nansum((some - centre) ** 2, axis=0) / count)
    least = 0.1 * float(np.sqrt((spread**2).mean()))
    scale = np.where(spread > 0, np.maximum(spread, least), 1.0)
    axes = np.zeros((len(centre), 0))
    if len(centre) > MOST_WIDE:
        axes = _principal(np.nan_to_num((some - centre) / scale, nan=0.0))
    return View(output.kind, tuple(classes), centre, scale, axes)


def _principal(x: Array) -> Array:
    """(D, d) axes of the greatest variance, signs fixed."""
    x = x[:: -(-len(x) // 4000)]
    _, size, axes = np.linalg.svd(x, full_matrices=False)
    kept = axes[:MOST_WIDE][size[:MOST_WIDE] > 1e-9 * max(float(size[0]), 1e-300)]
    sign = np.sign(kept[np.arange(len(kept)), np.abs(kept).argmax(axis=1)])
    return np.ascontiguousarray((kept * sign[:, None]).T)


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """The views of all modalities, by name, sorted."""

    views: Mapping[str, View]

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(self.views)

    def of(self, outputs: Mapping[str, Any]) -> tuple[list[Array], Array]:
        """M matrices (n, d_m), and (n, M) who is there. A modality that is absent is nowhere there.

        Raises OutputsError on one that is not known, and where rows differ.
        """
        known(self.members, outputs)
        if not outputs:
            raise OutputsError("there are no modalities to fuse; give a mapping of name to output")
        lengths = {n: len(o) for n, o in outputs.items()}
        n = next(iter(lengths.values()))
        if len(set(lengths.values())) > 1:
            raise OutputsError(f"modalities must answer the same rows; rows answered: {lengths}")
        parts, there = [], np.zeros((n, len(self.views)), dtype=bool)
        for m, (name, view) in enumerate(self.views.items()):
            part = np.zeros((n, view.width))
            if name in outputs:
                part, there[:, m] = view.of(name, outputs[name])
            parts.append(part)
        return parts, there

    def pack(self) -> tuple[dict[str, Array], list[Json]]:
        """Arrays by name, and JSON."""
        arrays: dict[str, Array] = {}
        told: list[Json] = []
        for m, (name, view) in enumerate(self.views.items()):
            arrays |= {f"centre.{m}": view.centre, f"scale.{m}": view.scale, f"axes.{m}": view.axes}
            told.append({"name": name, "kind": view.kind, "classes": list(view.classes)})
        return arrays, told

    @classmethod
    def unpack(cls, arrays: Mapping[str, Array], told: object) -> Views:
        """The inverse of `pack`. Raises BundleError."""
        if not isinstance(told, list) or not all(isinstance(v, dict) for v in told) or not told:
            raise BundleError("a packed fusion of modalities needs a list of views")
        views: dict[str, View] = {}
        for m, v in enumerate(told):
            name, kind, classes = v.get("name"), v.get("kind"), v.get("classes")
            if not isinstance(name, str) or name in views or not isinstance(classes, list):
                raise BundleError(
                    f"view {m} of a packed fusion of modalities has no name of its own: {v!r:.60}"
                )
            centre = ask(arrays, f"centre.{m}", (None,))
            scale = ask(arrays, f"scale.{m}", (len(centre),))
            if not len(centre) or (scale <= 0).any():
                raise BundleError(f"the view of {name!r} needs numbers, and scales above 0")
            axes = ask(arrays, f"axes.{m}", (len(centre), None))
            views[name] = View(str(kind), tuple(map(str, classes)), centre, scale, axes)
        if list(views) != sorted(views):
            raise BundleError(f"views of a packed fusion are sorted by name, not {listed(views)}")
        return cls(views)
