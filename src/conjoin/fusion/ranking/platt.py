"""Platt scaling of scores, for each member and, where asked, each group of rows, such as a relation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from conjoin.errors import BundleError, OutputsError, listed, nearest
from conjoin.fusion.packing import ask, known, members_of, names_of
from conjoin.fusion.ranking.judged import Judged, judged
from conjoin.fusion.ranking.pool import Pool, pool
from conjoin.fusion.ranking.sums import combined
from conjoin.fusion.single import Single, ranked
from conjoin.fusion.threads import one_thread
from conjoin.kernels import ranking as kernels
from conjoin.outputs import Ranking
from conjoin.scores.ranking import SCORES

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json

PRIOR = 10.0
"""How strongly a group's slope and level are held to those of all rows, in units of the curvature of the
log-likelihood per standard deviation of the member's scores."""


@dataclass(frozen=True, slots=True, eq=False)
class PlattSum:
    """sum_m sigmoid(a s_m + b): the sum of the members' chances that an item is relevant.

    lines: by member (1 + G, 2) slopes a >= 0 and levels b, first those of all rows, then those of each of the
    G groups. column: of the batch that names the group of a row; without a batch, and for a group that is
    not known, the line of all rows counts. An item that a list lacks gets nothing from it. Make one with
    `fit_platt`. Raises OutputsError.
    """

    lines: Mapping[str, Array]
    column: str | None = None
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        found = {str(n): np.asarray(v, np.float64) for n, v in sorted(self.lines.items())}
        shape = (1 + len(self.groups), 2)
        bad = [
            n for n, v in found.items() if v.shape != shape or not np.isfinite(v).all() or (v[:, 0] < 0).any()
        ]
        if bad:
            raise OutputsError(f"lines of {listed(bad)} must be finite, of shape {shape}, with slopes from 0")
        object.__setattr__(self, "lines", found)

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members it knows."""
        return tuple(self.lines)

    @property
    def needs(self) -> tuple[str, ...]:
        """The same: every member counts."""
        return self.members

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Ranking:
        """Fuse. Raises OutputsError on a member it was not fitted to and a batch without the column."""
        known(self.members, outputs)
        laid = pool(outputs)
        values = self._chances(laid, group_codes(batch, self.column, self.groups, len(laid.answered)))
        return laid.ranking(combined(laid, kernels.SUM, values))

    def _chances(self, laid: Pool, codes: Array) -> Array:
        tables = np.array([self.lines[n][codes + 1] for n in laid.names])
        slopes, levels = laid.spread(tables[:, :, 0]), laid.spread(tables[:, :, 1])
        return cast("Array", 0.5 * (1 + np.tanh((slopes * laid.scores + levels) / 2)))

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The lines (M, 1 + G, 2), and names as JSON."""
        lines = np.array(list(self.lines.values())).reshape(len(self.lines), -1, 2)
        return {"lines": lines}, {
            "members": list(self.lines),
            "column": self.column,
            "groups": list(self.groups),
        }

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names, groups, column = members_of(meta), names_of(meta, "groups"), meta.get("column")
        lines = ask(arrays, "lines", (len(names), 1 + len(groups), 2))
        try:
            told = None if column is None else str(column)
            return cls(dict(zip(names, lines, strict=True)), told, groups)
        except OutputsError as error:
            raise BundleError(f"a packed Platt scaling does not make sense: {error}") from error


def group_codes(batch: Batch | None, column: str | None, groups: tuple[str, ...], rows: int) -> Array:
    """(n,): the place of each row's group, -1 for one that is not among them. Raises OutputsError.

    >>> group_codes({"r": np.array(["x", "z"], object)}, "r", ("x", "y"), 2).tolist()
    [0, -1]
    """
    if column is None or batch is None:
        return np.full(rows, -1)
    if column not in batch:
        raise OutputsError(
            f"the batch has no column {column!r}{nearest(column, batch)}; it has {listed(batch)}"
        )
    if len(batch[column]) != rows:
        raise OutputsError(f"the batch has {len(batch[column])} rows, the members answered {rows}")
    place = {g: i for i, g in enumerate(groups)}
    return np.array([place.get(str(g), -1) for g in batch[column].tolist()], dtype=np.int64).reshape(rows)


