"""Three modalities of a row, each with a part of the truth, some of them missing."""

from __future__ import annotations

import numpy as np

from conjoin.outputs import Embeddings, Labels, Probabilities, Values

CLASSES = ("no", "yes", "maybe é")


def world(rng: np.random.Generator, rows: int = 90, skipped: float = 0.15) -> tuple[dict, Labels]:
    """Outputs: an embedding, a table (values, with a missing number), probabilities; and the truth."""
    codes = rng.integers(0, 3, rows)
    one = np.eye(3)[codes]
    image = np.concatenate([one + rng.normal(size=(rows, 3)), rng.normal(size=(rows, 5))], axis=1)
    table = np.concatenate([1000 * (one[:, :2] + rng.normal(size=(rows, 2))), np.ones((rows, 1))], axis=1)
    table[0, 0] = np.nan
    z = one + rng.normal(size=(rows, 3))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    a, b, c = (rng.random(rows) >= skipped for _ in range(3))
    outputs = {
        "the image": Embeddings(image, a),
        "table": Values(table, b),
        "text": Probabilities(p[:, ::-1], CLASSES[::-1], c),
    }
    return outputs, Labels(codes, CLASSES)


EXCEPT: dict[str, dict[str, str]] = {
    name: {"one member is that member": "a modality is not an answer: it gets a head"}
    for name in ("late", "early", "gated", "low_rank")
}
