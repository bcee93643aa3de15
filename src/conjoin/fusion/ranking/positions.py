"""The probabilistic family: how likely an item is to be relevant, told by where it stands in a member's list.

For each member the chance of relevance at a position is estimated on judged rows; an item's score is the sum
over members. ProbFuse (Lillis et al. 2006), SegFuse (Shokouhi 2007), SlideFuse (Lillis et al. 2008), PosFuse
and MAPFuse (Lillis et al. 2010), BayesFuse (Aslam and Montague 2001).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from conjoin.errors import BundleError, OutputsError, listed, nearest
from conjoin.fusion.packing import ask, known, members_of
from conjoin.fusion.ranking.judged import Judged, judged
from conjoin.fusion.ranking.norms import normalised
from conjoin.fusion.ranking.pool import Pool, pool
from conjoin.fusion.ranking.sums import combined
from conjoin.fusion.single import guarded
from conjoin.kernels import ranking as kernels
from conjoin.outputs import Ranking
from conjoin.scores.ranking import MEASURES, SCORES

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json

CUTS = np.array([0, 5, 10, 15, 20, 30, 100, 200, 500, 1000])
"""Where the segments of BayesFuse begin and end."""
ENDS = np.array([0, *(10 * 2**k - 5 for k in range(10))])
"""Where those of SegFuse do: each is about twice as long as the one before it."""
LEAST = float(np.log(0.001 / 0.999))
"""BayesFuse's log-odds of an item that a list lacks, or has below position 1,000."""


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """A fuser of the family. Make one with a `fit_...` function.

    method: one of `METHODS`. numbers: by member, what it needs: probfuse (segments,), segfuse (10,) chances
    of each segment; slidefuse and posfuse (L,) of each position; mapfuse (1,) the mean average precision;
    bayesfuse (1000,) log-odds of each position. window: positions to each side, of slidefuse. norm: of the
    scores that segfuse reads. Called with fewer members, the others count. Raises OutputsError.
    """

    method: str
    numbers: Mapping[str, Array]
    window: int = 5
    norm: str | None = "min_max"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise OutputsError(
                f"no method {self.method!r}{nearest(self.method, METHODS)}; there are {listed(METHODS)}"
            )
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 0:
            raise OutputsError(f"window must be a whole number from 0, not {self.window!r}")
        found = {str(n): np.asarray(v, np.float64).reshape(-1) for n, v in sorted(self.numbers.items())}
        bad = [n for n, v in found.items() if not len(v) or not np.isfinite(v).all()]
        if bad:
            raise OutputsError(f"{self.method} needs finite numbers for {listed(bad)}")
        object.__setattr__(self, "numbers", found)

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members it knows."""
        return tuple(self.numbers)

    @property
    def needs(self) -> tuple[str, ...]:
        """The same: every member counts."""
        return self.members

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Ranking:
        """Fuse. Raises OutputsError on a member it was not fitted to."""
        known(self.members, outputs)
        laid = pool(outputs)
        values = METHODS[self.method](self, laid)
        fill = LEAST if self.method == "bayesfuse" else np.nan
        return laid.ranking(combined(laid, kernels.SUM, values, np.full(laid.lengths.shape, fill)))

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The numbers of all members, one after another, and where they end."""
        parts = list(self.numbers.values())
        arrays = {
            "numbers": np.concatenate(parts) if parts else np.empty(0),
            "ends": np.cumsum([len(p) for p in parts], dtype=np.int64),
        }
        return arrays, {
            "members": list(self.numbers),
            "method": self.method,
            "window": self.window,
            "norm": self.norm,
        }

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names = members_of(meta)
        ends = ask(arrays, "ends", (len(names),)).astype(np.int64)
        flat = ask(arrays, "numbers", (None,))
        if bool((np.diff(ends, prepend=0) < 1).any()) or (len(names) and ends[-1] != len(flat)):
            raise BundleError("the ends of packed numbers by position do not fit")
        numbers = dict(zip(names, np.split(flat, ends[:-1]), strict=True)) if names else {}
        norm, window = meta.get("norm"), meta.get("window")
        try:
            return cls(
                str(meta.get("method")), numbers, cast(int, window), None if norm is None else str(norm)
            )
        except OutputsError as error:
            raise BundleError(f"a packed fuser by positions does not make sense: {error}") from error


def _by_member(fuser: Positions, laid: Pool, one: Callable[[Array, Array, Array], Array]) -> Array:
    """(T,): one(numbers, positions, lengths) of each member's entries."""
    positions, lengths = laid.positions(), laid.spread(laid.lengths)
    out = np.zeros(len(laid.ids))
    total = laid.lengths.sum(axis=1)
    for name, low, high in zip(laid.names, np.cumsum(total) - total, np.cumsum(total), strict=True):
        out[low:high] = one(fuser.numbers[name], positions[low:high], lengths[low:high])
    return out


