"""`choose`: the fuser that wins by cross-validation, and does no harm."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.contracts import Cost
from conjoin.errors import InputError, OutputsError, listed
from conjoin.fusion import frugal
from conjoin.fusion.contest import (
    CONTENDERS,
    Contender,
    Folds,
    Gap,
    Held,
    Rows,
    bar,
    enters,
    expected_seconds,
    fitted,
    folds_for,
    rows_of,
    wins,
)
from conjoin.fusion.frugal import Subset
from conjoin.fusion.greedy import fit_greedy_selection
from conjoin.fusion.kinds import FAMILIES
from conjoin.fusion.linear import fit_mean
from conjoin.fusion.problems import problem
from conjoin.fusion.selected import Selected
from conjoin.fusion.threads import one_thread
from conjoin.scores import Score, default_score

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Array, Json

MOST_ROWS = 20_000
MOST_CELLS = 1_500_000
"""The search looks at no more rows, and at no more numbers, than these; the chosen fuser is fitted to all."""
INSTANT = 0.05
"""Seconds of work that a deadline does not forbid, so that there are pools to choose from."""
MOST_MEMBERS = 30
"""More members than this are first cut down to those that greedy selection or their own score brings in."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row of the table: what was tried, how it did on rows that it was not fitted to, what became of it.

    score: in the units of the asked score. standard_error: of it, over rows. difference: of the loss to the
    incumbent it was tested against (negative is better), with its corrected standard error and two-sided p.
    members: those with influence, where it is fitted to all rows searched. outcome: "chosen", or why not.
    """

    name: str
    score: float | None
    standard_error: float | None
    incumbent: str | None
    difference: float | None
    difference_error: float | None
    p: float | None
    cpu_seconds_per_row: float | None
    bytes: int | None
    outcome: str


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The chosen fuser, fitted to all rows, with everything that was tried.

    fuser: a fitted record. members: the names it was fitted to; give it the outputs of these. name: of the
    candidate. score: the asked one. dropped: members that were left out, each with the reason. front: subsets
    of members that nothing beats in loss, CPU time and bytes, by the reference pool. every: 1, or 2, 3 ...
    where a deadline left time for a fit to every second, third ... row only.
    """

    fuser: Any
    members: tuple[str, ...]
    name: str
    score: str
    candidates: tuple[Candidate, ...]
    dropped: Mapping[str, str]
    front: tuple[Subset, ...]
    every: int = 1

    def to_json(self) -> dict[str, Json]:
        """The tables as JSON; the fuser itself is not in it."""
        found = {
            "name": self.name,
            "score": self.score,
            "members": list(self.members),
            "candidates": [asdict(c) for c in self.candidates],
            "dropped": dict(self.dropped),
            "front": [asdict(s) | {"members": list(s.members)} for s in self.front],
        }
        return cast("dict[str, Json]", found)


def choose(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    score: Score | None = None,
    weights: Any = None,
    groups: Any = None,
    costs: Mapping[str, Cost] | None = None,
    max_latency: float | None = None,
    max_size: float | None = None,
    batch: Batch | None = None,
    seed: int = 0,
    folds: int = 5,
    deadline: float | None = None,
) -> Choice:
    """The fuser that wins, by cross-validation over the rows of the members' held-out outputs.

    Contenders come in order, from the best single member and the mean to networks. A richer one takes over
    only where it wins a paired test against the incumbent (standard errors corrected for overlapping fits,
    Nadeau and Bengio 2003). Then members are dropped that cost something and give nothing. The winner is
    fitted to all rows.

    outputs: answers for rows that the members did not learn from, by name. truth: Labels or Values. score:
    any Score; log-loss, RMSE or pinball loss by default. weights, groups: (n,) of the rows; rows of a group
    stay in one fold. costs: of members, by name. max_latency: CPU seconds per row, max_size: bytes, of the
    members kept. batch: columns for a gate and for dynamic selection, which have no ONNX form; leave it out
    for a fuser that can be exported. deadline: a time.monotonic value; contenders that are not expected to
    end in time do not start (but for those that take next to no time), and there is always a choice. Same
    input and seed, same choice, where no deadline cuts it short.
    Raises OutputsError, TruthError; InputError where no member keeps max_latency and max_size.
    """
    first = next(iter(outputs.values()), None)
    if first is not None and first.kind in FAMILIES:
        from conjoin.fusion.trials import choose_by_trial

        return choose_by_trial(
            outputs,
            truth,
            score=score,
            weights=weights,
            groups=groups,
            seed=seed,
            folds=folds,
            deadline=deadline,
        )
    rows = problem(outputs, truth, weights)
    score = score or default_score(rows.stack.output(rows.stack.parts[0]))
    some = None if batch is None else rows_of(batch, rows.at)
    inside = None if groups is None else np.asarray(groups)[rows.at]
    with one_thread():
        search, at = _searched(rows, seed)
        names, dropped = _affordable(search, score, costs, max_latency, max_size)
        search = search.only(names)
        cut = _safe_folds(folds, None if inside is None else inside[at])
        contest = folds_for(
            search,
            score,
            folds=cut,
            seed=seed,
            groups=None if inside is None else inside[at],
            batch=rows_of(some, at),
        )
        return _contest(contest, rows, names, dropped, costs, some, deadline)


