"""Reconciling hierarchies: forecasts of parts and of their sums that add up.

S (A, B) says which of the B bottom series are in each of the A nodes; forecasts of all nodes are `Values`
(n, A), a row per time or horizon. The reconciled forecasts are S G y. Forecasts that add up already stay as
they are (G S = I), but for top_down (Hyndman et al. 2011; Wickramasuriya, Athanasopoulos and Hyndman 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, InputError, OutputsError, TruthError, listed, nearest
from conjoin.fusion.packing import ask
from conjoin.fusion.series.covariance import shrunk_covariance
from conjoin.fusion.simplex import least_quadratic
from conjoin.fusion.stack import as_rows, value_truth
from conjoin.outputs import Values

if TYPE_CHECKING:
    from conjoin.contracts import Storable
    from conjoin.outputs import Array, Json

METHODS = ("bottom_up", "top_down", "ols", "wls_struct", "wls_var", "mint_shrink")


def summing_matrix(paths: Sequence[Sequence[str]]) -> tuple[Array, tuple[str, ...]]:
    """S (A, B) and the names of its rows, from the path of each bottom series: ("n", "a"), ("n", "b").

    Rows: "total", then each prefix of a path, shorter ones first, then the bottom series; in the order in
    which they first occur, parts joined by "/". Raises InputError where two paths are equal, or one is a part
    of another.

    >>> summing_matrix([("n", "a"), ("n", "b"), ("s", "c")])[1]
    ('total', 'n', 's', 'n/a', 'n/b', 's/c')
    """
    full = [tuple(str(p) for p in path) for path in paths]
    if not full or any(not p for p in full):
        raise InputError("a hierarchy needs at least one bottom series, each with a path that is not empty")
    if len(set(full)) < len(full):
        raise InputError(f"the paths of bottom series must differ: {listed('/'.join(p) for p in full)}")
    prefixes = dict.fromkeys(p[:k] for k in range(max(map(len, full))) for p in full if k < len(p))
    both = [p for p in full if p in prefixes]
    if both:
        raise InputError(f"{listed('/'.join(p) for p in both)} are bottom series and sums of others at once")
    nodes = [*prefixes, *full]
    S = np.array([[float(p[: len(node)] == node) for p in full] for node in nodes])
    return S, tuple("/".join(node) or "total" for node in nodes)


@dataclass(frozen=True, slots=True, eq=False)
class Reconciliation:
    """Makes forecasts of all nodes add up. Make one with `reconciliation`.

    S: (A, B). G: (B, A), how bottom series come from all nodes. covariance: (A, A), of the errors that G
    weighs, or (0, 0) for bottom_up and top_down. nonnegative: bottom series are
    kept at 0 or above, at the least weighted distance.
    """

    S: Array
    G: Array
    covariance: Array
    nonnegative: bool = False

    def __call__(self, output: Values, /) -> Values:
        """The reconciled forecasts, (n, A). Raises OutputsError on another number of nodes.

        Where forecasts of some nodes are NaN, the others give the bottom series; where they cannot, the row
        is not answered.
        """
        values = _nodes(output, len(self.S))
        bottom = values @ self.G.T
        gaps = np.isnan(values).any(axis=1) & output.answered
        for row in np.flatnonzero(gaps):
            bottom[row] = self._from_some(values[row])
        if self.nonnegative:
            for row in np.flatnonzero((bottom < 0).any(axis=1)):
                bottom[row] = self._above_zero(values[row], bottom[row])
        answered = output.answered & ~np.isnan(bottom).any(axis=1)
        return Values(bottom @ self.S.T, np.asarray(answered))

    def _from_some(self, y: Array) -> Array:
        """Bottom series from the nodes that are there; NaN where these do not tell them."""
        at = np.flatnonzero(~np.isnan(y))
        S = self.S[at]
        if not np.isnan(y[(self.G != 0).any(axis=0)]).any():
            return np.asarray(self.G @ np.nan_to_num(y))
        if len(at) < S.shape[1] or np.linalg.matrix_rank(S) < S.shape[1]:
            return np.full(S.shape[1], np.nan)
        W = self._precision(at) if len(self.covariance) else np.eye(len(at))
        return np.asarray(np.linalg.solve(S.T @ W @ S, S.T @ (W @ y[at])))

    def _precision(self, at: Array) -> Array:
        """The inverse covariance of these nodes."""
        return np.asarray(np.linalg.inv(self.covariance[np.ix_(at, at)]))

    def _above_zero(self, y: Array, bottom: Array) -> Array:
        if not len(self.covariance):
            return np.maximum(bottom, 0.0)
        at = np.flatnonzero(~np.isnan(y))
        S, W = self.S[at], self._precision(at)
        scale = float(np.abs(y[at]).max()) or 1.0
        return least_quadratic(S.T @ W @ S, -(S.T @ (W @ y[at])) / scale) * scale

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The matrices."""
        return {"S": self.S, "G": self.G, "covariance": self.covariance}, {"nonnegative": self.nonnegative}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        S = ask(arrays, "S", (None, None))
        covariance = ask(arrays, "covariance", (None, None))
        if covariance.shape not in ((0, 0), (len(S), len(S))):
            raise BundleError(f"a packed covariance has shape {covariance.shape} for {len(S)} nodes")
        return cls(S, ask(arrays, "G", S.shape[::-1]), covariance, bool(meta.get("nonnegative")))


