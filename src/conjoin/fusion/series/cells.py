"""Missing horizons: a forecast of H numbers in which single numbers are NaN.

A member that reaches only some horizons answers NaN at the others. `cellwise` looks at each number by itself:
rows (n, H) become n * H rows of one number, a NaN counts as not answered, the fuser runs, and the answer is
put together again. `ByCell` is the record of a fuser that was fitted in this way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, OutputsError, TruthError
from conjoin.fusion.packing import child, number
from conjoin.fusion.stack import as_rows
from conjoin.outputs import Values

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json


def has_gaps(output: Any) -> bool:
    """Whether an output of values has NaN in a row that it marks as answered.

    >>> has_gaps(Values([[1.0, float("nan")]])), has_gaps(Values([[1.0, 2.0]], answered=[False]))
    (True, False)
    """
    if not isinstance(output, Values):
        return False
    return bool(np.isnan(as_rows(output.values)[output.answered]).any())


def in_cells(output: Values) -> Values:
    """(n, H) values as n * H rows of one number; NaN is not answered."""
    flat = np.asarray(as_rows(output.values), dtype=np.float64).reshape(-1)
    return Values(flat, ~np.isnan(flat))


def from_cells(fused: Values, like: Values) -> Values:
    """The inverse of `in_cells`: the shape of `like`; a row without any number is unanswered."""
    values = np.where(fused.answered, fused.values, np.nan).reshape(like.values.shape)
    return Values(values, np.asarray(~np.isnan(as_rows(values)).all(axis=1)))


def cellwise(fuser: Callable[..., Any], outputs: Mapping[str, Any], /, **options: Any) -> Any:
    """The outputs, fused by this operator; where a forecast has gaps, number by number.

    >>> from conjoin.fusion.plain import mean
    >>> nan = float("nan")
    >>> cellwise(mean, {"a": Values([[1.0, nan]]), "b": Values([[3.0, 5.0]])}).values
    array([[2., 5.]])
    """
    if not any(has_gaps(o) for o in outputs.values()):
        return fuser(outputs, **options)
    found = fuser({n: in_cells(o) for n, o in outputs.items()}, **options)
    return from_cells(found, next(iter(outputs.values())))


@dataclass(frozen=True, slots=True, eq=False)
class ByCell:
    """A fuser of single numbers, applied to each horizon; the weights are the same at all of them."""

    fuser: Any

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members it knows."""
        return tuple(self.fuser.members)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members whose output matters."""
        return tuple(self.fuser.needs)

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Any:
        """Fuse number by number. Raises OutputsError."""
        first = next(iter(outputs.values()), None)
        if not isinstance(first, Values):
            return self.fuser(outputs, batch=batch)
        return from_cells(self.fuser({n: in_cells(o) for n, o in outputs.items()}, batch=batch), first)

    def children(self) -> Mapping[str, Storable]:
        """The fuser."""
        return {"fuser": self.fuser}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Nothing of its own."""
        return {}, {}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        return cls(child(children, "fuser"))


Fit = Callable[..., Any]


def with_gaps(fit: Fit) -> Fit:
    """A fit function that also takes forecasts with missing horizons: then it learns from single numbers."""

    @wraps(fit)
    def fitted(outputs: Mapping[str, Any], truth: Any, *, weights: Any = None, **more: Any) -> Any:
        wide = has_gaps(truth) and as_rows(truth.values).shape[1] > 1
        if not wide and not any(has_gaps(o) for o in outputs.values()):
            return fit(outputs, _known(truth), weights=weights, **more)
        width = as_rows(truth.values).shape[1]
        each = None if weights is None else np.repeat(np.asarray(weights, dtype=np.float64), width)
        flat = {n: in_cells(o) for n, o in outputs.items()}
        return ByCell(fit(flat, in_cells(truth), weights=each, **more))

    return fitted


def _known(truth: Any) -> Any:
    """A truth of one number a row whose NaN are not answered."""
    return in_cells(truth) if has_gaps(truth) and truth.values.ndim == 1 else truth


@dataclass(frozen=True, slots=True, eq=False)
class ByHorizon:
    """A fuser for each horizon."""

    fusers: tuple[Any, ...]

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members it knows."""
        return tuple(sorted({n for f in self.fusers for n in f.members}))

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members whose output matters at some horizon."""
        return tuple(sorted({n for f in self.fusers for n in f.needs}))

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Values:
        """Fuse each horizon with its own fuser. Raises OutputsError on another number of horizons."""
        widths = {n: as_rows(o.values).shape[1] for n, o in outputs.items()}
        if set(widths.values()) != {len(self.fusers)}:
            raise OutputsError(f"this fuser knows {len(self.fusers)} horizons; the members have {widths}")
        found = [f({n: horizon(o, h) for n, o in outputs.items()}) for h, f in enumerate(self.fusers)]
        values = np.stack([np.where(o.answered, o.values, np.nan) for o in found], axis=1)
        return Values(values, np.asarray(~np.isnan(values).all(axis=1)))

    def children(self) -> Mapping[str, Storable]:
        """The fusers, by number."""
        return {f"horizon.{h}": f for h, f in enumerate(self.fusers)}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """How many horizons there are."""
        return {}, {"horizons": len(self.fusers)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        count = number(meta, "horizons")
        if not 1 <= count <= len(children):
            raise BundleError(f"a packed fuser of {count:g} horizons has {len(children)} parts")
        return cls(tuple(child(children, f"horizon.{h}") for h in range(int(count))))


def horizon(output: Values, h: int) -> Values:
    """One horizon as values (n,); NaN is not answered."""
    column = np.asarray(as_rows(output.values)[:, h], dtype=np.float64)
    return Values(column, ~np.isnan(column))


def each_horizon(fit: Fit) -> Fit:
    """A fit function that fits each horizon of (n, H) values apart: `each_horizon(fit_bates_granger)`.

    Horizons that no row has a truth for raise TruthError.
    """

    @wraps(fit)
    def fitted(outputs: Mapping[str, Any], truth: Any, **more: Any) -> Any:
        width = as_rows(truth.values).shape[1]
        made = []
        for h in range(width):
            given = {n: horizon(o, h) for n, o in outputs.items()}
            try:
                made.append(fit(given, horizon(truth, h), **more))
            except TruthError as error:
                raise TruthError(f"horizon {h}: {error}") from error
        return ByHorizon(tuple(made))

    return fitted
