"""Loops of fused distributions and of online aggregation, on plain arrays.

A member's distribution is given by its quantiles: straight between them, exponential tails beyond the
outermost that go on with the density there. Where the two outermost quantiles are equal the tail is a step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from conjoin.kernels.jit import inner, jit

Array = np.ndarray[Any, Any]

EWA, FIXED_SHARE, BOA, ML_POLY = 0, 1, 2, 3
SQUARE, ABSOLUTE, PINBALL = 0, 1, 2


@inner
def _last_up_to(x: float, rising: Array) -> Any:
    """The last place whose number is at most x; the first number is."""
    low, high = 0, len(rising)
    while high - low > 1:
        middle = (low + high) // 2
        if rising[middle] <= x:
            low = middle
        else:
            high = middle
    return low


@inner
def _inverse(tau: float, q: Array, levels: Array) -> Any:
    """The quantile at any level."""
    last = len(q) - 1
    if tau <= levels[0]:
        if last == 0 or tau == levels[0] or q[1] <= q[0]:
            return q[0]
        rate = (levels[1] - levels[0]) / (q[1] - q[0]) / levels[0]
        return q[0] + math.log(tau / levels[0]) / rate
    if tau >= levels[last]:
        if last == 0 or tau == levels[last] or q[last] <= q[last - 1]:
            return q[last]
        rest = 1.0 - levels[last]
        rate = (levels[last] - levels[last - 1]) / (q[last] - q[last - 1]) / rest
        return q[last] - math.log((1.0 - tau) / rest) / rate
    k = _last_up_to(tau, levels)
    if levels[k] == tau:
        return q[k]
    return q[k] + (tau - levels[k]) / (levels[k + 1] - levels[k]) * (q[k + 1] - q[k])


@inner
def _cdf(x: float, q: Array, levels: Array) -> Any:
    """P(X <= x) and the density there."""
    last = len(q) - 1
    if x < q[0]:
        if last == 0 or q[1] <= q[0]:
            return 0.0, 0.0
        rate = (levels[1] - levels[0]) / (q[1] - q[0]) / levels[0]
        p = levels[0] * math.exp((x - q[0]) * rate)
        return p, p * rate
    if x >= q[last]:
        if last == 0 or q[last] <= q[last - 1]:
            return 1.0, 0.0
        rest = 1.0 - levels[last]
        rate = (levels[last] - levels[last - 1]) / (q[last] - q[last - 1]) / rest
        p = rest * math.exp((q[last] - x) * rate)
        return 1.0 - p, p * rate
    k = _last_up_to(x, q)
    slope = (levels[k + 1] - levels[k]) / (q[k + 1] - q[k])
    return levels[k] + (x - q[k]) * slope, slope


@inner
def _mixed(x: float, i: int, values: Array, mass: Array, levels: Array) -> Any:
    """The mixture's P(X <= x) and density in row i."""
    p, slope = 0.0, 0.0
    for m in range(len(values)):
        if mass[m, i] > 0:
            one, density = _cdf(x, values[m, i], levels)
            p += mass[m, i] * one
            slope += mass[m, i] * density
    return p, slope


@jit
def mixture_quantiles(values: Array, mass: Array, levels: Array, wanted: Array, out: Array) -> None:
    """Quantiles of mixtures, row by row, at the levels wanted.

    values (M, n, Q) rising in Q, mass (M, n) summing to 1 or to 0 in each row, levels (Q,), wanted (P,)
    rising, out (n, P): the least x with sum_m mass F_m(x) >= wanted; NaN in rows without mass.
    """
    for i in range(len(out)):
        for k in range(len(wanted)):
            tau, low, high = wanted[k], np.inf, -np.inf
            for m in range(len(values)):
                if mass[m, i] > 0:
                    x = _inverse(tau, values[m, i], levels)
                    low, high = min(low, x), max(high, x)
            if low > high:
                out[i, k] = np.nan
                continue
            x = _crossing(tau, low, high, i, values, mass, levels)
            out[i, k] = max(x, out[i, k - 1]) if k else x


