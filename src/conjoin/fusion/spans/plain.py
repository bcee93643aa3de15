"""Fusers of spans without fitting: votes on whole spans, votes on stretches, and fused boundaries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError, listed
from conjoin.fusion.spans.laid import Distinct, Laid, apart, distinct, fused, lay
from conjoin.fusion.stack import Weights
from conjoin.outputs import Spans

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array

DECODERS = ("repair", "viterbi")
ROUNDING = 1e-9
"""A share that is short of its threshold by no more reaches it; halves round up."""


def span_vote(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    votes: float | None = None,
    share: float = 0.5,
    overlap: float = 1.0,
    scored: bool = False,
) -> Spans:
    """Keep each span that enough members propose.

    The score of a span is sum_m w_m v_m / sum_m w_m over the members that answer the row: v_m = 1 where m has
    a span of this class with an intersection over union of at least `overlap` with it (1: the same ends),
    or that span's score where `scored`. Kept are spans of score >= share, or, where `votes` is given, those
    of at least so many members (n of m). Of kept spans that overlap, the one with the higher score stays,
    then the longer. A row that one member answers alone is that member's. Raises OutputsError.

    >>> a = Spans([0, 9], [5, 12], [1.0, 1.0], [0, 0], [0, 2], ["place"])
    >>> b = Spans([0], [5], [1.0], [0], [0, 1], ["place"])
    >>> span_vote({"a": a, "b": b}, votes=2).ends
    array([5])
    """
    _fraction("share", share)
    _fraction("overlap", overlap)
    laid = lay(outputs, weights)
    found = distinct(laid)
    support = supports(laid, found, overlap, scored=scored)
    score = laid.shares @ support / laid.mass[found.row]
    enough = score >= share - ROUNDING if votes is None else (support > 0).sum(axis=0) >= votes - ROUNDING
    return chosen(laid, found, score, enough, outputs)


def chosen(laid: Laid, found: Distinct, score: Array, enough: Array, outputs: Mapping[str, Any]) -> Spans:
    """The spans with enough votes, without overlaps."""
    at = np.flatnonzero(enough)
    kept = at[apart(found.row[at], found.start[at], found.end[at], score[at], found.code[at])]
    return _some(laid, found, score, kept, outputs)


def graded(laid: Laid, found: Distinct, score: Array, outputs: Mapping[str, Any]) -> Callable[[float], Spans]:
    """From a threshold to the spans of at least that score, without overlaps.

    Higher scores are kept first, so that what overlaps is decided once for all thresholds.
    """
    kept = np.flatnonzero(apart(found.row, found.start, found.end, score, found.code))
    return lambda least: _some(laid, found, score, kept[score[kept] >= least], outputs)


def _some(laid: Laid, found: Distinct, score: Array, at: Array, outputs: Mapping[str, Any]) -> Spans:
    return fused(laid, found.row[at], found.start[at], found.end[at], found.code[at], score[at], outputs)


def supports(laid: Laid, found: Distinct, overlap: float, *, scored: bool) -> Array:
    """(M, c): what each member gives to each different span, 0 to 1 (its score, or 1)."""
    out = np.zeros((len(laid.names), len(found)))
    given = laid.score if scored else np.ones(len(laid.score))
    out[laid.member, found.of] = given
    if overlap < 1.0:
        span, candidate = meeting(laid, found)
        alike = (laid.code[span] == found.code[candidate]) & (
            _iou(laid.start[span], laid.end[span], found.start[candidate], found.end[candidate]) >= overlap
        )
        np.maximum.at(out, (laid.member[span[alike]], candidate[alike]), given[span[alike]])
    return out


def meeting(laid: Laid, found: Distinct) -> tuple[Array, Array]:
    """Pairs (span, different span) of the same row: their indices."""
    counts = np.bincount(found.row, minlength=laid.rows)
    first = np.concatenate([[0], np.cumsum(counts)])
    many = counts[laid.row]
    span = np.repeat(np.arange(len(laid.row)), many)
    step = np.arange(len(span)) - np.repeat(np.cumsum(many) - many, many)
    return span, np.repeat(first[laid.row], many) + step


def _iou(a: Array, b: Array, c: Array, d: Array) -> Array:
    inside = np.maximum(np.minimum(b, d) - np.maximum(a, c), 0)
    union = np.maximum((b - a) + (d - c) - inside, 1)
    return np.where((a == c) & (b == d), 1.0, inside / union)


def token_vote(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    decode: str = "repair",
    outside: float = 1.0,
    scored: bool = False,
) -> Spans:
    """Vote on the tag of each stretch of text: O, B-class (a span begins) or I-class (it goes on).

    Stretches are what lies between any two neighbouring ends of spans of the row, so that tokens need not be
    known. Each member gives its weight to its tag (where `scored`, its score of it, and the rest to O); where
    its own spans overlap, the one with the higher score counts. outside: what the weight of O is multiplied
    by; less than 1 finds more spans. decode: "repair" takes the tag with most
    weight (O first on a tie) and makes I-class a B-class where it follows neither B-class nor I-class;
    "viterbi" takes the sequence with the greatest product of shares in which that does not occur. The score
    of a span is its mean share. A row that one member answers alone is that member's. Raises OutputsError.

    >>> a = Spans([0], [8], [1.0], [0], [0, 1], ["place"])
    >>> b = Spans([0], [3], [1.0], [0], [0, 1], ["place"])
    >>> token_vote({"a": a, "b": a, "c": b}).ends
    array([8])
    """
    if decode not in DECODERS:
        raise OutputsError(f"token_vote decodes by {listed(DECODERS)}, not {decode!r}")
    if not (np.isfinite(outside) and outside >= 0):
        raise OutputsError(f"outside must be a finite number of at least 0, not {outside}")
    laid = lay(outputs, weights)
    cuts = np.concatenate([[0], np.cumsum(np.bincount(laid.row, minlength=laid.rows))])
    order = np.argsort(laid.row, kind="stable")
    spans: list[tuple[int, int, int, int, float]] = []
    for row in np.flatnonzero(np.diff(cuts)).tolist():
        at = order[cuts[row] : cuts[row + 1]]
        bounds, table, classes = _tag_shares(laid, at, float(laid.mass[row]), scored)
        table[:, 0] *= outside
        tags = _viterbi(table) if decode == "viterbi" else _repaired(table.argmax(axis=1))
        spans += [(row, *span) for span in _runs(bounds, table, tags, classes)]
    columns = np.array(spans, dtype=np.float64).reshape(-1, 5).T
    row, start, end, code = columns[:4].astype(np.int64)
    return fused(laid, row, start, end, code, columns[4], outputs)


def _tag_shares(laid: Laid, at: Array, mass: float, scored: bool) -> tuple[Array, Array, Array]:
    """Ends of stretches (s + 1,), shares of tags (s, 1 + 2 K) as O, B-, I-, B-, ... and the K classes."""
    start, end, score = laid.start[at], laid.end[at], laid.score[at]
    bounds = np.unique(np.concatenate([start, end]))
    classes, code = np.unique(laid.code[at], return_inverse=True)
    table = np.zeros((max(len(bounds) - 1, 0), 1 + 2 * len(classes)))
    mine = laid.member[at]
    kept = apart(mine, start, end, score, laid.code[at])
    low, high = np.searchsorted(bounds, start), np.searchsorted(bounds, end)
    for k in np.flatnonzero(kept & (high > low)):
        weight = laid.shares[mine[k]] * (min(max(float(score[k]), 0.0), 1.0) if scored else 1.0)
        table[low[k], 1 + 2 * code[k]] += weight
        table[low[k] + 1 : high[k], 2 + 2 * code[k]] += weight
    table[:, 0] = np.maximum(mass - table[:, 1:].sum(axis=1), 0.0)
    return bounds, np.round(table / mass, 12), classes


def _repaired(tags: Array) -> Array:
    """Tags in which each I-class follows a B-class or I-class of its class."""
    out = tags.copy()
    for k in range(len(out)):
        inside = out[k] > 0 and out[k] % 2 == 0
        if inside and (k == 0 or out[k - 1] not in (out[k] - 1, out[k])):
            out[k] -= 1
    return out


def _viterbi(table: Array) -> Array:
    """The sequence of tags with the greatest product of shares, without an I-class out of place."""
    logs = np.log(np.maximum(table, 1e-12))
    T = table.shape[1]
    before = np.arange(T)
    allowed = np.ones((T, T), dtype=bool)  # from, to
    for tag in range(2, T, 2):
        allowed[:, tag] = (before == tag) | (before == tag - 1)
    score = np.where((before > 0) & (before % 2 == 0), -np.inf, logs[0])
    back = np.zeros((len(table), T), np.int64)
    for k in range(1, len(table)):
        ways = np.where(allowed, score[:, None], -np.inf)
        back[k] = ways.argmax(axis=0)
        score = ways.max(axis=0) + logs[k]
    tags = np.empty(len(table), np.int64)
    tags[-1] = int(score.argmax())
    for k in range(len(table) - 1, 0, -1):
        tags[k - 1] = back[k, tags[k]]
    return tags


def _runs(bounds: Array, table: Array, tags: Array, classes: Array) -> list[tuple[int, int, int, float]]:
    """Start, end, class and mean share of each span of a sequence of tags."""
    found = []
    k = 0
    while k < len(tags):
        if tags[k] == 0:
            k += 1
            continue
        begin, tag = k, int(tags[k])
        k += 1
        while k < len(tags) and tags[k] == tag + 1:
            k += 1
        share = float(table[begin:k, tag : tag + 2].sum(axis=1).mean())
        found.append((int(bounds[begin]), int(bounds[k]), int(classes[(tag - 1) // 2]), share))
    return found


def weighted_boxes_fusion(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    iou_thr: float = 0.5,
    skip_box_thr: float = 0.0,
    least: float = 0.0,
) -> Spans:
    """Weighted boxes fusion in one dimension (Solovyev, Wang and Gabruseva 2021), on characters.

    Spans of a class, by falling weighted score, join the cluster whose fused span they overlap most, where
    the intersection over union is above iou_thr. Fused ends are means weighted by scores, rounded to whole
    characters; the score is the mean of w s over the cluster, times min(T, M) / N with T its spans, and M the
    number and N the sum of weights of the members that answer the row. Spans of a score below skip_box_thr
    are left out, and fused ones below `least`; of fused spans that overlap, the higher score stays.
    Raises OutputsError.

    >>> a = Spans([0], [8], [0.9], [0], [0, 1], ["place"])
    >>> b = Spans([0], [10], [0.1], [0], [0, 1], ["place"])
    >>> weighted_boxes_fusion({"a": a, "b": b}).ends
    array([8])
    """
    _fraction("iou_thr", iou_thr)
    laid = lay(outputs, weights)
    value = laid.score * laid.shares[laid.member]
    at = np.flatnonzero(laid.score >= skip_box_thr)
    order = at[
        np.lexsort((laid.member[at], laid.end[at], laid.start[at], -value[at], laid.code[at], laid.row[at]))
    ]
    spans: list[tuple[int, int, int, int, float]] = []
    group: list[int] = []
    for k in [*order.tolist(), -1]:
        if group and (k < 0 or (laid.row[k], laid.code[k]) != (laid.row[group[0]], laid.code[group[0]])):
            row = int(laid.row[group[0]])
            clusters = _clusters(laid, group, value, iou_thr)
            spans += [
                (row, a, b, int(laid.code[group[0]]), c) for a, b, c in _means(laid, clusters, value, row)
            ]
            group = []
        group.append(k)
    columns = np.array(spans, dtype=np.float64).reshape(-1, 5).T
    row, start, end, code = columns[:4].astype(np.int64)
    enough = np.flatnonzero(columns[4] >= least - ROUNDING)
    kept = enough[apart(row[enough], start[enough], end[enough], columns[4][enough], code[enough])]
    return fused(laid, row[kept], start[kept], end[kept], code[kept], columns[4][kept], outputs)


def _clusters(laid: Laid, group: list[int], value: Array, iou_thr: float) -> list[list[int]]:
    clusters: list[list[int]] = []
    ends: list[tuple[float, float]] = []
    for k in group:
        a, b = float(laid.start[k]), float(laid.end[k])
        best, most = -1, iou_thr
        for c, (low, high) in enumerate(ends):
            inside = max(min(b, high) - max(a, low), 0.0)
            union = (b - a) + (high - low) - inside
            iou = 1.0 if (a, b) == (low, high) else inside / union if union > 0 else 0.0
            if iou > most:
                best, most = c, iou
        if best < 0:
            clusters.append([k])
            ends.append((a, b))
        else:
            clusters[best].append(k)
            ends[best] = _mean_ends(laid, clusters[best], value)
    return clusters


def _mean_ends(laid: Laid, cluster: list[int], value: Array) -> tuple[float, float]:
    mass = np.maximum(value[cluster], 1e-12)
    return float(mass @ laid.start[cluster] / mass.sum()), float(mass @ laid.end[cluster] / mass.sum())


def _means(laid: Laid, clusters: list[list[int]], value: Array, row: int) -> list[tuple[int, int, float]]:
    total, members = float(laid.mass[row]), int(laid.present[:, row].sum())
    found = []
    for cluster in clusters:
        low, high = _mean_ends(laid, cluster, value)
        score = float(value[cluster].mean()) * min(len(cluster), members) / total
        found.append((int(low + 0.5 + ROUNDING), int(high + 0.5 + ROUNDING), score))
    return found


def _fraction(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise OutputsError(f"{name} must lie in 0 to 1, not {value}")
