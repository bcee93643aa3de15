"""The kinds of output. What a member answers is a frozen record of one of these kinds.

| kind          | one row's answer                    | arrays                                                    |
|---------------|-------------------------------------|-----------------------------------------------------------|
| probabilities | a probability per class             | values (n, K) float                                       |
| values        | a number, or H numbers              | values (n,) or (n, H) float                               |
| quantiles     | a value per quantile level          | values (n, Q) float                                       |
| labels        | a class, or abstain                 | codes (n,) int, -1 abstains                               |
| embeddings    | a vector                            | values (n, D) float                                       |
| masks         | a label or probability per pixel    | values (n, *spatial)                                      |
| texts         | a string, with a score              | texts (n,) of str, scores (n,)                            |
| ranking       | items with scores, best first       | ids (t,), scores (t,), offsets (n + 1,)                   |
| boxes         | regions with class and score        | coords (t, 2 | 4 | 6), scores (t,), codes (t,), offsets   |
| spans         | stretches of text with class, score | starts (t,), ends (t,), scores (t,), codes (t,), offsets  |

Every kind has `answered (n,) bool`: False where the member skipped the row. `pack` gives named arrays plus
JSON, `unpack` is its inverse: the only codec, for disk, wire and cache alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeAlias, cast

import numpy as np

from conjoin.errors import OutputsError, listed

Array: TypeAlias = np.ndarray[Any, Any]
Json: TypeAlias = "str | int | float | bool | None | list[Json] | dict[str, Json]"


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
        changed = {n: a[index] for n, a in self._arrays().items() if n not in self.ragged and n != "offsets"}
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
        for name, array in self._arrays().items():
            arrays |= _pack_strings(name, array) if array.dtype == object else {name: array}
        meta: dict[str, Json] = {"kind": self.kind}
        for f in fields(self):
            value = getattr(self, f.name)
            if not isinstance(value, np.ndarray):
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

    def _arrays(self) -> dict[str, Array]:
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
        self._set(**{name: array, "answered": _answered(answered, len(array), self.kind)})

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
        self._set(offsets=offsets, answered=_answered(answered, len(offsets) - 1, self.kind))


def _answered(answered: Any, n: int, kind: str) -> Array:
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
    out[:] = [data[a:b].decode() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    return out


def _classes(classes: Sequence[object], kind: str) -> tuple[str, ...]:
    names = tuple(str(c) for c in classes)
    if len(set(names)) != len(names):
        doubled = sorted({c for c in names if names.count(c) > 1})
        raise OutputsError(f"{kind}: class names must differ; doubled: {listed(doubled)}")
    return names


def _codes(codes: Any, classes: Sequence[object], kind: str, lowest: int) -> Array:
    codes = np.asarray(codes, dtype=np.int64)
    if codes.size and (codes.min() < lowest or codes.max() >= len(classes)):
        raise OutputsError(
            f"{kind}: codes must lie in {lowest} to {len(classes) - 1} ({len(classes)} classes), "
            f"not {codes.min()} to {codes.max()}"
        )
    return cast(Array, codes)


def _strings(values: Any) -> Array:
    out = np.empty(len(values), dtype=object)
    out[:] = [str(v) for v in values]
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Probabilities(Output):
    """values (n, K) float: a probability per class; classes: K names, in the order of the columns.

    >>> p = Probabilities([[0.9, 0.1]], ["no", "yes"])
    >>> p.align(["yes", "no"]).values
    array([[0.1, 0.9]])
    """

    kind: ClassVar[str] = "probabilities"
    values: Array
    classes: tuple[str, ...]
    answered: Array = cast(Array, None)

    def __post_init__(self) -> None:
        self._set(classes=_classes(self.classes, self.kind))
        self._dense("values", self.values, (2,), self.answered)
        if self.values.shape[1] != len(self.classes):
            raise OutputsError(
                f"probabilities: {self.values.shape[1]} columns but {len(self.classes)} classes "
                f"({listed(self.classes)})"
            )

    def __len__(self) -> int:
        return len(self.values)

    def columns(self, name: str) -> dict[str, Array]:
        """One column per class: `name[class]`."""
        return {f"{name}[{c}]": self.values[:, k] for k, c in enumerate(self.classes)}

    def align(self, classes: Sequence[str]) -> Probabilities:
        """The same answers with the columns in this order; a class this member never saw gets 0.

        Raises OutputsError where this member gives probability to a class that is not among `classes`.
        """
        names = tuple(str(c) for c in classes)
        if names == self.classes:
            return self
        unknown = [c for c in self.classes if c not in set(names)]
        if unknown:
            raise OutputsError(f"classes {listed(unknown)} are not among {listed(names)}")
        at = {c: k for k, c in enumerate(self.classes)}
        values = np.zeros((len(self), len(names)), dtype=self.values.dtype)
        for k, c in enumerate(names):
            if c in at:
                values[:, k] = self.values[:, at[c]]
        return Probabilities(values, names, self.answered)

    def labels(self) -> Labels:
        """The most probable class of each row; unanswered rows abstain."""
        codes = np.where(self.answered, np.nan_to_num(self.values, nan=-1.0).argmax(axis=1), -1)
        return Labels(codes, self.classes, self.answered)


@dataclass(frozen=True, slots=True, eq=False)
class Values(Output):
    """values (n,) float, or (n, H) for H horizons or targets."""

    kind: ClassVar[str] = "values"
    values: Array
    answered: Array = cast(Array, None)

    def __post_init__(self) -> None:
        self._dense("values", self.values, (1, 2), self.answered)

    def __len__(self) -> int:
        return len(self.values)

    def columns(self, name: str) -> dict[str, Array]:
        """The column `name`, or `name[h]` for each horizon."""
        if self.values.ndim == 1:
            return {name: self.values}
        return {f"{name}[{h}]": self.values[:, h] for h in range(self.values.shape[1])}


@dataclass(frozen=True, slots=True, eq=False)
class Quantiles(Output):
    """values (n, Q) float: the value at each level; levels: Q rising numbers in (0, 1)."""

    kind: ClassVar[str] = "quantiles"
    values: Array
    levels: tuple[float, ...]
    answered: Array = cast(Array, None)

    def __post_init__(self) -> None:
        levels = tuple(float(q) for q in self.levels)
        if not all(0 < q < 1 for q in levels) or list(levels) != sorted(set(levels)):
            raise OutputsError(f"quantiles: levels must rise and lie in (0, 1), not {listed(levels)}")
        self._set(levels=levels)
        self._dense("values", self.values, (2,), self.answered)
        if self.values.shape[1] != len(levels):
            raise OutputsError(f"quantiles: {self.values.shape[1]} columns but {len(levels)} levels")

    def __len__(self) -> int:
        return len(self.values)

    def columns(self, name: str) -> dict[str, Array]:
        """One column per level: `name[0.5]`."""
        return {f"{name}[{q:g}]": self.values[:, k] for k, q in enumerate(self.levels)}


@dataclass(frozen=True, slots=True, eq=False)
class Labels(Output):
    """codes (n,) int: the index of a class, -1 abstains; classes: K names."""

    kind: ClassVar[str] = "labels"
    codes: Array
    classes: tuple[str, ...]
    answered: Array = cast(Array, None)

    def __post_init__(self) -> None:
        self._set(classes=_classes(self.classes, self.kind))
        codes = _codes(self.codes, self.classes, self.kind, -1)
        self._dense("codes", codes, (1,), codes >= 0 if self.answered is None else self.answered)

    def __len__(self) -> int:
        return len(self.codes)

    def columns(self, name: str) -> dict[str, Array]:
        """The column `name` of class names, None where the member abstains."""
        return {name: self.names()}

    def names(self) -> Array:
        """(n,) class names as str; None where the member abstains."""
        table = np.array([*self.classes, None], dtype=object)
        return cast(Array, table[self.codes])

    def align(self, classes: Sequence[str]) -> Labels:
        """The same labels with codes that count in `classes`. Raises OutputsError on an unknown class."""
        names = tuple(str(c) for c in classes)
        if names == self.classes:
            return self
        at = {c: k for k, c in enumerate(names)}
        unknown = [c for c in self.classes if c not in at]
        if unknown:
            raise OutputsError(f"classes {listed(unknown)} are not among {listed(names)}")
        table = np.array([*(at[c] for c in self.classes), -1])
        return Labels(table[self.codes], names, self.answered)

    def one_hot(self) -> Array:
        """(n, K) float64: 1 at the label, a row of zeros where the member abstains."""
        return cast(Array, (self.codes[:, None] == np.arange(len(self.classes))).astype(np.float64))

    @classmethod
    def of(cls, names: Sequence[object], classes: Sequence[object] | None = None) -> Labels:
        """Labels from names; None abstains. `classes` defaults to the sorted names that occur.

        >>> Labels.of(["yes", None, "no"]).codes
        array([ 1, -1,  0])
        """
        known = tuple(
            sorted({str(v) for v in names if v is not None}) if classes is None else map(str, classes)
        )
        at = {c: k for k, c in enumerate(known)}
        unknown = {str(v) for v in names if v is not None} - at.keys()
        if unknown:
            raise OutputsError(f"labels {listed(sorted(unknown))} are not among {listed(known)}")
        return cls(np.array([-1 if v is None else at[str(v)] for v in names], dtype=np.int64), known)


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings(Output):
    """values (n, D) float: a vector per row."""

    kind: ClassVar[str] = "embeddings"
    values: Array
    answered: Array = cast(Array, None)

    def __post_init__(self) -> None:
        self._dense("values", self.values, (2,), self.answered)

    def __len__(self) -> int:
        return len(self.values)

    def columns(self, name: str) -> dict[str, Array]:
        """One column of vectors: `name`, shape (n, D)."""
        return {name: self.values}


@dataclass(frozen=True, slots=True, eq=False)
class Masks(Output):
    """values (n, *spatial): integer labels or float probabilities per pixel or voxel."""

    kind: ClassVar[str] = "masks"
    values: Array
    classes: tuple[str, ...] = ()
    answered: Array = cast(Array, None)

    def __post_init__(self) -> None:
        self._set(classes=_classes(self.classes, self.kind))
        self._dense("values", self.values, (2, 3, 4, 5), self.answered)

    def __len__(self) -> int:
        return len(self.values)

    def columns(self, name: str) -> dict[str, Array]:
        """One column of images: `name`, shape (n, *spatial)."""
        return {name: self.values}


@dataclass(frozen=True, slots=True, eq=False)
class Texts(Output):
    """texts (n,) of str; scores (n,) float: log-probability or confidence, NaN where unknown."""

    kind: ClassVar[str] = "texts"
    texts: Array
    scores: Array = cast(Array, None)
    answered: Array = cast(Array, None)

    def __post_init__(self) -> None:
        texts = _strings(self.texts)
        scores = np.full(len(texts), np.nan) if self.scores is None else np.asarray(self.scores, np.float64)
        if scores.shape != texts.shape:
            raise OutputsError(f"texts: {len(texts)} texts but scores of shape {scores.shape}")
        self._set(texts=texts, scores=scores, answered=_answered(self.answered, len(texts), self.kind))

    def __len__(self) -> int:
        return len(self.texts)

    def columns(self, name: str) -> dict[str, Array]:
        """The column `name` of strings."""
        return {name: self.texts}


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
            ids=ids if ids.dtype.kind in "iu" else _strings(ids), scores=np.asarray(self.scores, np.float64)
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
        classes = _classes(self.classes, self.kind)
        codes = _codes(self.codes, classes, self.kind, 0)
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
        classes = _classes(self.classes, self.kind)
        starts, ends = np.asarray(self.starts, np.int64), np.asarray(self.ends, np.int64)
        if starts.shape == ends.shape and bool(((starts < 0) | (ends < starts)).any()):
            raise OutputsError("spans: each span needs 0 <= start <= end")
        codes = _codes(self.codes, classes, self.kind, 0)
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


KINDS: dict[str, type[Output]] = {
    k.kind: k
    for k in (Probabilities, Values, Quantiles, Labels, Embeddings, Masks, Texts, Ranking, Boxes, Spans)
}


def unpack(arrays: Mapping[str, Array], meta: Mapping[str, Json]) -> Output:
    """An output of whatever kind the JSON names. Raises OutputsError on an unknown kind."""
    kind = meta.get("kind")
    if kind not in KINDS:
        raise OutputsError(f"unknown kind of output {kind!r}; known: {listed(KINDS)}")
    return KINDS[str(kind)].unpack(arrays, meta)


def concat(outputs: Sequence[Output]) -> Output:
    """One output with the rows of all, in order; all of one kind, with the same classes or levels."""
    if len(outputs) == 1:
        return outputs[0]
    first = outputs[0]
    changed: dict[str, Array] = {}
    for name in first._arrays():
        parts = [getattr(o, name) for o in outputs]
        if name == "offsets":
            base = np.cumsum([0, *(int(p[-1]) for p in parts[:-1])])
            parts = [parts[0], *(p[1:] + b for p, b in zip(parts[1:], base[1:], strict=True))]
        changed[name] = np.concatenate(parts)
    return replace(first, **changed)