def fit_platt(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    batch: Batch | None = None,
    column: str | None = None,
) -> Any:
    """Logistic regressions of relevance on score, one a member, and one a group where `column` is given.

    column: of the batch, the group of each row: the relation of a query to a knowledge graph, the index that
    was searched, the language. A group's line is held to that of all rows, so a group with few rows stays
    near it. Slopes are not below 0. Gives `PlattSum`, or `Single` where the best single
    member does better on these rows (Platt 1999). Raises OutputsError, TruthError.
    """
    if column is not None and batch is None:
        raise OutputsError(f"the groups of column {column!r} need a batch: batch={{{column!r}: ...}}")
    task = judged(outputs, truth, weights, score)
    names: tuple[str, ...] = ()
    if batch is not None and column is not None:
        group_codes(batch, column, (), len(task.weights))
        names = tuple(sorted({str(g) for g in batch[column].tolist()}))
    codes = group_codes(batch, column, names, len(task.weights))
    with one_thread():
        fuser = PlattSum(_lines(task, codes, len(names)), column, names)
    score = score or SCORES["ndcg@10"]
    best = ranked(outputs, truth, score, weights)
    mine = score.loss(fuser(outputs, batch=batch), truth, weights)
    return fuser if mine <= min(best.values()) + 1e-12 else Single(tuple(best))


def _lines(task: Judged, codes: Array, groups: int) -> dict[str, Array]:
    laid = task.pool
    hits = task.hits.astype(np.float64)
    mass = laid.spread(np.broadcast_to(task.weights, laid.lengths.shape))
    group = laid.spread(np.broadcast_to(codes, laid.lengths.shape))
    ends, scores = np.cumsum(laid.lengths.sum(axis=1)), laid.scores
    out = {}
    for m, name in enumerate(laid.names):
        own = np.arange(ends[m] - laid.lengths[m].sum(), ends[m])
        own = own[mass[own] > 0]
        x, y, w = scores[own], hits[own], mass[own]
        centre, spread = (float(x.mean()), max(float(x.std()), 1e-9)) if len(x) else (0.0, 1.0)
        z = (x - centre) / spread
        line = logistic(z, y, w, np.zeros(2), 1e-3)
        lines = [line]
        for g in range(groups):
            some = group[own] == g
            lines.append(logistic(z[some], y[some], w[some], line, PRIOR))
        table = np.array(lines)
        table[:, 0] = np.maximum(table[:, 0], 0.0)
        out[name] = np.stack([table[:, 0] / spread, table[:, 1] - table[:, 0] * centre / spread], axis=1)
    return out


def logistic(x: Array, y: Array, weights: Array, start: Array, prior: float) -> Array:
    """(slope, level) with the highest sum of weighted log-likelihoods less prior / 2 * |line - start|^2.

    Newton's method with step halving. x, y, weights: (t,).
    """
    line = start.astype(np.float64)
    value = _penalised(line, x, y, weights, start, prior)
    for _ in range(50):
        p = 0.5 * (1 + np.tanh((line[0] * x + line[1]) / 2))
        pull, curve = weights * (p - y), weights * p * (1 - p)
        slope = np.array([pull @ x, pull.sum()]) + prior * (line - start)
        cross = curve @ x
        H = np.array([[curve @ (x * x), cross], [cross, curve.sum()]]) + (prior + 1e-9) * np.eye(2)
        step = np.linalg.solve(H, slope)
        size = 1.0
        while size > 1e-6:
            new = line - size * step
            then = _penalised(new, x, y, weights, start, prior)
            if then <= value:
                break
            size /= 2
        else:
            break
        fell, line, value = value - then, new, then
        if fell <= 1e-10 * max(1.0, abs(value)):
            break
    return line


def _penalised(line: Array, x: Array, y: Array, weights: Array, start: Array, prior: float) -> float:
    z = line[0] * x + line[1]
    return float(weights @ (np.logaddexp(0, z) - y * z) + prior / 2 * ((line - start) ** 2).sum())
