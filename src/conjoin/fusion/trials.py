"""The automatic choice for kinds that have a family: cross-validation over rows, best single member first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import OutputsError, TruthError, listed, nearest
from conjoin.fusion.applied import Applied
from conjoin.fusion.choose import Candidate, Choice
from conjoin.fusion.kinds import family
from conjoin.fusion.single import as_fused, fit_single, guarded
from conjoin.outputs import Embeddings, Output, Probabilities, concat
from conjoin.scores import default_score, estimate, paired

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.scores import FieldScore, Score

SINGLE = "best_single"
MARGIN = 0.25
"""How many standard errors of the paired difference a fuser must be ahead of a simpler choice."""
LEAST = 4
"""With fewer rows than this there is nothing to hold out: only plain operators are tried."""
FEW = 300
"""With fewer rows than this, folds are drawn twice."""


@dataclass(frozen=True, slots=True, eq=False)
class _Tried:
    """A contender and its answers to rows that it was not fitted to, one output a repeat."""

    name: str
    answers: tuple[Output, ...]
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """What is tried on: rows with a truth. cuts: for each repeat the test rows of its folds."""

    outputs: Mapping[str, Any]
    truth: Any
    weights: Array | None
    score: Score | FieldScore
    cuts: tuple[tuple[Array, ...], ...]
    seed: int


def choose_by_trial(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    score: Score | FieldScore | None = None,
    weights: Any = None,
    groups: Any = None,
    seed: int = 0,
    folds: int = 5,
    deadline: float | None = None,
    candidates: Sequence[str] | None = None,
) -> Choice:
    """The operator of the kind's family that does best on rows that it was not fitted to.

    Each of the family's CANDIDATES is fitted on all folds but one and answers that one; so is the choice of
    the best single member, the first contender. A later contender takes over where its loss is lower by
    `MARGIN` standard errors of the paired difference. The winner is fitted to all rows with a truth; where
    the best single member still does better on these, that one is taken.

    outputs, truth: as of the kind's operators; rows whose truth is not answered do not count. weights,
    groups: (n,) of rows; rows of a group stay in one fold. candidates: names, all of the family by default.
    deadline: a time.monotonic value after which no contender starts. Same input and seed, same choice, where
    no deadline cuts it short. Raises OutputsError, TruthError.
    """
    rows = _rows(outputs, truth, score, weights, groups, seed, folds)
    kind = next(iter(rows.outputs.values())).kind
    spoken = any(getattr(o, "ragged", ()) for o in rows.outputs.values()) and kind == "texts"
    contenders = _contenders(kind, candidates, spoken=spoken)
    best = _try(rows, SINGLE, _fit_single, plain=False)
    table = [_told(rows, best, None, None)]
    tried = [best]
    for name, fit, plain in contenders:
        if not plain and len(rows.truth) < LEAST:
            table.append(_missed(name, f"needs {LEAST} rows with a truth"))
            continue
        if deadline is not None and time.monotonic() > deadline:
            table.append(_missed(name, "no time left"))
            continue
        try:
            one = _try(rows, name, fit, plain=plain)
        except (OutputsError, TruthError, ArithmeticError, np.linalg.LinAlgError) as error:
            table.append(_missed(name, f"cannot be fitted: {error}"))
            continue
        tried.append(one)
        ahead = _ahead(rows, one, best)
        table.append(_told(rows, one, best, _outcome(one, best, ahead=ahead)))
        best = one if ahead else best
    fits = {SINGLE: _fit_single, **{name: fit for name, fit, _ in contenders}}
    fuser = guarded(
        _call(fits[best.name], rows.outputs, rows), rows.outputs, rows.truth, rows.score, rows.weights
    )
    outcomes = tuple(_closed(c, best.name) for c in table)
    members = tuple(getattr(fuser, "members", ()) or sorted(outputs))
    return Choice(fuser, members, best.name, rows.score.name, outcomes, {}, ())


def _rows(
    outputs: Mapping[str, Any], truth: Any, score: Any, weights: Any, groups: Any, seed: int, folds: int
) -> _Rows:
    if not outputs:
        raise OutputsError("there is nothing to fuse: no outputs")
    lengths = {n: len(o) for n, o in outputs.items()}
    if set(lengths.values()) != {len(truth)}:
        raise OutputsError(f"outputs and truth differ in rows: {listed(lengths.items())}, truth {len(truth)}")
    known = np.flatnonzero(truth.answered)
    if not len(known):
        raise TruthError("no row has a truth to learn from")
    inside = None if groups is None else np.asarray(groups)[known]
    cuts = tuple(
        _cuts(len(known), folds, seed + repeat, inside) for repeat in range(2 if len(known) < FEW else 1)
    )
    mass = None if weights is None else np.asarray(weights, dtype=np.float64)[known]
    some = {n: outputs[n].take(known) for n in sorted(outputs)}
    return _Rows(some, truth.take(known), mass, score or default_score(next(iter(some.values()))), cuts, seed)


def _cuts(n: int, folds: int, seed: int, groups: Array | None) -> tuple[Array, ...]:
    """Test rows of each fold; one fold with all rows where there are too few to cut."""
    if n < LEAST:
        return (np.arange(n),)
    rng = np.random.default_rng(seed)
    if groups is None:
        return tuple(np.sort(part) for part in np.array_split(rng.permutation(n), min(folds, n // 2)))
    _, codes = np.unique(groups, return_inverse=True)
    count = int(codes.max()) + 1
    at = rng.permutation(count) % max(2, min(folds, count))
    return tuple(np.flatnonzero(at[codes] == f) for f in range(int(at.max()) + 1))


Fit = Callable[..., Any]


def _contenders(kind: str, names: Sequence[str] | None, *, spoken: bool) -> list[tuple[str, Fit, bool]]:
    """(name, fit, whether it is plain) of each; a fitted operator wins over a plain one of its name.

    Of recognised speech (texts with times or confidences of words) only operators for speech contend.
    """
    found = family(kind)
    out: list[tuple[str, Fit, bool]] = []
    for name in (found.SPOKEN if spoken else found.CANDIDATES) if names is None else names:
        if name in found.FIT_FUSERS:
            out.append((name, found.FIT_FUSERS[name], False))
        elif name in found.FUSERS:
            out.append((name, _plain(kind, name), True))
        elif name != SINGLE:
            known = [*found.FUSERS, *found.FIT_FUSERS]
            raise OutputsError(
                f"no operator {name!r} for {kind}{nearest(name, known)}; there are {listed(known, 40)}"
            )
    return out


def _plain(kind: str, name: str) -> Fit:
    return lambda outputs, truth, **_: Applied(kind, name, {}, {})


def _fit_single(outputs: Mapping[str, Any], truth: Any, **options: Any) -> Any:
    return fit_single(outputs, truth, **options)


def _call(fit: Fit, outputs: Mapping[str, Any], rows: _Rows, at: Array | None = None) -> Any:
    truth = rows.truth if at is None else rows.truth.take(at)
    mass = rows.weights if at is None or rows.weights is None else rows.weights[at]
    return fit(outputs, truth, weights=mass, score=rows.score, seed=rows.seed)


def _try(rows: _Rows, name: str, fit: Fit, *, plain: bool) -> _Tried:
    begin = time.process_time()
    if plain:
        whole = _fused(_call(fit, rows.outputs, rows), rows.outputs, rows.truth)
        answers = [whole] * len(rows.cuts)
    else:
        answers = [_held_out(rows, fit, cut) for cut in rows.cuts]
    seconds = time.process_time() - begin
    losses = [rows.score.loss(a, rows.truth, rows.weights) for a in answers]
    return _Tried(name, tuple(answers), float(np.mean(losses)), seconds)


def _held_out(rows: _Rows, fit: Fit, cut: tuple[Array, ...]) -> Output:
    n = len(rows.truth)
    parts = []
    for test in cut:
        rest = np.setdiff1d(np.arange(n), test) if len(cut) > 1 else test
        fuser = _call(fit, {m: o.take(rest) for m, o in rows.outputs.items()}, rows, rest)
        parts.append(_fused(fuser, {m: o.take(test) for m, o in rows.outputs.items()}, rows.truth))
    return concat(_even(parts)).take(np.argsort(np.concatenate(cut)))


def _even(parts: list[Output]) -> list[Output]:
    """Vectors of one length, filled up with zeros: one fold may leave out a member that another keeps."""
    if not all(isinstance(p, Embeddings) for p in parts):
        return parts
    vectors = cast("list[Embeddings]", parts)
    width = max(p.values.shape[-1] for p in vectors)
    gaps = [[(0, 0)] * (p.values.ndim - 1) + [(0, width - p.values.shape[-1])] for p in vectors]
    return [replace(p, values=np.pad(p.values, gap)) for p, gap in zip(vectors, gaps, strict=True)]


def _fused(fuser: Any, outputs: Mapping[str, Any], truth: Any) -> Output:
    names = getattr(fuser, "members", ()) or outputs
    fused = as_fused(fuser({n: outputs[n] for n in names if n in outputs}))
    classes = getattr(fused, "classes", None)
    if isinstance(fused, Probabilities) and classes is not None:
        every = {c for o in outputs.values() for c in getattr(o, "classes", ())} | {*truth.classes, *classes}
        return fused.align(sorted(every))
    return fused


def _ahead(rows: _Rows, one: _Tried, best: _Tried) -> bool:
    """Is it better than the best so far, by `MARGIN` standard errors of the paired difference?"""
    if not math.isfinite(one.loss) or one.loss >= best.loss:
        return False
    _, error = _difference(rows, one, best)
    return one.loss < best.loss - MARGIN * (error if math.isfinite(error) else 0.0)


def _difference(rows: _Rows, one: _Tried, other: _Tried) -> tuple[float, float]:
    """Mean difference of losses over the repeats, and its standard error (that of the first repeat)."""
    first = paired(cast(Any, rows.score), one.answers[0], other.answers[0], rows.truth, rows.weights)
    return one.loss - other.loss, first.standard_error


def _told(rows: _Rows, one: _Tried, best: _Tried | None, outcome: str | None) -> Candidate:
    score = cast(Any, rows.score)
    error = estimate(score, one.answers[0], rows.truth, rows.weights).standard_error
    mean, spread = (None, None) if best is None else _difference(rows, one, best)
    return Candidate(
        one.name,
        score.turned(one.loss),
        error,
        None if best is None else best.name,
        mean,
        spread,
        None,
        one.seconds / max(1, len(rows.truth)),
        None,
        outcome or "gave way",
    )


def _outcome(one: _Tried, best: _Tried, *, ahead: bool) -> str:
    if ahead:
        return f"took over from {best.name}"
    return f"{'better than' if one.loss < best.loss else 'not better than'} {best.name}" + (
        ", but not beyond chance" if one.loss < best.loss else ""
    )


def _missed(name: str, why: str) -> Candidate:
    return Candidate(name, None, None, None, None, None, None, None, None, why)


def _closed(candidate: Candidate, winner: str) -> Candidate:
    return replace(candidate, outcome="chosen") if candidate.name == winner else candidate
