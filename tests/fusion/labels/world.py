"""Annotators of different skill, who skip tasks and name the classes in different orders."""

from __future__ import annotations

import numpy as np

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
_TWO = "for two classes only"

EXCEPT: dict[str, dict[str, str]] = {
    **{
        name: _ALL_ROWS
        for name in (
            "wawa",
            "zero_based_skill",
            "dawid_skene",
            "one_coin_dawid_skene",
            "glad",
            "mace",
            "label_model",
            "m_msr",
        )
    },
    "kos": dict.fromkeys(
        (
            "one answer per row",
            "order does not matter",
            "one member is that member",
            "weight 0 is absent",
            "unanswered stays unanswered",
            "chunks are the whole",
        ),
        _TWO,
    ),
}
"""Operator -> law that does not hold -> why."""
