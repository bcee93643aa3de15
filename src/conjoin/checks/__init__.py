"""The laws that members, learners, fusers and outputs keep: run them on your own.

Each law is a small function in one of the tables, by name. A broken one raises LawBroken, which says
which law, by what, and at which row first. `skip` leaves laws out, by name: those that a thing is
known not to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from conjoin.checks.compare import LawBroken, first_difference
from conjoin.checks.fusers import FITTED_LAWS, FUSER_LAWS, FittedCase, FuserCase
from conjoin.checks.members import (
    LEARNER_LAWS,
    MEMBER_LAWS,
    TOLERANCE,
    LearnerCase,
    MemberCase,
)
from conjoin.checks.outputs import OUTPUT_LAWS
from conjoin.errors import InputError, listed

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Learner, Member
    from conjoin.outputs import Output

CaseT = TypeVar("CaseT")


def check_member(
    member: Member[Any],
    batch: Batch,
    *,
    codec: Callable[[Any], Member[Any]] | None = None,
    tolerance: float = TOLERANCE,
    skip: Collection[str] = (),
) -> None:
    """Raises LawBroken where the member breaks a law on this batch.

    codec: saves and loads a member, to check that too. tolerance: how far an answer may differ with other
    rows beside it. skip: names of laws in MEMBER_LAWS.

    >>> import numpy as np
    >>> from conjoin.members import wrap
    >>> check_member(wrap(lambda batch: batch["x"] * 2, kind="values"), {"x": np.arange(4.0)})
    >>> greedy = wrap(lambda batch: batch["x"] - batch["x"].mean(), kind="values", name="greedy")
    >>> check_member(greedy, {"x": np.arange(4.0)})
    Traceback (most recent call last):
    conjoin.checks.compare.LawBroken: member 'greedy' breaks the law 'rows are independent', first ...
    """
    _run(MEMBER_LAWS, MemberCase(member, batch, codec, tolerance), skip)


def check_learner(
    learner: Learner[Any], batch: Batch, truth: Output, *, seed: int = 0, skip: Collection[str] = ()
) -> None:
    """Raises LawBroken where the learner, or the member that it makes of these rows, breaks a law.

    skip: names of laws in LEARNER_LAWS and MEMBER_LAWS.
    """
    case = LearnerCase(learner, batch, truth, seed)
    _known(skip, {**LEARNER_LAWS, **MEMBER_LAWS})
    _run(LEARNER_LAWS, case, set(skip) & set(LEARNER_LAWS))
    _run(MEMBER_LAWS, MemberCase(case.member, batch), set(skip) & set(MEMBER_LAWS))


def check_fuser(fuser: Callable[..., Any], outputs: Mapping[str, Any], *, skip: Collection[str] = ()) -> None:
    """Raises LawBroken where the fuser breaks a law on these outputs of at least two members.

    skip: names of laws in FUSER_LAWS.
    """
    if len(outputs) < 2:
        raise InputError(f"the laws of fusers need outputs of at least two members, not {len(outputs)}")
    _run(FUSER_LAWS, FuserCase(fuser, outputs), skip)


def check_fitted_fuser(
    fit: Callable[..., Any],
    outputs: Mapping[str, Any],
    truth: Output,
    score: Any,
    *,
    skip: Collection[str] = (),
) -> None:
    """Raises LawBroken where a fuser, fitted to these outputs and truth, breaks a law.

    fit: (outputs, truth) -> fuser. score: of `conjoin.scores`, or anything with `loss(output, truth)` and
    `name`. skip: names of laws in FITTED_LAWS and FUSER_LAWS.
    """
    if len(outputs) < 2:
        raise InputError(f"the laws of fusers need outputs of at least two members, not {len(outputs)}")
    _known(skip, {**FITTED_LAWS, **FUSER_LAWS})
    case = FittedCase(fit, outputs, truth, score)
    _run(FITTED_LAWS, case, set(skip) & set(FITTED_LAWS))
    _run(FUSER_LAWS, FuserCase(case.fuser, outputs), set(skip) & set(FUSER_LAWS))


def check_output(output: Output, *, skip: Collection[str] = ()) -> None:
    """Raises LawBroken where the output breaks a law. skip: names of laws in OUTPUT_LAWS."""
    _run(OUTPUT_LAWS, output, skip)


def _run(laws: Mapping[str, Callable[[CaseT], None]], case: CaseT, skip: Collection[str]) -> None:
    _known(skip, laws)
    for name, law in laws.items():
        if name not in skip:
            law(case)


def _known(skip: Collection[str], laws: Mapping[str, Any]) -> None:
    unknown = set(skip) - set(laws)
    if unknown:
        raise InputError(f"no law {listed(sorted(unknown))}; the laws are {listed(laws)}")


__all__ = [
    "FITTED_LAWS",
    "FUSER_LAWS",
    "LEARNER_LAWS",
    "MEMBER_LAWS",
    "OUTPUT_LAWS",
    "FittedCase",
    "FuserCase",
    "LawBroken",
    "LearnerCase",
    "MemberCase",
    "check_fitted_fuser",
    "check_fuser",
    "check_learner",
    "check_member",
    "check_output",
    "first_difference",
]
