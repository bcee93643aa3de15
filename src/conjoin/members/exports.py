"""ONNX forms of wrapped estimators: our own for trees and linear models, skl2onnx for what stands before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import NotExportableError, need

if TYPE_CHECKING:
    from conjoin.contracts import Card, Column
    from conjoin.graph.builder import Graph

FLOAT, DOUBLE = 1, 11


def emit_estimator(model: Any, card: Card, graph: Graph) -> str:
    """Add a fitted estimator of any of the wrapped libraries to the graph.

    Trees and linear models have a form of our own, which takes the same branches as the model; steps of
    a pipeline before them, and estimators of scikit-learn without such a form, go through skl2onnx.
    Raises NotExportableError.
    """
    if card.kind not in ("probabilities", "values", "quantiles"):
        raise NotExportableError(f"member {card.name!r} answers {card.kind}, which has no ONNX form")
    before, model = _split(model)
    tensors = [_shown(graph, c) for c in card.columns]
    if before is not None:
        x = _through(before, tensors, card.columns, graph)
    elif any(c.type in ("category", "text") for c in card.columns):
        return _through(model, tensors, card.columns, graph, card=card)
    else:
        x = graph.concat(tensors)
    raise NotImplementedError(x)


def _shown(graph: Graph, column: Column) -> str:
    tensor = graph.column(column)
    return tensor if column.type in ("category", "text") else graph.cast(tensor, FLOAT)


def _split(model: Any) -> tuple[Any, Any]:
    """A pipeline's steps before the last, None where there are none, and the last."""
    return None, model


def _through(*a: Any, **k: Any) -> str:
    need("skl2onnx")
    raise NotImplementedError
