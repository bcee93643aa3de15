"""`WorkerModel`: how each worker answers, given the true class. What most fits of this package give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, OutputsError, listed, nearest
from conjoin.fusion.labels.triples import Answers, Triples, fused, triples_of
from conjoin.fusion.packing import ask, known, members_of, names_of, number
from conjoin.kernels.labels import EPS, skene_pass
from conjoin.outputs import Array, Labels, Probabilities

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Json

MOST_CELLS = 100_000_000
"""A model of M workers and K classes holds M x K x K numbers, at most so many."""


@dataclass(frozen=True, slots=True, eq=False)
class WorkerModel:
    """P(class c | answers) proportional to prior_c prod_w confusions[w, c, answer of w]^weight_w.

    members: M names, sorted. classes: K names. prior: (K,), sum 1. confusions: (M, K, K), the chance that
    worker w says l where c is true is [w, c, l]. answers: (M, K, K), the (expected) number of answers behind
    each cell; new answers are added to them. weights: (M,), how often each answer counts.
    tasks: the number of tasks behind the prior.

    Called on the answers of its workers, or some of them, it gives `Probabilities`: row by row, so new tasks
    need no fit. Abstentions say nothing.
    """

    members: tuple[str, ...]
    classes: tuple[str, ...]
    prior: Array
    confusions: Array
    answers: Array
    weights: Array
    tasks: float = 0.0

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members with weight."""
        return tuple(n for n, w in zip(self.members, self.weights, strict=True) if w > 0)

    @property
    def skill(self) -> dict[str, float]:
        """Each worker's chance to be right: sum_c prior_c confusions[w, c, c]."""
        hits = np.einsum("c,wcc->w", self.prior, self.confusions)
        return dict(zip(self.members, hits.tolist(), strict=True))

    def confusion(self, member: str) -> Array:
        """(K, K) of one worker: rows are true classes, columns what it says. Raises OutputsError."""
        if member not in self.members:
            raise OutputsError(f"no worker {member!r}{nearest(member, self.members)}")
        return np.asarray(self.confusions[self.members.index(member)])

    def __call__(self, outputs: Answers, /, *, batch: Batch | None = None) -> Probabilities:
        """Fuse. Raises OutputsError on a worker, or on a label, that it was not fitted to."""
        given = self._own(outputs)
        width = len(self.classes)
        rows = np.maximum(self.confusions.transpose(0, 2, 1), EPS) ** self.weights[:, None, None]
        table = np.ascontiguousarray(np.maximum(rows, 1e-30)).reshape(len(rows) * width, width)
        post = np.zeros((given.rows, width))
        pair = given.workers * width + given.labels
        unknown = np.full(given.rows, -1, dtype=np.int64)
        skene_pass(
            given.offsets,
            pair,
            table,
            np.maximum(self.prior, EPS),
            unknown,
            False,
            post,
            np.empty_like(table),
        )
        return fused(post, given)

    def _own(self, outputs: Answers) -> Triples:
        """The answers, counted in this model's members and classes; those of weight 0 are left out."""
        names = outputs.members if isinstance(outputs, Triples) else outputs
        known(self.members, dict.fromkeys(names))
        given, _ = triples_of(outputs)
        return recoded(given, self.members, self.classes, self.weights > 0)

    def of(self, members: tuple[str, ...]) -> WorkerModel:
        """The model of these workers; one that is new gets the mean of all and no answers."""
        at = {n: i for i, n in enumerate(self.members)}
        index = np.array([at.get(n, -1) for n in members], dtype=np.int64)
        new = index < 0
        mass = self.answers.sum(axis=0) + EPS
        confusions, answers = self.confusions[index], self.answers[index]
        weights = self.weights[index]
        confusions[new], answers[new], weights[new] = mass / mass.sum(axis=1, keepdims=True), 0.0, 1.0
        return replace(self, members=members, confusions=confusions, answers=answers, weights=weights)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The numbers; names as JSON."""
        arrays = {"prior": self.prior, "confusions": self.confusions, "answers": self.answers}
        return {**arrays, "weights": self.weights}, {
            "members": list(self.members),
            "classes": list(self.classes),
            "tasks": self.tasks,
        }

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        members, classes = members_of(meta), names_of(meta, "classes")
        m, k = len(members), len(classes)
        found = [ask(arrays, name, (m, k, k)) for name in ("confusions", "answers")]
        prior, weights = ask(arrays, "prior", (k,)), ask(arrays, "weights", (m,))
        if any(bool((a < 0).any()) for a in (*found, prior, weights)):
            raise BundleError("a packed model of workers holds negative numbers")
        return cls(members, classes, prior, found[0], found[1], weights, number(meta, "tasks"))

    def __repr__(self) -> str:
        best = sorted(self.skill.items(), key=lambda p: -p[1])[:12]
        shown = ", ".join(f"{n}: {s:.3f}" for n, s in best)
        return f"WorkerModel({len(self.members)} workers, classes {listed(self.classes)}; skill {shown})"


def recoded(triples: Triples, members: tuple[str, ...], classes: tuple[str, ...], counting: Array) -> Triples:
    """The triples in codes of these members and classes; members that do not count ((M,) bool) fall away.

    Raises OutputsError on a label that is not among the classes.
    """
    place = {n: i for i, n in enumerate(members)}
    at = {c: k for k, c in enumerate(classes)}
    workers = np.array([place[n] for n in triples.members], dtype=np.int64)[triples.workers]
    table = np.array([at.get(c, -1) for c in triples.classes], dtype=np.int64)
    labels = table[triples.labels]
    if (labels < 0).any():
        odd = sorted({triples.classes[k] for k in np.unique(triples.labels[labels < 0])})
        raise OutputsError(
            f"labels {listed(odd)} were not there when this was fitted; it knows {listed(classes)}"
            f"{nearest(odd[0], classes)}"
        )
    kept = counting[workers]
    tasks = triples.tasks
    if not kept.all():
        tasks, workers, labels = tasks[kept], workers[kept], labels[kept]
    return Triples(tasks, workers, labels, triples.rows, members, classes, triples.names)


def coins(skills: Array, width: int) -> Array:
    """(M, K, K) confusions of one-coin skills (M,)."""
    off = (1 - skills) / max(width - 1, 1)
    confusions = np.repeat(off, width * width).reshape(-1, width, width)
    confusions[:, np.arange(width), np.arange(width)] = skills[:, None]
    return np.asarray(confusions)


def must_fit(members: int, classes: int) -> None:
    """Raises OutputsError where a model would hold too many numbers."""
    if members * classes**2 > MOST_CELLS:
        raise OutputsError(
            f"a model of {members} workers, {classes} classes would hold {members * classes**2:,} numbers; "
            "use dawid_skene(...), which keeps only what was said, or take fewer classes"
        )


def truth_rows(truth: Labels, rows: int) -> Array:
    """(n,) bool: rows with a true class."""
    return np.asarray(truth.answered & (truth.codes >= 0))
