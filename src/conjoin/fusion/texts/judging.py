"""What the members' texts lose against the truth: the ground on which fusers of texts are fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from conjoin.errors import TruthError
from conjoin.fusion.texts.laid import Laid, lay, system_of
from conjoin.outputs import Array, Texts
from conjoin.scores import default_score


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Outputs with a truth. names: sorted. losses: of each system. tables: (M, n, P) statistics of each
    member's rows, None where the score does not add up.
    """

    outputs: Mapping[str, Texts]
    truth: Texts
    mass: Array
    score: Any
    names: tuple[str, ...]
    losses: Mapping[str, float]
    tables: Array | None

    def loss(self, owners: Array) -> float:
        """The loss of taking, in each row, the text of this member (its place; -1 for none)."""
        if self.tables is None:
            texts = [self.outputs[self.names[m]].texts[r] if m >= 0 else "" for r, m in enumerate(owners)]
            fused = Texts(cast(Array, texts), cast(Array, None), owners >= 0)
            return float(self.score.loss(fused, self.truth, self.mass))
        rows = self.tables[owners, np.arange(len(owners))]
        kept = ~np.isnan(rows).any(axis=1) & (owners >= 0) & (self.mass > 0)
        return float(self.score.turned(self.score.total(self.mass[kept] @ rows[kept]))) if kept.any() else 0.0


def judged(outputs: Mapping[str, Any], truth: Any, weights: Any = None, score: Any = None) -> Judged:
    """The members' losses on the rows that have a truth. weights: (n,) of rows.

    Raises OutputsError and TruthError.
    """
    lay(outputs)
    if not isinstance(truth, Texts):
        raise TruthError(f"texts are fitted to a truth of texts, not {getattr(truth, 'kind', truth)}")
    if len(truth) != len(next(iter(outputs.values()))):
        raise TruthError(
            f"the members answered {len(next(iter(outputs.values())))} rows, the truth has {len(truth)}"
        )
    if not truth.answered.any():
        raise TruthError("no row has a truth to learn from")
    names = tuple(sorted(outputs))
    score = score or default_score(outputs[names[0]])
    mass = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)
    found: dict[str, list[float]] = {}
    for n in names:
        found.setdefault(system_of(n), []).append(score.loss(outputs[n], truth, mass))
    losses = {s: float(np.mean(v)) for s, v in found.items()}
    tables = None
    if score.statistics is not None:
        tables = np.array([score.statistics(outputs[n], truth) for n in names])
    return Judged(outputs, truth, mass, score, names, losses, tables)


def side_by_side(case: Judged) -> tuple[Laid, Array]:
    """The members laid side by side, and the first member that gave each of the t texts."""
    laid = lay(case.outputs)
    owner = np.full(len(laid.group.members), -1, np.int64)
    owner[laid.slot[::-1]] = laid.owner[::-1]
    return laid, owner
