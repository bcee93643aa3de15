"""Loops over answers of workers to tasks.

Answers lie by task: task i has the answers offsets[i] to offsets[i + 1]. Tables hold a row of K numbers, one
per true class, for each *pair* (worker, label that this worker has said at least once), so that memory grows
with the answers and not with workers x K x K.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from conjoin.kernels.jit import jit

Array = np.ndarray[Any, Any]
EPS = 1e-10
"""Expected counts and class shares are raised to this, as crowd-kit does."""
SHIFT = 1e150
LOG_SHIFT = 150 * math.log(10.0)


@jit
def grouped(keys: Array, groups: int) -> tuple[Array, Array]:
    """Counting sort: offsets (groups + 1,) and the stable order (t,) of keys that lie in 0 to groups - 1."""
    offsets = np.zeros(groups + 1, np.int64)
    for k in keys:
        offsets[k + 1] += 1
    for g in range(groups):
        offsets[g + 1] += offsets[g]
    at = offsets[:-1].copy()
    order = np.empty(len(keys), np.int64)
    for t in range(len(keys)):
        k = keys[t]
        order[at[k]] = t
        at[k] += 1
    return offsets, order


@jit
def unshifted(row: Array, shifts: Array) -> float:
    """row / SHIFT^shifts on a common scale, that of the least shift; gives its logarithm. shifts become 0."""
    least = shifts[0]
    for s in shifts:
        least = min(least, s)
    for k in range(len(row)):
        for _ in range(min(shifts[k] - least, 3)):
            row[k] /= SHIFT
        shifts[k] = 0
    return -float(least) * LOG_SHIFT


@jit
def skene_pass(
    offsets: Array,
    pair: Array,
    table: Array,
    prior: Array,
    known: Array,
    hard: bool,
    post: Array,
    counts: Array,
) -> float:
    """One E step and the sums of the M step. Fills post (n, K) and counts (P, K); gives the log-likelihood.

    table (P, K): likelihood of the pair's label for each true class. known (n,): a class or -1. hard: the
    most probable class gets all. Factors are at least 1e-30; products are shifted every 4 of them, each
    class by itself, so that none vanishes whatever comes later.
    """
    n, width = post.shape
    shifts = np.zeros(width, np.int64)
    for p in range(len(counts)):
        for k in range(width):
            counts[p, k] = 0.0
    total = 0.0
    for i in range(n):
        first, last = offsets[i], offsets[i + 1]
        for k in range(width):
            post[i, k] = prior[k] if first < last else 0.0
        if first == last:
            continue
        for t in range(first, last):
            p = pair[t]
            for k in range(width):
                post[i, k] *= table[p, k]
            if (t - first) % 4 == 3:
                for k in range(width):
                    if post[i, k] < 1.0 / SHIFT:
                        post[i, k] *= SHIFT
                        shifts[k] += 1
        if last - first > 3:
            total += unshifted(post[i], shifts)
        c = known[i]
        mass, best = 0.0, 0
        for k in range(width):
            mass += post[i, k]
            if post[i, k] > post[i, best]:
                best = k
        total += math.log(max(post[i, c], 1e-300) if c >= 0 else mass)
        if hard and c < 0:
            c = best
        for k in range(width):
            if c >= 0:
                post[i, k] = 1.0 if k == c else 0.0
            else:
                post[i, k] /= mass
        for t in range(first, last):
            p = pair[t]
            for k in range(width):
                counts[p, k] += post[i, k]
    return total


@jit
def skene_counts(offsets: Array, pair: Array, post: Array, counts: Array) -> None:
    """Sums of the M step alone: counts (P, K) of post (n, K)."""
    for p in range(len(counts)):
        for k in range(post.shape[1]):
            counts[p, k] = 0.0
    for i in range(len(post)):
        for t in range(offsets[i], offsets[i + 1]):
            p = pair[t]
            for k in range(post.shape[1]):
                counts[p, k] += post[i, k]


@jit
def digamma(x: float) -> float:
    """The logarithmic derivative of the gamma function for x > 0, to 1e-12."""
    shift = 0.0
    while x < 10.0:
        shift -= 1.0 / x
        x += 1.0
    y = 1.0 / (x * x)
    tail = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y * (1 / 132)))))
    return shift + math.log(x) - 0.5 / x - tail


@jit
def digammas(x: Array) -> Array:
    """`digamma` of each number of x (t,)."""
    out = np.empty(len(x))
    for i in range(len(x)):
        out[i] = digamma(x[i])
    return out


@jit
def skene_table(
    counts: Array,
    starts: Array,
    said: Array,
    weights: Array,
    smoothing: float,
    diagonal: float,
    variational: bool,
    table: Array,
) -> None:
    """From counts (P, K) to likelihoods (P, K), each raised to its worker's weight.

    Worker w has the pairs starts[w] to starts[w + 1], whose labels are `said`. smoothing is added to every
    cell of the K x K matrix, `diagonal` to its diagonal as well; with neither, only labels that the worker
    has said share the mass. variational: exp(digamma(cell) - digamma(sum)) in place of cell / sum.
    """
    width = table.shape[1]
    plain = smoothing <= 0.0 and diagonal <= 0.0
    for w in range(len(starts) - 1):
        for k in range(width):
            total = 0.0 if plain else width * smoothing + diagonal
            for p in range(starts[w], starts[w + 1]):
                total += max(counts[p, k], EPS) if plain else counts[p, k]
            for p in range(starts[w], starts[w + 1]):
                cell = max(counts[p, k], EPS)
                if not plain:
                    cell = counts[p, k] + smoothing + (diagonal if said[p] == k else 0.0)
                if variational:
                    table[p, k] = math.exp(digamma(max(cell, EPS)) - digamma(max(total, EPS)))
                else:
                    table[p, k] = max(cell, EPS) / total
                if weights[w] != 1.0:
                    table[p, k] = max(table[p, k] ** weights[w], 1e-30)
                table[p, k] = max(table[p, k], 1e-30)


@jit
def coin_table(
    counts: Array,
    starts: Array,
    said: Array,
    weights: Array,
    right: float,
    wrong: float,
    skills: Array,
    table: Array,
) -> None:
    """As `skene_table` with one skill a worker: right answers / answers; errors are spread evenly.

    right, wrong: pseudo answers. Fills skills (M,) and table (P, K). A worker without pairs has skill 1 / K.
    """
    width = table.shape[1]
    others = max(width - 1, 1)
    for w in range(len(starts) - 1):
        hits, answers = right, right + wrong
        for p in range(starts[w], starts[w + 1]):
            for k in range(width):
                answers += counts[p, k]
            hits += counts[p, said[p]]
        skills[w] = hits / answers if answers > 0 else 1.0 / width
        good = min(max(skills[w], EPS), 1 - EPS)
        bad = min(max((1 - skills[w]) / others, EPS), 1 - EPS)
        if weights[w] != 1.0:
            good, bad = max(good ** weights[w], 1e-30), max(bad ** weights[w], 1e-30)
        for p in range(starts[w], starts[w + 1]):
            for k in range(width):
                table[p, k] = good if said[p] == k else bad


@jit
def glad_pass(
    offsets: Array,
    workers: Array,
    labels: Array,
    prior: Array,
    weights: Array,
    known: Array,
    alpha: Array,
    beta: Array,
    means: Array,
    steps: int,
    right: Array,
    slope: Array,
    curve: Array,
) -> float:
    """E step, `steps` Newton steps of each task's beta, and the sums for a Newton step of each alpha.

    P(right) = sigmoid(alpha_w exp(beta_i)). right (t,): in, last posterior that the answer is right (for the
    steps of beta); out, the new one. slope, curve (M,): derivatives of the log-likelihood in alpha.
    means: prior means of alpha and beta, both of variance 1. Gives the log-likelihood + log prior of beta.
    """
    width = len(prior)
    spread = math.log(max(width - 1, 1))
    gain = np.zeros(width)
    for w in range(len(slope)):
        slope[w], curve[w] = 0.0, 0.0
    total = 0.0
    for i in range(len(beta)):
        first, last = offsets[i], offsets[i + 1]
        if first == last:
            continue
        b = beta[i]
        for _ in range(steps):
            scale = math.exp(b)
            g, h = means[1] - b, 1.0
            for t in range(first, last):
                x = alpha[workers[t]] * scale
                s = 1.0 / (1.0 + math.exp(-x))
                g += weights[workers[t]] * (right[t] - s) * x
                h += weights[workers[t]] * s * (1 - s) * x * x
            b += min(max(g / h, -1.0), 1.0)
        beta[i] = b
        scale = math.exp(b)
        total -= 0.5 * (b - means[1]) ** 2
        for t in range(first, last):
            w = workers[t]
            x = alpha[w] * scale
            gain[labels[t]] += weights[w] * (x + spread)
            soft = math.log1p(math.exp(-abs(x))) + max(x, 0.0)
            total -= weights[w] * (soft + spread)
        top, mass = gain[0], 0.0
        for k in range(width):
            top = max(top, gain[k])
        rest = math.exp(-top)
        for k in range(width):
            mass += prior[k] * (math.exp(gain[k] - top) if gain[k] != 0.0 else rest)
        c = known[i]
        for t in range(first, last):
            k = labels[t]
            if c >= 0:
                right[t] = 1.0 if k == c else 0.0
            else:
                right[t] = prior[k] * math.exp(gain[k] - top) / mass
            w = workers[t]
            s = 1.0 / (1.0 + math.exp(-alpha[w] * scale))
            slope[w] += weights[w] * (right[t] - s) * scale
            curve[w] += weights[w] * s * (1 - s) * scale * scale
        total += math.log(mass) + top if c < 0 else math.log(max(prior[c], 1e-300)) + gain[c]
        for t in range(first, last):
            gain[labels[t]] = 0.0
    return total


@jit
def gains_posterior(
    offsets: Array, labels: Array, gains: Array, prior: Array, known: Array, post: Array
) -> None:
    """post (n, K): softmax over classes of log prior + the gains (t,) of the answers that say the class."""
    n, width = post.shape
    for i in range(n):
        c = known[i]
        for k in range(width):
            post[i, k] = 0.0
        for t in range(offsets[i], offsets[i + 1]):
            post[i, labels[t]] += gains[t]
        top, mass = post[i, 0], 0.0
        for k in range(width):
            top = max(top, post[i, k])
        for k in range(width):
            post[i, k] = prior[k] * math.exp(post[i, k] - top)
            mass += post[i, k]
        for k in range(width):
            if c >= 0:
                post[i, k] = 1.0 if k == c else 0.0
            else:
                post[i, k] /= mass


@jit
def mace_pass(
    offsets: Array,
    workers: Array,
    labels: Array,
    weights: Array,
    known: Array,
    knows: Array,
    guesses: Array,
    width: int,
    right: Array,
) -> float:
    """E step of MACE. knows (t,): chance that the worker knows; guesses (t,): that it guesses this label.

    P(label | c) = knows [label = c] + guesses; the K = width classes are equally frequent. Fills right (t,):
    the posterior that the worker knew. Gives the log-likelihood.
    """
    total = 0.0
    gain = np.zeros(width)
    for i in range(len(offsets) - 1):
        first, last = offsets[i], offsets[i + 1]
        if first == last:
            continue
        base = -math.log(width)
        for t in range(first, last):
            w = weights[workers[t]]
            gain[labels[t]] += w * math.log1p(knows[t] / guesses[t])
            base += w * math.log(guesses[t])
        c = known[i]
        top, mass = 0.0, 0.0
        for k in range(width):
            top = max(top, gain[k])
        for k in range(width):
            mass += math.exp(gain[k] - top)
        total += base + (gain[c] if c >= 0 else top + math.log(mass))
        for t in range(first, last):
            k = labels[t]
            here = math.exp(gain[k] - top) / mass
            if c >= 0:
                here = 1.0 if k == c else 0.0
            right[t] = here * knows[t] / (knows[t] + guesses[t])
        for t in range(first, last):
            gain[labels[t]] = 0.0
    return total
