"""Fitting calibrators, with guards, and fusers that calibrate before and after they fuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.fusion import loglinear
from conjoin.fusion.calibrators import (
    EDGE,
    Calibrator,
    Isotonic,
    Sigmoid,
    Temperature,
    VectorScaling,
    only_probabilities,
)
from conjoin.fusion.folds import folds_of
from conjoin.fusion.isotonic import rising
from conjoin.fusion.logpool import default_floor, effective_rows
from conjoin.fusion.packing import child, names_of
from conjoin.fusion.problems import ClassProblem, class_problem
from conjoin.fusion.threads import one_thread
from conjoin.outputs import Array, Probabilities
from conjoin.scores import SCORES

if TYPE_CHECKING:
    from conjoin.contracts import Batch, FitFuser, Fuser, Storable
    from conjoin.fusion.stack import Dense
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Json
    from conjoin.scores import Score

FitCalibrator = Callable[..., Calibrator]
"""(output, truth, *, weights=None) -> a calibrator."""

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures lie between these."""
SMOOTHINGS = (0.0, 1e-4, 1e-3, 1e-2, 0.05)
KNOTS = 200
"""An isotonic function is thinned to at most this many knots."""
_CELLS = 200_000  # probabilities that a temperature is fitted to at most


def fit_temperature(
    output: Any, truth: Any, *, weights: Any = None, smoothing: float | None = None
) -> Temperature:
    """The temperature, and the share of smoothing, with the least log-loss.

    The temperature is held to [0.05, 20] and drawn to 1 by one row's worth. smoothing: the share of the
    uniform distribution mixed in first; None tries 0, 1e-4, 1e-3, 1e-2 and 0.05.
    Raises OutputsError and TruthError.
    """
    rows = _problem(output, truth, weights)
    step = -(-rows.stack.rows * rows.stack.width // _CELLS)
    if step > 1:
        rows = rows.rows(np.arange(0, rows.stack.rows, step))
    p = rows.stack.parts[0].astype(np.float64)
    best = (np.inf, 1.0, 0.0)
    for share in SMOOTHINGS if smoothing is None else (smoothing,):
        logs = np.log(np.maximum((1 - share) * p + share / p.shape[1], 1e-12))[None]
        beta, loss = _slope(logs, rows)
        if loss < best[0] - 1e-9:
            best = (loss, 1 / beta, share)
    return Temperature(best[1], best[2])


def _slope(logs: Array, rows: ClassProblem) -> tuple[float, float]:
    """1 / temperature and its loss."""
    features = loglinear.relative(logs, rows.codes, rows.shares)
    one, penalty = np.ones(1), np.array([1.0 / effective_rows(rows.shares)])
    found = loglinear.fit(features, centre=one, penalty=penalty, signed=False)
    beta = float(np.clip(found.theta[0], 1 / HOTTEST, 1 / COLDEST))
    if beta == found.theta[0]:
        return beta, found.loss
    return beta, loglinear.loss_at(features, one * beta)


def fit_vector_scaling(output: Any, truth: Any, *, weights: Any = None) -> VectorScaling:
    """A slope and an intercept per class with the least log-loss, drawn to 1 and 0.

    Raises OutputsError and TruthError.
    """
    from conjoin.fusion.columns import fit_class_weights

    rows = _problem(output, truth, weights)
    given = {"it": rows.stack.output(rows.stack.parts[0])}
    floor = default_floor(rows.stack.width) / 10
    found = fit_class_weights(given, rows.truth, weights=rows.shares, penalty=3.0, floor=floor)
    return VectorScaling(found.weights[0], found.intercepts, rows.stack.classes, floor)


def fit_platt(output: Any, truth: Any, *, weights: Any = None) -> Sigmoid:
    """Platt scaling of each class against the rest: one slope of the logit, not negative, and an offset.

    Drawn to the identity by one row's worth. Raises OutputsError and TruthError.
    """
    return _sigmoids(_problem(output, truth, weights), both=False)


def fit_beta(output: Any, truth: Any, *, weights: Any = None) -> Sigmoid:
    """Beta calibration of each class against the rest: slopes of ln p and of -ln(1 - p), and an offset.

    Drawn to the identity by one row's worth. Raises OutputsError and TruthError.
    """
    return _sigmoids(_problem(output, truth, weights), both=True)


def _sigmoids(rows: ClassProblem, *, both: bool) -> Sigmoid:
    p = np.clip(rows.stack.parts[0].astype(np.float64), EDGE, 1 - EDGE)
    width = p.shape[1]
    a, b, c = np.ones(width), np.ones(width), np.zeros(width)
    share = 1.0 / effective_rows(rows.shares)
    for k in [1] if width == 2 else range(width):
        hit = (rows.codes == k).astype(np.int64)
        sides = np.log(p[:, k]), -np.log(1 - p[:, k])
        F = np.stack([np.stack([np.zeros(len(p)), s], axis=1) for s in (sides if both else [sum(sides)])])
        found = loglinear.fit(
            loglinear.relative(F, hit, rows.shares),
            centre=np.ones(len(F)),
            penalty=np.full(len(F), share),
            signed=False,
            intercept_penalty=0.1 * share,
        )
        a[k], b[k] = found.theta[0], found.theta[-1]
        c[k] = found.intercepts[1] - found.intercepts[0]
    return Sigmoid(a, b, c, rows.stack.classes)


def fit_isotonic(output: Any, truth: Any, *, weights: Any = None) -> Isotonic:
    """Isotonic regression of each class against the rest (pool adjacent violators), at most 200 knots.

    Heights are drawn to the class's share by one row's worth, so that they are never 0 or 1.
    Raises OutputsError and TruthError.
    """
    rows = _problem(output, truth, weights)
    found = [_rising(rows, k) for k in range(rows.stack.width)]
    most = max(len(x) for x, _ in found)
    knots = np.array([np.pad(x, (0, most - len(x)), mode="edge") for x, _ in found])
    heights = np.array([np.pad(y, (0, most - len(y)), mode="edge") for _, y in found])
    return Isotonic(knots, heights, rows.stack.classes)


def _rising(rows: ClassProblem, k: int) -> tuple[Array, Array]:
    """Knots and heights of one class."""
    x, group = np.unique(rows.stack.parts[0][:, k].astype(np.float64), return_inverse=True)
    mass = np.bincount(group, rows.shares)
    hits = np.bincount(group, rows.shares * (rows.codes == k))
    share = 1.0 / effective_rows(rows.shares)
    y = rising(hits / mass, mass)
    starts = np.flatnonzero(np.diff(y, prepend=-1.0))
    ends = np.append(starts[1:], len(y)) - 1
    block = np.add.reduceat(mass, starts)
    height = (y[starts] * block + float(hits.sum()) * share) / (block + share)
    height = np.maximum.accumulate(height)
    at = np.stack([starts, ends], axis=1).reshape(-1)
    knots, heights = x[at], np.repeat(height, 2)
    first = np.concatenate([[True], np.diff(knots) > 0])
    knots, heights = knots[first], heights[first]
    if len(knots) > KNOTS:
        thin = np.linspace(0, len(knots) - 1, KNOTS).round().astype(np.int64)
        knots, heights = knots[thin], heights[thin]
    return knots, heights


def _problem(output: Any, truth: Any, weights: Any) -> ClassProblem:
    return class_problem({"it": only_probabilities(output)}, truth, weights)


def fit_guarded(
    fit: FitCalibrator, output: Any, truth: Any, *, weights: Any = None, seed: int = 0
) -> Calibrator | None:
    """The calibrator, unless it makes the log-loss of held-out rows worse (5 folds): then None.

    With fewer than 50 rows always None.
    """
    rows = _problem(output, truth, weights)
    if rows.stack.rows < 50:
        return None
    gain = 0.0
    for fit_at, test_at in folds_of(rows, 5, seed):
        inside, test = rows.rows(fit_at), rows.rows(test_at)
        before = test.stack.output(test.stack.parts[0])
        made = fit(inside.stack.output(inside.stack.parts[0]), inside.truth, weights=inside.shares)
        losses = [SCORES["log_loss"].loss(o, test.truth, test.shares) for o in (before, made(_p(before)))]
        gain += float(rows.shares[test_at].sum()) * (losses[0] - losses[1])
    return fit(output, truth, weights=weights) if gain > 0 else None


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """A fuser with calibrators before (by member name) and after it (or None)."""

    fuser: Any
    before: Mapping[str, Calibrator]
    after: Calibrator | None

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members it knows."""
        return tuple(self.fuser.members)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members whose output matters."""
        return tuple(self.fuser.needs)

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Dense:
        """Calibrate, fuse, calibrate."""
        fused = self.fuser(_applied(self.before, outputs), batch=batch)
        return fused if self.after is None else self.after(fused)

    def emit(self, graph: Graph, outputs: Mapping[str, str], /) -> str:
        """Nodes of all three."""
        needed = set(self.needs)
        tensors = {
            n: self.before[n].emit(graph, t) if n in self.before and n in needed else t
            for n, t in outputs.items()
        }
        fused = str(self.fuser.emit(graph, tensors))
        return fused if self.after is None else self.after.emit(graph, fused)

    def children(self) -> Mapping[str, Storable]:
        """The fuser and the calibrators."""
        parts: dict[str, Any] = {"fuser": self.fuser}
        parts |= {f"before.{i}": c for i, c in enumerate(self.before.values())}
        return parts if self.after is None else {**parts, "after": self.after}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Names of the members that are calibrated."""
        return {}, {"before": list(self.before)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names = names_of(meta, "before")
        before = {n: child(children, f"before.{i}") for i, n in enumerate(names)}
        return cls(child(children, "fuser"), before, children.get("after"))


def _applied(before: Mapping[str, Calibrator], outputs: Mapping[str, Any]) -> dict[str, Any]:
    return {n: before[n](_p(o)) if n in before else o for n, o in outputs.items()}


def _p(output: Any) -> Probabilities:
    return only_probabilities(output)


def calibrated(
    fit: FitFuser, *, before: FitCalibrator | None = None, after: FitCalibrator | None = None
) -> FitFuser:
    """A fit function that calibrates each member before, and the fused answer after, where that helps.

    Each calibrator is guarded: it is left out where it makes the log-loss of held-out rows worse. `after` is
    fitted to answers for rows that the fuser was not fitted to (5 folds).

    >>> from conjoin.fusion.logpool import fit_log_pool
    >>> fit = calibrated(fit_log_pool, before=fit_temperature)
    """

    def fit_calibrated(
        outputs: Mapping[str, Any],
        truth: Any,
        *,
        weights: Any = None,
        score: Score | None = None,
        seed: int = 0,
        **more: Any,
    ) -> Calibrated:
        with one_thread():
            made, used = _before(before, outputs, truth, weights, seed)
            fuser: Any = fit(used, truth, weights=weights, score=score, seed=seed, **more)
            if after is None:
                return Calibrated(fuser, made, None)
            rows = class_problem(used, truth, weights)
            held = _held_out(fit, rows, score, seed, more)
            return Calibrated(
                fuser, made, fit_guarded(after, held, rows.truth, weights=rows.shares, seed=seed)
            )

    return fit_calibrated


def _before(
    fit: FitCalibrator | None, outputs: Mapping[str, Any], truth: Any, weights: Any, seed: int
) -> tuple[dict[str, Calibrator], dict[str, Any]]:
    if fit is None:
        return {}, dict(outputs)
    found = {n: fit_guarded(fit, o, truth, weights=weights, seed=seed) for n, o in sorted(outputs.items())}
    made = {n: c for n, c in found.items() if c is not None}
    return made, _applied(made, outputs)


def _held_out(fit: FitFuser, rows: ClassProblem, score: Any, seed: int, more: Any) -> Dense:
    """Answers of fusers that were fitted to other rows."""
    out = np.empty((rows.stack.rows, rows.stack.width))
    for fit_at, test_at in folds_of(rows, 5, seed):
        inside, test = rows.rows(fit_at), rows.rows(test_at)
        given = inside.stack.outputs()
        fuser: Fuser = fit(given, inside.truth, weights=inside.shares, score=score, seed=seed, **more)
        out[test_at] = fuser(test.stack.outputs()).values
    return rows.stack.output(out)