def _held(numbers: Array, at: Array, beyond: float = 0.0) -> Array:
    return np.where(at < len(numbers), numbers[np.minimum(at, len(numbers) - 1)], beyond)


def _probfuse(fuser: Positions, laid: Pool) -> Array:
    def one(probs: Array, at: Array, lengths: Array) -> Array:
        segment = at // -(-lengths // len(probs))
        return cast("Array", probs[segment] / (segment + 1))

    return _by_member(fuser, laid, one)


def _segfuse(fuser: Positions, laid: Pool) -> Array:
    chances = _by_member(fuser, laid, lambda p, at, _: _held(p, np.searchsorted(ENDS, at, side="right") - 1))
    return cast("Array", chances * (normalised(laid, fuser.norm) + 1))


def _slidefuse(fuser: Positions, laid: Pool) -> Array:
    def one(probs: Array, at: Array, lengths: Array) -> Array:
        low, high = np.maximum(at - fuser.window, 0), np.minimum(at + fuser.window, lengths - 1)
        before = np.concatenate([[0.0], np.cumsum(probs)])
        top = len(probs)
        return cast(
            "Array", (before[np.minimum(high + 1, top)] - before[np.minimum(low, top)]) / (high - low + 1)
        )

    return _by_member(fuser, laid, one)


def _posfuse(fuser: Positions, laid: Pool) -> Array:
    return _by_member(fuser, laid, lambda p, at, _: _held(p, at))


def _mapfuse(fuser: Positions, laid: Pool) -> Array:
    return _by_member(fuser, laid, lambda p, at, _: p[0] / (at + 1))


def _bayesfuse(fuser: Positions, laid: Pool) -> Array:
    return _by_member(fuser, laid, lambda p, at, _: _held(p, at, LEAST))


METHODS: dict[str, Callable[[Positions, Pool], Array]] = {
    "probfuse": _probfuse,
    "segfuse": _segfuse,
    "slidefuse": _slidefuse,
    "posfuse": _posfuse,
    "mapfuse": _mapfuse,
    "bayesfuse": _bayesfuse,
}
"""What an entry of a list counts, by method."""


def fit_probfuse(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    segments: int | None = None,
) -> Any:
    """ProbFuse: each list in `segments` equal parts; the sum over members of P(relevant | part k) / k.

    segments: None tries 5, 10, 25 and 50 and keeps the one with the best score on these rows.
    """
    if segments is not None and (isinstance(segments, bool) or not isinstance(segments, int) or segments < 1):
        raise OutputsError(f"segments must be a whole number from 1, not {segments!r}")
    task = judged(outputs, truth, weights, score)
    counts = (5, 10, 25, 50) if segments is None else (segments,)
    fusers = [Positions("probfuse", in_equal_parts(task, k)) for k in counts]
    return _best(fusers, outputs, truth, score, weights)


def fit_segfuse(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    norm: str | None = "min_max",
) -> Any:
    """SegFuse: parts of doubling length; the sum over members of P(relevant | part) (1 + normed score)."""
    task = judged(outputs, truth, weights, score)
    return _guarded("segfuse", in_doubling_parts(task), outputs, truth, score, weights, norm=norm)


def fit_slidefuse(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    window: int | None = None,
) -> Any:
    """SlideFuse: the sum over members of P(relevant | positions up to `window` away).

    window: None tries 1, 2, 5, 10 and 20 and keeps the one with the best score on these rows.
    """
    task = judged(outputs, truth, weights, score)
    chances = by_position(task)
    widths = (1, 2, 5, 10, 20) if window is None else (window,)
    fusers = [Positions("slidefuse", chances, w) for w in widths]
    return _best(fusers, outputs, truth, score, weights)


def fit_posfuse(
    outputs: Mapping[str, Any], truth: Any, *, weights: Any = None, score: Any = None, seed: int = 0
) -> Any:
    """PosFuse: the sum over members of P(relevant | position)."""
    task = judged(outputs, truth, weights, score)
    return _guarded("posfuse", by_position(task), outputs, truth, score, weights)


def fit_mapfuse(
    outputs: Mapping[str, Any], truth: Any, *, weights: Any = None, score: Any = None, seed: int = 0
) -> Any:
    """MAPFuse: the sum over members of (the member's mean average precision) / rank."""
    task = judged(outputs, truth, weights, score)
    return _guarded("mapfuse", precisions(task), outputs, truth, score, weights)


def fit_bayesfuse(
    outputs: Mapping[str, Any], truth: Any, *, weights: Any = None, score: Any = None, seed: int = 0
) -> Any:
    """BayesFuse: the sum over members of log(P(relevant | segment) / P(not relevant | segment)).

    Segments end at 5, 10, 15, 20, 30, 100, 200, 500 and 1,000; a chance of 0 or 1 is moved by 0.001.
    """
    task = judged(outputs, truth, weights, score)
    return _guarded("bayesfuse", log_odds(task), outputs, truth, score, weights)


