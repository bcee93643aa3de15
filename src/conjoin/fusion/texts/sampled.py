"""Minimum Bayes risk when comparing two texts is dear: not every text is compared with every other.

For utilities of the user's that call a model. The named utilities are so quick that `minimum_bayes_risk`
works them all out; here they give the answers that the method gives.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.stack import Weights
from conjoin.fusion.texts.laid import Laid, best_slots, lay
from conjoin.fusion.texts.risk import Utility, evidence, pair_utilities
from conjoin.outputs import Array

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.outputs import Texts

Cells = Callable[[Array, Array], Array]
"""(hypotheses (c,), references (c,)) of a row -> their utilities (c,), more is better."""


def pruning_minimum_bayes_risk(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    utility: Utility = "chrf",
    schedule: Sequence[int] = (8, 16, 32, 64, 128, 256),
    alpha: float = 0.99,
    draws: int = 500,
    seed: int = 0,
) -> Texts:
    """`minimum_bayes_risk` that gives up hopeless texts early (Cheng and Vlachos 2023); see `pruned`.

    References are looked at by falling weight. Random numbers are drawn with `seed` and the texts of the row,
    so that other rows do not matter. Raises OutputsError.

    >>> from conjoin.outputs import Texts
    >>> said = {"a": Texts(["a cat sat"]), "b": Texts(["the cat sat"]), "c": Texts(["the dog sat"])}
    >>> pruning_minimum_bayes_risk(said).texts
    array(['the cat sat'], dtype=object)
    """
    if not 0 <= alpha <= 1 or draws < 1 or not schedule or min(schedule) < 1:
        raise OutputsError(
            f"alpha must be from 0 to 1, draws and schedule 1 or more; given {alpha}, {draws}, {schedule!r}"
        )

    def one(cells: Cells, mass: Array, rng: np.random.Generator) -> Array:
        return pruned(cells, len(mass), mass, rng, schedule=schedule, alpha=alpha, draws=draws)

    return _fused(outputs, weights, utility, seed, one)


def probabilistic_minimum_bayes_risk(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    utility: Utility = "chrf",
    reduction: float = 8.0,
    rank: int = 8,
    penalty: float = 0.1,
    steps: int = 10,
    seed: int = 0,
) -> Texts:
    """`minimum_bayes_risk` from one in `reduction` of all comparisons (Trabelsi et al. 2024).

    The others are filled in as in `completed`. Random numbers as in `pruning_minimum_bayes_risk`.
    Raises OutputsError.
    """
    if reduction < 1 or rank < 1 or penalty <= 0 or steps < 1:
        raise OutputsError(
            "reduction, rank and steps must be 1 or more and penalty above 0; given "
            f"{reduction}, {rank}, {steps}, {penalty}"
        )

    def one(cells: Cells, mass: Array, rng: np.random.Generator) -> Array:
        size = (len(mass), len(mass))
        table = completed(cells, size, rng, reduction=reduction, rank=rank, penalty=penalty, steps=steps)
        return cast(Array, table @ mass)

    return _fused(outputs, weights, utility, seed, one)


def pruned(
    cells: Cells,
    hypotheses: int,
    mass: Array,
    rng: np.random.Generator,
    *,
    schedule: Sequence[int],
    alpha: float,
    draws: int,
    keep: int = 1,
) -> Array:
    """(H,) expected utility over the references looked at; NaN for hypotheses that were given up.

    mass: (R,) weights of the references, which are looked at in their order, up to each number of `schedule`.
    Then a hypothesis is given up if in `draws` bootstrap samples of these it beats or ties the best at most
    (1 - alpha) of the time; where fewer than `keep` would be left, the search ends.
    """
    alive = np.arange(hypotheses)
    table = np.zeros((hypotheses, 0))
    order = np.argsort(-mass, kind="stable")
    for until in sorted({min(s, len(mass)) for s in schedule}):
        new = order[table.shape[1] : until]
        h, r = np.repeat(alive, len(new)), np.tile(new, len(alive))
        table = np.concatenate([table, cells(h, r).reshape(len(alive), len(new))], axis=1)
        shares = _shares(mass[order[:until]])
        best = int(np.argmax(table @ shares))
        boot = rng.multinomial(until, shares, size=draws) @ table.T
        wins = (boot >= boot[:, best, None]).mean(axis=0)
        stay = wins > 1 - alpha
        if stay.sum() < keep:
            break
        alive, table = alive[stay], table[stay]
    out = np.full(hypotheses, np.nan)
    out[alive] = table @ _shares(mass[order[: table.shape[1]]])
    return out


def completed(
    cells: Cells,
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    reduction: float,
    rank: int,
    penalty: float,
    steps: int,
) -> Array:
    """(H, R) utilities, of which H R / reduction were worked out, at random; the others are X Y^T.

    X (H, rank) and Y (R, rank) have the least squared error on those plus penalty (|X|^2 + |Y|^2), by
    alternating least squares.
    """
    rows, columns = size
    count = math.ceil(rows * columns / reduction)
    at = rng.permutation(rows * columns)[:count]
    known = np.zeros(rows * columns, dtype=bool)
    known[at] = True
    table = np.zeros(rows * columns)
    table[at] = cells(at // columns, at % columns)
    table, known = table.reshape(size), known.reshape(size)
    if known.all():
        return table
    scale = float(np.abs(table).max()) or 1.0
    x = rng.random((rows, rank)) / math.sqrt(rows * rank)
    y = rng.random((columns, rank)) / math.sqrt(columns * rank)
    for _ in range(steps):
        x = _least(table / scale, known, y, penalty / scale)
        y = _least(table.T / scale, known.T, x, penalty / scale)
    return cast(Array, np.where(known, table, scale * (x @ y.T)))


def _least(table: Array, known: Array, y: Array, penalty: float) -> Array:
    products = np.einsum("rk,hr,rj->hkj", y, known, y) + penalty * np.eye(y.shape[1])
    return cast(Array, np.linalg.solve(products, ((table * known) @ y)[:, :, None])[:, :, 0])


def _shares(mass: Array) -> Array:
    total = float(mass.sum())
    return cast(Array, mass / total) if total > 0 else np.full(len(mass), 1.0 / max(len(mass), 1))


def _fused(
    outputs: Mapping[str, Any],
    weights: Weights,
    utility: Utility,
    seed: int,
    one: Callable[[Cells, Array, np.random.Generator], Array],
) -> Texts:
    laid = lay(outputs, weights)
    mass = evidence(laid)
    values = np.full(len(mass), np.nan)
    for r, cells in _row_cells(laid, utility):
        a, z = int(laid.group.rows[r]), int(laid.group.rows[r + 1])
        if z > a:
            words = "\0".join(laid.text(s) for s in range(a, z)).encode("utf-8", "surrogatepass")
            values[a:z] = one(cells, mass[a:z], np.random.default_rng([seed, zlib.crc32(words)]))
    return laid.output(best_slots(laid, values, mass))


def _row_cells(laid: Laid, utility: Utility) -> Iterator[tuple[int, Cells]]:
    """For each row the function that compares its texts; the user's is called for each pair once at most."""
    if callable(utility):
        for r in range(laid.rows):
            texts = [laid.text(s) for s in range(int(laid.group.rows[r]), int(laid.group.rows[r + 1]))]
            yield r, _asked(utility, texts)
        return
    compare = pair_utilities(utility)
    r = 0
    for _, group in laid.blocks():
        pairs, starts = compare(group), group.starts
        for k, count in enumerate(group.counts.tolist()):
            table = pairs[starts[k] : starts[k + 1]].reshape(count, count)
            yield r, lambda h, ref, table=table: table[h, ref]  # type: ignore[misc]
            r += 1


def _asked(utility: Callable[[str, str], float], texts: Sequence[str]) -> Cells:
    def cells(h: Array, r: Array) -> Array:
        found = [float(utility(texts[a], texts[b])) for a, b in zip(h.tolist(), r.tolist(), strict=True)]
        if any(map(math.isnan, found)):
            raise OutputsError("the utility gave NaN; it must give a number for each pair of texts")
        return np.array(found, dtype=np.float64)

    return cells
