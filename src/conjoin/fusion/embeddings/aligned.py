"""Common spaces found without truth: Procrustes, PCA of the concatenation, GCCA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.embeddings.laid import Vectors, lay
from conjoin.fusion.embeddings.projected import Projected
from conjoin.fusion.single import guarded
from conjoin.fusion.stack import Weights
from conjoin.fusion.threads import one_thread
from conjoin.outputs import Array, Embeddings
from conjoin.scores import checked_weights

if TYPE_CHECKING:
    from conjoin.contracts import Batch

ROUNDS = 5
SHRINK = 0.1


def procrustes(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    rounds: int = ROUNDS,
) -> Embeddings:
    """`fit_procrustes` to these rows, applied to them. Learns from the rows: chunks differ from the whole.

    weights: of members. The answer is (n, D) or (n, P, D), D the greatest length. Raises OutputsError.

    >>> from conjoin.outputs import Embeddings
    >>> straight, turned = Embeddings([[1.0, 0.0], [0.0, 1.0]]), Embeddings([[0.0, 1.0], [-1.0, 0.0]])
    >>> np.allclose(procrustes({"a": straight, "b": turned}).values, straight.values)
    True
    """
    return _applied(fit_procrustes(outputs, None, member_weights=weights, rounds=rounds), outputs)


def pca(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    dim: int | None = None,
) -> Embeddings:
    """`fit_pca` to these rows, applied to them. Learns from the rows: chunks differ from the whole.

    weights: of members. The answer is (n, dim) or (n, P, dim). Raises OutputsError.
    """
    return _applied(fit_pca(outputs, None, member_weights=weights, dim=dim), outputs)


def gcca(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    dim: int | None = None,
    shrink: float = SHRINK,
) -> Embeddings:
    """`fit_gcca` to these rows, applied to them. Learns from the rows: chunks differ from the whole.

    weights: of members. The answer is (n, dim) or (n, P, dim). Raises OutputsError.
    """
    return _applied(fit_gcca(outputs, None, member_weights=weights, dim=dim, shrink=shrink), outputs)


def _applied(fuser: Projected, outputs: Mapping[str, Any]) -> Embeddings:
    return fuser({n: outputs[n] for n in fuser.members})


def fit_procrustes(
    outputs: Mapping[str, Any],
    truth: Any = None,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    member_weights: Weights = None,
    rounds: int = ROUNDS,
) -> Any:
    """Rotations R_m that bring the members' normalised vectors close to their mean (Gower 1975).

    Generalised orthogonal Procrustes: R_m = U V' of the singular value decomposition of X_m' Z, where Z is
    the weighted mean of all X_m R_m, begun with the first member of the greatest weight; shorter vectors are
    filled up with zeros. It ends after `rounds`, or when Z stays. Cosines within a member do not change.
    Directions that no row tells of are turned as little as possible. weights: (n,) of rows; rows that some
    member did not answer do not count. A truth, if given, only guards: where the best single member scores
    better it is taken. score: Spearman by default. seed has no influence. Raises OutputsError.
    """
    laid = lay(outputs, member_weights)
    rows, mass = _rows(laid, weights)
    width = max(p.shape[-1] for p in laid.parts)
    with one_thread():
        parts = [_padded(laid.stacked(m, rows), width) for m in range(len(laid.names))]
        turns = _turns(parts, laid.weights / laid.weights.sum(), mass, rounds)
    centres = [np.zeros(p.shape[-1]) for p in laid.parts]
    matrices = [turn[: len(c)] for turn, c in zip(turns, centres, strict=True)]
    return _kept("procrustes", laid, centres, matrices, outputs, truth, score, weights)


def _turns(parts: list[Array], shares: Array, mass: Array, rounds: int) -> list[Array]:
    target, turns = parts[int(shares.argmax())], []
    before = -np.inf
    for _ in range(max(1, rounds)):
        turns = [_nearest(part.T @ (mass[:, None] * target)) for part in parts]
        target = np.add.reduce([s * (p @ t) for s, p, t in zip(shares, parts, turns, strict=True)])
        agreed = float(mass @ (target * target).sum(axis=1))
        if agreed - before < 1e-9:
            break
        before = agreed
    return turns


def _nearest(cross: Array) -> Array:
    """The orthogonal matrix nearest to X'Z; a touch of the identity decides what X'Z leaves open."""
    touch = 1e-9 * max(float(np.abs(cross).max(initial=0.0)), 1e-300)
    left, _, right = np.linalg.svd(cross + touch * np.eye(len(cross)))
    return cast(Array, left @ right)


def _padded(part: Array, width: int) -> Array:
    return np.pad(part, ((0, 0), (0, width - part.shape[1])))


def fit_pca(
    outputs: Mapping[str, Any],
    truth: Any = None,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    member_weights: Weights = None,
    dim: int | None = None,
) -> Any:
    """Principal components of the weighted concatenation of normalised vectors (Yin and Schütze 2016).

    The parts are scaled by sqrt(w_m / sum w) and centred; the `dim` directions of greatest variance are kept
    (by default as many as the longest member has, or as the rows allow). A missing member counts as its mean.
    weights, truth, score, seed: as of `fit_procrustes`. Raises OutputsError.
    """
    laid = lay(outputs, member_weights)
    rows, mass = _rows(laid, weights)
    scale = np.sqrt(laid.weights / laid.weights.sum())
    with one_thread():
        parts = [laid.stacked(m, rows) for m in range(len(laid.names))]
        centres = [mass @ p for p in parts]
        block = [s * (p - c) for s, p, c in zip(scale, parts, centres, strict=True)]
        axes = _principal(np.concatenate(block, axis=1) * np.sqrt(mass)[:, None])
    kept = _dim(dim, axes.shape[1], max(p.shape[1] for p in parts))
    ends = np.cumsum([p.shape[1] for p in parts])[:-1]
    shares = laid.weights / laid.weights.sum()
    cut = np.split(axes[:, :kept], ends)
    matrices = [a * (s / w) for a, s, w in zip(cut, scale, shares, strict=True)]
    return _kept("pca", laid, centres, matrices, outputs, truth, score, weights)


def _principal(block: Array) -> Array:
    """(D, r): directions of the rows of a block (N, D) that vary, the greatest first, signs fixed."""
    tall = block.shape[0] >= block.shape[1]
    values, vectors = np.linalg.eigh(block.T @ block if tall else block @ block.T)
    order = np.argsort(-values, kind="stable")
    values, vectors = values[order], vectors[:, order]
    real = values > 1e-10 * max(float(values.max(initial=0.0)), 1e-300)
    axes = vectors[:, real] if tall else block.T @ vectors[:, real] / np.sqrt(values[real])
    return _signed(axes)


def _signed(axes: Array) -> Array:
    """The same directions with their greatest element positive."""
    if not axes.size:
        return axes
    top = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return cast(Array, axes * np.where(top < 0, -1.0, 1.0))


def fit_gcca(
    outputs: Mapping[str, Any],
    truth: Any = None,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    member_weights: Weights = None,
    dim: int | None = None,
    shrink: float = SHRINK,
) -> Any:
    """Generalised canonical correlation, MAXVAR (Kettenring 1971; Rastogi, Van Durme and Arora 2015).

    G holds the `dim` leading eigenvectors of sum_m w_m X_m (X_m' X_m + r_m I)^-1 X_m', X_m the centred
    normalised vectors; each member is mapped by A_m = (X_m' X_m + r_m I)^-1 X_m' G, and the maps are
    averaged. r_m is `shrink` times the greatest eigenvalue of X_m' X_m: it keeps few rows with long vectors
    from fitting noise. dim: by default as many as the shortest member has, or as the rows allow. G has mean
    square 1; directions are scaled by the share of members that agree on them, and what members do not share
    is lost.
    weights, truth, score, seed: as of `fit_procrustes`. Raises OutputsError.
    """
    laid = lay(outputs, member_weights)
    if not shrink > 0:
        raise OutputsError(f"shrink must be above 0, not {shrink!r}")
    rows, mass = _rows(laid, weights)
    shares = laid.weights / laid.weights.sum()
    with one_thread():
        parts = [laid.stacked(m, rows) for m in range(len(laid.names))]
        centres = [mass @ p for p in parts]
        block = [(p - c) * np.sqrt(mass)[:, None] for p, c in zip(parts, centres, strict=True)]
        whiten = [_whitener(b, shrink) for b in block]
        joint = np.concatenate(
            [np.sqrt(s) * (b @ w) for s, b, w in zip(shares, block, whiten, strict=True)], axis=1
        )
        axes = _principal(joint)
        kept = _dim(dim, axes.shape[1], min(p.shape[1] for p in parts))
        common = joint @ axes[:, :kept]  # G times the roots of its eigenvalues
        matrices = [w @ w.T @ (b.T @ common) for w, b in zip(whiten, block, strict=True)]
    return _kept("gcca", laid, centres, matrices, outputs, truth, score, weights)


def _whitener(block: Array, shrink: float) -> Array:
    """(X'X + rI)^(-1/2), symmetric."""
    values, vectors = np.linalg.eigh(block.T @ block)
    ridge = shrink * max(float(values.max(initial=0.0)), 1e-300)
    return cast(Array, (vectors / np.sqrt(np.maximum(values, 0.0) + ridge)) @ vectors.T)


def _rows(laid: Vectors, weights: Any) -> tuple[Array, Array]:
    """Rows to learn from, and (rows * P,) shares of their vectors that sum to 1."""
    mass = checked_weights(weights, laid.rows)
    rows = np.flatnonzero(laid.complete() & (mass > 0))
    if not len(rows):
        raise OutputsError(
            f"no row that every member answered is left to learn from (of {laid.rows}); leave out members "
            "that answer few rows, by weight 0"
        )
    each = np.repeat(mass[rows], laid.per_row)
    return rows, each / each.sum()


def _dim(asked: int | None, most: int, default: int) -> int:
    if asked is None:
        return max(min(default, most), min(1, most))
    if not 1 <= asked <= most:
        raise OutputsError(f"dim must lie in 1 to {most}, which is what these rows tell apart, not {asked!r}")
    return int(asked)


def _kept(
    name: str,
    laid: Vectors,
    centres: list[Array],
    matrices: list[Array],
    outputs: Mapping[str, Any],
    truth: Any,
    score: Any,
    weights: Any,
) -> Any:
    if not matrices[0].shape[1]:
        raise OutputsError(f"{name}: the vectors do not vary; there is nothing to learn from one row")
    fuser = Projected(
        name,
        dict(zip(laid.names, laid.weights.tolist(), strict=True)),
        dict(zip(laid.names, centres, strict=True)),
        dict(zip(laid.names, matrices, strict=True)),
    )
    return fuser if truth is None else guarded(fuser, outputs, truth, score, weights)
