"""What members cost, and which can go: elimination by cost, budgets, the front of accuracy against cost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from conjoin.contracts import Cost
from conjoin.fusion import loglinear
from conjoin.fusion.contest import Contender, Folds, Held, Rows
from conjoin.fusion.linear import fit_linear_pool
from conjoin.fusion.logpool import default_floor, effective_rows, fit_exponents, fit_log_pool, log_tensor
from conjoin.fusion.problems import ClassProblem, ValueProblem
from conjoin.fusion.simplex import least_quadratic, least_squares_mixture
from conjoin.fusion.stacking import SHRINK

if TYPE_CHECKING:
    from conjoin.outputs import Array

FRUGALITY = 0.01
"""The relative loss that is given for the whole cost: for a member with half of the cost, half of it."""
PATH_CELLS = 1_000_000
"""Numbers that the order of elimination is worked out on."""
DEAR = 2.0
"""A member is dear, and may go though it has a weight, where it costs this many times the mean."""


@dataclass(frozen=True, slots=True)
class Subset:
    """Some members, fused by the reference pool: held-out score and loss, and what they cost (or None)."""

    members: tuple[str, ...]
    score: float
    loss: float
    cpu_seconds_per_row: float | None
    bytes: int | None


def total_cost(names: Sequence[str], costs: Mapping[str, Cost] | None) -> Cost:
    """The sum of the members' costs; unknown where one is unknown."""
    if costs is None or not names:
        return Cost()
    total = Cost(0.0, 0, 0.0)
    for name in names:
        total = total + costs.get(name, Cost())
    return total


def cost_shares(names: Sequence[str], costs: Mapping[str, Cost] | None) -> dict[str, float]:
    """Each member's share of the cost of all: the mean of its shares of time and of bytes.

    Where neither is known of all members, the shares are equal.
    """
    parts = []
    for key in ("cpu_seconds_per_row", "bytes"):
        each = [getattr((costs or {}).get(n, Cost()), key) for n in names]
        if all(v is not None for v in each) and sum(each) > 0:
            parts.append(np.array(each, dtype=np.float64) / sum(each))
    if not parts:
        return dict.fromkeys(names, 1.0 / max(len(names), 1))
    return dict(zip(names, np.mean(parts, axis=0).tolist(), strict=True))


def fits_budget(
    names: Sequence[str],
    costs: Mapping[str, Cost] | None,
    max_latency: float | None,
    max_size: float | None,
) -> bool:
    """Whether these members together keep the limits. An unknown cost counts as 0."""
    known = costs or {}
    seconds = sum(known.get(n, Cost()).cpu_seconds_per_row or 0.0 for n in names)
    size = sum(known.get(n, Cost()).bytes or 0 for n in names)
    return (max_latency is None or seconds <= max_latency) and (max_size is None or size <= max_size)


def elimination_path(rows: Rows, names: Sequence[str], shares: Mapping[str, float]) -> list[tuple[str, ...]]:
    """Subsets from all members down to one, each without the least valuable of the one before.

    The least valuable is the member whose removal from a pool is estimated to cost the least loss for the
    share of the cost that it frees; members without weight come first, the dearest of them.
    """
    some = rows.only(names).thinned_to(PATH_CELLS)
    weigh = _class_values(some) if isinstance(some, ClassProblem) else _number_values(some)
    order = some.stack.names
    each = np.array([max(shares[n], 1e-12) for n in order])
    kept = np.arange(len(order))
    path = [tuple(names)]
    while len(kept) > 1:
        weights, losses = weigh(kept)
        idle = weights <= 1e-9
        rank = np.where(idle, -each[kept], losses / each[kept])
        worst = int(np.lexsort((rank, ~idle))[0])
        kept = np.delete(kept, worst)
        path.append(tuple(order[m] for m in kept))
    return path


Weigh = Callable[["Array"], "tuple[Array, Array]"]
"""From the members kept to their weights in a pool, and the loss that the removal of each costs."""


