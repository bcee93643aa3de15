"""Linear and logistic models with a ridge penalty, chosen on the held-out rows of all folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from conjoin.graph.linear import Linear
from conjoin.outputs import Array
from conjoin.train.budget import Clock
from conjoin.train.learners.base import Fitted, OutOfTimeError, Settings, pooled
from conjoin.train.problem import Problem

PENALTIES = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4, 1e-5)
"""Half of each, times the sum of squared coefficients, is added to the mean loss of a row. Strong first."""
STEPS = 30
"""L-BFGS steps at each penalty, from the solution at the stronger one before it."""
NEWTON = 600
"""Up to so many dense features a logistic model of two classes is solved by Newton's method."""
SMOOTH = 0.05
"""Half width of the parabola that rounds the corner of the pinball loss, in deviations of the target."""

Path = list[Array]
"""(e + 1, K) coefficients, the intercept last, at each penalty."""
Loss = Callable[[Array], tuple[float, Array]]
"""Scores (m, K) -> the sum of weighted losses, and its slope (m, K)."""


def fit(
    problem: Problem, settings: Settings, *, seed: int, clock: Clock, record: Mapping[str, Any] | None
) -> Fitted:
    """One path of penalties for each fold; the best penalty on all held-out rows; mean coefficients."""
    time = clock if record is None else Clock.endless()
    count = len(PENALTIES) if record is None else int(record["penalty"]) + 1
    paths = list(problem.engine.map(lambda s: _path(problem, s[0], PENALTIES[:count], time), problem.splits))
    reached = min(len(p) for p in paths)
    if not reached:
        raise OutOfTimeError("no penalty was solved in the time left")
    tried = range(reached) if record is None else [reached - 1]
    answers = {k: pooled(problem, _held_out(problem, [p[k] for p in paths])) for k in tried}
    losses = {k: problem.loss(a) for k, a in answers.items()}
    best = min(losses, key=lambda k: losses[k])
    model = Linear.mean([_part(problem, p[best]) for p in paths])
    return Fitted(model, answers[best], {"penalty": best})


def _held_out(problem: Problem, solved: Sequence[Array]) -> list[Array]:
    out = []
    for w, (_, held) in zip(solved, problem.splits, strict=True):
        scores = _scores(problem.dense[held], w).astype(np.float64)
        out.append(_answers(problem, scores))
    return out


def _answers(problem: Problem, scores: Array) -> Array:
    if problem.task == "binary":
        p = 1 / (1 + np.exp(-np.clip(scores[:, 0], -60, 60)))
        return np.stack([1 - p, p], axis=1)
    if problem.task == "multiclass":
        grown = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(grown / grown.sum(axis=1, keepdims=True))
    return np.sort(scores * problem.scale + problem.shift, axis=1)


def _part(problem: Problem, w: Array) -> Linear:
    links = {"binary": "sigmoid", "multiclass": "softmax", "regression": "values", "quantile": "rising"}
    scale, shift = (1.0, 0.0) if problem.truth.classes else (problem.scale, problem.shift)
    w = w.astype(np.float32)
    return Linear(w[:-1], w[-1], links[problem.task], scale, shift)  # type: ignore[arg-type]  # one of its links


def _path(problem: Problem, rows: Array, penalties: Sequence[float], clock: Clock) -> Path:
    x = problem.dense[rows]
    mass = np.ones(len(rows)) if problem.weights is None else problem.weights[rows]
    mass = mass / mass.sum()
    if problem.task == "regression" and x.shape[1] <= 1500:
        return [] if clock.over() else _ridge(x, problem.y[rows], mass, penalties)
    loss, start = _loss(problem, rows, mass), _start(problem, rows, mass)
    if problem.task == "binary" and x.shape[1] <= NEWTON:
        return _newton(x, loss, mass, start, penalties, clock)
    return _descend(x, loss, start, penalties, clock)


def _ridge(x: Array, y: Array, mass: Array, penalties: Sequence[float]) -> Path:
    """Exact solutions for all penalties from one decomposition."""
    e = x.shape[1]
    gram, right, mean = np.zeros((e, e)), np.zeros(e), mass @ x
    target = float(mass @ y)
    for a in range(0, len(x), 8192):
        part = x[a : a + 8192].astype(np.float64) - mean
        weighted = part * mass[a : a + 8192, None]
        gram += weighted.T @ part
        right += weighted.T @ (y[a : a + 8192] - target)
    values, vectors = np.linalg.eigh(gram)
    turned = vectors.T @ right
    path = []
    for penalty in penalties:
        w = vectors @ (turned / (np.maximum(values, 0) + penalty))
        path.append(np.append(w, target - mean @ w)[:, None])
    return path