@inner
def _crossing(tau: float, low: float, high: float, i: int, values: Array, mass: Array, levels: Array) -> Any:
    """The least x in [low, high] where the mixture reaches tau: Newton steps, halving where they leave."""
    if low == high:
        return low
    p, slope = _mixed(low, i, values, mass, levels)
    if p >= tau:
        return low
    x, least = low, 1e-16 * max(abs(low), abs(high))
    for _ in range(200):
        new = x + (tau - p) / slope if slope > 0 else np.nan
        if not (low < new < high):
            new = low + (high - low) / 2
        if new <= low or new >= high or high - low <= least:
            break
        x = new
        p, slope = _mixed(x, i, values, mass, levels)
        if p >= tau:
            high = x
        else:
            low = x
        if abs(p - tau) <= 1e-15 and slope > 0:
            return x
    return high


@jit
def mixture_cdf(values: Array, mass: Array, levels: Array, x: Array, out: Array) -> None:
    """P(X <= x_i) under the mixture of row i: as `mixture_quantiles`; x (n,), out (n,)."""
    for i in range(len(out)):
        out[i] = _mixed(x[i], i, values, mass, levels)[0]


@inner
def _rate(rate: float, total: float) -> Any:
    """The learning rate; of one below 0, -log M, the one that the regrets so far ask for."""
    if rate > 0:
        return rate
    return math.sqrt(-rate / total) if total > 0 else 0.0


@inner
def _weigh(
    rule: int, prior: Array, rate: float, total: float, regret: Array, spread: Array, awake: Array, p: Array
) -> None:
    """Weights p (M,) of the members that are awake; they sum to 1."""
    best, found = -np.inf, 0.0
    for m in range(len(p)):
        p[m] = -np.inf
        if not awake[m] or prior[m] <= 0:
            continue
        if rule == FIXED_SHARE:
            p[m] = regret[m]
        elif rule == EWA:
            p[m] = math.log(prior[m]) + _rate(rate, total) * regret[m]
        elif rule == BOA:
            if spread[m] > 0:
                v = 2.2 * spread[m]
                p[m] = math.log(prior[m]) - 0.5 * math.log(v) + regret[m] / math.sqrt(v)
                found += prior[m]
        elif regret[m] > 0:
            p[m] = math.log(regret[m] / spread[m])
        best = max(best, p[m])
    sums = 0.0
    for m in range(len(p)):
        p[m] = math.exp(p[m] - best) if best > -np.inf else 0.0
        sums += p[m]
    for m in range(len(p)):
        if rule == BOA and awake[m] and spread[m] <= 0:
            p[m] = prior[m]
        elif sums > 0:
            p[m] = p[m] / sums * (found if rule == BOA else 1.0)
        elif awake[m]:
            p[m] = prior[m]
    sums = 0.0
    for m in range(len(p)):
        sums += p[m]
    for m in range(len(p)):
        p[m] = p[m] / sums if sums > 0 else 0.0


@inner
def _loss(kind: int, tau: float, a: float, b: float, y: float) -> Any:
    """The loss of a minus that of b."""
    e, f = y - a, y - b
    if kind == SQUARE:
        return e * e - f * f
    level = 0.5 if kind == ABSOLUTE else tau
    gap = (level * e if e >= 0 else (level - 1.0) * e) - (level * f if f >= 0 else (level - 1.0) * f)
    return 2.0 * gap if kind == ABSOLUTE else gap


@inner
def _slope(kind: int, tau: float, a: float, y: float) -> Any:
    if kind == SQUARE:
        return 2.0 * (a - y)
    level = 0.5 if kind == ABSOLUTE else tau
    g = (1.0 if a > y else 0.0) - level if a != y else 0.0
    return 2.0 * g if kind == ABSOLUTE else g


