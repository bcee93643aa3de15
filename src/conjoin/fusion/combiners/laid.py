"""Answers of the members a combiner knows, with who answered, and the votes in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.packing import known
from conjoin.fusion.stack import stack

if TYPE_CHECKING:
    from conjoin.outputs import Array


def answers(
    members: tuple[str, ...], outputs: Mapping[str, Any], classes: tuple[str, ...]
) -> tuple[Array, Array]:
    """(n, M, K) float64, 0 where a member did not answer; (n, M) who did. Raises OutputsError."""
    known(members, outputs)
    laid = stack(outputs, classes=classes)
    if laid.kind != "probabilities":
        raise OutputsError(f"this combiner takes probabilities or labels, not {laid.kind}")
    P = np.zeros((laid.rows, len(members), len(classes)))
    there = np.zeros((laid.rows, len(members)), dtype=bool)
    for name, part, answered in zip(laid.names, laid.parts, laid.answered, strict=True):
        m = members.index(name)
        P[:, m] = np.where(answered[:, None], part, 0.0)
        there[:, m] = answered
    if not np.isfinite(P.sum()):
        bad = [members[m] for m in range(len(members)) if not np.isfinite(P[:, m]).all()]
        raise OutputsError(f"members {bad} gave NaN or infinity in rows that they mark as answered")
    return P, there


def votes(P: Array, there: Array) -> Array:
    """(n, M): the most probable class, ties to the first; -1 where the member did not answer."""
    return np.where(there, P.argmax(axis=2), -1)
