"""Annotators of different skill, who skip tasks and name the classes in different orders."""

from __future__ import annotations

import numpy as np

from conjoin.checks import FUSER_LAWS
from conjoin.outputs import Labels

CLASSES = ("bird", "cat", "dog")
NAMES = ("ann", "bob", "Иван Иванов", "no one")
SKILL = (0.9, 0.75, 0.6, 0.5)


def world(rng, rows=12, classes=CLASSES):
    """Outputs of four annotators, of whom three skip some rows, and the truth."""
    width = len(classes)
    true = rng.integers(0, width, rows)
    outputs = {}
    for i, (name, skill) in enumerate(zip(NAMES, SKILL, strict=True)):
        codes = np.where(rng.random(rows) < skill, true, rng.integers(0, width, rows))
        if i:
            codes[rng.random(rows) < 0.2] = -1
        order = np.roll(np.arange(width), i)
        names = tuple(classes[k] for k in order)
        place = np.append(np.argsort(order), -1)
        outputs[name] = Labels(place[codes], names)
    return outputs, Labels(true, classes)


_LEARNS = "learns from all rows together"  # fast_dawid_skene too: its decisions are the same here by chance
_ALL_ROWS = {"chunks are the whole": _LEARNS, "unanswered stays unanswered": _LEARNS}
_ITERATIVE = ("wawa", "zero_based_skill", "dawid_skene", "ibcc", "one_coin_dawid_skene", "glad", "mace")

EXCEPT: dict[str, dict[str, str]] = {
    **dict.fromkeys((*_ITERATIVE, "label_model", "m_msr"), _ALL_ROWS),
    "kos": dict.fromkeys(FUSER_LAWS, "for two classes only"),
}
"""Operator -> law that does not hold -> why."""
