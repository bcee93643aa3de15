"""Scores of unlike detectors on one scale: monotone maps from a score to the chance of a true box."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from conjoin.errors import OutputsError, TruthError, nearest
from conjoin.outputs import Array, Boxes, Json

EDGE = 1e-6
"""Probabilities are cut to [1e-6, 1 - 1e-6] before a logit."""
SCALES = ("logit", "score")
SLOPE_RIDGE, SHIFT_RIDGE = 1.0, 10.0
"""Ridges of `fit_calibration`: of the slope towards 1, of each class's shift towards 0."""


def calibrated(output: Boxes, by: Mapping[str, Any], name: str = "") -> Array:
    """The scores as 1 / (1 + exp(-(slope x + intercept + shift of the class))) (Platt 1999).

    x is the logit of the score, or the score itself. by: {"of": "logit" or "score", "slope": number >= 0,
    "intercept": number, "shifts": {class: number}, which may be absent}. Within a class the order of scores
    stays. NaN stays NaN. Raises OutputsError on another map, and on scores outside 0 to 1 with "logit".

    >>> boxes = Boxes([[0, 0, 1, 1]], [0.5], [0], [0, 1], ("cat",))
    >>> calibrated(boxes, {"of": "logit", "slope": 1.0, "intercept": 0.0, "shifts": {"cat": -1.0}}).round(3)
    array([0.269])
    """
    of, slope, intercept, shifts = _checked(by, name)
    scores = output.scores
    if of == "logit" and len(scores) and (float(scores.max()) > 1 or float(scores.min()) < 0):
        raise OutputsError(
            f"member {name!r} was calibrated on scores of 0 to 1, and now they are {scores.min():.6g} to "
            f"{scores.max():.6g}"
        )
    z = slope * scale_of(scores, of) + intercept
    if shifts:
        z = z + np.array([float(shifts.get(c, 0.0)) for c in output.classes])[output.codes]
    return cast(Array, 1.0 / (1.0 + np.exp(-np.clip(z, -700, 700))))


def fit_calibration(
    output: Boxes, truth: Boxes, *, weights: Any = None, level: float = 0.5, least: int = 10
) -> dict[str, Json]:
    """A map for `calibrated`: logistic regression of whether a box is right on its score, with ridges.

    A box is right where it is the best of its row and class that overlaps a true box by `level`. weights:
    (n,) of rows. least: a class gets a shift of its own where at least that many boxes in it are right; its
    ridge pulls it to 0. The slope is pulled to 1 and never negative. Raises OutputsError, TruthError.

    >>> truth = Boxes([[0, 0, 9, 9]], [1.0], [0], [0, 1], ("cat",))
    >>> found = Boxes([[0, 0, 9, 8]], [0.3], [0], [0, 1], ("cat",))
    >>> fit_calibration(found, truth)["of"]
    'logit'
    """
    from conjoin.scores.boxes import hits

    flags = hits(output, truth, level=level)
    mass = _mass(output, weights)
    kept = (flags >= 0) & (mass > 0)
    of = "logit" if _inside(output.scores) else "score"
    if not kept.any():
        return {"of": of, "slope": 1.0, "intercept": 0.0, "shifts": {}}
    right, codes = (flags[kept] == 1).astype(np.float64), output.codes[kept]
    large = np.flatnonzero(np.bincount(codes, right, minlength=len(output.classes)) >= least)
    x = scale_of(output.scores[kept], of)
    X = np.column_stack([x, np.ones(len(x)), codes[:, None] == large])
    ridges = np.array([SLOPE_RIDGE, 1e-3, *[SHIFT_RIDGE] * len(large)])
    centre = np.zeros(len(ridges))
    centre[0] = 1.0
    found = logistic(X, right, mass[kept], ridges, centre)
    shifts: dict[str, Json] = {output.classes[k]: float(v) for k, v in zip(large, found[2:], strict=True)}
    return {"of": of, "slope": max(float(found[0]), 0.0), "intercept": float(found[1]), "shifts": shifts}