def _best(fusers: list[Positions], outputs: Any, truth: Any, score: Any, weights: Any) -> Any:
    """The first of those with the best score, or the best single member."""
    told = score or SCORES["ndcg@10"]
    best = fusers[0]
    if len(fusers) > 1:
        best = min(fusers, key=lambda f: told.loss(f(outputs), truth, weights))
    return guarded(best, outputs, truth, told, weights)


def _guarded(
    method: str,
    numbers: Mapping[str, Array],
    outputs: Any,
    truth: Any,
    score: Any,
    weights: Any,
    **options: Any,
) -> Any:
    fuser = Positions(method, numbers, **options)
    return guarded(fuser, outputs, truth, score or SCORES["ndcg@10"], weights)


def by_position(task: Judged) -> dict[str, Array]:
    """(L,) by member: the share of judged lists that have a relevant item at each position they reach."""
    laid = task.pool
    at, mass, hits = laid.positions(), _mass(task), task.hits
    out = {}
    for m, name in enumerate(laid.names):
        own = _entries(laid, m)
        top = max(1, int(laid.lengths[m].max()) if laid.lengths.size else 1)
        seen = np.bincount(at[own], mass[own], top)
        out[name] = _ratio(np.bincount(at[own], mass[own] * hits[own], top), seen)
    return out


def precisions(task: Judged) -> dict[str, Array]:
    """(1,) by member: its mean average precision."""
    laid, found = task.pool, task.found
    places = laid.table(laid.positions() + 1.0, np.full(laid.lengths.shape, np.inf))
    ranks = np.full((len(laid.names), len(task.wanted)), np.inf)
    there = task.wanted >= 0
    ranks[:, there] = places[task.wanted[there]].T
    rows = [MEASURES["map"](found, r, np.inf, w) for r, w in zip(ranks, laid.lengths, strict=True)]
    return {n: np.array([float(r @ task.mass)]) for n, r in zip(laid.names, rows, strict=True)}


def in_equal_parts(task: Judged, segments: int) -> dict[str, Array]:
    """(segments,) by member: mean over its judged lists of the share of relevant items in each equal part."""
    laid = task.pool
    sizes = np.maximum(-(-laid.spread(laid.lengths) // segments), 1)
    out = {}
    for m, found, size in _found(task, laid.positions() // sizes, segments):
        mass = task.weights * laid.spoken[m]
        out[laid.names[m]] = _ratio(mass @ _ratio(found, size), mass.sum())
    return out


def in_doubling_parts(task: Judged) -> dict[str, Array]:
    """(10,) by member: relevant items in each segment of SegFuse over its length, mean over judged lists."""
    return _in_parts(task, ENDS)


def log_odds(task: Judged) -> dict[str, Array]:
    """(1000,) by member: log-odds of relevance at each position."""
    out = {}
    for name, chance in _in_parts(task, CUTS).items():
        chance = np.where(chance == 0, 0.001, chance)
        odds = chance / np.where(chance == 1, 0.001, 1 - chance)
        out[name] = np.repeat(np.log(odds), np.diff(CUTS))
    return out


def _in_parts(task: Judged, cuts: Array) -> dict[str, Array]:
    laid, parts = task.pool, len(cuts) - 1
    out = {}
    for m, found, _ in _found(task, np.searchsorted(cuts, laid.positions(), side="right") - 1, parts):
        mass = task.weights * laid.spoken[m]
        out[laid.names[m]] = _ratio(mass @ found, mass.sum() * np.diff(cuts))
    return out


def _found(task: Judged, part: Array, parts: int) -> Iterator[tuple[int, Array, Array]]:
    """For each member (m, relevant items (n, parts), items (n, parts)); part: (T,) of each entry."""
    laid, hits, rows = task.pool, task.hits, len(task.weights)
    row = laid.spread(np.broadcast_to(np.arange(rows), laid.lengths.shape))
    for m in range(len(laid.names)):
        own = _entries(laid, m)
        own = own[part[own] < parts]
        at = row[own] * parts + part[own]
        found = np.bincount(at, hits[own].astype(np.float64), rows * parts)
        items = np.bincount(at, minlength=rows * parts)
        yield m, found.reshape(rows, parts), items.reshape(rows, parts)


def _entries(laid: Pool, m: int) -> Array:
    total = laid.lengths.sum(axis=1)
    begin = int(total[:m].sum())
    return np.arange(begin, begin + int(total[m]))


def _mass(task: Judged) -> Array:
    return task.pool.spread(np.broadcast_to(task.weights, task.pool.lengths.shape))


def _ratio(a: Array, b: Any) -> Array:
    a = np.asarray(a, np.float64)
    b = np.broadcast_to(b, a.shape)
    return cast("Array", np.divide(a, b, out=np.zeros(a.shape), where=b > 0))
