"""Additive ensembles of decision trees: forests and boosted trees of every library in one compact record.

All nodes of all trees lie in preorder (a node, its left branch, its right branch), so one bit per node, "is a
leaf", says the whole shape. A row takes the left branch where `x <= threshold`, in float32. The other
comparisons come down to this one: `x < t` is `x <= t'` with t' the next float32 below t, and a float64
threshold is rounded down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np

from conjoin.errors import BundleError, InputError

if TYPE_CHECKING:
    from conjoin.contracts import Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json

Link = Literal["values", "sigmoid", "softmax", "shares", "complement"]
"""What is done with the K sums of leaves.

values: `* scale + shift`, double (n, K). sigmoid: one score z to [sigmoid(-z), sigmoid(z)]. softmax: K scores
to K probabilities. shares: the sums are probabilities already. complement: one sum p to [1 - p, p].
"""
LINKS: tuple[str, ...] = ("values", "sigmoid", "softmax", "shares", "complement")


def _empty(*shape: int) -> Any:
    return field(default_factory=lambda: np.zeros(shape, dtype=np.uint16))


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """N nodes (I inner ones, L leaves) of T trees over `n_features` float32 features; K sums.

    leaf: (N,) bool, in preorder. feature: (I,) uint16. threshold: (I,) float32, left where x <= threshold.
    missing_left: (I,) bool, where NaN goes. codes: (L,) rows of `values`. values: (U, W) float32, what a leaf
    adds: W = 1 number to the sum that `target` (T,) names, or W = K numbers. weight: (T,) float64.
    base: (K,) float64, added to the sums. link: see `Link`. scale, shift: the last step of "values".
    zero_missing: 0 counts as missing. set_feature: (M,) and set_table: (M, C + 1) bool make M more features,
    numbered from n_features: the m-th is 0 where the integer in feature set_feature[m] lies in the set (goes
    left), else 1; column C is for what is not in 0 to C - 1, NaN included.
    """

    n_features: int
    leaf: Array
    feature: Array
    threshold: Array
    missing_left: Array
    codes: Array
    values: Array
    target: Array
    weight: Array
    base: Array
    link: Link
    scale: float = 1.0
    shift: float = 0.0
    zero_missing: bool = False
    set_feature: Array = _empty(0)
    set_table: Array = _empty(0, 1)

    @property
    def outputs(self) -> int:
        """The number of columns that `emit` makes: K, or 2 for a single probability."""
        return 2 if self.link in ("sigmoid", "complement") else len(self.base)

    @classmethod
    def mean(cls, parts: Sequence[Trees], weights: Sequence[float] | None = None) -> Trees:
        """One ensemble whose sums (scores, probabilities or values) are the weighted mean of those of `parts`.

        weights: one for each part, None for equal ones; they are divided by their sum.
        Raises InputError where the parts differ in features, sums or link.
        """
        raise NotImplementedError

    @classmethod
    def stack(cls, parts: Sequence[Trees]) -> Trees:
        """One ensemble of values whose columns are those of `parts` side by side: quantile models, targets."""
        raise NotImplementedError

    def rescaled(self, *, scale: float, shift: float) -> Trees:
        """The same trees of values with another last step: `sum * scale + shift`."""
        return replace(self, scale=float(scale), shift=float(shift))

    def emit(self, graph: Graph, x: str) -> str:
        """Add the nodes over the tensor x (n, n_features) float32, NaN missing.

        Returns probabilities (n, K) float32, or values (n, K) double.
        """
        raise NotImplementedError

    def children(self) -> Mapping[str, Storable]:
        """No parts inside."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Bits, small integers and float32: about 5 bytes a node."""
        raise NotImplementedError

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError where the arrays do not make sense."""
        raise NotImplementedError
