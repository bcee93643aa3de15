"""Running one part on features, and what an answer of it costs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from conjoin.contracts import Column, Cost
from conjoin.graph.builder import Graph
from conjoin.graph.session import Session
from conjoin.members.portable import bytes_of
from conjoin.outputs import Array

FLOAT, DOUBLE = 1, 11
REPEATS = 15
CACHE = 4 << 20
"""Bytes that are more than the cache of one core."""


def session_of(part: Any, width: int, *, probabilities: bool, threads: int | None = None) -> Session:
    """A session whose input `x` is (n, width) float32 features, and whose output is what the part emits."""
    graph = Graph()
    graph.output(
        "y",
        part.emit(graph, graph.column(Column("x", "tensor", (width,)))),
        FLOAT if probabilities else DOUBLE,
    )
    return Session.of(graph, threads=threads)


def run_part(part: Any, x: Array, *, probabilities: bool, threads: int | None = None) -> Array:
    """What a part answers for features x (n, d) float32."""
    return session_of(part, x.shape[1], probabilities=probabilities, threads=threads).run({"x": x})[0]


def cost_of(part: Any, x: Array, *, probabilities: bool) -> Cost:
    """CPU seconds of one row alone, and the packed size.

    The time is the lower quartile of some rows, because other work on the machine disturbs. Between rows the
    processor's cache is filled with something else, as other members do.
    """
    session = session_of(part, x.shape[1], probabilities=probabilities, threads=1)
    session.run({"x": x[:1]})
    taken, other = [], np.ones(CACHE // 8)
    for k in range(REPEATS):
        row = x[k % len(x) : k % len(x) + 1]
        other += 1.0
        begin = time.thread_time()
        session.run({"x": row})
        taken.append(time.thread_time() - begin)
    return Cost(float(np.quantile(taken, 0.25)), bytes_of(part))
