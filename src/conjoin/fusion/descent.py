"""`descend`: the minimum of a smooth convex function of many numbers, by limited-memory BFGS."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from conjoin.outputs import Array

Loss = Callable[[Array], tuple[float, Array]]
"""From x to the value there and the gradient."""


def descend(
    loss: Loss,
    start: Array,
    *,
    memory: int = 20,
    steps: int = 300,
    slope: float = 1e-7,
    fall: float = 1e-12,
) -> Array:
    """The x with the least `loss`, beginning at `start` (Liu and Nocedal 1989).

    Directions from the last `memory` steps; step lengths satisfy the weak Wolfe conditions, by bisection.
    Ends when no entry of the gradient exceeds `slope`, when a step lowers the value by less than `fall` of
    it, or after `steps`.

    >>> descend(lambda x: (float(((x - 3) ** 2).sum()), 2 * (x - 3)), np.zeros(2)).round(6)
    array([3., 3.])
    """
    x = np.asarray(start, dtype=np.float64)
    value, g = loss(x)
    pairs: deque[tuple[Array, Array, float]] = deque(maxlen=memory)
    for _ in range(steps):
        if not len(x) or float(np.abs(g).max()) <= slope:
            break
        way = _direction(g, pairs)
        down = float(way @ g)
        if not down < 0:
            pairs.clear()
            way, down = -g, -float(g @ g)
        first = 1.0 if pairs else min(1.0, 1.0 / float(np.abs(g).sum()))
        found = _search(loss, x, way, value, down, first)
        if found is None:
            break
        new, then, after = found
        s, y = new - x, after - g
        if float(s @ y) > 1e-12 * float(y @ y):
            pairs.append((s, y, 1.0 / float(s @ y)))
        fell, x, value, g = value - then, new, then, after
        if fell <= fall * max(1.0, abs(value)):
            break
    return x


def _direction(g: Array, pairs: deque[tuple[Array, Array, float]]) -> Array:
    """-H g, H the approximate inverse of the Hessian: the recursion over the last steps and back."""
    q, factors = g.copy(), []
    for s, y, rho in reversed(pairs):
        a = rho * float(s @ q)
        factors.append(a)
        q -= a * y
    if pairs:
        s, y, _ = pairs[-1]
        q *= float(s @ y) / float(y @ y)
    for (s, y, rho), a in zip(pairs, reversed(factors), strict=True):
        q += (a - rho * float(y @ q)) * s
    return np.asarray(-q)


def _search(
    loss: Loss, x: Array, way: Array, value: float, down: float, step: float
) -> tuple[Array, float, Array] | None:
    """The point after a step that falls enough and flattens enough; None where no step falls."""
    low, high = 0.0, np.inf
    best: tuple[Array, float, Array] | None = None
    for _ in range(40):
        new = x + step * way
        then, g = loss(new)
        if not then <= value + 1e-4 * step * down:
            high = step
        else:
            best = new, then, g
            if float(g @ way) >= 0.9 * down:
                return best
            low = step
        step = (low + high) / 2 if np.isfinite(high) else 2 * step
    return best
