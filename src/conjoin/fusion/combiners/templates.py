"""Decision templates, and Dempster-Shafer combination on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import OutputsError
from conjoin.fusion.combiners.laid import answers
from conjoin.fusion.packing import ask, members_of, names_of, text
from conjoin.fusion.problems import class_problem
from conjoin.fusion.single import Single, guarded
from conjoin.outputs import Probabilities

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json
    from conjoin.scores import Score

RULES = ("decision_templates", "dempster_shafer")


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """How far a row's answers are from the mean answers of each class.

    templates: (K, M, K), T_j the mean answers (M, K) of rows of class j. With D a row's answers:
    decision_templates (Kuncheva, Bezdek and Duin 2001): 1 - |D - T_j|^2 / (2 M), scaled to sum 1.
    dempster_shafer (Rogova 1994): nearness f_jm = 1 / (1 + |D_m - T_jm|^2), scaled to sum 1 over j; belief
    b_jm = f_jm r / (1 - f_jm (1 - r)) with r = prod_(l != j) (1 - f_lm); prod_m b_jm, scaled to sum 1.
    Members that did not answer a row are left out there.
    """

    rule: str
    members: tuple[str, ...]
    classes: tuple[str, ...]
    templates: Array

    @property
    def needs(self) -> tuple[str, ...]:
        """All members."""
        return self.members

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Probabilities:
        """Fuse. Raises OutputsError on a member it was not fitted to."""
        P, there = answers(self.members, outputs, self.classes)
        away = np.stack([((P - T) ** 2).sum(axis=2) for T in self.templates], axis=2)  # (n, M, K)
        answered = np.asarray(there.any(axis=1))
        values = self._near(away, there) if self.rule == RULES[0] else self._belief(away, there)
        total = values.sum(axis=1, keepdims=True)
        values = np.divide(values, total, out=np.full(values.shape, 1.0 / len(self.classes)), where=total > 0)
        return Probabilities(np.where(answered[:, None], values, np.nan), self.classes, answered)

    @staticmethod
    def _near(away: Array, there: Array) -> Array:
        count = np.maximum(there.sum(axis=1), 1)[:, None]
        return np.asarray(np.maximum(1.0 - (away * there[:, :, None]).sum(axis=1) / (2.0 * count), 0.0))

    @staticmethod
    def _belief(away: Array, there: Array) -> Array:
        f = 1.0 / (1.0 + away)
        f /= f.sum(axis=2, keepdims=True)
        rest = np.log1p(-np.minimum(f, 1.0 - 1e-12))
        r = np.exp(rest.sum(axis=2, keepdims=True) - rest)
        belief = f * r / (1.0 - f * (1.0 - r))
        logs = np.where(there[:, :, None], np.log(np.maximum(belief, 1e-300)), 0.0).sum(axis=1)
        return np.asarray(np.exp(logs - logs.max(axis=1, keepdims=True)))

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The templates, and names as JSON."""
        meta: dict[str, Json] = {
            "rule": self.rule,
            "members": list(self.members),
            "classes": list(self.classes),
        }
        return {"templates": self.templates}, meta

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        members, classes = members_of(meta), names_of(meta, "classes")
        K = len(classes)
        return cls(
            text(meta, "rule", RULES), members, classes, ask(arrays, "templates", (K, len(members), K))
        )


MOST_NUMBERS = 20_000_000
"""Numbers of the templates: M K^2."""


def _fit(
    rule: str, outputs: Mapping[str, Any], truth: Any, weights: Any, score: Score | None, guard: bool
) -> Templates | Single:
    rows = class_problem(outputs, truth, weights)
    members, classes = rows.stack.names, rows.stack.classes
    if len(members) * len(classes) ** 2 > MOST_NUMBERS:
        raise OutputsError(
            f"{rule} keeps {len(members)} x {len(classes)}^2 numbers, more than {MOST_NUMBERS:,}; "
            "take fewer classes, or a pool"
        )
    P = np.stack(rows.stack.parts, axis=1).astype(np.float64)
    mass = np.bincount(rows.codes, rows.shares, minlength=len(classes))
    T = np.tile(np.tensordot(rows.shares, P, axes=1), (len(classes), 1, 1))
    for j in np.flatnonzero(mass):
        own = rows.codes == j
        T[j] = np.tensordot(rows.shares[own] / mass[j], P[own], axes=1)
    absent = mass == 0  # no row of it: its template is the mean answer, drawn all to the class itself
    T[absent] = np.eye(len(classes))[absent][:, None, :]
    made = Templates(rule, members, classes, T)
    return guarded(made, outputs, truth, score, weights) if guard else made


def fit_decision_templates(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    guard: bool = True,
) -> Templates | Single:
    """Decision templates, see `Templates`. Its answers rank classes; they are not calibrated.

    weights: (n,) of the rows. guard: the best single member where it has the lower score on these rows.
    seed has no influence. Raises OutputsError, TruthError.
    """
    return _fit("decision_templates", outputs, truth, weights, score, guard)


def fit_dempster_shafer(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    guard: bool = True,
) -> Templates | Single:
    """Dempster-Shafer combination on decision templates, see `Templates`; as `fit_decision_templates`."""
    return _fit("dempster_shafer", outputs, truth, weights, score, guard)
