"""Covariance of errors, shrunk so that it can be inverted: few rows, many members, members that are alike."""

from __future__ import annotations

import numpy as np

from conjoin.errors import InputError
from conjoin.outputs import Array


def shrunk_covariance(E: Array, shares: Array, *, shrink: float | None = None) -> tuple[Array, float]:
    """(M, M) second moments of errors, their correlations drawn to 0, and the shrinkage.

    E (M, n): errors. shares (n,): weights of rows, sum 1. shrink lambda in [0, 1]: off the diagonal
    (1 - lambda) sum_i s_i e_mi e_ki; 0 is the plain matrix, 1 its diagonal. None: the lambda with the least
    expected squared error of the correlations, sum Var(r_mk) / sum r_mk^2 over pairs (Schafer and Strimmer
    2005). Errors are not centred: a biased member is a bad one. Raises InputError.
    """
    if shrink is not None and not 0 <= shrink <= 1:
        raise InputError(f"shrink must lie in [0, 1] or be None, not {shrink}")
    S = (E * shares) @ E.T
    found = best_shrinkage(E, shares) if shrink is None else shrink
    out = (1 - found) * S
    np.fill_diagonal(out, np.diag(S))
    return out, found


def best_shrinkage(E: Array, shares: Array) -> float:
    """The lambda of `shrunk_covariance`; 1 with fewer than two rows of weight."""
    effective = 1.0 / float((shares**2).sum())
    if effective < 2 or len(E) < 2:
        return 1.0
    spread = np.sqrt((E**2) @ shares)
    Z = E / np.where(spread > 0, spread, 1.0)[:, None]
    R = (Z * shares) @ Z.T
    squares = (Z**2 * shares) @ (Z**2).T
    variance = np.maximum(squares - R**2, 0.0) / (effective - 1)
    off = ~np.eye(len(E), dtype=bool)
    total = float((R[off] ** 2).sum())
    return 1.0 if total <= 0 else float(np.clip(variance[off].sum() / total, 0.0, 1.0))
