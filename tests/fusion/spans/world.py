"""Taggers of different care on made-up texts, with classes in different orders and rows that they skip."""

from __future__ import annotations

import numpy as np

from conjoin.outputs import Spans

CLASSES = ("location", "person", "organisation")
NAMES = ("ann", "bob tagger", "Иван")
SKILL = (0.85, 0.65, 0.5)


def world(rng, rows=12):
    """Outputs of three taggers, of whom two skip rows, and the truth: up to three entities a text."""
    true = [_entities(rng) for _ in range(rows)]
    outputs = {}
    for i, (name, skill) in enumerate(zip(NAMES, SKILL, strict=True)):
        found = [[_seen(rng, span, skill) for span in row if rng.random() < skill] for row in true]
        for row in found:
            if rng.random() > skill:
                start = int(rng.integers(60, 90))
                row.append((start, start + 5, int(rng.integers(3)), 0.3))
        answered = rng.random(rows) > 0.15 if i else np.ones(rows, dtype=bool)
        outputs[name] = spans(found, answered, np.roll(np.arange(3), i))
    return outputs, spans([[(a, b, k, 1.0) for a, b, k in row] for row in true], np.ones(rows, dtype=bool))


def _entities(rng):
    found = []
    for place in range(int(rng.integers(0, 4))):
        start = place * 20 + int(rng.integers(0, 8))
        found.append((start, start + int(rng.integers(3, 11)), int(rng.integers(3))))
    return found


def _seen(rng, span, skill):
    start, end, kind = span
    if rng.random() > skill:
        end += 2
    if rng.random() > skill:
        kind = int(rng.integers(3))
    return start, end, kind, float(np.round(rng.uniform(0.3, 1.0), 3))


def spans(rows, answered, order=(0, 1, 2)):
    """Spans from rows of (start, end, class, score)."""
    rows = [row if kept else [] for row, kept in zip(rows, answered, strict=True)]
    flat = [span for row in rows for span in row]
    place = np.argsort(order)
    return Spans(
        [s[0] for s in flat],
        [s[1] for s in flat],
        [s[3] for s in flat],
        [place[s[2]] for s in flat],
        np.cumsum([0, *(len(row) for row in rows)]),
        [CLASSES[k] for k in order],
        answered,
    )


EXCEPT: dict[str, dict[str, str]] = {}
"""Operator -> law that does not hold -> why."""
