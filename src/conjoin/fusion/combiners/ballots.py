"""Combiners of votes that learn what each vote, or all together, mean: naive Bayes and BKS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError
from conjoin.fusion import rules
from conjoin.fusion.combiners.laid import answers, votes
from conjoin.fusion.packing import ask, members_of, names_of
from conjoin.fusion.problems import class_problem
from conjoin.fusion.single import Single, guarded
from conjoin.outputs import Probabilities

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json
    from conjoin.scores import Score


@dataclass(frozen=True, slots=True, eq=False)
class Ballots:
    """Naive Bayes on votes: p_k proportional to prior_k prod_m confusion_m[k, vote_m]; and cells beside it.

    prior: (K,). confusion: (M, K, K), rows sum to 1. cells: (C, M) votes that rows had together (BKS), empty
    for naive Bayes; counts: (C, K) weights of their rows by class. A row whose votes are those of a cell gets
    (counts + strength p) / (sum of counts + strength), p naive Bayes' answer; any other row gets p.
    Members that did not answer are left out of p; a cell needs all votes.
    """

    members: tuple[str, ...]
    classes: tuple[str, ...]
    prior: Array
    confusion: Array
    cells: Array
    counts: Array
    strength: float

    @property
    def needs(self) -> tuple[str, ...]:
        """All members."""
        return self.members

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Probabilities:
        """Fuse. Raises OutputsError on a member it was not fitted to."""
        P, there = answers(self.members, outputs, self.classes)
        given = votes(P, there)
        logs = np.tile(np.log(self.prior), (len(given), 1))
        for m in range(len(self.members)):
            own = there[:, m]
            logs[own] += np.log(self.confusion[m])[:, given[own, m]].T
        values = rules.softmax(logs)
        if len(self.cells):
            values = self._celled(given, values)
        answered = np.asarray(there.any(axis=1))
        return Probabilities(np.where(answered[:, None], values, np.nan), self.classes, answered)

    def _celled(self, given: Array, values: Array) -> Array:
        at = {tuple(cell): i for i, cell in enumerate(self.cells.tolist())}
        place = np.array([at.get(tuple(row), -1) for row in given.tolist()], dtype=np.int64)
        hit = np.flatnonzero(place >= 0)
        counts = self.counts[place[hit]]
        values[hit] = (counts + self.strength * values[hit]) / (
            counts.sum(axis=1, keepdims=True) + self.strength
        )
        return values

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """Tables; names as JSON."""
        arrays = {
            "prior": self.prior,
            "confusion": self.confusion,
            "cells": self.cells,
            "counts": self.counts,
            "strength": np.array([self.strength]),
        }
        return arrays, {"members": list(self.members), "classes": list(self.classes)}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        members, classes = members_of(meta), names_of(meta, "classes")
        M, K = len(members), len(classes)
        prior, confusion = ask(arrays, "prior", (K,)), ask(arrays, "confusion", (M, K, K))
        cells = ask(arrays, "cells", (None, M)).astype(np.int64)
        counts, strength = ask(arrays, "counts", (len(cells), K)), ask(arrays, "strength", (1,))
        if (prior <= 0).any() or (confusion <= 0).any() or (counts < 0).any() or strength[0] <= 0:
            raise BundleError("packed ballots need probabilities and a strength above 0, counts not below 0")
        return cls(members, classes, prior, confusion, cells, counts, float(strength[0]))


def _fit(
    outputs: Mapping[str, Any],
    truth: Any,
    weights: Any,
    score: Score | None,
    guard: bool,
    strength: float | None,
) -> Ballots | Single:
    rows = class_problem(outputs, truth, weights)
    members, classes = rows.stack.names, rows.stack.classes
    P, there = answers(members, {n: o.take(rows.at) for n, o in outputs.items()}, classes)
    given, K = votes(P, there), len(classes)
    mass = rows.shares * len(rows.codes)
    size = np.bincount(rows.codes, mass, minlength=K)
    confusion = np.zeros((len(members), K, K))
    for m in range(len(members)):
        own = there[:, m]
        pairs = np.bincount(rows.codes[own] * K + given[own, m], mass[own], minlength=K * K).reshape(K, K)
        confusion[m] = (pairs + 1.0 / K) / (pairs.sum(axis=1, keepdims=True) + 1.0)
    cells, counts = np.zeros((0, len(members)), dtype=np.int64), np.zeros((0, K))
    if strength is not None:
        whole = there.all(axis=1)
        cells, which = np.unique(given[whole], axis=0, return_inverse=True)
        counts = np.zeros((len(cells), K))
        np.add.at(counts, (which.reshape(-1), rows.codes[whole]), mass[whole])
    prior = (size + 1.0 / K) / (size.sum() + 1.0)
    made = Ballots(members, classes, prior, confusion, cells, counts, strength or 1.0)
    return guarded(made, outputs, truth, score, weights) if guard else made


def fit_naive_bayes(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    guard: bool = True,
) -> Ballots | Single:
    """The naive Bayes combiner of votes (Titterington et al. 1981, Kuncheva 2004).

    p_k proportional to prior_k prod_m (n_m[k, v_m] + 1/K) / (n_m[k] + 1), n_m[k, v] rows of class k that m
    votes v. weights: (n,) of the rows. guard: the best single member where it has the lower score on these
    rows. seed has no influence. Raises OutputsError, TruthError.

    >>> from conjoin.outputs import Labels
    >>> votes = {"a": Labels([0, 0, 1, 1], "xy"), "b": Labels([0, 1, 1, 0], "xy")}
    >>> fuser = fit_naive_bayes(votes, Labels([0, 0, 1, 1], "xy"), guard=False)
    >>> fuser({"a": Labels([0], "xy"), "b": Labels([1], "xy")}).values.round(3)
    array([[0.833, 0.167]])
    """
    return _fit(outputs, truth, weights, score, guard, None)


def fit_bks(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    guard: bool = True,
    strength: float = 1.0,
) -> Ballots | Single:
    """Behaviour knowledge space: the classes of the rows on which the members voted alike (Huang, Suen 1995).

    A cell of votes that never occurred gets naive Bayes' answer, and each cell counts it as `strength` rows.
    Else as `fit_naive_bayes`. Raises OutputsError, TruthError.
    """
    return _fit(outputs, truth, weights, score, guard, float(strength))
