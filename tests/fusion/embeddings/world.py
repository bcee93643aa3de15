"""Pairs of vectors whose cosines follow a similarity, for the laws."""

import numpy as np

from conjoin.outputs import Embeddings, Values

LEARNS = "it learns from the rows that it is given"
COMMON = "one member comes out in the common space, not in its own"
EXCEPT = {
    "procrustes": {"chunks are the whole": LEARNS, "unanswered stays unanswered": LEARNS},
    "pca": {
        "chunks are the whole": LEARNS,
        "unanswered stays unanswered": LEARNS,
        "one member is that member": COMMON,
    },
    "gcca": {
        "chunks are the whole": LEARNS,
        "unanswered stays unanswered": LEARNS,
        "one member is that member": COMMON,
    },
    "rank_mean": {"chunks are the whole": LEARNS, "unanswered stays unanswered": LEARNS},
}
"""operator -> {law: why it is not kept}."""

NOISE = {"é 384": (7, 0.3), "use": (5, 0.5), "static": (7, 1.0), "tf idf": (9, 1.5)}
"""Length of the vectors, and how noisy they are."""


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def world(rng, rows=12):
    meaning = unit(rng.normal(size=(rows, 2, 6)))
    gold = np.einsum("nd,nd->n", meaning[:, 0], meaning[:, 1])
    outputs = {}
    for k, (name, (width, noise)) in enumerate(NOISE.items()):
        turn = np.linalg.qr(rng.normal(size=(9, 9)))[0][:6, :width]
        vectors = unit(meaning @ turn + noise * rng.normal(size=(rows, 2, width)) / 3)
        outputs[name] = Embeddings(vectors, np.arange(rows) % 6 != k)
    return outputs, Values(gold)
