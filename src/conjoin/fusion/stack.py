"""Outputs of several members laid side by side: names sorted, classes aligned by name, what fits checked.

Members are always taken in the order of their sorted names, so that sums do not depend on the order in which
a caller happened to name them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np

from conjoin.errors import OutputsError, TruthError, listed, nearest
from conjoin.outputs import Array, Labels, Output, Probabilities, Quantiles, Values

Dense: TypeAlias = "Probabilities | Values | Quantiles"
Weights: TypeAlias = "Mapping[str, float] | Sequence[float] | None"
_PROBED = 256  # rows whose probabilities are checked to sum to 1


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """M members' answers to the same n rows.

    kind: "probabilities", "values" or "quantiles". names: sorted. parts: M arrays (n, C), C the number of
    classes, targets or levels. answered: M arrays (n,) bool. flat: values were (n,) and not (n, H).
    """

    kind: str
    names: tuple[str, ...]
    parts: tuple[Array, ...]
    answered: tuple[Array, ...]
    classes: tuple[str, ...]
    levels: tuple[float, ...]
    flat: bool

    @property
    def rows(self) -> int:
        """The number of rows n."""
        return len(self.parts[0])

    @property
    def width(self) -> int:
        """The number of classes, targets or levels."""
        return int(self.parts[0].shape[1])

    @property
    def complete(self) -> bool:
        """Whether every member answered every row."""
        return all(bool(a.all()) for a in self.answered)

    def tensor(self) -> Array:
        """(M, n, C) float64."""
        out = np.empty((len(self.parts), self.rows, self.width))
        for m, part in enumerate(self.parts):
            out[m] = part
        return out

    def answers(self) -> Array:
        """(M, n) bool: which member answered which row."""
        return np.array(self.answered)

    def output(self, values: Array, answered: Array | None = None) -> Dense:
        """An output of this kind with these values (n, C)."""
        if self.kind == Probabilities.kind:
            return Probabilities(values, self.classes, cast(Array, answered))
        if self.kind == Quantiles.kind:
            return Quantiles(values, self.levels, cast(Array, answered))
        return Values(values[:, 0] if self.flat else values, cast(Array, answered))

    def outputs(self) -> dict[str, Dense]:
        """The members' outputs by name."""
        each = zip(self.names, self.parts, self.answered, strict=True)
        return {name: self.output(part, answered) for name, part, answered in each}

    def only(self, names: Sequence[str]) -> Stack:
        """The stack of these members."""
        at = [self.names.index(name) for name in sorted(names)]
        return Stack(
            self.kind,
            tuple(self.names[m] for m in at),
            tuple(self.parts[m] for m in at),
            tuple(self.answered[m] for m in at),
            self.classes,
            self.levels,
            self.flat,
        )


def stack(
    outputs: Mapping[str, Any], *, classes: Sequence[str] | None = None, also: Sequence[str] = ()
) -> Stack:
    """Lay outputs side by side.

    classes: the classes wanted, in order; None takes those of the first member by name, then of the others,
    then `also`. Labels become probabilities of 0 and 1. Raises OutputsError where kinds, rows, levels or
    targets differ, where there are no outputs, and where probabilities are none.
    """
    if not outputs:
        raise OutputsError("there are no outputs to fuse; give a mapping of member name to output")
    wrong = [n for n in outputs if not isinstance(n, str)]
    if wrong:
        raise OutputsError(f"members are named by strings, not {listed(wrong)}")
    names = tuple(sorted(outputs))
    given = [_dense(name, outputs[name]) for name in names]
    kinds = {name: o.kind for name, o in zip(names, given, strict=True)}
    if len(set(kinds.values())) > 1:
        raise OutputsError(f"members must answer with one kind, not {kinds}")
    lengths = {name: len(o) for name, o in zip(names, given, strict=True)}
    if len(set(lengths.values())) > 1:
        raise OutputsError(f"members must answer the same rows; rows answered: {lengths}")
    first = given[0]
    answered = tuple(o.answered for o in given)
    if isinstance(first, Probabilities):
        order = _union(cast("list[Probabilities]", given), also) if classes is None else tuple(classes)
        parts = tuple(_numbers(cast(Probabilities, o).align(order).values) for o in given)
        for name, part, mark in zip(names, parts, answered, strict=True):
            _check_sums(name, part, mark)
        return Stack(first.kind, names, parts, answered, order, (), flat=False)
    levels = first.levels if isinstance(first, Quantiles) else ()
    _check_shapes(names, given, levels)
    parts = tuple(as_rows(_numbers(o.values)) for o in given)
    return Stack(first.kind, names, parts, answered, (), levels, flat=first.values.ndim == 1)


def _dense(name: str, output: Any) -> Dense:
    if isinstance(output, Labels):
        values = output.one_hot()
        return Probabilities(values, output.classes, output.answered & (output.codes >= 0))
    if isinstance(output, Probabilities | Values | Quantiles):
        return output
    kind = output.kind if isinstance(output, Output) else type(output).__name__
    raise OutputsError(f"member {name!r} answered with {kind}; this fuser takes probabilities or values")


