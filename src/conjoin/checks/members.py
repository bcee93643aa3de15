"""Laws of members and of learners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.checks.compare import (
    LawBroken,
    call_name,
    chosen,
    copied,
    first_difference,
    must_match,
    rows_in,
    same_batch,
)
from conjoin.contracts import Card, Member
from conjoin.errors import listed
from conjoin.outputs import Labels, Output, Probabilities, Quantiles, Values, concat, unpack

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Learner

TOLERANCE = 1e-5
"""How far numbers may differ that were worked out with other rows beside them: float32 sums."""

ALONE = 5
"""How many rows are asked alone."""


@dataclass(frozen=True)
class MemberCase:
    """A member and a batch to ask it. codec: saves and loads a member, None to leave that out."""

    member: Member[Any]
    batch: Batch
    codec: Callable[[Any], Member[Any]] | None = None
    tolerance: float = TOLERANCE

    @property
    def subject(self) -> str:
        """How the member is called in a message."""
        return f"member {self.member.card.name!r}"

    @cached_property
    def answer(self) -> Output:
        """What the member answers to the batch."""
        found: Output = self.member.predict(copied(self.batch))
        return found


@dataclass(frozen=True)
class LearnerCase:
    """A learner, and what it learns from."""

    learner: Learner[Any]
    batch: Batch
    truth: Output
    seed: int = 0

    @property
    def subject(self) -> str:
        """How the learner is called in a message."""
        return f"learner {call_name(self.learner)!r}"

    @cached_property
    def member(self) -> Member[Any]:
        """What the learner makes."""
        return self.learner.fit(copied(self.batch), self.truth, seed=self.seed)


def answers_every_row(case: MemberCase) -> None:
    """One answer for each row of the batch, none for a batch of none."""
    law, rows = "answers every row", rows_in(case.batch)
    if len(case.answer) != rows:
        raise LawBroken(law, case.subject, f"{len(case.answer)} answers for {rows} rows")
    if case.member.card.rowwise:
        nothing = len(case.member.predict(chosen(case.batch, slice(0, 0))))
        if nothing:
            raise LawBroken(law, case.subject, f"{nothing} answers for no rows")


def keeps_its_card(case: MemberCase) -> None:
    """Kind, classes and levels are those on the card; probabilities sum to 1, numbers are finite."""
    card, answer, law = case.member.card, case.answer, "keeps its card"
    if not isinstance(card, Card):
        raise LawBroken(law, case.subject, f"its card is a {type(card).__name__}")
    if answer.kind != card.kind:
        raise LawBroken(law, case.subject, f"it answers {answer.kind}, its card says {card.kind}")
    if isinstance(answer, Probabilities | Labels) and card.classes and answer.classes != card.classes:
        raise LawBroken(law, case.subject, f"it answers the classes {listed(answer.classes)}")
    if isinstance(answer, Quantiles) and answer.levels != card.levels:
        raise LawBroken(law, case.subject, f"it answers the levels {listed(answer.levels)}")
    if isinstance(answer, Probabilities | Values | Quantiles):
        values = answer.values.reshape(len(answer), int(np.prod(answer.values.shape[1:])))
        bad = ~np.isfinite(values).all(axis=1)
        if isinstance(answer, Probabilities):
            bad |= (values < -1e-6).any(axis=1) | (np.abs(values.sum(axis=1, dtype=np.float64) - 1) > 1e-3)
        bad &= answer.answered
        if bad.any():
            what = (
                "probabilities are negative or do not sum to 1" if card.classes else "numbers are not finite"
            )
            raise LawBroken(law, case.subject, what, row=int(np.argmax(bad)))


def same_batch_same_answer(case: MemberCase) -> None:
    """Asked again it answers the same, to the bit, where its card says that it is deterministic."""
    if case.member.card.deterministic:
        again: Output = case.member.predict(copied(case.batch))
        must_match("same batch, same answer", case.subject, case.answer, again, "asked twice, it differs")


def rows_are_independent(case: MemberCase) -> None:
    """Shuffled, in halves, and alone, a row gets the same answer, where the card says rowwise."""
    if not case.member.card.rowwise:
        return
    law, n, ask = "rows are independent", rows_in(case.batch), case.member.predict
    order = np.random.default_rng(0).permutation(n)
    mine, shuffled = case.answer.take(order), ask(chosen(case.batch, order))
    must_match(law, case.subject, mine, shuffled, "shuffled, it differs", tolerance=case.tolerance)
    if n > 1:
        halves = [ask(chosen(case.batch, slice(0, n // 2))), ask(chosen(case.batch, slice(n // 2, n)))]
        must_match(
            law, case.subject, case.answer, concat(halves), "in halves, it differs", tolerance=case.tolerance
        )
    for row in range(min(n, ALONE)):
        alone = ask(chosen(case.batch, slice(row, row + 1)))
        if first_difference(case.answer.take([row]), alone, case.tolerance) is not None:
            raise LawBroken(law, case.subject, "alone, the row gets another answer", row=row)


def leaves_the_batch_alone(case: MemberCase) -> None:
    """Answering changes nothing in the batch."""
    batch = copied(case.batch)
    case.member.predict(batch)
    if not same_batch(batch, case.batch):
        raise LawBroken("leaves the batch alone", case.subject, "the batch was changed")


def reads_columns_by_name(case: MemberCase) -> None:
    """Where the card names the columns, they may stand in any order and beside others."""
    names = [c.name for c in case.member.card.columns]
    if not names or not all(n in case.batch for n in names):
        return
    turned = dict(reversed(list(copied(case.batch).items())))
    other = {"another column": np.zeros(rows_in(case.batch)), **turned}
    answer: Output = case.member.predict(other)
    must_match(
        "reads columns by name",
        case.subject,
        case.answer,
        answer,
        "with columns in another order, it differs",
        tolerance=case.tolerance,
    )


def answer_survives_packing(case: MemberCase) -> None:
    """The answer, packed and unpacked, is the same."""
    again = unpack(*case.answer.pack())
    must_match("answer survives packing", case.subject, case.answer, again, "unpacked, it differs")


def survives_saving(case: MemberCase) -> None:
    """Saved and loaded, it has the same name, kind, classes and levels, and answers the same."""
    if case.codec is None:
        return
    law, again = "survives saving", case.codec(case.member)
    old, new = case.member.card, again.card
    if (old.name, old.kind, old.classes, old.levels) != (new.name, new.kind, new.classes, new.levels):
        raise LawBroken(law, case.subject, "its card came back different")
    answer: Output = again.predict(copied(case.batch))
    must_match(
        law,
        case.subject,
        case.answer,
        _as(answer, case.answer),
        "loaded, it differs",
        tolerance=case.tolerance,
    )


def _as(answer: Output, like: Output) -> Output:
    """The answer with numbers of the same width."""
    if isinstance(answer, Probabilities) and isinstance(like, Probabilities):
        return Probabilities(answer.values.astype(like.values.dtype), answer.classes, answer.answered)
    return answer


def makes_a_member(case: LearnerCase) -> None:
    """What it makes is a member whose kind fits the truth, with the truth's classes."""
    law, member = "makes a member", case.member
    if not isinstance(member, Member):
        raise LawBroken(law, case.subject, f"it makes a {type(member).__name__}")
    fitting = ("probabilities", "labels") if isinstance(case.truth, Labels) else ("values", "quantiles")
    if isinstance(case.truth, Labels | Values) and member.card.kind not in fitting:
        raise LawBroken(law, case.subject, f"it learns {member.card.kind} from {case.truth.kind}")
    if isinstance(case.truth, Labels) and set(member.card.classes) - set(case.truth.classes):
        raise LawBroken(law, case.subject, f"it made up classes: {listed(member.card.classes)}")


