"""Small worlds for the tests of fusers: members of known skill, and the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from conjoin.contracts import Column
from conjoin.graph.builder import Graph
from conjoin.graph.session import Session
from conjoin.outputs import Labels, Output, Probabilities, Quantiles, Values

NAMES = ("ash", "birch", "cedar", "elm", "fir")
KINDS = ("binary", "multiclass", "values", "quantiles")


def world(kind: str, n: int = 200, seed: int = 0, members: int = 4) -> tuple[dict[str, Any], Output]:
    """Outputs of members, the first ones better, and the truth. Probabilities are float32, as graphs give."""
    rng = np.random.default_rng(seed)
    skill = np.linspace(2.0, 0.3, members)
    if kind in ("binary", "multiclass"):
        classes = ("no", "yes") if kind == "binary" else ("a", "b", "c", "d")
        y = rng.integers(0, len(classes), n)
        outputs = {}
        for name, s in zip(NAMES, skill, strict=False):
            z = rng.normal(size=(n, len(classes)))
            z[np.arange(n), y] += s
            p = np.exp(1.5 * z) / np.exp(1.5 * z).sum(axis=1, keepdims=True)
            outputs[name] = Probabilities(p.astype(np.float32), classes)
        return outputs, Labels(y, classes)
    y = 100 + 10 * rng.normal(size=n)
    if kind == "values":
        made = {m: Values(y + rng.normal(size=n) * 12 / s) for m, s in zip(NAMES, skill, strict=False)}
        return made, Values(y)
    levels, at = (0.1, 0.5, 0.9), np.array([-1.28, 0.0, 1.28])
    return {
        m: Quantiles(0.5 * y[:, None] + 50 + rng.normal(size=(n, 1)) * 4 / s + at * 12 / s, levels)
        for m, s in zip(NAMES, skill, strict=False)
    }, Values(y)


def numbers(output: Any) -> np.ndarray:
    """(n, C) of any dense output."""
    values = np.asarray(output.values, dtype=np.float64)
    return values[:, None] if values.ndim == 1 else values


def through_onnx(fuser: Any, outputs: Mapping[str, Any]) -> np.ndarray:
    """The fuser's graph, run on these outputs."""
    graph = Graph()
    tensors, feeds = {}, {}
    for name, output in outputs.items():
        values = numbers(output)
        tensor = graph.column(Column(name, "tensor", (values.shape[1],)))
        real = isinstance(output, Probabilities)
        feeds[name] = values.astype(np.float32)
        tensors[name] = tensor if real else graph.cast(tensor, 11)
    graph.output("fused", fuser.emit(graph, tensors), 1 if real else 11)
    return Session(graph.build().SerializeToString(), threads=1).run(feeds, ["fused"])[0]


def single_precision(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs rounded to float32, as a graph with float32 inputs sees them."""
    from dataclasses import replace

    return {n: replace(o, values=o.values.astype(np.float32).astype(np.float64)) for n, o in outputs.items()}
