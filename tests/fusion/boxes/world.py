"""Detectors of different skill, with classes in other orders, who miss objects and skip images."""

from __future__ import annotations

import numpy as np

from conjoin.outputs import Boxes

CLASSES = ("cat", "Köter", "big bird", "鹿")
NAMES = ("yolo", "Ωμέγα", "two words", "weak")
NOISE = (0.03, 0.05, 0.08, 0.15)


def world(rng, rows=12):
    """Outputs of four detectors, of whom three skip some images, and the objects."""
    sizes = rng.integers(1, 5, rows)
    cell = np.concatenate([rng.permutation(16)[:k] for k in sizes])
    lower = np.stack([cell % 4, cell // 4], axis=1) * 100.0 + rng.random((len(cell), 2)) * 20
    objects = np.concatenate([lower, lower + 40 + rng.random((len(cell), 2)) * 35], axis=1)
    codes, row = rng.integers(0, len(CLASSES), len(cell)), np.repeat(np.arange(rows), sizes)
    outputs = {}
    for m, name in enumerate(NAMES):
        outputs[name] = _detector(rng, objects, codes, row, rows, NOISE[m], shift=m, quiet=m > 0)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return outputs, Boxes(objects, np.ones(len(codes)), codes, offsets, CLASSES)


def _detector(rng, objects, codes, row, rows, noise, *, shift, quiet):
    order = tuple(np.roll(np.arange(len(CLASSES)), shift))
    spoken = rng.random(rows) > 0.15 if quiet else np.ones(rows, bool)
    seen = np.flatnonzero((rng.random(len(codes)) > 2 * noise) & spoken[row])
    coords = objects[seen] + rng.normal(0, noise * 40, (len(seen), 4))
    scores = np.clip(0.9 - 3 * noise + rng.normal(0, 0.15, len(seen)), 0.05, 0.99)
    wrong = np.flatnonzero(spoken)
    far = np.tile([500.0, 500.0, 540.0, 560.0], (len(wrong), 1)) + rng.random((len(wrong), 1)) * 300
    at = np.concatenate([row[seen], wrong])
    coords, scores = np.concatenate([coords, far]), np.concatenate([scores, rng.random(len(wrong)) * 0.5])
    kinds = np.concatenate([codes[seen], rng.integers(0, len(CLASSES), len(wrong))])
    best = np.lexsort((-scores, at))
    offsets = np.searchsorted(at[best], np.arange(rows + 1))
    place = np.argsort(order)
    classes = tuple(CLASSES[k] for k in order)
    return Boxes(coords[best], scores[best], place[kinds[best]], offsets, classes, spoken)


def boxes(rows, classes=("a", "b"), answered=None):
    """Boxes from a list for each row of (corners, score, code)."""
    flat = [one for row in rows for one in row]
    width = len(flat[0][0]) if flat else 4
    return Boxes(
        np.array([c for c, _, _ in flat], np.float64).reshape(-1, width),
        np.array([s for _, s, _ in flat], np.float64),
        np.array([k for _, _, k in flat], np.int64),
        np.concatenate([[0], np.cumsum([len(row) for row in rows])]),
        classes,
        answered,
    )


_CALIBRATED = {"one member is that member": "its scores are calibrated"}
EXCEPT: dict[str, dict[str, str]] = {
    "fit weighted_boxes_fusion": _CALIBRATED,
    "fit non_maximum_weighted": _CALIBRATED,
    "fit probabilistic_ensembling": _CALIBRATED,
    "fit nms": _CALIBRATED,
    "fit soft_nms": _CALIBRATED,
}
"""Operator -> law that does not hold -> why."""
