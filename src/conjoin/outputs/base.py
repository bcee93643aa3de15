"""What all kinds of output share: rows, `answered`, and the codec of named arrays plus JSON."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeAlias, cast

import numpy as np

from conjoin.errors import OutputsError, listed

Array: TypeAlias = np.ndarray[Any, Any]
Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True, eq=False)
class Output(ABC):
    """n answers of one kind. Abstract: the kinds below are final."""

    kind: ClassVar[str]
    ragged: ClassVar[tuple[str, ...]] = ()
    """Names of the flat arrays that `offsets` cuts into rows."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of rows."""

    @abstractmethod
    def columns(self, name: str) -> dict[str, Array]:
        """This output as columns of a batch, each name beginning with `name`."""

    def take(self, rows: Any) -> Self:
        """The rows at these positions (an integer index, a boolean mask or a slice)."""
        index = np.arange(len(self))[rows]
        changed = {n: a[index] for n, a in self.arrays().items() if n not in self.ragged and n != "offsets"}
        if self.ragged:
            offsets = cast(Array, getattr(self, "offsets"))  # noqa: B009  (only ragged kinds have it)
            lengths = np.diff(offsets)[index]
            starts = np.repeat(offsets[:-1][index], lengths)
            new = np.concatenate([[0], np.cumsum(lengths)])
            flat = starts + np.arange(new[-1]) - np.repeat(new[:-1], lengths)
            changed |= {n: getattr(self, n)[flat] for n in self.ragged}
            changed["offsets"] = new
        return replace(self, **changed)

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Named arrays of numbers plus JSON that say all of this output."""
        arrays: dict[str, Array] = {}
        for name, array in self.arrays().items():
            arrays |= _pack_strings(name, array) if array.dtype == object else {name: array}
        meta: dict[str, Json] = {"kind": self.kind}
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None and not isinstance(value, np.ndarray):
                meta[f.name] = list(value)
        return arrays, meta

    @classmethod
    def unpack(cls, arrays: Mapping[str, Array], meta: Mapping[str, Json]) -> Self:
        """The inverse of `pack`. Raises OutputsError where the arrays do not fit together."""
        if meta.get("kind") != cls.kind:
            raise OutputsError(f"these arrays hold {meta.get('kind')!r}, not {cls.kind!r}")
        found: dict[str, Any] = {}
        for f in fields(cls):
            if f.name in arrays:
                found[f.name] = arrays[f.name]
            elif f"{f.name}.utf8" in arrays:
                found[f.name] = _unpack_strings(f.name, arrays)
            elif isinstance(meta.get(f.name), list):
                found[f.name] = tuple(cast("list[Any]", meta[f.name]))
        try:
            return cls(**found)
        except TypeError as error:
            raise OutputsError(f"packed {cls.kind} lack a part: {error}") from error

    def arrays(self) -> dict[str, Array]:
        """All arrays of this output, by field name."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {n: v for n, v in pairs if isinstance(v, np.ndarray)}

    def _set(self, **changed: object) -> None:
        for name, value in changed.items():
            object.__setattr__(self, name, value)

    def _dense(self, name: str, array: Any, ndim: tuple[int, ...], answered: Any) -> None:
        """Check a dense array and `answered`; unanswered rows hold NaN, whatever was given there."""
        array = np.asarray(array)
        if array.dtype.kind not in "fiub":
            raise OutputsError(f"{self.kind}: {name} must be numbers, not {array.dtype}")
        if array.ndim not in ndim:
            want = " or ".join(str(d) for d in ndim)
            raise OutputsError(f"{self.kind}: {name} must have {want} axes, not shape {array.shape}")
        answered = mark_answered(answered, len(array), self.kind)
        if not answered.all() and array.dtype.kind == "f" and not np.isnan(array[~answered]).all():
            array = array.copy()
            array[~answered] = np.nan
        self._set(**{name: array, "answered": answered})

    def _cut(self, names: Sequence[str], offsets: Any, answered: Any) -> None:
        """Check flat arrays and the offsets that cut them into rows."""
        offsets = np.asarray(offsets, dtype=np.int64)
        lengths = {n: len(getattr(self, n)) for n in names}
        ok = offsets.ndim == 1 and len(offsets) and offsets[0] == 0 and bool((np.diff(offsets) >= 0).all())
        if not ok or set(lengths.values()) != {int(offsets[-1])}:
            raise OutputsError(
                f"{self.kind}: offsets must begin with 0, never fall and end with the length of "
                f"{listed(names)}; lengths are {lengths}"
            )
        self._set(offsets=offsets, answered=mark_answered(answered, len(offsets) - 1, self.kind))


def mark_answered(answered: Any, n: int, kind: str) -> Array:
    """`answered` as (n,) bool; None means that all rows were."""
    if answered is None:
        return np.ones(n, dtype=bool)
    answered = np.asarray(answered, dtype=bool)
    if answered.shape != (n,):
        raise OutputsError(f"{kind}: answered must have shape ({n},), not {answered.shape}")
    return cast(Array, answered)


def _pack_strings(name: str, array: Array) -> dict[str, Array]:
    parts = [str(s).encode() for s in array]
    offsets = np.concatenate([[0], np.cumsum([len(p) for p in parts], dtype=np.int64)]).astype(np.int64)
    return {f"{name}.utf8": np.frombuffer(b"".join(parts), dtype=np.uint8), f"{name}.offsets": offsets}


def _unpack_strings(name: str, arrays: Mapping[str, Array]) -> Array:
    data, offsets = arrays[f"{name}.utf8"].tobytes(), arrays[f"{name}.offsets"].tolist()
    out = np.empty(len(offsets) - 1, dtype=object)
    out[:] = [data[a:b].decode() for a, b in itertools.pairwise(offsets)]
    return out


def class_names(classes: Sequence[object], kind: str) -> tuple[str, ...]:
    """Names of classes as str. Raises OutputsError where two are equal."""
    names = tuple(str(c) for c in classes)
    if len(set(names)) != len(names):
        doubled = sorted({c for c in names if names.count(c) > 1})
        raise OutputsError(f"{kind}: class names must differ; doubled: {listed(doubled)}")
    return names


def class_codes(codes: Any, classes: Sequence[object], kind: str, lowest: int) -> Array:
    """Codes as int64. Raises OutputsError outside `lowest` to K - 1."""
    codes = np.asarray(codes, dtype=np.int64)
    if codes.size and (codes.min() < lowest or codes.max() >= len(classes)):
        raise OutputsError(
            f"{kind}: codes must lie in {lowest} to {len(classes) - 1} ({len(classes)} classes), "
            f"not {codes.min()} to {codes.max()}"
        )
    return cast(Array, codes)


def strings(values: Any) -> Array:
    """An object array of str; the same array where it is one already."""
    if isinstance(values, np.ndarray) and values.dtype == object and set(map(type, values.tolist())) <= {str}:
        return values
    out = np.empty(len(values), dtype=object)
    out[:] = [str(v) for v in values]
    return out
