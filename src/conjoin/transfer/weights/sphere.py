"""Merging on spheres, and model stock: coefficients from inner products (see `gram`)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError
from conjoin.transfer.weights.gram import combine

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.transfer.weights.method import Given

PARALLEL = 0.9995
"""slerp interpolates linearly where the cosine is beyond it."""


def slerp(given: Given) -> None:
    """sin((1 - t) O) / sin O theta_0 + sin(t O) / sin O theta_1, O the angle between them (Shoemake 1985).

    theta_0 is the base, theta_1 the model. Linear where |cos O| > 0.9995.
    """
    t = float(given.shared["t"])
    both = dataclasses.replace(given, tensors=(given.start, *given.tensors), base=None)
    combine(both, lambda g: arc(g, t, parallel=PARALLEL), deltas=False)


def nuslerp(given: Given) -> None:
    """slerp by t = w_1 / (w_0 + w_1), of the models or of their task vectors where there is a base.

    Of the whole tensor where `nuslerp_flatten`, else of each row, or of each column where `nuslerp_row_wise`.
    """
    first, second = given.each["weight"]
    total = first + second
    t = 0.5 if abs(total) < 1e-6 else second / total
    rows = (
        None if given.shared["nuslerp_flatten"] else "first" if given.shared["nuslerp_row_wise"] else "last"
    )
    combine(given, lambda g: arc(g, t, parallel=1.0), deltas=given.base is not None, rows=rows)


def arc(gram: Array, t: float, *, parallel: float) -> Array:
    """(2,) coefficients of spherical interpolation between two vectors with this Gram matrix (2, 2).

    >>> arc(np.eye(2), 0.5, parallel=0.9995).round(4)
    array([0.7071, 0.7071])
    """
    norms = np.sqrt(np.diag(gram))
    norms = np.where(norms > 1e-8, norms, 1.0)
    cosine = float(np.clip(gram[0, 1] / (norms[0] * norms[1]), -1, 1))
    if abs(cosine) >= parallel:
        return np.array([1 - t, t])
    angle = np.arccos(cosine)
    return np.asarray(np.array([np.sin((1 - t) * angle), np.sin(t * angle)]) / np.sin(angle))


def multislerp(given: Given) -> None:
    """Barycentric interpolation on the sphere: log map at the weighted mean direction, weighted sum, exp map.

    The length is the weighted mean of the lengths. Raises InputError where the mean direction is 0.
    """
    deltas = given.base is not None
    if len(given.tensors) == 1:
        combine(given, lambda g: np.ones(1), deltas=deltas)
        return
    weights = np.array(given.each["weight"], dtype=np.float64)
    if given.shared["normalize_weights"]:
        if weights.sum() == 0:
            raise InputError(f"{given.name}: the weights of multislerp sum to 0")
        weights = weights / weights.sum()
    eps = float(given.shared["eps"])
    combine(given, lambda g: _barycentre(g, weights, eps, given.name), deltas=deltas)


def _barycentre(gram: Array, weights: Array, eps: float, name: str) -> Array:
    norms = np.sqrt(np.diag(gram))
    units = gram / np.outer(norms + eps, norms + eps)  # inner products of the unit vectors
    size = _length(weights, units)
    if size < eps:
        if len(weights) == 2 or not norms.any():  # nothing moved
            return weights
        raise InputError(f"{name}: the directions of the models cancel out; change the weights of multislerp")
    mean = weights / size  # the mean direction, in terms of the unit vectors
    dots = units @ mean
    tangent = weights - float(weights @ dots) * mean
    length = _length(tangent, units) + eps
    on_sphere = mean * np.cos(length) + tangent * (np.sin(length) / length)
    return np.asarray(on_sphere * float(norms @ weights) / (norms + eps))


def karcher(given: Given) -> None:
    """The Riemannian mean of the directions with equal weights, times the mean length (Karcher 1977).

    At most `max_iter` steps, until a step is shorter than `tol`.
    """
    turns, tol = int(given.shared["max_iter"]), float(given.shared["tol"])
    combine(given, lambda g: _karcher(g, turns, tol), deltas=False)


def _karcher(gram: Array, turns: int, tol: float) -> Array:
    norms = np.sqrt(np.diag(gram))
    there = norms > tol
    if len(norms) == 1:
        return np.ones(1)
    if not there.any():
        return np.zeros(len(norms))
    each = np.where(there, norms, 1.0)
    units = np.where(np.outer(there, there), gram / np.outer(each, each), 0.0)
    weights = there / there.sum()
    mean = weights.copy()
    size = _length(mean, units)
    mean = mean / size if size >= tol else np.eye(len(norms))[int(np.argmax(there))]
    for _ in range(turns):
        dots = np.clip(units @ mean, -1, 1)
        angles = np.arccos(dots)
        pull = np.where(
            there & (angles >= tol), weights * angles / np.where(angles >= tol, np.sin(angles), 1), 0.0
        )
        tangent = pull - float(pull @ dots) * mean
        length = _length(tangent, units)
        if length < tol:
            break
        mean = np.cos(length) * mean + np.sin(length) * tangent / length
        size = _length(mean, units)
        mean = mean / size if size > tol else mean
    return np.asarray(mean * float(norms.mean()) / each)


def model_stock(given: Given) -> None:
    """theta_0 + t (mean theta - theta_0), t = k cos / (1 + (k - 1) cos), cos the mean cosine between task
    vectors (Jang et al. 2024). Of each row where `filter_wise`.
    """
    rows = "last" if given.shared["filter_wise"] else None
    combine(given, _stock, deltas=True, rows=rows)


def _stock(gram: Array) -> Array:
    k = len(gram)
    norms = np.sqrt(np.diag(gram))
    above = np.triu_indices(k, 1)
    products = np.maximum(np.outer(norms, norms)[above], 1e-6)
    cosine = float(np.clip(gram[above] / products, -1, 1).mean())
    below = 1 + (k - 1) * cosine
    t = 0.0 if abs(below) < 1e-6 else k * cosine / below
    return np.full(k, t / k)


def _length(coefficients: Array, gram: Array) -> float:
    """The length of the combination of vectors with this Gram matrix."""
    return float(np.sqrt(max(0.0, float(coefficients @ gram @ coefficients))))
