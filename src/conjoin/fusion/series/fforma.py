"""FFORMA: weights of forecasts that are learned from features of the series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import OutputsError, TruthError, listed
from conjoin.fusion.descent import descend
from conjoin.fusion.packing import ask, known, members_of, names_of
from conjoin.fusion.rules import softmax
from conjoin.fusion.simplex import row_shares
from conjoin.fusion.single import Single
from conjoin.fusion.stack import as_rows, stack, value_truth
from conjoin.fusion.threads import one_thread
from conjoin.outputs import Values
from conjoin.scores import checked_weights

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json
    from conjoin.scores import Score

LIMIT = 3.0
"""Standardised features are cut at plus and minus this."""


@dataclass(frozen=True, slots=True, eq=False)
class Fforma:
    """Weights w = softmax(intercepts + slopes f) of members, f standardised columns of the batch, cut at 3.

    members: M names, sorted. columns: F names. intercepts: (M,), slopes: (M, F), centres, scales: (F,).
    Where a member, or one of its numbers, is missing, the weights of the others count.
    """

    members: tuple[str, ...]
    columns: tuple[str, ...]
    intercepts: Array
    slopes: Array
    centres: Array
    scales: Array

    @property
    def needs(self) -> tuple[str, ...]:
        """All members."""
        return self.members

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Values:
        """Fuse. Raises OutputsError on a member it was not fitted to, or a column that is missing."""
        known(self.members, outputs)
        laid = stack(outputs)
        if laid.kind != "values":
            raise OutputsError(f"this fuser combines values, not {laid.kind}")
        f = standardised(batch, self.columns, self.centres, self.scales, laid.rows)
        at = [self.members.index(n) for n in laid.names]
        w = softmax(f @ self.slopes[at].T + self.intercepts[at])
        X = laid.tensor()
        X[~laid.answers()] = np.nan
        mass = w.T[:, :, None] * ~np.isnan(X)
        total = mass.sum(axis=0)
        values = (mass * np.nan_to_num(X)).sum(axis=0) / np.where(total > 0, total, 1.0)
        values[total <= 0] = np.nan
        answered = np.asarray((total > 0).any(axis=1))
        return Values(values[:, 0] if laid.flat else values, answered)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Weights and scales; names as JSON."""
        arrays = {
            "intercepts": self.intercepts,
            "slopes": self.slopes,
            "centres": self.centres,
            "scales": self.scales,
        }
        return arrays, {"members": list(self.members), "columns": list(self.columns)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names, columns = members_of(meta), names_of(meta, "columns")
        return cls(
            names,
            columns,
            ask(arrays, "intercepts", (len(names),)),
            ask(arrays, "slopes", (len(names), len(columns))),
            ask(arrays, "centres", (len(columns),)),
            ask(arrays, "scales", (len(columns),)),
        )


def standardised(
    batch: Batch | None,
    columns: Sequence[str],
    centres: Array,
    scales: Array,
    rows: int,
    *,
    cut: bool = True,
) -> Array:
    """(n, F); NaN and infinities count as the centre. Raises OutputsError."""
    if not columns:
        return np.zeros((rows, 0))
    if batch is None:
        raise OutputsError(f"this fuser needs batch=, with the columns {listed(columns)}")
    missing = [c for c in columns if c not in batch]
    if missing:
        raise OutputsError(f"the batch lacks the columns {listed(missing)}; it has {listed(batch)}")
    F = np.array([np.asarray(batch[c], dtype=np.float64) for c in columns])
    if F.shape != (len(columns), rows):
        raise OutputsError(f"the columns of the batch must have {rows} numbers each")
    f = (F.T - centres) / scales
    f = np.where(np.isfinite(f), f, 0.0)
    return np.clip(f, -LIMIT, LIMIT) if cut else f


def fit_fforma(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    batch: Batch | None = None,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    penalty: float = 3.0,
) -> Any:
    """Weights learned from features of the series (Montero-Manso, Athanasopoulos, Hyndman, Talagala 2020).

    Rows are series, their H numbers the horizons. Minimised: mean_i sum_m w_m(f_i) e_im + penalty / (2 n)
    (|slopes|^2 + |intercepts|^2 / 10), e_im the mean absolute error of member m over the mean of all members
    in the row, so that series of any size count alike. Where the paper boosts trees, w is the softmax of a
    linear function. batch: columns of numbers, such as `series_features`. The answer needs them too, and has
    no ONNX form. weights: (n,) of the rows. score: of the comparison with the best single member, by default
    the mean of e_im. seed has no influence. Raises OutputsError and TruthError.
    """
    if not penalty > 0:
        raise OutputsError(f"penalty must be above 0, not {penalty}")
    laid = stack(outputs)
    if laid.kind != "values":
        raise OutputsError(f"fforma combines values, not {laid.kind}")
    y = value_truth(truth, laid.rows)
    E, share = _errors(laid.tensor(), laid.answers(), y, weights)
    columns = tuple(sorted(batch)) if batch else ()
    centres, scales = _scales(batch, columns, share)
    f = standardised(batch, columns, centres, scales, laid.rows)
    with one_thread():
        theta = _learned(E, np.c_[f, np.ones(len(f))], share, penalty)
    made = Fforma(laid.names, columns, theta[:, -1], theta[:, :-1], centres, scales)
    fused = made(outputs, batch=batch)
    if score is None:
        losses = dict(zip(laid.names, (share @ E).tolist(), strict=True))
        mine = _scaled_loss(fused, laid.tensor(), laid.answers(), y, share)
    else:
        losses = {n: score.loss(o, y, weights) for n, o in outputs.items()}
        mine = score.loss(fused, y, weights)
    if mine <= min(losses.values()) + 1e-12:
        return made
    return Single(tuple(sorted(losses, key=lambda n: (losses[n], n))))


def _errors(X: Array, answers: Array, truth: Values, weights: Any) -> tuple[Array, Array]:
    """(n, M) scaled absolute errors and (n,) shares of rows. A member that is missing has the row's mean."""
    y = as_rows(np.asarray(truth.values, dtype=np.float64))
    if y.shape[1] != X.shape[2]:
        raise TruthError(f"the truth has {y.shape[1]} numbers a row, the members answer {X.shape[2]}")
    gap = np.abs(X - y)
    seen = ~np.isnan(gap) & answers[:, :, None] & truth.answered[:, None]
    if np.isinf(gap[seen]).any():
        raise OutputsError("members or truth hold infinities; mark those rows as unanswered")
    count = seen.sum(axis=2)
    each = np.where(seen, gap, 0.0).sum(axis=2) / np.maximum(count, 1)
    some = count > 0
    mean = (each * some).sum(axis=0) / np.maximum(some.sum(axis=0), 1)
    each = np.where(some, each, mean)
    E = np.divide(each, mean, out=np.ones_like(each), where=mean > 0)
    mass = checked_weights(weights, len(y)) * some.any(axis=0)
    if not mass.any():
        raise TruthError(f"of {len(y)} rows none has a truth, a weight and an answer: nothing to fit to")
    return E.T, row_shares(mass, len(y))


def _scaled_loss(fused: Values, X: Array, answers: Array, truth: Values, share: Array) -> float:
    """The mean of the fused answer's errors, each over the members' mean error in its row."""
    both = np.concatenate([X, as_rows(fused.values)[None]])
    E, _ = _errors(both, np.concatenate([answers, fused.answered[None]]), truth, None)
    mean = E[:, :-1].mean(axis=1)
    return float(share @ np.divide(E[:, -1], mean, out=np.ones(len(E)), where=mean > 0))


def _scales(batch: Batch | None, columns: tuple[str, ...], share: Array) -> tuple[Array, Array]:
    """Centres and scales of columns over the rows that count."""
    if not columns or batch is None:
        return np.zeros(0), np.ones(0)
    f = standardised(batch, columns, np.zeros(len(columns)), np.ones(len(columns)), len(share), cut=False)
    centres = share @ f
    scales = np.sqrt(share @ (f - centres) ** 2)
    return centres, np.where(scales > 1e-12 * (np.abs(centres) + 1e-12), scales, 1.0)


def _learned(E: Array, f: Array, share: Array, penalty: float) -> Array:
    """(M, F + 1): slopes and, last, intercepts, from equal weights."""
    members, width = E.shape[1], f.shape[1]
    pull = np.full(width, penalty * float((share**2).sum()))
    pull[-1] /= 10

    def loss(x: Array) -> tuple[float, Array]:
        theta = x.reshape(members, width)
        w = softmax(f @ theta.T)
        mean = (w * E).sum(axis=1)
        slope = (w * (E - mean[:, None]) * share[:, None]).T @ f
        cost = float((pull * theta**2).sum()) / 2
        return float(share @ mean) + cost, (slope + pull * theta).reshape(-1)

    return descend(loss, np.zeros(members * width)).reshape(members, width)
