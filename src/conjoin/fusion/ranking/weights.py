"""Weights of members fitted to relevance judgements, for any measure that is read off ranks.

Many operators score a candidate by a sum over members of weight times a number that does not depend on the
weights: such an operator is a table (C, M) of numbers. A compiled loop gives the ranks of the relevant items
under many weight vectors at once, without sorting, so the measure itself is what is fitted, no surrogate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.applied import Applied
from conjoin.fusion.ranking.judged import Judged, judged
from conjoin.fusion.ranking.norms import absent as absent_values
from conjoin.fusion.ranking.norms import normalised
from conjoin.fusion.ranking.pool import Pool
from conjoin.fusion.single import guarded
from conjoin.scores.ranking import SCORES

if TYPE_CHECKING:
    from conjoin.outputs import Array, Json

TRIES = 400
"""Weight vectors that are tried besides each member alone and all alike."""
WORK = 2e9
"""About how many multiplications a fit may take; for large data fewer vectors are tried."""
STEPS = (0.2, 0.1, 0.05, 0.02, 0.01)
CLOSER = (10.0, 40.0, 160.0)
ENOUGH = 20
"""Vectors are drawn about the mean, with these concentrations, until so many are likely."""
FEW = 6
"""With so many members at most, climbing also moves weight between any two."""
Options = Mapping[str, "Json"]


def fit_weights(
    name: str,
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Any = None,
    seed: int = 0,
    temperature: float = 0.5,
    options: Sequence[Options] | None = None,
) -> Any:
    """The operator `FUSERS[name]` (one of `TABLES`) with fitted weights and options.

    Weight vectors are drawn over the simplex and the measure is worked out for each. temperature 0 takes the
    best, climbed further by moving weight between members; else the answer is the mean of all vectors, each
    with weight exp((value - best) / (temperature * standard error)): where the judgements cannot tell two
    vectors apart it lies between them, and with few judgements near equal weights (the mean of a Gibbs
    posterior, Catoni 2007; on held-out queries it is better than the best vector). Where that mean is worse
    than the best single member on these rows, it leans toward the best vector, no further than it must.
    options: those to choose from, by the measure, `GRIDS[name]` by default.

    weights: (n,) of rows. score: any of `scores.ranking.SCORES`, nDCG@10 by default. Gives `Applied`, or
    `Single` where the best single member does better on these rows. Raises OutputsError, TruthError.
    """
    if not (np.isfinite(temperature) and temperature >= 0):
        raise OutputsError(f"temperature must be a number from 0, not {temperature}")
    task = judged(outputs, truth, weights, score)
    score = score or SCORES["ndcg@10"]
    grid = GRIDS[name] if options is None else options
    tries = _tries(task, len(grid), seed)
    need = max(score.value(o, truth, weights) for o in outputs.values())
    found: list[tuple[float, Array, Options]] = []
    for one in grid:
        table = TABLES[name](task.pool, **one)
        if temperature == 0:
            found.append((*_climbed(task, table, tries), one))
        else:
            found.append((*_averaged(task, table, tries, temperature, need, seed), one))
    _, best, chosen = max(found, key=lambda f: f[0])
    named = dict(zip(task.pool.names, (best / best.sum()).tolist(), strict=True))
    return guarded(Applied("ranking", name, named, dict(chosen)), outputs, truth, score, weights)


def _tries(task: Judged, grids: int, seed: int) -> Array:
    """(W, M): each member alone, all alike, and vectors drawn with few and with many large weights."""
    members = len(task.pool.names)
    if members == 1:
        return np.ones((1, 1))
    work = max(1, len(task.pool.firsts)) * (members + 2) * grids
    half = int(np.clip(WORK / work, 40, TRIES)) // 2
    rng = np.random.default_rng(seed)
    sparse, even = (rng.dirichlet(np.full(members, a), half) for a in (0.5, 2.0))
    return np.concatenate([np.eye(members), np.full((1, members), 1 / members), sparse, even])


def _averaged(
    task: Judged, table: Array, tries: Array, temperature: float, need: float, seed: int
) -> tuple[float, Array]:
    """The mean of the vectors, each as likely as its value says, and its value.

    Where only few of them are likely, more are drawn about their mean, closer each time.
    """
    rng = np.random.default_rng(seed)
    rows = task.rows(table, tries)
    values = rows @ task.mass
    spread = ((rows - values[:, None]) ** 2) @ task.mass**2
    heat = temperature * np.sqrt(max(float(spread.mean()), 1e-24))
    mean, likely = _mean(tries, values, heat)
    for closeness in CLOSER if tries.shape[1] > 1 else ():
        if likely >= ENOUGH:
            break
        more = rng.dirichlet(closeness * mean + 0.5, len(tries) // 4)
        tries, values = np.concatenate([tries, more]), np.append(values, task.values(table, more))
        mean, likely = _mean(tries, values, heat)
    way = np.linspace(0, 1, 11)[:, None]
    path = (1 - way) * mean + way * tries[int(np.argmax(values))]
    along = task.values(table, path)
    enough = np.flatnonzero(along >= need - 1e-12)
    at = int(enough[0]) if len(enough) else 0
    return float(along[at]), path[at]


def _mean(tries: Array, values: Array, heat: float) -> tuple[Array, float]:
    """The mean vector, and how many vectors alike it is worth (Kish's effective number)."""
    share = np.exp((values - values.max()) / heat)
    mean: Array = share @ tries / share.sum()
    return mean, float(share.sum() ** 2 / (share @ share))


def _climbed(task: Judged, table: Array, tries: Array) -> tuple[float, Array]:
    """The best of the vectors, with weight moved from member to member as long as the measure rises."""
    values = task.values(table, tries)
    ends = [_climb(task, table, tries[i], float(values[i])) for i in np.argsort(-values, kind="stable")[:3]]
    return max(ends, key=lambda e: e[0])


def _moves(w: Array, step: float) -> Array:
    """Vectors beside w: a step toward each member, a step away from each, and (of few) between two."""
    corners = np.eye(len(w))
    toward = (1 - step) * w + step * corners
    away = np.maximum(w - step * corners, 0.0)
    away = away[away.sum(axis=1) > 0]
    found = [toward, away / away.sum(axis=1, keepdims=True)]
    if len(w) <= FEW:
        a, b = np.nonzero(1 - corners)
        size = np.minimum(step, w[a])[:, None]
        found.append(w + size * (corners[b] - corners[a]))
    return np.concatenate(found)


def _climb(task: Judged, table: Array, w: Array, value: float) -> tuple[float, Array]:
    for step in STEPS if len(w) > 1 else ():
        for _ in range(20):
            moved = _moves(w, step)
            values = task.values(table, moved)
            i = int(np.argmax(values))
            if values[i] <= value + 1e-12:
                break
            value, w = float(values[i]), moved[i]
    return value, w


def _counts(laid: Pool) -> Array:
    return np.bincount(laid.slots, minlength=len(laid.firsts))[:, None].astype(np.float64)


def _sum_table(laid: Pool, norm: str | None = "min_max", absent: str = "none") -> Array:
    values = normalised(laid, norm)
    return laid.table(values, np.nan_to_num(absent_values(laid, values, norm, absent)))


def _mnz_table(laid: Pool, norm: str | None = "min_max", gamma: float = 1.0) -> Array:
    table: Array = _sum_table(laid, norm) * _counts(laid) ** gamma
    return table


def _mixed_table(laid: Pool, norm: str | None = "min_max") -> Array:
    return _mnz_table(laid, norm, 0.5)


def _wmnz_table(laid: Pool, norm: str | None = "min_max") -> Array:
    table: Array = _zeroed(laid, np.ones(len(laid.ids))) * _sum_table(laid, norm).sum(axis=1, keepdims=True)
    return table


def _zeroed(laid: Pool, values: Array) -> Array:
    return laid.table(values, np.zeros(laid.lengths.shape))


def _rrf_table(laid: Pool, k: float = 60) -> Array:
    return _zeroed(laid, (k + 1) / (k + 1 + laid.positions()))


def _rbc_table(laid: Pool, phi: float = 0.8) -> Array:
    return _zeroed(laid, phi ** laid.positions().astype(np.float64))


def _isr_table(laid: Pool) -> Array:
    table: Array = _zeroed(laid, 1 / (laid.positions() + 1.0) ** 2) * _counts(laid)
    return table


def _logn_isr_table(laid: Pool, sigma: float = 0.01) -> Array:
    table: Array = _zeroed(laid, 1 / (laid.positions() + 1.0) ** 2) * np.log(_counts(laid) + sigma)
    return table


def _borda_table(laid: Pool) -> Array:
    width = np.broadcast_to(np.diff(laid.starts), laid.lengths.shape)
    return laid.table((laid.spread(width) - laid.positions()) * 1.0, (width - laid.lengths + 1) / 2)


TABLES: dict[str, Callable[..., Array]] = {
    "weighted_sum": _sum_table,
    "comb_sum": _sum_table,
    "comb_mnz": _mnz_table,
    "comb_gmnz": _mnz_table,
    "wmnz": _wmnz_table,
    "mixed": _mixed_table,
    "rrf": _rrf_table,
    "rbc": _rbc_table,
    "isr": _isr_table,
    "log_isr": lambda laid: _logn_isr_table(laid, 0.0),
    "logn_isr": _logn_isr_table,
    "borda": _borda_table,
}
"""The numbers (C, M) whose weighted sum over members is the operator's score, up to a factor of the row."""

GRIDS: dict[str, Sequence[Options]] = {
    "weighted_sum": ({"norm": "min_max"},),
    "comb_sum": ({"norm": "min_max"},),
    "comb_mnz": ({"norm": "min_max"},),
    "comb_gmnz": tuple({"norm": "min_max", "gamma": g} for g in (-0.5, 0.0, 0.5, 1.0, 2.0)),
    "wmnz": ({"norm": "min_max"},),
    "mixed": ({"norm": "min_max"},),
    "rrf": ({"k": 60}, {"k": 10}, {"k": 0}),
    "rbc": tuple({"phi": p} for p in (0.98, 0.95, 0.9, 0.8, 0.7, 0.5)),
    "isr": ({},),
    "log_isr": ({},),
    "logn_isr": tuple({"sigma": s} for s in (0.01, 0.1, 0.5, 1.0)),
    "borda": ({},),
}
"""Options from which a fit chooses."""


def _fit(name: str) -> Callable[..., Any]:
    def fit(
        outputs: Mapping[str, Any],
        truth: Any,
        *,
        weights: Any = None,
        score: Any = None,
        seed: int = 0,
        temperature: float = 0.5,
        options: Sequence[Options] | None = None,
    ) -> Any:
        return fit_weights(
            name,
            outputs,
            truth,
            weights=weights,
            score=score,
            seed=seed,
            temperature=temperature,
            options=options,
        )

    fit.__name__ = fit.__qualname__ = f"fit_{name}"
    fit.__doc__ = f"`{name}` with weights and options fitted to judgements: `fit_weights({name!r}, ...)`."
    return fit


FITS: dict[str, Callable[..., Any]] = {name: _fit(name) for name in TABLES}
"""Fit functions of the operators that are tables, by name."""

fit_weighted_sum = FITS["weighted_sum"]
fit_rrf = FITS["rrf"]
