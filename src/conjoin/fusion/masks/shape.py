"""Shape-based averaging: the mean of signed distances to the borders that members drew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.masks.laid import labels_of, lay
from conjoin.fusion.stack import Weights
from conjoin.kernels.masks import distance_to
from conjoin.outputs import Array, Masks

if TYPE_CHECKING:
    from conjoin.contracts import Batch


def shape_average(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    spacing: Sequence[float] | None = None,
) -> Masks:
    """The label whose mean signed distance is least: argmin_l sum_m w_m D_ml (Rohlfing and Maurer 2007).

    D_ml is the Euclidean distance to the region with label l in mask m, negative inside it. Where a mask
    lacks a label its distance is the image's diagonal. Borders come out smoother than by a vote. spacing: the
    size of a pixel along each axis, 1 by default. Labels (n, *spatial); ties go to the least label.
    Raises OutputsError.

    >>> from conjoin.outputs import Masks
    >>> short, long = Masks([[1, 1, 0, 0, 0, 0, 0]]), Masks([[1, 1, 1, 1, 1, 1, 0]])
    >>> shape_average({"a": short, "b": long}).values
    array([[1, 1, 1, 1, 0, 0, 0]], dtype=uint8)
    """
    laid = lay(outputs, weights)
    steps = np.ones(len(laid.shape)) if spacing is None else np.asarray(spacing, dtype=np.float64)
    if steps.shape != (len(laid.shape),) or not (np.isfinite(steps) & (steps > 0)).all():
        raise OutputsError(f"spacing must hold {len(laid.shape)} numbers above 0, not {spacing!r}")
    fused = {}
    for row, who, images in laid.images(labels_of(laid.classes)):
        mass = laid.weights[who] / laid.weights[who].sum()
        fused[row] = _nearest([i.reshape(laid.shape) for i in images], mass, steps).reshape(-1)
    return laid.output(fused, None)


def _nearest(images: Sequence[Array], weights: Array, spacing: Array) -> Array:
    labels = np.unique(np.concatenate([np.unique(i) for i in images]))
    if not len(labels):
        return images[0]
    best = np.full(images[0].shape, np.inf)
    chosen = np.zeros(images[0].shape, dtype=np.uint8 if labels[-1] < 256 else np.int64)
    most = float(np.sqrt(((np.array(best.shape) * spacing) ** 2).sum()))
    for label in labels:
        total = np.zeros_like(best)
        for image, weight in zip(images, weights, strict=True):
            inside = image == label
            away, within = distance_to(inside, spacing), distance_to(~inside, spacing)
            total += weight * (np.minimum(away, most) - np.minimum(within, most))
        nearer = total < best - 1e-12 * most
        best[nearer], chosen[nearer] = total[nearer], label
    return chosen
