"""Early fusion: the modalities side by side, one head on all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError
from conjoin.fusion.modalities.heads import out_of_fold, scores_of
from conjoin.fusion.modalities.late import LateFusion, late_of, rows_of
from conjoin.fusion.modalities.task import Target, answer_of, target_of
from conjoin.fusion.modalities.views import Views, fit_view
from conjoin.fusion.packing import ask, child
from conjoin.fusion.threads import one_thread

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json, Probabilities, Values
    from conjoin.scores import Score

LEAST_ROWS = 10
"""Complete rows that a head on all modalities needs."""


@dataclass(frozen=True, slots=True, eq=False)
class EarlyFusion:
    """[x_1 ... x_M] W + b where every modality is there; elsewhere `late` answers.

    The answer is the softmax for classes, else the numbers. head: (sum of d_m + 1, width).
    """

    late: LateFusion
    head: Array

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return self.late.members

    @property
    def needs(self) -> tuple[str, ...]:
        """All modalities."""
        return self.members

    def __call__(
        self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None
    ) -> Probabilities | Values:
        """Fuse. Raises OutputsError on a modality it was not fitted to, or of another shape."""
        late = self.late
        parts, there = late.views.of(outputs)
        whole = np.asarray(there.all(axis=1))[:, None]
        scores = np.where(
            whole, scores_of(np.concatenate(parts, axis=1), self.head), late.scores(parts, there)
        )
        return answer_of(scores, np.asarray(there.any(axis=1)), late.classes, late.shift, late.scale)

    def children(self) -> Mapping[str, Storable]:
        """The late fusion of incomplete rows."""
        return {"late": self.late}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The head."""
        return {"head": self.head}, {}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        late = child(children, "late")
        if not isinstance(late, LateFusion):
            raise BundleError(f"a packed early fusion needs a late one beside it, not {type(late).__name__}")
        deep = sum(v.width for v in late.views.views.values()) + 1
        return cls(late, ask(arrays, "head", (deep, len(late.classes) or len(late.shift))))


def fit_early(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
) -> EarlyFusion | LateFusion:
    """Early fusion of modalities: logistic or ridge regression on all of them side by side.

    As `fit_late`; the head is fitted to the rows that have every modality, with a penalty chosen by 5 folds.
    Rows that lack one are answered by late fusion. Where a single modality's head has the lower held-out
    loss, or fewer than 10 rows are complete, late fusion is given.
    """
    target = target_of(outputs, truth, weights)
    views = Views({n: fit_view(n, outputs[n], target.at) for n in sorted(outputs)})
    parts, there = rows_of(views, outputs, target)
    with one_thread():
        late, single, _ = late_of(views, parts, there, target, seed)
        at = np.flatnonzero(there.all(axis=1))
        if len(at) < LEAST_ROWS:
            return late
        x, some = np.concatenate(parts, axis=1)[at], target.rows(at)
        head, held = out_of_fold(x, some, target.folds(seed)[at])
        return EarlyFusion(late, head) if no_worse(some, held, single[:, at], there[at]) else late


def no_worse(target: Target, held: Array, single: Array, there: Array) -> bool:
    """Whether held-out scores have at most the loss of each modality's head, on the rows that it answered."""
    losses = target.losses(held) * target.mass
    for m, scores in enumerate(single):
        own = there[:, m]
        if float(losses[own].sum()) > float((target.losses(scores) * target.mass)[own].sum()):
            return False
    return True
