"""Sentence scores of pairs of texts from the n-grams that they share, and from weighted bags of n-grams."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.kernels.jit import jit
from conjoin.kernels.ngrams import slot_of, table_bits

if TYPE_CHECKING:
    from conjoin.outputs import Array

NONE, FLOOR, ADD_K, EXP = range(4)
"""Smoothings of BLEU (Chen and Cherry 2014)."""
_TINY = 1e-16
_LOG_0 = -9999999999.0


@jit
def f_score(
    stats: Array,
    orders: int,
    beta: float,
    eps: bool,
) -> Any:
    """chrF from stats (3 * orders): n-grams of the hypothesis, of the reference, shared. 0 to 100."""
    factor = beta * beta
    precision = recall = smooth = 0.0
    effective = 0
    for k in range(orders):
        n_hyp, n_ref, n_match = stats[3 * k], stats[3 * k + 1], stats[3 * k + 2]
        prec = n_match / n_hyp if n_hyp > 0 else _TINY
        rec = n_match / n_ref if n_ref > 0 else _TINY
        if eps:
            bottom = factor * prec + rec
            smooth += (1 + factor) * prec * rec / bottom if bottom > 0 else _TINY
        if n_hyp > 0 and n_ref > 0:
            precision += prec
            recall += rec
            effective += 1
    if eps:
        return 100 * smooth / orders
    if effective == 0 or precision + recall == 0:
        return 0.0
    precision /= effective
    recall /= effective
    return 100 * ((1 + factor) * precision * recall / (factor * precision + recall))


@jit
def chrf_pairs(
    shared: Array,
    starts: Array,
    orders: int,
    words: Array,
    word_starts: Array,
    word_orders: int,
    rows: Array,
    beta: float,
    eps: bool,
    out: Array,
    out_starts: Array,
) -> None:
    """chrF of each pair (hypothesis, reference) of each row.

    shared, words: int32, of `pair_matches` for characters and for words. out: flat; row r of D texts writes
    (D, D) from out_starts[r].
    """
    stats = np.zeros(3 * (orders + word_orders))
    for r in range(len(rows) - 1):
        count = rows[r + 1] - rows[r]
        square = count * count
        for h in range(count):
            for t in range(count):
                for k in range(orders + word_orders):
                    if k < orders:
                        base = starts[r] + k * square
                        n_hyp, n_ref = shared[base + h * count + h], shared[base + t * count + t]
                        n_match = shared[base + h * count + t]
                    else:
                        base = word_starts[r] + (k - orders) * square
                        n_hyp, n_ref = words[base + h * count + h], words[base + t * count + t]
                        n_match = words[base + h * count + t]
                    stats[3 * k] = n_hyp if n_ref > 0 else 0
                    stats[3 * k + 1] = n_ref
                    stats[3 * k + 2] = n_match
                out[out_starts[r] + h * count + t] = f_score(stats, orders + word_orders, beta, eps)


@jit
def bleu_score(
    stats: Array,
    orders: int,
    smooth: int,
    value: float,
    effective: bool,
) -> Any:
    """BLEU from stats: words of hypothesis and reference, then for each order shared and all n-grams."""
    hyp, ref = stats[0], stats[1]
    some = False
    for k in range(orders):
        some = some or stats[2 + k] > 0
    if not some:
        return 0.0
    penalty = 1.0
    if hyp < ref:
        penalty = math.exp(1 - ref / hyp) if hyp > 0 else 0.0
    halves = 1.0
    used = orders
    logs = 0.0
    for k in range(orders):
        right, total = stats[2 + k], stats[2 + orders + k]
        if smooth == ADD_K and k > 0:
            right += value
            total += value
        if total == 0:
            if not effective:
                logs += _LOG_0 * (orders - k)
            break
        if effective:
            used = k + 1
        if right > 0:
            logs += math.log(100.0 * right / total)
        elif smooth == EXP:
            halves *= 2
            logs += math.log(100.0 / (halves * total))
        elif smooth == FLOOR:
            logs += math.log(100.0 * value / total)
        else:
            logs += _LOG_0
    return penalty * math.exp(logs / used)


@jit
def bleu_pairs(
    shared: Array,
    starts: Array,
    orders: int,
    rows: Array,
    smooth: int,
    value: float,
    effective: bool,
    out: Array,
    out_starts: Array,
) -> None:
    """BLEU of each pair (hypothesis, reference) of each row; out as of `chrf_pairs`."""
    stats = np.zeros(2 + 2 * orders)
    for r in range(len(rows) - 1):
        count = rows[r + 1] - rows[r]
        square = count * count
        for h in range(count):
            for t in range(count):
                stats[0] = shared[starts[r] + h * count + h]
                stats[1] = shared[starts[r] + t * count + t]
                for k in range(orders):
                    base = starts[r] + k * square + h * count
                    stats[2 + k] = shared[base + t]
                    stats[2 + orders + k] = shared[base + h]
                out[out_starts[r] + h * count + t] = bleu_score(stats, orders, smooth, value, effective)


@jit
def match_with_bag(names: Array, begin: int, end: int, bag: Array, count: Array) -> Any:
    """sum_g min(count_g, bag_g) of the n-grams names[begin:end]. count: zeros, and zeros again at the end."""
    match = 0.0
    for p in range(begin, end):
        name = names[p]
        match += min(count[name] + 1.0, bag[name]) - min(count[name], bag[name])
        count[name] += 1.0
    for p in range(begin, end):
        count[names[p]] = 0.0
    return match


@jit
def bag_matches(
    seq: Array,
    bounds: Array,
    texts: Array,
    rows: Array,
    mass: Array,
    order: int,
    names: Array,
    table: Array,
    out: Array,
) -> None:
    """Shared n-grams of each sequence with the weighted bag of n-grams of all sequences of its row.

    mass: (t,) share of each sequence in the bag of its row. out: (t, order, 3): n-grams of the sequence, of
    the bag (expected number), and shared, sum_g min(count_g, bag_g). names (P,) int32, table (3, slots) int64
    are room for the longest row.
    """
    bag = np.zeros(len(names) + 1)
    count = np.zeros(len(names) + 1)
    stamp = 0
    for r in range(len(rows) - 1):
        total = 0
        for t in range(rows[r], rows[r + 1]):
            total += bounds[texts[t] + 1] - bounds[texts[t]]
        bits = table_bits(total)
        for k in range(order):
            stamp += 1
            used = 0
            at = 0
            whole = 0.0
            for t in range(rows[r], rows[r + 1]):
                begin = bounds[texts[t]]
                length = bounds[texts[t] + 1] - begin
                whole += mass[t] * max(length - k, 0)
                for p in range(at, at + length - k):
                    key = seq[begin + p - at + k]
                    if k:
                        key |= np.int64(names[p]) << 32
                    slot = slot_of(table, key, stamp, bits)
                    if (table[1, slot] >> 32) != stamp:
                        used += 1
                        table[0, slot] = key
                        table[1, slot] = (np.int64(stamp) << 32) | used
                        bag[used] = count[used] = 0.0
                    name = table[1, slot] & 0xFFFFFFFF
                    names[p] = name
                    bag[name] += mass[t]
                at += length
            at = 0
            for t in range(rows[r], rows[r + 1]):
                length = bounds[texts[t] + 1] - bounds[texts[t]]
                out[t, k, 0] = max(length - k, 0)
                out[t, k, 1] = whole
                out[t, k, 2] = match_with_bag(names, at, at + length - k, bag, count)
                at += length


@jit
def chrf_bag(chars: Array, words: Array, beta: float, eps: bool, out: Array) -> None:
    """chrF of each sequence against its row's bag. chars, words: (t, order, 3); out (t,)."""
    orders, word_orders = chars.shape[1], words.shape[1]
    stats = np.zeros(3 * (orders + word_orders))
    for t in range(len(out)):
        for k in range(orders + word_orders):
            part = chars[t, k] if k < orders else words[t, k - orders]
            stats[3 * k] = part[0] if part[1] > 0 else 0.0
            stats[3 * k + 1] = part[1]
            stats[3 * k + 2] = part[2]
        out[t] = f_score(stats, orders + word_orders, beta, eps)


@jit
def bleu_bag(words: Array, smooth: int, value: float, effective: bool, out: Array) -> None:
    """BLEU of each sequence against its row's bag. words (t, order, 3); out (t,)."""
    orders = words.shape[1]
    stats = np.zeros(2 + 2 * orders)
    for t in range(len(out)):
        stats[0] = words[t, 0, 0]
        stats[1] = words[t, 0, 1]
        for k in range(orders):
            stats[2 + k] = words[t, k, 2]
            stats[2 + orders + k] = words[t, k, 0]
        out[t] = bleu_score(stats, orders, smooth, value, effective)


@jit
def dice_pairs(shared: Array, starts: Array, orders: int, rows: Array, out: Array, out_starts: Array) -> None:
    """F1 of the n-grams of the last order of `pair_matches` for each pair: 2 shared / (both), 0 for none."""
    for r in range(len(rows) - 1):
        count = rows[r + 1] - rows[r]
        base = starts[r] + (orders - 1) * count * count
        for h in range(count):
            for t in range(count):
                match = shared[base + h * count + t]
                both = shared[base + h * count + h] + shared[base + t * count + t]
                out[out_starts[r] + h * count + t] = 2.0 * match / both if match else 0.0