def _searched(rows: Rows, seed: int) -> tuple[Rows, Array]:
    """At most MOST_ROWS rows and MOST_CELLS numbers, drawn at random, and where they are."""
    n, cells = rows.stack.rows, len(rows.stack.names) * rows.stack.width
    most = max(1000, min(MOST_ROWS, MOST_CELLS // max(1, min(cells, MOST_MEMBERS * rows.stack.width))))
    if n <= most:
        return rows, np.arange(n)
    at = np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
    return rows.rows(at), at


def _safe_folds(folds: int, groups: Any) -> int:
    if folds < 2:
        raise InputError(f"at least 2 folds are needed, not {folds}")
    if groups is None:
        return folds
    count = len(set(np.asarray(groups).astype(str).tolist()))
    if count < 2:
        raise OutputsError("all rows are of one group: there is nothing to validate on; leave groups out")
    return min(folds, count)


def _affordable(
    rows: Rows,
    score: Score,
    costs: Mapping[str, Cost] | None,
    max_latency: float | None,
    max_size: float | None,
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The members that take part, and why the others do not: too dear, too many, or together too dear."""
    names = rows.stack.names
    why = {
        n: "alone over the limit" for n in names if not frugal.fits_budget([n], costs, max_latency, max_size)
    }
    names = tuple(n for n in names if n not in why)
    if not names:
        raise InputError(
            f"no member keeps the limits (max_latency={max_latency}, max_size={max_size}); "
            f"the costs are {listed(f'{n}: {c}' for n, c in (costs or {}).items())}"
        )
    if len(names) > MOST_MEMBERS:
        kept = _brought_in(rows.only(names), score)
        why |= dict.fromkeys(
            (n for n in names if n not in kept), "of many members, not brought in by greedy selection"
        )
        names = kept
    if not frugal.fits_budget(names, costs, max_latency, max_size):
        path = frugal.elimination_path(rows, names, frugal.cost_shares(names, costs))
        kept = next(p for p in path if frugal.fits_budget(p, costs, max_latency, max_size))
        reason = "together the members are over the limit; this one gave less for its cost"
        why |= dict.fromkeys((n for n in names if n not in kept), reason)
        names = kept
    return names, why


def _brought_in(rows: Rows, score: Score) -> tuple[str, ...]:
    """Members that greedy selection picks, filled up with the best single ones."""
    given = rows.stack.outputs()
    pool = fit_greedy_selection(given, rows.truth, weights=rows.shares, picks=MOST_MEMBERS)
    picked = dict.fromkeys(pool.picks)
    losses = {n: score.loss(o, rows.truth, rows.shares) for n, o in rows.stack.outputs().items()}
    for name in sorted(losses, key=lambda n: (math.isnan(losses[n]), losses[n], n)):
        if len(picked) >= MOST_MEMBERS:
            break
        picked[name] = None
    return tuple(sorted(picked))


@dataclass(frozen=True, slots=True, eq=False)
class _Standing:
    """An incumbent: contender, held-out answers, members."""

    contender: Contender
    held: Held


def _contest(
    folds: Folds,
    rows: Rows,
    names: tuple[str, ...],
    dropped: dict[str, str],
    costs: Mapping[str, Cost] | None,
    batch: Batch | None,
    deadline: float | None,
) -> Choice:
    begun = time.monotonic()
    best, table = _rounds(folds, names, costs, _share_of(begun, deadline, 0.75))
    shares = frugal.cost_shares(names, costs)
    kept = _needed(folds, best.contender, names)
    why = {n: "no weight in the fused model" for n in names if n not in kept}
    if len(kept) > 1 and best.contender.name != "network" and not math.isnan(best.held.loss):
        start = best.held if kept == names else folds.held(best.contender, kept) or best.held
        until = _share_of(begun, deadline, 0.8)
        kept, more = frugal.thinned(folds, best.contender, kept, start, shares, until)
        why |= more
    every = _every(rows, folds, best, deadline)
    at = np.arange(0, len(rows.shares), every)
    final = rows.only(kept) if every == 1 else rows.only(kept).rows(at)
    fuser = fitted(best.contender, final, folds.score, folds.seed, rows_of(batch, at))
    path = frugal.elimination_path(folds.rows, names, shares) if len(names) > 1 else [names]
    front = frugal.front(folds, path, costs, deadline)
    return Choice(
        fuser,
        kept,
        best.contender.name,
        folds.score.name,
        tuple(_final(c, best.contender.name) for c in table),
        dropped | why,
        tuple(front),
        every,
    )


def _share_of(begun: float, deadline: float | None, share: float) -> float | None:
    return None if deadline is None else begun + share * (deadline - begun)


def _every(rows: Rows, folds: Folds, best: _Standing, deadline: float | None) -> int:
    """1, or every how many rows the final fit has time for; never fewer rows than were searched."""
    if deadline is None:
        return 1
    n, searched = len(rows.shares), len(folds.rows.shares)
    expected = 1.3 * best.held.seconds * n / max(1, searched)
    left = max(deadline - time.monotonic(), 0.5)
    return max(1, min(math.ceil(expected / left), n // max(1, searched)))


def _rounds(
    folds: Folds, names: tuple[str, ...], costs: Mapping[str, Cost] | None, deadline: float | None
) -> tuple[_Standing, list[Candidate]]:
    """Each contender against the incumbent, in order."""
    best: _Standing | None = None
    table: list[Candidate] = []
    kind = folds.rows.stack.kind
    pace, evaluation = 1.0, _evaluation(folds)
    for contender in CONTENDERS[kind]:
        reason = enters(contender, folds.rows, folds.score, batch=bool(folds.batch))
        if len(names) == 1 and best is not None:
            reason = "there is one member"
        expected = expected_seconds(contender, folds, evaluation)
        if best is not None and _late(pace * expected, deadline):
            reason = reason or "no time left"
        if reason is not None:
            if not (contender.batch or contender.decides):
                table.append(_row(contender.name, None, None, None, folds, Cost(), reason))
            continue
        begun = time.monotonic()
        held = folds.held(contender)
        if expected > 0.05:
            pace = max(pace, (time.monotonic() - begun) / expected)
        if held is None:
            table.append(
                _row(contender.name, None, None, None, folds, Cost(), "cannot be fitted to these rows")
            )
            continue
        cost = frugal.total_cost(_needed(folds, contender, names), costs)
        if best is None:
            best = _Standing(contender, held)
            table.append(_row(contender.name, held, None, None, folds, cost, "the first incumbent"))
            continue
        won, gap = wins(folds, held, best.held, bar(contender, best.contender.name, folds.score))
        outcome = _told(won, gap, best.contender.name)
        table.append(_row(contender.name, held, best.contender.name, gap, folds, cost, outcome))
        if won:
            best = _Standing(contender, held)
    if best is None:
        return _unseen(folds, names, costs, table)
    return best, table


def _late(expected: float, deadline: float | None) -> bool:
    """Whether work of this many seconds would not end in time; next to none is always done."""
    return deadline is not None and expected > INSTANT and time.monotonic() + expected > deadline


def _evaluation(folds: Folds) -> float:
    """Seconds that it takes to score the rows once."""
    stack, begun = folds.rows.stack, time.monotonic()
    folds.score.loss(stack.output(stack.parts[0]), folds.rows.truth, folds.rows.shares)
    return time.monotonic() - begun


def _unseen(
    folds: Folds, names: tuple[str, ...], costs: Mapping[str, Cost] | None, table: list[Candidate]
) -> tuple[_Standing, list[Candidate]]:
    """Too few rows to hold any out: the mean, untested."""
    mean = Contender("mean", fit_mean, 0.0)
    blank = np.zeros(len(folds.rows.shares))
    held = Held(None, math.nan, np.array([math.nan]), blank, 0.0)
    row = _row("mean", None, None, None, folds, frugal.total_cost(names, costs), "too few rows to test")
    return _Standing(mean, held), [row if c.name == "mean" else c for c in table]


def _needed(folds: Folds, contender: Contender, names: tuple[str, ...]) -> tuple[str, ...]:
    """The members with influence in the contender's fuser, fitted to the rows searched."""
    if contender.name == "mean":
        return names
    fuser = fitted(contender, folds.rows, folds.score, folds.seed, folds.batch)
    return tuple(n for n in names if n in set(fuser.needs)) or names


def _told(won: bool, gap: Gap, incumbent: str) -> str:
    if won:
        return f"took over from {incumbent}"
    if gap.mean >= 0:
        return f"not better than {incumbent}"
    return f"better than {incumbent}, but not beyond chance"


def _final(row: Candidate, chosen: str) -> Candidate:
    return replace(row, outcome="chosen") if row.name == chosen else row


def _row(
    name: str,
    held: Held | None,
    incumbent: str | None,
    gap: Gap | None,
    folds: Folds,
    cost: Cost,
    outcome: str,
) -> Candidate:
    error = None
    if held is not None and held.losses is not None and len(held.losses) > 1:
        share = folds.rows.shares
        spread = float(share**2 @ (held.losses - float(share @ held.losses)) ** 2)
        error = math.sqrt(spread * len(share) / (len(share) - 1))
    return Candidate(
        name,
        None if held is None else _finite(folds.score.turned(held.loss)),
        _finite(error),
        incumbent,
        None if gap is None else _finite(gap.mean),
        None if gap is None else _finite(gap.error),
        None if gap is None else gap.p,
        cost.cpu_seconds_per_row,
        cost.bytes,
        outcome,
    )


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def fit_choice(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    **more: Any,
) -> Any:
    """The fuser of `choose`, for where a fit function is expected: it takes all members it was fitted with.

    more: parameters of `choose`. Members that were dropped are ignored (`Selected`).
    """
    choice = choose(outputs, truth, weights=weights, score=score, seed=seed, **more)
    ignored = tuple(sorted(set(outputs) - set(choice.members)))
    return Selected(choice.fuser, ignored) if ignored else choice.fuser
