"""Rows for the tests of conversion, and the check itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from conjoin.contracts import Column
from conjoin.graph.builder import Graph
from conjoin.graph.session import Session

N, D = 500, 6


def rows(rng: np.random.Generator) -> np.ndarray:
    """(N, D) float32: numbers with ties, a constant, two columns of codes, NaN."""
    x = rng.normal(size=(N, D)).astype(np.float32)
    x[:, 1] = np.round(x[:, 1], 1)
    x[:, 3] = 7.0
    x[:, 4] = rng.integers(0, 40, N)
    x[:, 5] = rng.integers(0, 5, N)
    x[rng.random(x.shape) < 0.1] = np.nan
    return x


def strange(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Rows never seen: infinities, negative zero, unseen codes, more NaN."""
    odd = np.array([np.nan, 0.0, -0.0, np.inf, -np.inf, 1e30, -1e-40], np.float32)
    out = np.where(rng.random(x.shape) < 0.1, rng.choice(odd, x.shape), x)
    out[:, 4] = np.where(rng.random(len(x)) < 0.2, rng.integers(-3, 70, len(x)), out[:, 4])
    return out.astype(np.float32)


def truths(rng: np.random.Generator, x: np.ndarray) -> dict[str, np.ndarray]:
    """Targets of each kind that depend on the rows."""
    effect = rng.normal(size=41)
    code = np.nan_to_num(x[:, 4], nan=40).astype(int)
    value = np.nan_to_num(x[:, 0]) + effect[code] + 0.3 * rng.normal(size=len(x))
    return {
        "binary": (value > 0).astype(int),
        "classes": np.digitize(value, [-0.5, 0.5]),
        "value": value,
        "far": value + 1000,
        "positive": np.exp(value),
    }


def answers(part: Any, x: np.ndarray, *, shares: bool) -> np.ndarray:
    """What a part answers, one input (n, 1) for each column of x."""
    graph = Graph()
    if x.dtype == np.float32:
        tensor, feeds = graph.column(Column("x", "tensor", (x.shape[1],))), {"x": x}
    else:
        names = [f"x{j}" for j in range(x.shape[1])]
        tensor = graph.concat([graph.column(Column(n, "number")) for n in names])
        feeds = {n: x[:, j : j + 1] for j, n in enumerate(names)}
    graph.output("y", part.emit(graph, tensor), 1 if shares else 11)
    return Session(graph.build().SerializeToString(), rows=graph.rows_at_once).run(feeds)[0]


def agree(part: Any, native: Any, x: np.ndarray, *, shares: bool, most: float = 1e-5) -> None:
    """The part answers as the model does: 1e-5 in probability, or in standard deviations of its answers.

    A model that sums in float32 is off itself, by a few units in the last place of its answers.
    """
    native = np.asarray(native, dtype=np.float64)
    native = native[:, None] if native.ndim == 1 else native
    if shares and native.shape[1] == 1:
        native = np.concatenate([1 - native, native], axis=1)
    found = answers(part, x, shares=shares)
    assert found.shape == native.shape
    unit = 1.0 if shares else native.std() + 5e-7 * np.abs(native).max() / most
    assert np.abs(found - native).max() <= most * unit
    assert found.std() > 0