def reconciliation(
    S: Any,
    *,
    method: str = "ols",
    output: Values | None = None,
    truth: Any = None,
    shrink: float | None = None,
    nonnegative: bool = False,
) -> Reconciliation:
    """How forecasts of the nodes of a hierarchy are made to add up.

    S: (A, B) summing matrix; each bottom series must be a node of its own. method:
    bottom_up: the forecasts of the bottom series. top_down: the total, shared by the mean historical
    proportions of the truth (Gross and Sohl 1990). Else G = (S' W^-1 S)^-1 S' W^-1 with W: ols, the identity;
    wls_struct, the number of bottom series in each node; wls_var, the mean squared errors; mint_shrink, the
    covariance of errors with shrunken correlations (`covariance`; shrink as there).
    output, truth: forecasts and truth (n, A) of earlier rows, for wls_var and mint_shrink (forecasts of rows
    that were not fitted to), and for top_down the truth alone. Raises InputError, OutputsError, TruthError.

    >>> S, names = summing_matrix([("a",), ("b",)])
    >>> reconciliation(S)(Values([[10.0, 3.0, 4.0]])).values
    array([[9., 4., 5.]])
    """
    if method not in METHODS:
        raise InputError(f"no method {method!r}{nearest(method, METHODS)}; there are {listed(METHODS)}")
    S = _summing(S)
    at = _bottom(S)
    J = np.zeros(S.shape[::-1])
    J[np.arange(len(J)), at] = 1.0
    if method == "bottom_up":
        return Reconciliation(S, J, np.zeros((0, 0)), nonnegative)
    if method == "top_down":
        return Reconciliation(S, _top_down(S, at, truth), np.zeros((0, 0)), nonnegative)
    W = _covariance(S, method, output, truth, shrink)
    return Reconciliation(S, _projection(S, J, at, W), W, nonnegative)


def _projection(S: Array, J: Array, at: Array, W: Array) -> Array:
    """G = J - J W C' (C W C')^-1 C, where C y = 0 says that forecasts add up; as by W^-1, but cheaper."""
    sums = np.setdiff1d(np.arange(len(S)), at)
    C = np.zeros((len(sums), len(S)))
    C[:, at] = -S[sums]
    C[np.arange(len(sums)), sums] = 1.0
    diagonal = np.diag(W)
    WC = diagonal[:, None] * C.T if np.count_nonzero(W) <= len(W) else W @ C.T
    return np.asarray(J - WC[at] @ np.linalg.solve(C @ WC, C))


def _summing(S: Any) -> Array:
    found = np.asarray(S, dtype=np.float64)
    if found.ndim != 2 or not np.isfinite(found).all() or not found.size:
        raise InputError(f"a summing matrix has finite numbers and two axes, not shape {found.shape}")
    return found


def _bottom(S: Array) -> Array:
    """(B,): the node that is each bottom series alone. Raises InputError."""
    alone = np.flatnonzero(((S != 0).sum(axis=1) == 1) & (S.max(axis=1) == 1))
    at = np.full(S.shape[1], -1)
    at[S[alone].argmax(axis=1)] = alone
    if (at < 0).any():
        lost = listed(np.flatnonzero(at < 0), 5)
        raise InputError(
            f"bottom series {lost} are no nodes of their own: the summing matrix lacks their rows"
        )
    return at


def _top_down(S: Array, at: Array, truth: Any) -> Array:
    top = np.flatnonzero((S == 1).all(axis=1))
    if not len(top):
        raise InputError("top_down needs a node that is the sum of all bottom series")
    if truth is None:
        raise InputError("top_down needs truth=: earlier values of all nodes, for the proportions")
    y = _nodes(value_truth(truth, len(truth)), len(S))[:, at]
    total = y.sum(axis=1)
    kept = np.isfinite(total) & (total != 0)
    if not kept.any():
        raise TruthError("no row of the truth has a total other than 0: there are no proportions")
    shares = (y[kept] / total[kept, None]).mean(axis=0)
    G = np.zeros(S.shape[::-1])
    G[:, top[0]] = shares / shares.sum()
    return G


def _covariance(S: Array, method: str, output: Any, truth: Any, shrink: float | None) -> Array:
    if method == "ols":
        return np.eye(len(S))
    if method == "wls_struct":
        return np.diag(np.abs(S).sum(axis=1))
    if output is None or truth is None:
        raise InputError(f"{method} needs output= and truth=: forecasts and truth of earlier rows")
    E = _nodes(output, len(S)) - _nodes(value_truth(truth, len(output)), len(S))
    E = E[np.isfinite(E).all(axis=1)]
    if not len(E):
        raise TruthError(f"{method} needs a row with forecasts and truth of all nodes")
    shares = np.full(len(E), 1.0 / len(E))
    W, _ = shrunk_covariance(E.T, shares, shrink=1.0 if method == "wls_var" else shrink)
    scale = float(np.trace(W)) / len(W)
    return W / scale + 1e-9 * np.eye(len(W)) if scale > 0 else np.eye(len(W))


def _nodes(output: Any, count: int) -> Array:
    """(n, A) float64; NaN in rows that are not answered."""
    if not isinstance(output, Values):
        raise OutputsError(f"forecasts of a hierarchy are values, not {output.kind}")
    values = as_rows(np.asarray(output.values, dtype=np.float64))
    if values.shape[1] != count:
        raise OutputsError(f"the hierarchy has {count} nodes, the forecasts {values.shape[1]}")
    return np.where(output.answered[:, None], values, np.nan)
