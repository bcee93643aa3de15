"""How fusions with a hidden mixture are trained: modality dropout, L-BFGS, a held-out fifth of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.fusion.descent import descend
from conjoin.fusion.modalities.dropout import dropped
from conjoin.fusion.modalities.early import no_worse
from conjoin.fusion.modalities.late import LateFusion, late_of, rows_of
from conjoin.fusion.modalities.task import Target, target_of
from conjoin.fusion.modalities.views import Views, fit_view
from conjoin.fusion.threads import one_thread

if TYPE_CHECKING:
    from conjoin.outputs import Array

PENALTIES = (10.0, 100.0)
"""Times 1 / (2 n) the squared weights on the modalities' numbers: what is tried."""
_STEPS = 120


@dataclass(frozen=True, slots=True)
class Mixture:
    """A model of M matrices and who is there.

    start: from a generator, the widths of the modalities and the number of scores to first parameters, the
    first M of which meet the modalities' numbers. forward: from parameters, matrices and who is there to what
    the slopes need, the last of it the scores (n, width). slopes: from these and the derivatives to the
    scores to the derivatives to the parameters.
    """

    start: Callable[[np.random.Generator, list[int], int], list[Array]]
    forward: Callable[[list[Array], list[Array], Array], tuple[Any, ...]]
    slopes: Callable[[list[Array], list[Array], Array, tuple[Any, ...], Array], list[Array]]


def train(
    mixture: Mixture, parts: list[Array], there: Array, target: Target, penalty: float, seed: int
) -> list[Array]:
    """The parameters that L-BFGS finds from a drawn start, on the rows with and without their modalities."""
    at, present, mass = dropped(there, seed)
    X, some = [x[at] for x in parts], target.rows(at)
    share = some.mass * mass
    share = share / share.sum()
    start = mixture.start(np.random.default_rng(seed), [x.shape[1] for x in parts], target.width)
    first = np.concatenate([s.ravel() for s in start])
    shapes, ends = [s.shape for s in start], np.cumsum([0, *(s.size for s in start)])
    decay = np.concatenate(
        [np.full(s.size, penalty if i < len(parts) else 1.0) for i, s in enumerate(start)]
    ) / len(there)
    centre = np.zeros(len(first))
    for m in range(len(parts)):  # the last row meets no number: it is drawn to its start
        width = shapes[m][1]
        centre[ends[m + 1] - width : ends[m + 1]] = first[ends[m + 1] - width : ends[m + 1]]

    def cut(flat: Array) -> list[Array]:
        return [flat[a:b].reshape(s) for a, b, s in zip(ends, ends[1:], shapes, strict=False)]

    def loss(flat: Array) -> tuple[float, Array]:
        p, away = cut(flat), flat - centre
        forward = mixture.forward(p, X, present)
        value = float(share @ some.losses(forward[-1])) + 0.5 * float(decay @ away**2)
        g = mixture.slopes(p, X, present, forward, some.slope(forward[-1]) * share[:, None])
        return value, np.concatenate([s.ravel() for s in g]) + decay * away

    return cut(descend(loss, first, memory=10, steps=_STEPS, slope=1e-5, fall=1e-6))


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained mixture: views, parameters, the target with what leads back; or late, if that is better."""

    views: Views
    parameters: list[Array]
    target: Target
    late: LateFusion | None


def fit_mixture(mixture: Mixture, outputs: Mapping[str, Any], truth: Any, weights: Any, seed: int) -> Trained:
    """Train with the penalty that a held-out fifth of the rows chooses.

    Where a single modality's head has the lower loss there, on the rows that it answered, `late` is given.
    """
    target = target_of(outputs, truth, weights)
    views = Views({n: fit_view(n, outputs[n], target.at) for n in sorted(outputs)})
    parts, there = rows_of(views, outputs, target)
    folds = target.folds(seed)
    inside, outside = np.flatnonzero(folds != 0), np.flatnonzero(folds == 0)
    if not len(inside) or not len(outside):
        inside = outside = np.arange(len(folds))
    held_parts, held_there, held = [x[outside] for x in parts], there[outside], target.rows(outside)
    with one_thread():
        late, single, _ = late_of(views, parts, there, target, seed)
        tried = []
        for penalty in PENALTIES:
            p = train(mixture, [x[inside] for x in parts], there[inside], target.rows(inside), penalty, seed)
            scores = mixture.forward(p, held_parts, held_there)[-1]
            tried.append((float(np.average(held.losses(scores), weights=held.mass)), penalty, scores))
        _, penalty, scores = min(tried, key=lambda t: t[:2])
        if not no_worse(held, scores, single[:, outside], held_there):
            return Trained(views, [], target, late)
        return Trained(views, train(mixture, parts, there, target, penalty, seed), target, None)
