"""Masks of a blob by raters of known skill, for the laws."""

import numpy as np

from conjoin.outputs import Masks

PROBABILITIES = "probabilities of 0 and 1 come out where labels went in"
EXCEPT = {
    "mean": {"one member is that member": PROBABILITIES},
    "staple": {"one member is that member": PROBABILITIES},
}
"""operator -> {law: why it is not kept}."""

SKILL = {"δ rater": (0.95, 0.97), "rater a": (0.8, 0.97), "b": (0.9, 0.85), "c c": (0.7, 0.9)}
"""Sensitivity and specificity."""


def blobs(rng, rows, side=12):
    """(rows, side, side) of 0 and 1."""
    y, x = np.indices((side, side))
    centre, radius = rng.uniform(4, side - 4, (rows, 2, 1, 1)), rng.uniform(2, 4, (rows, 1, 1))
    return ((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2 < radius**2).astype(np.uint8)


def marked(rng, truth, sensitivity, specificity):
    """What a rater of this skill marks."""
    draw = rng.random(truth.shape)
    return np.where(truth == 1, draw < sensitivity, draw > specificity).astype(np.uint8)


def world(rng, rows=12):
    truth = blobs(rng, rows)
    outputs = {}
    for k, (name, skill) in enumerate(SKILL.items()):
        answered = np.arange(rows) % 5 != k
        said = np.where(answered[:, None, None], marked(rng, truth, *skill), 0)
        outputs[name] = Masks(said.astype(np.uint8), (), answered)
    return outputs, Masks(truth)
