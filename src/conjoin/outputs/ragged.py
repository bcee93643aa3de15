"""Ragged kinds: flat arrays, and offsets that cut them into rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from conjoin.errors import OutputsError
from conjoin.outputs.base import Array, Output, class_codes, class_names, strings


@dataclass(frozen=True, slots=True, eq=False)
class Ranking(Output):
    """For each row a list of items, best first: ids (t,) of str or int, scores (t,), offsets (n + 1,)."""

    kind: ClassVar[str] = "ranking"
    ragged: ClassVar[tuple[str, ...]] = ("ids", "scores")
    ids: Array
    scores: Array
    offsets: Array
    answered: Array = cast(Array, None)

    def __post_init__(self) -> None:
        ids = np.asarray(self.ids)
        self._set(
            ids=ids if ids.dtype.kind in "iu" else strings(ids), scores=np.asarray(self.scores, np.float64)
        )
        self._cut(self.ragged, self.offsets, self.answered)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def columns(self, name: str) -> dict[str, Array]:
        """The best item of each row (`name`) and its score (`name.score`); None and NaN for an empty list."""
        return {
            name: _first(self.ids, self.offsets, None),
            f"{name}.score": _first(self.scores, self.offsets),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Boxes(Output):
    """For each row regions: coords (t, 2 | 4 | 6) as lower then upper corners (x1, y1, x2, y2), scores (t,),
    codes (t,) into classes, offsets (n + 1,).
    """

    kind: ClassVar[str] = "boxes"
    ragged: ClassVar[tuple[str, ...]] = ("coords", "scores", "codes")
    coords: Array
    scores: Array
    codes: Array
    offsets: Array
    classes: tuple[str, ...]
    answered: Array = cast(Array, None)

    def __post_init__(self) -> None:
        coords = np.asarray(self.coords, dtype=np.float64)
        if coords.ndim != 2 or coords.shape[1] not in (2, 4, 6):
            raise OutputsError(f"boxes: coords must have shape (t, 2), (t, 4) or (t, 6), not {coords.shape}")
        classes = class_names(self.classes, self.kind)
        codes = class_codes(self.codes, classes, self.kind, 0)
        self._set(coords=coords, scores=np.asarray(self.scores, np.float64), codes=codes, classes=classes)
        self._cut(self.ragged, self.offsets, self.answered)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def columns(self, name: str) -> dict[str, Array]:
        """How many regions each row has: `name.count`."""
        return {f"{name}.count": np.diff(self.offsets)}


@dataclass(frozen=True, slots=True, eq=False)
class Spans(Output):
    """For each row stretches of its text: starts, ends (t,) in characters, end exclusive; scores (t,),
    codes (t,) into classes, offsets (n + 1,).
    """

    kind: ClassVar[str] = "spans"
    ragged: ClassVar[tuple[str, ...]] = ("starts", "ends", "scores", "codes")
    starts: Array
    ends: Array
    scores: Array
    codes: Array
    offsets: Array
    classes: tuple[str, ...]
    answered: Array = cast(Array, None)

    def __post_init__(self) -> None:
        classes = class_names(self.classes, self.kind)
        starts, ends = np.asarray(self.starts, np.int64), np.asarray(self.ends, np.int64)
        if starts.shape == ends.shape and bool(((starts < 0) | (ends < starts)).any()):
            raise OutputsError("spans: each span needs 0 <= start <= end")
        codes = class_codes(self.codes, classes, self.kind, 0)
        self._set(starts=starts, ends=ends, codes=codes, classes=classes)
        self._set(scores=np.asarray(self.scores, np.float64))
        self._cut(self.ragged, self.offsets, self.answered)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def columns(self, name: str) -> dict[str, Array]:
        """How many spans each row has: `name.count`."""
        return {f"{name}.count": np.diff(self.offsets)}


def _first(flat: Array, offsets: Array, missing: object = np.nan) -> Array:
    out = np.full(len(offsets) - 1, missing, dtype=object if missing is None else np.float64)
    some = np.diff(offsets) > 0
    out[some] = flat[offsets[:-1][some]]
    return cast(Array, out)