def _numbers(values: Array) -> Array:
    """float32 and float64 stay as they are; float16 becomes float32, whole numbers float64."""
    if values.dtype in (np.float32, np.float64):
        return values
    return values.astype(np.float32 if values.dtype == np.float16 else np.float64)


def as_rows(values: Array) -> Array:
    """(n,) as (n, 1); (n, C) as it is."""
    return values[:, None] if values.ndim == 1 else values


def _union(outputs: list[Probabilities], also: Sequence[str]) -> tuple[str, ...]:
    seen: dict[str, None] = {}
    for output in outputs:
        seen |= dict.fromkeys(output.classes)
    return tuple(seen | dict.fromkeys(also))


def _check_shapes(names: tuple[str, ...], given: list[Dense], levels: tuple[float, ...]) -> None:
    shapes = {name: o.values.shape[1:] for name, o in zip(names, given, strict=True)}
    if len(set(shapes.values())) > 1:
        raise OutputsError(f"members must answer the same number of targets, not {shapes}")
    other = {n: o.levels for n, o in zip(names, given, strict=True) if isinstance(o, Quantiles)}
    if any(levels != q for q in other.values()):
        raise OutputsError(f"members must answer the same quantile levels, not {other}")


def _check_sums(name: str, part: Array, answered: Array) -> None:
    """A few rows tell a member that answers scores and not probabilities."""
    step = max(1, len(part) // _PROBED)
    some = part[::step][answered[::step]]
    if not len(some):
        return
    sums = some.sum(axis=1)
    if float(some.min()) < -1e-6 or float(sums.max()) > 1.01 or float(sums.min()) < 0.99:
        raise OutputsError(
            f"member {name!r} does not answer probabilities: rows sum to {sums.min():.4g} to "
            f"{sums.max():.4g}, "
            f"the least number is {some.min():.4g}; turn its scores into probabilities first"
        )


def named_weights(
    outputs: Mapping[str, Any], weights: Weights, *, default: float = 1.0, signed: bool = False
) -> dict[str, float]:
    """A weight for each member, by name. None gives each the default; a sequence follows the outputs.

    Raises OutputsError on a wrong name, a missing or a wrong number of weights, NaN, all zero, and on
    negative ones unless `signed`.
    """
    if weights is None:
        return dict.fromkeys(sorted(outputs), default)
    if isinstance(weights, Mapping):
        unknown = [n for n in weights if n not in outputs]
        if unknown:
            hint = nearest(str(unknown[0]), outputs)
            raise OutputsError(
                f"weights for {listed(unknown)}, who did not answer{hint}; members: {listed(outputs)}"
            )
        missing = [n for n in outputs if n not in weights]
        if missing:
            raise OutputsError(f"no weight for {listed(missing)}; give 0 to leave a member out")
        found = {n: float(weights[n]) for n in sorted(outputs)}
    else:
        listed_weights = [float(w) for w in weights]
        if len(listed_weights) != len(outputs):
            raise OutputsError(
                f"{len(listed_weights)} weights for {len(outputs)} members ({listed(outputs)})"
            )
        found = dict(sorted(zip(outputs, listed_weights, strict=True)))
    return checked(found, signed=signed)


def checked(weights: dict[str, float], *, signed: bool = False) -> dict[str, float]:
    """The same weights. Raises OutputsError where they are not finite, negative, or all zero."""
    if not all(np.isfinite(w) for w in weights.values()):
        raise OutputsError(f"weights must be finite numbers, not {weights}")
    if not signed and any(w < 0 for w in weights.values()):
        bad = {n: w for n, w in weights.items() if w < 0}
        raise OutputsError(f"weights must not be negative: {bad}; weighted_sum takes negative ones")
    if all(w == 0 for w in weights.values()):
        raise OutputsError("all weights are 0; at least one member must count")
    return weights


def class_truth(truth: Any, n: int) -> Labels:
    """The truth as labels with n rows. Raises TruthError."""
    if not isinstance(truth, Labels):
        kind = truth.kind if isinstance(truth, Output) else type(truth).__name__
        raise TruthError(f"probabilities are fitted to a truth of labels, not {kind}")
    _same_rows(truth, n)
    return truth


def value_truth(truth: Any, n: int) -> Values:
    """The truth as values with n rows. Raises TruthError."""
    if not isinstance(truth, Values):
        kind = truth.kind if isinstance(truth, Output) else type(truth).__name__
        raise TruthError(f"values and quantiles are fitted to a truth of values, not {kind}")
    _same_rows(truth, n)
    return truth


def _same_rows(truth: Labels | Values, n: int) -> None:
    if len(truth) != n:
        raise TruthError(f"the members answered {n} rows, the truth has {len(truth)}")
