"""Fusers of spans that are fitted to truth: a vote with fitted weights, and a posterior for each span."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, TruthError
from conjoin.fusion.applied import Applied
from conjoin.fusion.packing import ask, known, members_of, names_of, number
from conjoin.fusion.single import guarded
from conjoin.fusion.spans.laid import Distinct, Laid, apart, distinct, lay
from conjoin.fusion.spans.plain import ROUNDING, chosen, graded, meeting, supports
from conjoin.outputs import Spans

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json
    from conjoin.scores import FieldScore

FOLDS = 5
MOST_SPANS = 60_000
"""Of more spans than this, only every second, third ... row is fitted to."""
RIDGE = 2.0
BLOCKS = 5
"""Features of each member: it says the span; the logit of its score; it says the class at other ends that
overlap; it says another class at the same ends; it says another class at ends that overlap."""
SURE = 0.01
"""Scores are held in [SURE, 1 - SURE] before their logit is taken."""


@dataclass(frozen=True, slots=True, eq=False)
class SpanPosterior:
    """Keep each span that anybody proposes whose probability to be right is at least `threshold`.

        P(right) = 1 / (1 + exp(-(b + b_class + sum_m w_m . x_m + u_(m, class) said_m)))

    x_m: BLOCKS features of what member m says there. base: b. by_class (K,): b_class. by_member (M, BLOCKS):
    w_m. by_both (M, K): u. Of kept spans that overlap the more probable stays. A class that it was not fitted
    to has b_class = u = 0. The score of a span is its probability. A row that one member answers alone is
    that member's.
    """

    members: tuple[str, ...]
    classes: tuple[str, ...]
    base: float
    by_class: Array
    by_member: Array
    by_both: Array
    threshold: float

    @property
    def needs(self) -> tuple[str, ...]:
        """All of them."""
        return self.members

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Spans:
        """Fuse. A member that is absent proposes nothing. Raises OutputsError on one it was not fitted to."""
        known(self.members, outputs)
        laid = lay(outputs)
        found = distinct(laid)
        p = _probability(features(laid, found, self.members, self.classes), self._weights())
        return chosen(laid, found, p, p >= self.threshold, outputs)

    def _weights(self) -> Array:
        parts = (np.array([self.base]), self.by_class, self.by_member.reshape(-1), self.by_both.reshape(-1))
        return np.concatenate(parts)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The weights; names and numbers as JSON."""
        arrays = {"by_class": self.by_class, "by_member": self.by_member, "by_both": self.by_both}
        meta: dict[str, Json] = {"members": list(self.members), "classes": list(self.classes)}
        return arrays, {**meta, "base": self.base, "threshold": self.threshold}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        members, classes = members_of(meta), names_of(meta, "classes")
        M, K = len(members), len(classes)
        threshold = number(meta, "threshold")
        if not 0.0 <= threshold <= 1.0:
            raise BundleError(f"a packed posterior of spans needs a threshold in 0 to 1, not {threshold}")
        return cls(
            members,
            classes,
            number(meta, "base"),
            ask(arrays, "by_class", (K,)),
            ask(arrays, "by_member", (M, BLOCKS)),
            ask(arrays, "by_both", (M, K)),
            threshold,
        )


def features(laid: Laid, found: Distinct, members: tuple[str, ...], classes: tuple[str, ...]) -> Array:
    """(c, 1 + K + M BLOCKS + M K): what each member says of each span, in the order of the weights."""
    M, K, c = len(members), len(classes), len(found)
    column = np.array([members.index(n) for n in laid.names], dtype=np.int64)
    place = np.array([classes.index(k) if k in classes else -1 for k in laid.classes] or [-1], dtype=np.int64)
    said = np.zeros((c, M, BLOCKS))
    owner = column[laid.member]
    held = np.clip(laid.score, SURE, 1.0 - SURE)
    said[found.of, owner, 0] = 1.0
    said[found.of, owner, 1] = np.log(held / (1.0 - held))
    span, at = meeting(laid, found)
    same_ends = (laid.start[span] == found.start[at]) & (laid.end[span] == found.end[at])
    same_class = laid.code[span] == found.code[at]
    overlap = (laid.start[span] < found.end[at]) & (found.start[at] < laid.end[span])
    for block, which in (
        (2, same_class & overlap & ~same_ends),
        (3, ~same_class & same_ends),
        (4, ~same_class & overlap & ~same_ends),
    ):
        said[at[which], owner[span[which]], block] = 1.0
    kind = place[found.code]
    one_hot = (kind[:, None] == np.arange(K)).astype(np.float64)
    both = said[:, :, 0, None] * one_hot[:, None, :]
    return np.concatenate(
        [np.ones((c, 1)), one_hot, said.reshape(c, M * BLOCKS), both.reshape(c, M * K)], axis=1
    )


