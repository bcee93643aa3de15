"""Dirichlet calibration and matrix scaling: every class's logarithm has a say in every class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, OutputsError
from conjoin.fusion import rules
from conjoin.fusion.calibrators import only_probabilities
from conjoin.fusion.descent import descend
from conjoin.fusion.logpool import default_floor, effective_rows
from conjoin.fusion.packing import ask, names_of, number
from conjoin.fusion.problems import class_problem
from conjoin.fusion.threads import one_thread
from conjoin.outputs import Array, Probabilities

if TYPE_CHECKING:
    from conjoin.contracts import Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Json

MOST_CLASSES = 300
"""Of more classes there are too many weights; vector scaling has two a class."""


@dataclass(frozen=True, slots=True, eq=False)
class MatrixScaling:
    """p = softmax(log(max(p, floor)) weights + intercepts). weights: (K, K), intercepts: (K,)."""

    weights: Array
    intercepts: Array
    classes: tuple[str, ...]
    floor: float

    def __call__(self, output: Probabilities, /) -> Probabilities:
        """The calibrated output."""
        p = output.align(self.classes).values.astype(np.float64)
        scores = np.log(np.maximum(p, self.floor)) @ self.weights + self.intercepts
        return Probabilities(rules.softmax(scores), self.classes, output.answered)

    def emit(self, graph: Graph, tensor: str, /) -> str:
        """Nodes of the formula."""
        logs = rules.emit_logs(graph, graph.cast(tensor, 11), self.floor)
        scores = graph.op("MatMul", logs, graph.const(self.weights, np.float64))
        scores = graph.op("Add", scores, graph.const(self.intercepts[None], np.float64))
        return graph.cast(graph.op("Softmax", scores, axis=1), 1)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Weights and intercepts."""
        arrays = {"weights": self.weights, "intercepts": self.intercepts}
        return arrays, {"classes": list(self.classes), "floor": self.floor}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        classes, floor = names_of(meta, "classes"), number(meta, "floor")
        K = len(classes)
        if not K or floor <= 0:
            raise BundleError("a packed matrix scaling needs classes and a floor above 0")
        return cls(ask(arrays, "weights", (K, K)), ask(arrays, "intercepts", (K,)), classes, floor)


def fit_matrix_scaling(output: Any, truth: Any, *, weights: Any = None) -> MatrixScaling:
    """A matrix and intercepts with the least log-loss, each drawn a little to the identity (Guo et al. 2017).

    weights: (n,) of the rows. Raises OutputsError and TruthError.
    """
    return _fitted(output, truth, weights, 1.0, 0.1)


def fit_dirichlet(
    output: Any, truth: Any, *, weights: Any = None, off_diagonal: float = 30.0, intercept: float = 3.0
) -> MatrixScaling:
    """Dirichlet calibration with penalties off the diagonal and on the intercepts (ODIR, Kull et al. 2019).

    off_diagonal, intercept: times 1 / (2 n) the squares of these; the diagonal is drawn to 1 by one row's
    worth. weights: (n,) of the rows. Raises OutputsError and TruthError.

    >>> from conjoin.outputs import Labels
    >>> sure = Probabilities([[0.1, 0.9]] * 500, "ab")
    >>> fit_dirichlet(sure, Labels([0, 1] * 250, "ab"))(sure).values[0].round(1)
    array([0.5, 0.5])
    """
    return _fitted(output, truth, weights, off_diagonal, intercept)


def _fitted(output: Any, truth: Any, weights: Any, off: float, intercept: float) -> MatrixScaling:
    rows = class_problem({"it": only_probabilities(output)}, truth, weights)
    K, codes, share = rows.stack.width, rows.codes, rows.shares
    if K > MOST_CLASSES:
        raise OutputsError(f"a matrix for {K} classes has {K * K:,} numbers; take vector scaling")
    floor = default_floor(K) / 10
    logs = np.log(np.maximum(rows.stack.parts[0].astype(np.float64), floor))
    n = effective_rows(share)
    ridge = np.full((K + 1, K), off / n)
    ridge[np.arange(K), np.arange(K)] = 1.0 / n
    ridge[K] = intercept / n
    centre = np.concatenate([np.eye(K), np.zeros((1, K))])
    at = np.arange(len(codes))

    def loss(flat: Array) -> tuple[float, Array]:
        W = flat.reshape(K + 1, K)
        scores = logs @ W[:K] + W[K]
        scores -= scores.max(axis=1, keepdims=True)
        p = np.exp(scores)
        total = p.sum(axis=1)
        value = float(share @ (np.log(total) - scores[at, codes]))
        p /= total[:, None]
        p[at, codes] -= 1.0
        p *= share[:, None]
        away = W - centre
        g = np.concatenate([logs.T @ p, p.sum(axis=0, keepdims=True)]) + ridge * away
        return value + 0.5 * float((ridge * away**2).sum()), g.ravel()

    with one_thread():
        found = descend(loss, centre.ravel(), steps=200, slope=1e-6, fall=1e-9).reshape(K + 1, K)
    return MatrixScaling(np.ascontiguousarray(found[:K]), found[K].copy(), rows.stack.classes, floor)
