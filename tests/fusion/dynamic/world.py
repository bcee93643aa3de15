"""Members that are good in different places, some rows skipped, classes in different orders."""

from __future__ import annotations

import numpy as np

from conjoin.outputs import Labels, Probabilities

CLASSES = ("no", "yes", "maybe é")


def world(rng: np.random.Generator, rows: int = 60, skipped: bool = True) -> tuple[dict, Labels, dict]:
    """Outputs, truth, batch: `left` is right where x < 0, `right one` where x > 0, `both` seldom."""
    x = rng.uniform(-1, 1, rows)
    codes = rng.integers(0, 3, rows)
    skill = {"left": np.where(x < 0, 3.0, -1.0), "right one": np.where(x < 0, -1.0, 3.0), "both": 0.5 + 0 * x}
    outputs = {}
    for m, (name, s) in enumerate(skill.items()):
        z = rng.normal(size=(rows, 3)) + s[:, None] * np.eye(3)[codes]
        order = np.roll(np.arange(3), m)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        answered = rng.random(rows) > 0.1 if skipped else np.ones(rows, bool)
        p[~answered] = np.nan
        outputs[name] = Probabilities(p[:, order], [CLASSES[k] for k in order], answered)
    batch = {"x": x, "noise free": 0 * x, "text": np.array(["a"] * rows, dtype=object)}
    return outputs, Labels(codes, CLASSES), batch


EXCEPT: dict[str, dict[str, str]] = {}
