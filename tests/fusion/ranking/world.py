"""Search systems of different skill, each with its own scale of scores, who miss items and skip queries."""

from __future__ import annotations

import numpy as np

from conjoin.outputs import Ranking

NAMES = ("bm25", "Ωμέγα", "two words", "dense")
SKILL = (2.0, 1.5, 1.0, 0.3)
SCALE = (30.0, 1.0, 0.01, -5.0)
ITEMS = 25


def world(rng, rows=12):
    """Outputs of four systems, of whom three skip some rows, and the relevant items."""
    gains = (rng.random((rows, ITEMS)) < 0.15) * rng.integers(1, 4, (rows, ITEMS))
    gains[:, 0] = 1
    items = np.array([f"d {i}" for i in range(ITEMS)], dtype=object)
    outputs = {}
    for m, name in enumerate(NAMES):
        scores = SKILL[m] * gains + rng.normal(size=gains.shape)
        lists = []
        for r in range(rows):
            seen = np.flatnonzero(rng.random(ITEMS) < 0.6)
            lists.append(seen[np.argsort(-scores[r, seen])])
        spoken = np.ones(rows, bool) if m == 0 else rng.random(rows) > 0.15
        flat = np.concatenate(lists)
        row = np.repeat(np.arange(rows), [len(x) for x in lists])
        offsets = np.cumsum([0, *(len(x) for x in lists)])
        values = scores[row, flat] * abs(SCALE[m]) + SCALE[m]
        outputs[name] = Ranking(items[flat], values, offsets).take(np.arange(rows))
        outputs[name] = silent(outputs[name], ~spoken)
    row, flat = np.nonzero(gains)
    offsets = np.searchsorted(row, np.arange(rows + 1))
    return outputs, Ranking(items[flat], gains[row, flat], offsets)


def silent(output, rows):
    """The output with these rows not answered."""
    lengths = np.diff(output.offsets)
    kept = np.repeat(~rows, lengths)
    offsets = np.concatenate([[0], np.cumsum(np.where(rows, 0, lengths))])
    return Ranking(output.ids[kept], output.scores[kept], offsets, ~rows)


_OWN = {"one member is that member": "the order is that member's, the scores are the operator's own"}
_PLAIN = ("rrf", "weighted_sum", "comb_sum", "comb_mnz", "comb_gmnz", "comb_anz", "comb_max", "comb_min",
          "comb_med", "wmnz", "mixed", "isr", "log_isr", "logn_isr", "rbc", "borda", "condorcet")  # fmt: skip
_FITTED = ("weighted_sum", "comb_sum", "comb_gmnz", "rrf", "rbc", "isr", "logn_isr", "borda", "probfuse",
           "segfuse", "slidefuse", "posfuse", "mapfuse", "platt")  # fmt: skip

EXCEPT: dict[str, dict[str, str]] = {
    **dict.fromkeys(_PLAIN, _OWN),
    **dict.fromkeys([f"fit {name}" for name in _FITTED], _OWN),
}
"""Operator -> law that does not hold -> why. Fits that are not here gave the best single member its place."""