def _newton(
    x: Array, loss: Loss, mass: Array, start: Array, penalties: Sequence[float], clock: Clock
) -> Path:
    """Newton's method with halved steps, from strong to weak penalties, for one score a row."""
    wide = np.hstack([x, np.ones((len(x), 1), np.float32)])
    path: Path = []
    w = start[:, 0].copy()
    for penalty in penalties:
        ridge = np.append(np.full(x.shape[1], penalty), 1e-9)
        value, slope = loss((wide @ w)[:, None])
        value += float(ridge @ w**2) / 2
        for _ in range(STEPS):
            if clock.over():
                return path
            p = np.clip(np.abs(slope[:, 0]) / mass, 1e-6, 1 - 1e-6)  # of the class that is not the row's
            bend = (mass * p * (1 - p)).astype(np.float32)[:, None]
            curve = (wide * bend).T @ wide + np.diag(ridge)
            gradient = wide.T @ slope[:, 0] + ridge * w
            step = np.linalg.solve(curve.astype(np.float64), gradient)
            for half in range(20):
                trial = w - step * 0.5**half
                tried, tried_slope = loss((wide @ trial)[:, None])
                tried += float(ridge @ trial**2) / 2
                if tried <= value:
                    break
            gain = value - tried
            if gain <= 0:
                break
            w, value, slope = trial, tried, tried_slope
            if gain < 1e-9:
                break
        path.append(w[:, None].copy())
    return path


def _start(problem: Problem, rows: Array, mass: Array) -> Array:
    """The best intercepts alone."""
    w = np.zeros((problem.dense.shape[1] + 1, 1 if problem.task == "binary" else problem.width))
    y = problem.y[rows]
    if problem.truth.classes:
        share = np.bincount(y, weights=mass, minlength=problem.width) + 1e-6
        logs = np.log(share / share.sum())
        w[-1] = logs[1] - logs[0] if problem.task == "binary" else logs
    else:
        w[-1] = np.quantile(y, problem.truth.levels or (0.5,))
    return w


def _loss(problem: Problem, rows: Array, mass: Array) -> Loss:
    y = problem.y[rows]
    if problem.task == "binary":
        sign = np.where(y == 1, 1.0, -1.0)

        def logistic(scores: Array) -> tuple[float, Array]:
            margin = sign * scores[:, 0]  # slope / mass is the probability of the other class
            slope = -sign * mass / (1 + np.exp(np.clip(margin, -60, 60)))
            return float(mass @ np.logaddexp(0, -margin)), slope[:, None]

        return logistic
    if problem.task == "multiclass":

        def softmax(scores: Array) -> tuple[float, Array]:
            top = scores.max(axis=1, keepdims=True)
            grown = np.exp(scores - top)
            total = grown.sum(axis=1, keepdims=True)
            true = scores[np.arange(len(y)), y]
            slope = grown / total
            slope[np.arange(len(y)), y] -= 1
            return float(mass @ (np.log(total) + top)[:, 0] - mass @ true), slope * mass[:, None]

        return softmax
    levels = np.array(problem.truth.levels) if problem.truth.levels else None

    def numbers(scores: Array) -> tuple[float, Array]:
        apart = y[:, None] - scores
        if levels is None:
            return float(mass @ apart[:, 0] ** 2) / 2, -apart * mass[:, None]
        near = np.clip(apart / SMOOTH, -1, 1)
        rounded = np.where(np.abs(apart) < SMOOTH, SMOOTH * (near**2 + 1) / 2, np.abs(apart))
        value = rounded / 2 + (levels - 0.5) * apart
        return float((mass @ value).sum()), -(near / 2 + levels - 0.5) * mass[:, None]

    return numbers


def _descend(x: Array, loss: Loss, start: Array, penalties: Sequence[float], clock: Clock) -> Path:
    """L-BFGS from strong to weak penalties; a penalty that the clock cuts off is left out."""
    from scipy.optimize import minimize

    shape = start.shape

    def aim(flat: Array, penalty: float) -> tuple[float, Array]:
        w = flat.reshape(shape)
        value, slope = loss(_scores(x, w).astype(np.float64))
        gradient = np.empty(shape)
        gradient[:-1] = x.T @ slope.astype(np.float32) + penalty * w[:-1]
        gradient[-1] = slope.sum(axis=0)
        return value + penalty / 2 * float((w[:-1] ** 2).sum()), gradient.ravel()

    def watch(intermediate_result: Any) -> None:
        if clock.over():
            raise StopIteration

    path: Path = []
    flat = start.ravel()
    for penalty in penalties:
        if clock.over():
            break
        options = {"maxiter": STEPS, "ftol": 1e-9, "gtol": 1e-6}
        found = minimize(
            aim, flat, args=(penalty,), jac=True, method="L-BFGS-B", callback=watch, options=options
        )
        if clock.over():
            break
        flat = found.x
        path.append(flat.reshape(shape).copy())
    return path


def _scores(x: Array, w: Array) -> Array:
    return np.asarray(x @ w[:-1].astype(np.float32) + w[-1].astype(np.float32))


def seconds(problem: Problem, settings: Settings) -> float:
    """CPU seconds of all folds: two products with the rows at each step."""
    n, e = problem.dense.shape
    k = len(problem.splits)
    if problem.task == "regression":
        return float(k * n * e * e * 1e-10)
    steps = 0.5 * STEPS * len(PENALTIES)
    return float(k * steps * (n * (e * problem.width * 1e-9 + problem.width * 4e-8) + 5e-4))


def memory(problem: Problem, settings: Settings) -> float:
    """Bytes: a copy of the rows on each thread, scores and slopes."""
    n, e = problem.dense.shape
    return float(problem.engine.count * n * (4.0 * e + 40.0 * problem.width) + 16.0 * e * e)