def fit_span_posterior(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: FieldScore | None = None,
    seed: int = 0,
    ridge: float = RIDGE,
) -> Any:
    """Logistic regression over all spans that anybody proposes: is it right, given who says what there?

    ridge: of all weights but the base; that of class and member together is 3 times as much. The threshold is
    that with the best `score` (exact F1 by default) when each of 5 parts of the rows is judged by the others.
    Of more than MOST_SPANS spans every second, third ... row is fitted to. weights: (n,) of rows. seed has no
    influence. Gives a `SpanPosterior`, or `Single` where the best member
    does better on the same rows. Raises OutputsError and TruthError.
    """
    score = score or _f1()
    _row_mass(truth, outputs, weights)
    thin = slice(None, None, _step(outputs))
    some = {n: o.take(thin) for n, o in outputs.items()}
    part = None if weights is None else np.asarray(weights, np.float64)[thin]
    fitted = _posterior(some, truth.take(thin), part, score, ridge)
    return guarded(fitted, outputs, truth, score, weights)


def _step(outputs: Mapping[str, Any]) -> int:
    """1 where all rows are fitted to, 2 for every second ..., where there are very many spans."""
    return max(1, -(-sum(len(o.starts) for o in outputs.values()) // MOST_SPANS))


def _posterior(
    outputs: Mapping[str, Any], truth: Spans, weights: Any, score: FieldScore, ridge: float
) -> SpanPosterior:
    mass = _row_mass(truth, outputs, weights)
    laid = lay(outputs)
    found = distinct(laid)
    classes = tuple(sorted({*laid.classes, *truth.classes}))
    X = features(laid, found, laid.names, classes)
    y = _right(laid, found, truth)
    M, K = len(laid.names), len(classes)
    penalty = ridge * np.concatenate([[1e-3], np.ones(K + M * BLOCKS), np.full(M * K, 3.0)])
    w = logistic(X, y, mass[found.row], penalty)
    part = found.row % FOLDS
    held_out = np.zeros(len(found))
    for fold in range(FOLDS):
        without = logistic(X, y, np.where(part == fold, 0.0, mass[found.row]), penalty, start=w)
        held_out[part == fold] = _probability(X[part == fold], without)
    threshold = _threshold(laid, found, held_out, outputs, truth, score, weights)
    cuts = np.cumsum([1, K, M * BLOCKS])
    base, by_class, by_member, by_both = np.split(w, cuts)
    return SpanPosterior(
        laid.names,
        classes,
        float(base[0]),
        by_class,
        by_member.reshape(M, BLOCKS),
        by_both.reshape(M, K),
        threshold,
    )


def _f1() -> FieldScore:
    from conjoin.scores.spans import SCORES

    return SCORES["f1"]


def _row_mass(truth: Any, outputs: Mapping[str, Any], weights: Any) -> Array:
    if not isinstance(truth, Spans):
        raise TruthError(f"spans are fitted to a truth of spans, not {getattr(truth, 'kind', truth)}")
    rows = len(next(iter(outputs.values()), truth))
    if len(truth) != rows:
        raise TruthError(f"the members answered {rows} rows, the truth has {len(truth)}")
    mass = np.ones(rows) if weights is None else np.asarray(weights, np.float64)
    return np.asarray(mass * truth.answered)


def _right(laid: Laid, found: Distinct, truth: Spans) -> Array:
    """(c,) 1 where the different span is in the truth."""
    row = np.repeat(np.arange(len(truth)), np.diff(truth.offsets)).tolist()
    names = [truth.classes[k] for k in truth.codes]
    true = set(zip(row, truth.starts.tolist(), truth.ends.tolist(), names, strict=True))
    said = zip(found.row.tolist(), found.start.tolist(), found.end.tolist(), found.code.tolist(), strict=True)
    return np.array([(r, a, b, laid.classes[k]) in true for r, a, b, k in said], dtype=np.float64)


def _threshold(
    laid: Laid,
    found: Distinct,
    p: Array,
    outputs: Mapping[str, Any],
    truth: Spans,
    score: FieldScore,
    weights: Any,
) -> float:
    """The threshold with the best score: between neighbouring probabilities of at most 40 quantiles."""
    if not len(p):
        return 0.5
    answer = graded(laid, found, p, outputs)
    kept = apart(found.row, found.start, found.end, p, found.code)
    tried = np.unique(np.round(np.quantile(p[kept], np.linspace(0.0, 1.0, 41)), 6))
    losses = np.array([score.loss(answer(float(t)), truth, weights) for t in tried])
    losses = np.where(np.isnan(losses), np.inf, losses)
    smooth = np.convolve(np.pad(losses, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
    return float(tried[int(np.argmin(smooth))])


def _probability(X: Array, w: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(X @ w, -500.0, 500.0))))


def logistic(
    X: Array, y: Array, mass: Array, penalty: Array, *, start: Array | None = None, steps: int = 60
) -> Array:
    """Weights of the least  sum mass log-loss + sum penalty w^2 / 2, by Newton's method.

    X (c, P), y (c,) 0 or 1, mass (c,), penalty (P,) above 0; start (P,) or zeros.
    """
    w = np.zeros(X.shape[1]) if start is None else start.copy()
    kept = mass > 0
    X, y, mass = X[kept], y[kept], mass[kept]
    for _ in range(steps):
        p = _probability(X, w)
        slope = X.T @ (mass * (y - p)) - penalty * w
        bend = (X * (mass * p * (1.0 - p))[:, None]).T @ X + np.diag(penalty)
        step = np.linalg.solve(bend, slope)
        size = float(np.abs(step).max())
        w = w + step * min(1.0, 4.0 / max(size, 1e-12))
        if size < 1e-9:
            break
    return w


def fit_span_vote(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: FieldScore | None = None,
    seed: int = 0,
) -> Any:
    """The weights and threshold of `span_vote` with the least loss on the truth.

    Tried are equal weights, and log(P / (1 - P)) - log(q / (1 - q)) with P the precision of a member and q
    half the lowest; overlaps of 1 and 0.5; and as thresholds the shares that occur (at most 24). score:
    exact F1 by default. weights: (n,) of rows. seed has no influence. Gives an `Applied`, or `Single` where
    the best member does better. Raises OutputsError and TruthError.
    """
    score = score or _f1()
    mass = _row_mass(truth, outputs, weights)
    best: tuple[float, dict[str, float], dict[str, Any]] | None = None
    for shares in _shares(outputs, truth, mass):
        for overlap in (1.0, 0.5):
            answer, scores = _graded_vote(outputs, shares, overlap)
            if len(scores) > 24:
                scores = np.unique(np.quantile(scores, np.linspace(0.0, 1.0, 24), method="lower"))
            for share in np.clip(scores, 0.0, 1.0).tolist():
                loss = score.loss(answer(share - ROUNDING), truth, weights)
                if best is None or loss < best[0] - 1e-12:
                    best = (loss, shares, {"share": share, "overlap": overlap})
    if best is None:
        best = (0.0, dict.fromkeys(outputs, 1.0), {})
    return guarded(Applied("spans", "span_vote", best[1], best[2]), outputs, truth, score, weights)


def _graded_vote(
    outputs: Mapping[str, Any], shares: Mapping[str, float], overlap: float
) -> tuple[Callable[[float], Spans], Array]:
    """The answer of `span_vote` at each threshold, and the different scores, rounded."""
    laid = lay(outputs, shares)
    found = distinct(laid)
    score = laid.shares @ supports(laid, found, overlap, scored=False) / laid.mass[found.row]
    return graded(laid, found, score, outputs), np.unique(np.round(score, 6))


def _shares(outputs: Mapping[str, Any], truth: Spans, mass: Array) -> list[dict[str, float]]:
    from conjoin.scores.spans import exact_counts

    found = {}
    for name, output in sorted(outputs.items()):
        table = np.nan_to_num(exact_counts(output, truth)) * mass[:, None]
        found[name] = float((table[:, 0].sum() + 0.5) / (table[:, 1].sum() + 1.0))
    floor = min(found.values()) / 2.0
    odds = {n: float(np.log(p / (1.0 - p)) - np.log(floor / (1.0 - floor))) for n, p in found.items()}
    return [dict.fromkeys(found, 1.0), odds]