def scale_of(scores: Array, of: str) -> Array:
    """The logit of the scores, or the scores."""
    if of == "score":
        return scores
    p = np.clip(scores, EDGE, 1 - EDGE)
    return cast(Array, np.log(p / (1 - p)))


def logistic(X: Array, y: Array, mass: Array, ridges: Array, centre: Array) -> Array:
    """The coefficients b that minimise sum mass log-loss(y, X b) + sum ridges (b - centre)^2 / 2.

    X (n, P), y (n,) of 0 to 1, mass (n,), ridges > 0 and centre (P,). Newton's method, its steps halved until
    they are downhill.
    """

    def loss(b: Array) -> float:
        z = X @ b
        return float(mass @ (np.logaddexp(0, z) - y * z) + ridges @ (b - centre) ** 2 / 2)

    b, now = centre, loss(centre)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(X @ b, -700, 700)))
        slope = X.T @ (mass * (p - y)) + ridges * (b - centre)
        curve = (X * (mass * p * (1 - p))[:, None]).T @ X + np.diag(ridges)
        step = np.linalg.solve(curve, slope)
        for _ in range(40):
            moved = loss(b - step)
            if moved <= now:
                break
            step = step / 2
        if now - moved < 1e-10 * (1 + abs(now)):
            break
        b, now = b - step, moved
    return b


def checked_truth(outputs: Mapping[str, Boxes], truth: Any) -> Boxes:
    """The truth as boxes with the outputs' rows. Raises TruthError, also where it has no object."""
    if not isinstance(truth, Boxes):
        raise TruthError(
            f"boxes are fitted to a truth of boxes, not {getattr(truth, 'kind', type(truth).__name__)}"
        )
    n = len(next(iter(outputs.values())))
    if len(truth) != n:
        raise TruthError(f"the members answered {n} rows, the truth has {len(truth)}")
    known = {c for o in outputs.values() for c in o.classes}
    strange = [c for c in truth.classes if c not in known]
    if len(strange) == len(truth.classes):
        hint = nearest(strange[0], known) if strange else ""
        raise TruthError(f"no member knows any class of the truth: {strange[:5]}{hint}")
    if not bool((truth.scores > 0).any()):
        raise TruthError("the truth has no object (a box with a score above 0) to learn from")
    return truth


def row_mass(weights: Any, n: int) -> Array:
    """(n,) weights of rows. Raises OutputsError where they are not n, finite and >= 0."""
    if weights is None:
        return np.ones(n)
    mass = np.asarray(weights, np.float64)
    if mass.shape != (n,) or not bool(np.isfinite(mass).all()) or bool((mass < 0).any()):
        raise OutputsError(f"weights of rows must be {n} finite numbers >= 0")
    return mass


def _mass(output: Boxes, weights: Any) -> Array:
    return np.repeat(row_mass(weights, len(output)), np.diff(output.offsets))


def _inside(scores: Sequence[float] | Array) -> bool:
    values = np.asarray(scores)
    return not len(values) or (float(values.min()) >= 0 and float(values.max()) <= 1)


def _checked(by: Any, name: str) -> tuple[str, float, float, Mapping[str, float]]:
    if isinstance(by, Mapping) and set(by) | {"shifts"} == {"of", "slope", "intercept", "shifts"}:
        of, slope, intercept, shifts = by["of"], by["slope"], by["intercept"], by.get("shifts") or {}
        numbers = [slope, intercept, *(shifts.values() if isinstance(shifts, Mapping) else [None])]
        if (
            of in SCALES
            and all(isinstance(v, int | float) and math.isfinite(v) for v in numbers)
            and slope >= 0
        ):
            return str(of), float(slope), float(intercept), shifts
    raise OutputsError(
        f"calibration of {name!r} must hold of ('logit' or 'score'), slope (>= 0), intercept and perhaps "
        f"shifts ({{class: number}}), not {by!r:.200}"
    )