def same_seed_same_member(case: LearnerCase) -> None:
    """Fitted twice with one seed, it makes members that answer the same, to the bit."""
    again = case.learner.fit(copied(case.batch), case.truth, seed=case.seed)
    a, b = case.member.predict(copied(case.batch)), again.predict(copied(case.batch))
    must_match("same seed, same member", case.subject, a, b, "fitted twice, it differs")


def changes_nothing(case: LearnerCase) -> None:
    """Fitting changes neither the batch nor the truth."""
    batch, truth = copied(case.batch), case.truth.take(slice(None))
    case.learner.fit(batch, truth, seed=case.seed)
    if not same_batch(batch, case.batch) or first_difference(truth, case.truth) is not None:
        raise LawBroken("changes nothing", case.subject, "the batch or the truth was changed")


MEMBER_LAWS: dict[str, Callable[[MemberCase], None]] = {
    "answers every row": answers_every_row,
    "keeps its card": keeps_its_card,
    "same batch, same answer": same_batch_same_answer,
    "rows are independent": rows_are_independent,
    "leaves the batch alone": leaves_the_batch_alone,
    "reads columns by name": reads_columns_by_name,
    "answer survives packing": answer_survives_packing,
    "survives saving": survives_saving,
}
"""Name -> law of members."""

LEARNER_LAWS: dict[str, Callable[[LearnerCase], None]] = {
    "makes a member": makes_a_member,
    "same seed, same member": same_seed_same_member,
    "changes nothing": changes_nothing,
}
"""Name -> law of learners; the members that they make keep the laws of members."""