def _class_values(rows: ClassProblem) -> Weigh:
    """By the curvature of the log pool's loss at its optimum: w^2 / (2 (H^-1)_mm), the others moved to fit.

    (Optimal brain surgeon, Hassibi and Stork 1993: one fit serves the whole path.)
    """
    logs = log_tensor(rows, default_floor(rows.stack.width))
    optimum = fit_exponents(rows, logs, shrink=SHRINK).theta
    H = loglinear.curvature(loglinear.relative(logs, rows.codes, rows.shares), optimum)
    H[np.diag_indices_from(H)] += SHRINK * len(H) / effective_rows(rows.shares) + 1e-12

    def weigh(kept: Array) -> tuple[Array, Array]:
        inner = H[np.ix_(kept, kept)]
        w = least_quadratic(inner, -(H[kept] @ optimum), optimum[kept])
        return w, w**2 / (2 * np.diag(np.linalg.inv(inner)))

    return weigh


def _number_values(rows: ValueProblem) -> Weigh:
    """By the squared error of the linear pool, the others' weights scaled to sum 1."""
    R = rows.residuals()
    G = R @ R.T

    def weigh(kept: Array) -> tuple[Array, Array]:
        inner = G[np.ix_(kept, kept)]
        w = least_squares_mixture(inner).weights
        now, losses = float(w @ inner @ w), []
        for m in range(len(kept)):
            rest = np.where(np.arange(len(kept)) == m, 0.0, w)
            total = float(rest.sum())
            rest = rest / total if total > 1e-12 else np.full(len(kept), 1.0 / len(kept))
            losses.append(float(rest @ inner @ rest) - now)
        return w, np.maximum(losses, 0.0)

    return weigh


def thinned(
    folds: Folds,
    contender: Contender,
    names: Sequence[str],
    full: Held,
    shares: Mapping[str, float],
    deadline: float | None,
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Drop dear members that give nothing; the names that stay, and why each of the others went.

    The dearest first, a member goes where the refitted fuser's held-out loss, plus half a corrected standard
    error, is above that with all members by at most FRUGALITY x (the share of the cost that is then gone).
    Only members that cost twice the mean are tried: dropping whatever looks idle by cross-validation overfits
    (measured on real outputs: 0.6 to 0.9 % of the loss).
    """
    kept, why = list(names), dict[str, str]()
    total = sum(shares[n] for n in names)
    gone = 0.0
    for name in sorted(names, key=lambda n: (-shares[n], n)):
        late = deadline is not None and time.monotonic() > deadline
        mean = sum(shares[n] for n in kept) / len(kept)
        if len(kept) == 1 or late or shares[name] < DEAR * mean:
            break
        rest = [n for n in kept if n != name]
        held = folds.held(contender, rest)
        if held is None or math.isnan(held.loss):
            continue
        gap = folds.gap(held, full)
        error = 0.0 if math.isnan(gap.error) else gap.error
        share = (gone + shares[name]) / total
        if gap.mean + error / 2 <= FRUGALITY * share * abs(full.loss):
            kept, gone = rest, gone + shares[name]
            change = 100 * gap.mean / abs(full.loss) if full.loss else 0.0
            part = 100 * shares[name] / total
            why[name] = f"{part:.0f} % of the cost; without it the loss changes by {change:+.2f} %"
    return tuple(kept), why


def front(
    folds: Folds,
    path: Sequence[tuple[str, ...]],
    costs: Mapping[str, Cost] | None,
    deadline: float | None,
) -> list[Subset]:
    """The subsets of the path that no other beats in loss, CPU time and bytes at once; the dearest first."""
    fit = fit_log_pool if isinstance(folds.rows, ClassProblem) else fit_linear_pool
    contender = Contender("pool", fit, 0.0)
    found: list[Subset] = []
    for names in path:
        if found and deadline is not None and time.monotonic() > deadline:
            break
        held = folds.held(contender, names)
        if held is not None and not math.isnan(held.loss):
            cost = total_cost(names, costs)
            found.append(
                Subset(names, folds.score.turned(held.loss), held.loss, cost.cpu_seconds_per_row, cost.bytes)
            )
    return [s for s in found if not any(_beats(t, s) for t in found)]


def _beats(a: Subset, b: Subset) -> bool:
    """a is nowhere worse than b and somewhere better."""
    sides = _axes(a), _axes(b)
    return bool((sides[0] <= sides[1]).all() and (sides[0] < sides[1]).any())


def _axes(s: Subset) -> Array:
    seconds = len(s.members) if s.cpu_seconds_per_row is None else s.cpu_seconds_per_row
    size = len(s.members) if s.bytes is None else s.bytes
    return np.array([s.loss, seconds, size], dtype=np.float64)
