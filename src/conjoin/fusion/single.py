"""One member's answers as the fused answer, of any kind; and the guard that falls back to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from conjoin.errors import OutputsError, listed
from conjoin.fusion.packing import members_of
from conjoin.outputs import Labels, Output, Probabilities

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json


@dataclass(frozen=True, slots=True, eq=False)
class Single:
    """The answers of the first of `members` that is there; where it skipped a row, nobody answers.

    Labels become probabilities of 0 and 1. The members after the first stand in only where it is absent
    from the outputs altogether.
    """

    members: tuple[str, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """Name of the member whose output matters."""
        return self.members[:1]

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Output:
        """The member's output. Raises OutputsError where none of the members is there."""
        for name in self.members:
            if name in outputs:
                return as_fused(outputs[name])
        raise OutputsError(f"none of {listed(self.members)} is among {listed(outputs) or 'no outputs'}")

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The names."""
        return {}, {"members": list(self.members)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        return cls(tuple(members_of(meta)))


def as_fused(output: Any) -> Output:
    """A member's output in the kind that fusing gives: labels become probabilities."""
    if not isinstance(output, Labels):
        return output  # type: ignore[no-any-return]
    return Probabilities(output.one_hot(), output.classes, output.answered & (output.codes >= 0))


LEAST_SHARE = 0.5
"""A member stands for all where it answers at least so large a share of the rows that others answer."""


def ranked(outputs: Mapping[str, Any], truth: Output, score: Any, weights: Any = None) -> dict[str, float]:
    """Members and their losses, best first; ties by name; those whose loss is not defined come last.

    One that answers less than half as many rows with a truth as the fullest comes after those who answer
    more: of a thousand annotators, one who was right once is not the best.
    """
    losses = {n: score.loss(as_fused(o), truth, weights) for n, o in outputs.items()}
    rows = {n: _answered(o, truth) for n, o in outputs.items()}
    enough = LEAST_SHARE * max(rows.values(), default=0)
    return dict(sorted(losses.items(), key=lambda p: (math.isnan(p[1]), rows[p[0]] < enough, p[1], p[0])))


def fit_single(
    outputs: Mapping[str, Any], truth: Output, *, weights: Any = None, score: Any = None, seed: int = 0
) -> Single:
    """The member with the least loss on the truth. score: by default the kind's. Raises OutputsError."""
    if not outputs:
        raise OutputsError("there is no output to choose from")
    return Single(tuple(ranked(outputs, truth, score or _default(outputs), weights)))


def guarded(
    fuser: Any, outputs: Mapping[str, Any], truth: Output, score: Any = None, weights: Any = None
) -> Any:
    """The fuser, or `Single` where the best single member does better.

    score: by default the kind's. A fuser whose loss is not defined gives way too. A member that answers less
    than half of the rows that the fuser answers does not take its place.
    """
    score = score or _default(outputs)
    names = getattr(fuser, "members", None) or tuple(outputs)
    best = ranked(outputs, truth, score, weights)
    fused = fuser({n: outputs[n] for n in names if n in outputs})
    mine = score.loss(fused, truth, weights)
    first, least = next(iter(best.items()))
    if _answered(outputs[first], truth) < LEAST_SHARE * _answered(fused, truth):
        return fuser
    if mine <= least + 1e-12 * max(1.0, abs(least)) or math.isnan(least):
        return fuser
    return Single(tuple(best))


def _answered(output: Any, truth: Any) -> int:
    """Rows with a truth that are answered."""
    rows = output.answered & truth.answered
    return int((rows & (output.codes >= 0)).sum() if isinstance(output, Labels) else rows.sum())


def _default(outputs: Mapping[str, Any]) -> Any:
    from conjoin.scores import default_score

    return default_score(next(iter(outputs.values())))
