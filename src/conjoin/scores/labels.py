"""Scores of labels against a truth that `scores.SCORES` does not have: agreement beyond chance."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np

from conjoin.errors import OutputsError, TruthError
from conjoin.outputs import Array, Labels, Probabilities
from conjoin.scores.field import FieldScore


def kappa_statistics(output: Any, truth: Any) -> Array:
    """(n, 2 + 2 K): 1, [equal], one-hot of the truth, one-hot of the answer; NaN where one is missing."""
    if not isinstance(truth, Labels):
        raise TruthError(f"cohen_kappa needs a truth of labels, not {getattr(truth, 'kind', type(truth))}")
    said = output.labels() if isinstance(output, Probabilities) else output
    if not isinstance(said, Labels):
        raise OutputsError(f"cohen_kappa scores labels or probabilities, not {said.kind}")
    classes = tuple(dict.fromkeys((*said.classes, *truth.classes)))
    said, truth = said.align(classes), truth.align(classes)
    table = np.column_stack(
        [np.ones(len(said)), said.codes == truth.codes, truth.one_hot(), said.one_hot()]
    ).astype(np.float64)
    table[(said.codes < 0) | (truth.codes < 0)] = np.nan
    return cast(Array, table)


def kappa_of_sums(sums: Array) -> float:
    """(observed - expected agreement) / (1 - expected), from the sums of `kappa_statistics`.

    >>> round(kappa_of_sums(np.array([4, 3, 2, 2, 1, 3.0])), 4)
    0.5
    """
    n = float(sums[0])
    if n <= 0:
        return math.nan
    width = (len(sums) - 2) // 2
    expected = float(sums[2 : 2 + width] @ sums[2 + width :]) / n**2
    return 1.0 if expected >= 1 else (float(sums[1]) / n - expected) / (1 - expected)


SCORES: dict[str, FieldScore] = {
    "cohen_kappa": FieldScore(
        "cohen_kappa", "labels", "higher", 1.0, kappa_statistics, kappa_of_sums, decisions=True
    )
}
"""Scores of labels, by name. Accuracy, F1 and the like are in `scores.SCORES` and take labels as well."""
