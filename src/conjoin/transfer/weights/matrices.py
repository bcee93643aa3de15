"""Merging that looks at task vectors as matrices: Iso-C, Iso-CTS, TSV-M, WUDI; and masks of consensus.

d_i = theta_i - theta_0, T models whose weight is not 0. A tensor with two or more axes is a matrix (rows,
everything else): linear layers (out, in), convolutions (out, in times kernel). Biases, norms, other vectors
and embeddings, whose rows are words and not directions, get the weighted mean of the d_i, as in the papers'
code. Weights count relative to each other: they are scaled to sum to T, so that 1, 1 and 0.5, 0.5 are one.

Work is done in float64, in float32 where a tensor has more than `LARGE` elements. Task vectors are made when
they are needed, so memory does not grow with T: about 6 matrices of the tensor's size, and for WUDI 3 of
(columns, columns) besides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError
from conjoin.kernels import weights as kernels
from conjoin.transfer.weights.method import Given
from conjoin.transfer.weights.regmean import solved

if TYPE_CHECKING:
    from conjoin.outputs import Array

LARGE = 1 << 24
_ROWS_ARE_WORDS = re.compile(r"emb|wte|wpe", re.IGNORECASE)


def iso_c(given: Given) -> None:
    """theta_0 + lambda s U V^T, where U S V^T = sum_i w_i d_i and s is the mean of S (Marczak et al. 2025).

    Every direction that a task uses gets the same size. The mean is over the singular values that are not
    0, so that directions that no task uses stay unused: it matters for task vectors of low rank (LoRA).
    """
    tasks = _Tasks(given)
    if tasks.vectors:
        _put(given, tasks.sum() / tasks.count)
        return
    u, s, v = _svd(_matrix(tasks.sum()))
    _put(given, (u * _flattened(s)) @ v)


def iso_cts(given: Given) -> None:
    """`iso_c` whose smallest directions make room for directions of each task (Marczak et al. 2025).

    The first `common` share of the singular directions of sum_i w_i d_i stay; the rest are shared out
    equally: each task gives the first directions of its w_i d_i outside the common ones. All are made
    orthogonal and get the mean of their singular values.
    """
    tasks = _Tasks(given)
    if tasks.vectors:
        _put(given, tasks.sum() / tasks.count)
        return
    u, s, v = _svd(_matrix(tasks.sum()))
    rank, count = len(s), tasks.count
    own = round((rank - int(rank * given.shared["common"])) / count)
    own = min(own, rank // count)
    common = rank - own * count
    parts = [(u[:, :common], s[:common], v[:common])]
    for weight, delta in tasks:
        x = weight * _matrix(delta)
        ut, st, vt = _svd(x - u[:, :common] @ (u[:, :common].T @ x), float(s[0]))
        parts.append(_first(ut, st, vt, own))
    left, sizes, right = _joined(parts)
    _put(given, (_polar(left) * _flattened(sizes)) @ _polar(right))


def tsv_m(given: Given) -> None:
    """theta_0 + lambda U S V^T of all tasks' first rank / T singular vectors, made orthogonal (Gargiulo et
    al. 2024).

    U = [U_1 ... U_T] and V^T likewise are replaced by their nearest orthogonal matrices (Procrustes), so
    that tasks do not disturb each other; S keeps each task's singular values. One model stays as it is.
    """
    tasks = _Tasks(given)
    if tasks.vectors:
        _put(given, tasks.sum() / tasks.count)
        return
    parts = []
    for weight, delta in tasks:
        u, s, v = _svd(weight * _matrix(delta))
        parts.append(_first(u, s, v, max(1, len(s) // tasks.count)))
    left, sizes, right = _joined(parts)
    _put(given, (_polar(left) * sizes) @ _polar(right))


def wudi(given: Given) -> None:
    """theta_0 + lambda tau, where tau disturbs no task on the inputs that shaped it (Cheng et al. 2025).

    tau minimises sum_i w_i |(tau - d_i) d_i^T|^2 / |d_i|^2 + pull T / n |tau - sum_i w_i d_i|^2 (n columns):
    the rows of d_i stand for the inputs of task i. The paper walks 300 steps of Adam from the sum; here
    the quadratic problem is solved: tau = sum + (R - sum S)(S + pull T / n)^-1 with S = sum_i w_i d_i^T d_i /
    |d_i|^2, R = sum_i w_i d_i d_i^T d_i / |d_i|^2. `pull` is what stopping early does in the paper: in
    directions that hardly matter tau stays the sum, where the exact solution fits noise. The default is what
    two-fold cross-validation over rows of the d_i chooses (0.1 to 0.3 in networks of several kinds): the
    other half of the rows is disturbed least. With pull 0 one model, or equal models, stay as they are.
    """
    tasks = _Tasks(given)
    if tasks.vectors:
        _put(given, tasks.sum() / tasks.count)
        return
    total = _matrix(tasks.sum())
    n = total.shape[1]
    moments, gap = np.zeros((n, n), total.dtype), np.zeros_like(total)
    for weight, delta in tasks:
        x = _matrix(delta)
        if size := float(np.vdot(x, x)):
            moment = (weight / size) * (x.T @ x)
            moments += moment
            gap += (x - total) @ moment
    _put(given, total + solved(moments, gap, float(given.shared["pull"]) * tasks.count / max(1, n)))


def consensus(given: Given) -> None:
    """theta_0 + lambda m sum_i w_i d_i, m: the entries that at least `agree` tasks need (Wang et al. 2024).

    Task i needs an entry where |w_i d_i| > threshold |sum_j w_j d_j - w_i d_i| (TALL masks).
    """
    tasks = _Tasks(given)
    total = tasks.sum()
    votes = np.zeros(total.shape, np.int32)
    for weight, delta in tasks:
        x = weight * delta
        votes += np.abs(x) > given.shared["threshold"] * np.abs(total - x)
    _put(given, np.where(votes >= min(int(given.shared["agree"]), tasks.count), total, 0))


class _Tasks:
    """Task vectors of the models whose weight is not 0, in the tensor's shape, each with its weight; the
    weights sum to their number.

    count: how many. vectors: whether the tensor is no matrix of directions.
    """

    def __init__(self, given: Given) -> None:
        kept = [(w, t) for w, t in zip(given.each["weight"], given.tensors, strict=True) if w]
        if not kept:
            raise InputError(f"{given.name}: all weights are 0; give one model a weight")
        self.given, self.kept, self.count = given, kept, len(kept)
        self.scale = len(kept) / sum(w for w, _ in kept)
        self.kind: Any = np.float32 if given.size > LARGE else np.float64
        self.vectors = given.out.ndim < 2 or bool(_ROWS_ARE_WORDS.search(given.name))

    def __iter__(self) -> Iterator[tuple[float, Array]]:
        base = self.given.read(self.given.start)
        for weight, tensor in self.kept:
            out, x = np.empty(self.given.out.shape, self.kind), self.given.read(tensor)
            flat = out.reshape(-1)
            for block in self.given.blocks():
                kernels.delta(flat[block], base[block], x[block])
            yield weight * self.scale, out

    def sum(self) -> Array:
        """sum_i w_i d_i."""
        total = np.zeros(self.given.out.shape, self.kind)
        for weight, delta in self:
            delta *= weight
            total += delta
        return total


def _matrix(delta: Array) -> Array:
    return delta.reshape(delta.shape[0], -1)


def _svd(matrix: Array, largest: float = 0.0) -> tuple[Array, Array, Array]:
    """(rows, r), (r,), (r, columns); singular values that are rounding only are 0. Raises InputError.

    largest: a singular value of what the matrix was computed from.
    """
    try:
        u, s, v = np.linalg.svd(matrix, full_matrices=False)
    except np.linalg.LinAlgError as error:
        raise InputError(
            f"a task matrix has no singular values: are there NaN in the weights? ({error})"
        ) from (error)
    limit = max(s[0], largest) * max(matrix.shape) * np.finfo(s.dtype).eps if len(s) else 0.0
    return u, np.where(s > limit, s, 0), v


def _first(u: Array, s: Array, v: Array, count: int) -> tuple[Array, Array, Array]:
    """The first singular vectors, in memory of their own."""
    return u[:, :count].copy(), s[:count].copy(), v[:count].copy()


def _flattened(sizes: Array) -> Array:
    """The mean of those that are not 0, where they are not 0."""
    used = sizes > 0
    return np.where(used, sizes[used].mean() if used.any() else 0, 0).astype(sizes.dtype)


def _joined(parts: Sequence[tuple[Array, Array, Array]]) -> tuple[Array, Array, Array]:
    """Singular vectors of all parts side by side, without those of singular value 0."""
    kept = [(u[:, s > 0], s[s > 0], v[s > 0]) for u, s, v in parts]
    left, sizes, right = (
        np.concatenate(p, axis=a) for p, a in zip(zip(*kept, strict=True), (1, 0, 0), strict=True)
    )
    return left, sizes, right


def _polar(matrix: Array) -> Array:
    """The nearest matrix with orthonormal rows or columns."""
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray(u @ v)


def _put(given: Given, change: Array) -> None:
    """Write theta_0 + lambda change."""
    base, flat = given.read(given.start), change.reshape(-1)
    scale = given.number(given.shared["lambda"])
    for block, out in given.parts():
        kernels.put_moved(out, base[block], flat[block].astype(given.work), scale)
