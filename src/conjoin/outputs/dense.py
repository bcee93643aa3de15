"""Dense kinds: one array whose first axis is rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np

from conjoin.errors import OutputsError, listed
from conjoin.outputs.base import Array, Output, class_codes, class_names, mark_answered, strings


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
        self._set(classes=class_names(self.classes, self.kind))
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
        self._set(classes=class_names(self.classes, self.kind))
        codes = class_codes(self.codes, self.classes, self.kind, -1)
        self._dense("codes", codes, (1,), codes >= 0 if self.answered is None else self.answered)
        if bool((self.codes[~self.answered] >= 0).any()):
            self._set(codes=np.where(self.answered, self.codes, -1))

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
    """values (n, D) float: a vector per row; or (n, P, D): P vectors per row, such as pairs of sentences.

    >>> pairs = Embeddings([[[1.0, 0.0], [0.6, 0.8]]])
    >>> len(pairs), pairs.values.shape
    (1, (1, 2, 2))
    """

    kind: ClassVar[str] = "embeddings"
    values: Array
    answered: Array = cast(Array, None)

    def __post_init__(self) -> None:
        self._dense("values", self.values, (2, 3), self.answered)

    def __len__(self) -> int:
        return len(self.values)

    def columns(self, name: str) -> dict[str, Array]:
        """One column of vectors: `name`, shape (n, D) or (n, P, D)."""
        return {name: self.values}


@dataclass(frozen=True, slots=True, eq=False)
class Masks(Output):
    """values (n, *spatial): integer labels, or float probabilities of the foreground, per pixel or voxel.

    With K classes label k is the k-th, and probabilities are (n, *spatial, K).
    """

    kind: ClassVar[str] = "masks"
    values: Array
    classes: tuple[str, ...] = ()
    answered: Array = cast(Array, None)

    def __post_init__(self) -> None:
        self._set(classes=class_names(self.classes, self.kind))
        self._dense("values", self.values, (2, 3, 4, 5), self.answered)

    def __len__(self) -> int:
        return len(self.values)

    def columns(self, name: str) -> dict[str, Array]:
        """One column of images: `name`, shape (n, *spatial)."""
        return {name: self.values}


@dataclass(frozen=True, slots=True, eq=False)
class Texts(Output):
    """texts (n,) of str; scores (n,) float: log-probability or confidence, NaN where unknown.

    The words of a text are what white space parts. Speech recognisers also say of each of the t words of all
    rows: confidences (t,), starts and ends (t,) in seconds, NaN where unknown; offsets (n + 1,) cut them into
    rows and follow from the texts. All four are None where nothing is known of words.

    >>> Texts(["the cat", "sat"], confidences=[0.9, 0.4, 0.7]).take([1]).confidences
    array([0.7])
    """

    kind: ClassVar[str] = "texts"
    texts: Array
    scores: Array = cast(Array, None)
    answered: Array = cast(Array, None)
    offsets: Array | None = None
    confidences: Array | None = None
    starts: Array | None = None
    ends: Array | None = None

    def __post_init__(self) -> None:
        texts = strings(self.texts)
        scores = np.full(len(texts), np.nan) if self.scores is None else np.asarray(self.scores, np.float64)
        if scores.shape != texts.shape:
            raise OutputsError(f"texts: {len(texts)} texts but scores of shape {scores.shape}")
        self._set(texts=texts, scores=scores, answered=mark_answered(self.answered, len(texts), self.kind))
        if any(v is not None for v in (self.offsets, self.confidences, self.starts, self.ends)):
            self._mark()

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def ragged(self) -> tuple[str, ...]:  # type: ignore[override]  # it depends on what is known
        """Names of the arrays of words, where anything is known of words."""
        return () if self.offsets is None else MARKS

    def columns(self, name: str) -> dict[str, Array]:
        """The column `name` of strings."""
        return {name: self.texts}

    def marked(self) -> Texts:
        """The same texts, with NaN for all that is not known of their words."""
        return (
            self
            if self.offsets is not None
            else replace(self, confidences=np.full(self._counts().sum(), np.nan))
        )

    def _counts(self) -> Array:
        return np.array([len(str(t).split()) for t in self.texts], dtype=np.int64)

    def _mark(self) -> None:
        counts = self._counts()
        if self.offsets is not None:  # a row that is not answered may keep its text and have no words
            given = np.diff(np.asarray(self.offsets, np.int64))
            silent = (given == 0) & ~self.answered if given.shape == counts.shape else False
            counts = np.where(silent, 0, counts)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        if self.offsets is not None and not np.array_equal(offsets, self.offsets):
            raise OutputsError("texts: offsets do not count the words of the texts; leave them out")
        marks = {}
        for name in MARKS:
            given = getattr(self, name)
            marks[name] = np.full(offsets[-1], np.nan) if given is None else np.asarray(given, np.float64)
            if marks[name].shape != (offsets[-1],):
                raise OutputsError(
                    f"texts: {offsets[-1]} words (white space parts them) but {name} of shape "
                    f"{marks[name].shape}"
                )
        self._set(offsets=offsets, **marks)


MARKS = ("confidences", "starts", "ends")
"""Arrays of `Texts` with a number for each word."""