@inner
def _learn(
    rule: int, prior: Array, rate: float, share: float, total: float, r: Array, regret: Array, spread: Array
) -> Any:
    """One step of regrets r (M,); changes regret and spread, gives the new total."""
    most = 0.0
    for m in range(len(r)):
        most = max(most, r[m] * r[m])
    if rule == ML_POLY:
        grown = max(total, most)
        for m in range(len(r)):
            regret[m] += r[m]
            spread[m] += r[m] * r[m] + grown - total
        return grown
    if rule == BOA:
        for m in range(len(r)):
            spread[m] += r[m] * r[m]
            if spread[m] > 0:
                regret[m] += r[m] - r[m] * r[m] / math.sqrt(2.2 * spread[m])
        return total
    total = most + (total if rule == EWA else (1.0 - share) * total)
    if rule == EWA:
        for m in range(len(r)):
            regret[m] += r[m]
        return total
    eta = _rate(rate, total)
    best = -np.inf
    for m in range(len(r)):
        regret[m] += eta * r[m]
        best = max(best, regret[m])
    sums = 0.0
    for m in range(len(r)):
        sums += math.exp(regret[m] - best)
    for m in range(len(r)):
        v = math.exp(regret[m] - best) / sums
        regret[m] = math.log(share * prior[m] + (1.0 - share) * v) if prior[m] > 0 else -np.inf
    return total


@inner
def _average(r: Array, known: Array) -> None:
    """The same regrets for all targets: their mean."""
    some = False
    for c in range(len(r)):
        some = some or known[c]
    for m in range(r.shape[1]):
        sums = 0.0
        for c in range(len(r)):
            sums += r[c, m]
        for c in range(len(r)):
            r[c, m] = sums / len(r)
            known[c] = some


@jit
def aggregate(
    rule: int,
    kind: int,
    taus: Array,
    gradient: bool,
    shared: bool,
    prior: Array,
    rate: float,
    share: float,
    X: Array,
    y: Array,
    mass: Array,
    regret: Array,
    spread: Array,
    total: Array,
    out: Array,
    path: Array,
) -> None:
    """One step after another: answer with the present weights, then learn from the outcome.

    X (T, C, M): members' numbers, NaN where one sleeps. y (T, C): outcomes, NaN where not known. mass (T,):
    weights of steps. rate: above 0, or -log of the number of members with prior. State, changed in place:
    regret, spread (C, M), total (C,). out (T, C): answers, NaN where all sleep. path (T, C, M): the weights
    used, or (0, C, M) to leave them out.
    """
    steps, width, members = X.shape
    p, awake = np.empty(members), np.empty(members, dtype=np.bool_)
    r, known = np.zeros((width, members)), np.zeros(width, dtype=np.bool_)
    for t in range(steps):
        for c in range(width):
            answer, some = 0.0, False
            for m in range(members):
                awake[m] = prior[m] > 0 and not np.isnan(X[t, c, m])
                some = some or awake[m]
            _weigh(rule, prior, rate, total[c], regret[c], spread[c], awake, p)
            for m in range(members):
                answer += p[m] * X[t, c, m] if awake[m] else 0.0
            out[t, c] = answer if some else np.nan
            for m in range(members if len(path) > 0 else 0):
                path[t, c, m] = p[m]
            known[c] = some and not np.isnan(y[t, c])
            slope = _slope(kind, taus[c], answer, y[t, c])
            for m in range(members):
                r[c, m] = 0.0
                if known[c] and awake[m]:
                    x = X[t, c, m]
                    gap = slope * (answer - x) if gradient else _loss(kind, taus[c], answer, x, y[t, c])
                    r[c, m] = mass[t] * gap
        if shared:
            _average(r, known)
        for c in range(width):
            if known[c]:
                total[c] = _learn(rule, prior, rate, share, total[c], r[c], regret[c], spread[c])
