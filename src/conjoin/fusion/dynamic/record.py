"""`DynamicSelection`: for each row, the members that are competent where the row lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, OutputsError, listed
from conjoin.fusion.dynamic import meta
from conjoin.fusion.dynamic.competence import COMPETENCE, Around, Known
from conjoin.fusion.dynamic.options import Options
from conjoin.fusion.dynamic.region import CELLS, Space, given_rows, nearest_of_each_class, nearest_rows
from conjoin.fusion.dynamic.selection import fuse, hardness, weigh
from conjoin.fusion.packing import ask, known, members_of, names_of
from conjoin.fusion.stack import Stack, stack
from conjoin.fusion.threads import one_thread
from conjoin.outputs import Probabilities

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json


@dataclass(frozen=True, eq=False, repr=False)
class DynamicSelection:
    """For each row, the answers of the members that are competent in its region. Make one with `fit_dynamic`.

    members: M names, sorted. classes: K names. options: see `Options`. space: what tells where rows lie.
    points: (N, D) where the rows fitted to lie (D is 0 unless in columns). codes: (N,) their true classes.
    answers: (N, M, K) probabilities of the members for them, NaN where one did not answer.
    where: (R,) place among the N rows of each row given to the fit, -1 where it was left out.
    learned: weights of META-DES' model, else empty.

    Where all members that answered agree, their mean is the answer, and nobody looks for neighbours. A member
    that is absent or skipped a row cannot be selected there.
    """

    members: tuple[str, ...]
    classes: tuple[str, ...]
    options: Options
    space: Space
    points: Array
    codes: Array
    answers: Array
    where: Array
    learned: Array

    @property
    def needs(self) -> tuple[str, ...]:
        """All members: each may be the most competent somewhere."""
        return self.members

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Probabilities:
        """Fuse. Raises OutputsError on an unknown member, ColumnError where the batch does not fit."""
        known(self.members, outputs)
        laid = stack(outputs, classes=self.classes)
        P = answers_of(laid, self.members)
        present = who(P)
        points = np.zeros((laid.rows, 0)) if not self.space.columns else self.space.points(batch, laid.rows)
        with one_thread():
            values = self.fused(P, present, points, batch, None)
        return Probabilities(values, self.classes, np.asarray(present.any(axis=1)))

    def fused(
        self, P: Array, present: Array, points: Array, batch: Batch | None, apart: Array | None
    ) -> Array:
        """(n, K) of answers P (n, M, K), who answered (n, M). apart: (n,) known row that the row is."""
        values = np.full((len(P), len(self.classes)), np.nan)
        votes = votes_of(P, present)
        top = votes.max(axis=1, initial=-1)
        low = np.where(present, votes, len(self.classes)).min(axis=1, initial=len(self.classes))
        agree = np.flatnonzero(present.any(axis=1) & (top == low))
        values[agree] = fuse(P[agree], votes[agree], present[agree].astype(np.float64), "soft")
        rest = np.flatnonzero(top > low)
        step = max(1, 8 * CELLS // (max(len(self.members), 1) * (self.options.k + len(self.classes))))
        for start in range(0, len(rest), step):
            some = rest[start : start + step]
            own = None if apart is None else apart[some]
            near = {n: np.asarray(batch[n])[some] for n in self._columns if batch is not None and n in batch}
            around, alike = self.around(P[some], votes[some], points[some], near, own)
            values[some] = self._decided(around, alike, P[some], present[some])
        return values

    def _decided(self, around: Around, alike: Array, P: Array, present: Array) -> Array:
        options = self.options
        competence = self._competence(around, alike, P)
        values = fuse(P, around.votes, weigh(around, competence, present), options.voting)
        if options.with_ih:
            hard, shares = hardness(around)
            easy = (hard < options.ih_rate) & (around.at >= 0).any(axis=1)
            values[easy] = shares[easy]
        return values

    def _competence(self, around: Around, alike: Array, P: Array) -> Array:
        if self.options.rule == "knop":
            return COMPETENCE["knop"](replace(around, at=alike))
        if self.options.rule != "meta_des":
            return COMPETENCE[self.options.rule](around)
        return meta.competence(self.meta_features(around, alike, P), self.learned)

    def meta_features(self, around: Around, alike: Array, P: Array) -> Any:
        """The features of META-DES, one array (n, M) after the other."""
        best = meta.tenths(np.nan_to_num(P).max(axis=2))
        return meta.features(around, self._sure, best, alike, self.options.k, self.options.kp)

    def around(
        self, P: Array, votes: Array, points: Array, batch: Batch | None, apart: Array | None
    ) -> tuple[Around, Array]:
        """The regions of some rows; and (n, k or kp) the known rows to which the members answered most alike.

        The latter for knop and meta_des alone, else (n, 0).
        """
        rule, k = self.options.rule, self.options.k
        profiles = filled(P, votes >= 0) if self.space.of_outputs or rule in ("knop", "meta_des") else points
        alike = far = np.zeros((len(P), 0), dtype=np.int64)
        if rule in ("knop", "meta_des"):
            count = k if rule == "knop" else self.options.kp
            alike, far = self._nearest(profiles, self._profiles, count, apart)
        if self.space.neighbours:
            at, far = given_rows(self.space, batch, self.where, k, apart)
        elif self.space.columns:
            at, far = self._nearest(points, self.points, k, apart)
        elif rule == "knop":
            at = alike
        else:
            at, far = self._nearest(profiles, self._profiles, k, apart)
        return Around(self._known, at, far, votes, len(self.classes), self.options), alike

    def _nearest(self, points: Array, rows: Array, k: int, apart: Array | None) -> tuple[Array, Array]:
        if self.options.knne:
            return nearest_of_each_class(points, rows, self.codes, k, apart)
        return nearest_rows(points, rows, k, apart)

    @property
    def _columns(self) -> tuple[str, str]:
        return self.space.neighbours, self.space.distances

    @cached_property
    def _present(self) -> Array:
        return who(self.answers)

    @cached_property
    def _known(self) -> Known:
        votes = votes_of(self.answers, self._present)
        nothing = np.full((1, votes.shape[1]), -1)
        return Known(np.append(self.codes, -1), np.concatenate([votes, nothing]))

    @cached_property
    def _profiles(self) -> Array:
        return filled(self.answers, self._present)

    @cached_property
    def _sure(self) -> Array:
        own = np.nan_to_num(self.answers[np.arange(len(self.codes)), :, self.codes])
        return np.concatenate([meta.tenths(own), np.zeros((1, own.shape[1]), dtype=np.float32)])

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The rows fitted to; names and options as JSON."""
        arrays = {
            "points": self.points,
            "codes": self.codes,
            "answers": np.nan_to_num(self.answers, nan=-1.0),
            "where": self.where,
            "learned": self.learned,
            "centres": self.space.centres,
            "scales": self.space.scales,
        }
        meta_json: dict[str, Json] = {
            "members": list(self.members),
            "classes": list(self.classes),
            "columns": list(self.space.columns),
            "neighbours": self.space.neighbours,
            "distances": self.space.distances,
            "options": self.options.to_json(),
        }
        return arrays, meta_json

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names, classes = members_of(meta), names_of(meta, "classes")
        options = Options.from_json(meta.get("options"))
        answers = ask(arrays, "answers", (None, len(names), len(classes)))
        answers = answers.astype(np.asarray(arrays["answers"]).dtype)
        n = len(answers)
        codes, where = _whole(arrays, "codes", n), _whole(arrays, "where", None)
        if (n and not 0 <= codes.min() <= codes.max() < len(classes)) or bool((where >= n).any()):
            raise BundleError(f"a packed dynamic selection names classes or rows beyond {listed(classes)}")
        centres = ask(arrays, "centres", (None,))
        space = Space(
            names_of(meta, "columns"),
            centres,
            ask(arrays, "scales", (len(centres),)),
            str(meta.get("neighbours", "")),
            str(meta.get("distances", "")),
        )
        learned = ask(
            arrays, "learned", (2 * options.k + options.kp + 3 if options.rule == "meta_des" else 0,)
        )
        points = ask(arrays, "points", (n, len(centres)))
        if bool((space.scales <= 0).any()) or n == 0 or (bool(space.columns) != bool(len(centres))):
            raise BundleError("a packed dynamic selection needs rows, and scales above 0 for its columns")
        answers[answers < 0] = np.nan
        return cls(names, classes, options, space, points, codes, answers, where, learned)

    def __repr__(self) -> str:
        return (
            f"DynamicSelection({self.options.rule}, {len(self.codes)} rows, members={listed(self.members)})"
        )


def _whole(arrays: Mapping[str, Array], name: str, length: int | None) -> Array:
    return ask(arrays, name, (length,)).astype(np.int64)


def answers_of(laid: Stack, members: tuple[str, ...]) -> Array:
    """(n, M, K) answers, NaN where a member is absent or did not answer. Raises OutputsError on other NaN."""
    kind = np.result_type(*(p.dtype for p in laid.parts))
    P = np.full((laid.rows, len(members), laid.width), np.nan, dtype=kind)
    for name, part, answered in zip(laid.names, laid.parts, laid.answered, strict=True):
        m = members.index(name)
        if answered.all() and np.isfinite(part.sum()):
            P[:, m] = part
            continue
        bad = answered & ~np.isfinite(part).all(axis=1)
        if bad.any():
            raise OutputsError(
                f"member {name!r} gave NaN or infinity in {int(bad.sum())} rows that it marks as answered; "
                "mark them as unanswered"
            )
        P[:, m] = np.where(answered[:, None], part, np.nan)
    return P


def who(answers: Array) -> Array:
    """(n, M) bool: who answered; one who did not has NaN for every class."""
    return np.asarray(~np.isnan(answers[:, :, 0]))


def votes_of(P: Array, present: Array) -> Array:
    """(n, M) the most probable class, ties to the first, -1 where the member did not answer."""
    if present.all():
        return np.asarray(P.argmax(axis=2))
    return np.where(present, np.nan_to_num(P, nan=-1.0).argmax(axis=2), -1)


def filled(P: Array, present: Array) -> Array:
    """(n, M K) answers as points; where a member did not answer, the mean of those who did.

    Of two classes the first is enough: the distances have the same order.
    """
    P = P[:, :, :1] if P.shape[2] == 2 else P
    if not present.all():
        count = np.maximum(present.sum(axis=1), 1)[:, None]
        mean = np.where(present[:, :, None], P, 0.0).sum(axis=1) / count
        P = np.where(present[:, :, None], P, mean[:, None, :])
    return np.asarray(P, dtype=np.float64).reshape(len(P), P.shape[1] * P.shape[2])
