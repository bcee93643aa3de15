"""Laws of fusers, and of functions that fit one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from conjoin.checks.compare import LawBroken, call_name, first_difference, must_match
from conjoin.contracts import Storable
from conjoin.outputs import (
    Embeddings,
    Labels,
    Output,
    Probabilities,
    Quantiles,
    Values,
    concat,
    silenced,
)

TOLERANCE = 1e-9
"""How far fused numbers may differ that were worked out in another order."""


@dataclass(frozen=True)
class FuserCase:
    """A fuser and outputs to fuse, of at least two members."""

    fuser: Callable[..., Any]
    outputs: Mapping[str, Any]
    tolerance: float = TOLERANCE

    @property
    def subject(self) -> str:
        """How the fuser is called in a message."""
        return f"fuser {call_name(self.fuser)!r}"

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.outputs.values())))

    @cached_property
    def answer(self) -> Output:
        """The fused output."""
        found: Output = self.fuser(self.outputs)
        return found


@dataclass(frozen=True)
class FittedCase:
    """A function that fits a fuser, what it is fitted to, and the score in which it must not be worse."""

    fit: Callable[..., Any]
    outputs: Mapping[str, Any]
    truth: Output
    score: Any
    tolerance: float = 1e-6

    @property
    def subject(self) -> str:
        """How the function is called in a message."""
        return f"fuser of {call_name(self.fit)!r}"

    @cached_property
    def fuser(self) -> Any:
        """The fitted fuser."""
        return self.fit(self.outputs, self.truth)


def one_answer_per_row(case: FuserCase) -> None:
    """The fused output has the members' rows, and nothing in the outputs is changed."""
    law = "one answer per row"
    before = {n: o.take(slice(None)) for n, o in case.outputs.items()}
    fused = case.fuser(case.outputs)
    if not isinstance(fused, Output) or len(fused) != case.rows:
        told = f"{len(fused)} answers" if isinstance(fused, Output) else f"a {type(fused).__name__}"
        raise LawBroken(law, case.subject, f"{told} for {case.rows} rows")
    for name, output in case.outputs.items():
        if first_difference(before[name], output) is not None:
            raise LawBroken(law, case.subject, f"the output of {name!r} was changed")


def order_does_not_matter(case: FuserCase) -> None:
    """Members in another order give the same answer."""
    fused: Output = case.fuser(dict(reversed(list(case.outputs.items()))))
    classes = getattr(case.answer, "classes", ())
    if isinstance(fused, Probabilities | Labels) and set(classes) == set(fused.classes):
        fused = fused.align(classes)
    what = "with members in another order, it differs"
    must_match("order does not matter", case.subject, case.answer, fused, what, tolerance=case.tolerance)


def one_member_is_that_member(case: FuserCase) -> None:
    """Fusing a single member gives that member's answer; a fitted fuser, one of those that it `needs`."""
    needs = getattr(case.fuser, "needs", ()) or case.outputs
    for name in sorted(n for n in case.outputs if n in needs):
        output = case.outputs[name]
        fused: Output = case.fuser({name: output})
        if isinstance(output, Labels) or type(fused) is not type(output):
            continue  # labels fuse to probabilities: there is nothing to compare
        what = f"{name!r} alone gets another answer"
        must_match(
            "one member is that member", case.subject, _wide(output), _wide(fused), what, tolerance=1e-6
        )


def weight_0_is_absent(case: FuserCase) -> None:
    """A member of weight 0 counts as one that is not there.

    Checked on fusers that take `weights`, and on fitted ones that say in `needs` which members have weight.
    """
    law, names = "weight 0 is absent", list(case.outputs)
    if "weights" in inspect.signature(case.fuser).parameters:
        weights = {n: 1.0 + i for i, n in enumerate(names[1:])}
        some = {n: case.outputs[n] for n in names[1:]}
        with_it: Output = case.fuser(case.outputs, weights={names[0]: 0.0, **weights})
        without: Output = case.fuser(some, weights=weights)
        _must_agree(case, law, with_it, without, names[0])
        return
    needs = [n for n in getattr(case.fuser, "needs", ()) if n in case.outputs]
    if needs and len(needs) < len(names):
        _must_agree(
            case, law, case.answer, case.fuser({n: case.outputs[n] for n in needs}), "those of weight 0"
        )


def _must_agree(case: FuserCase, law: str, with_it: Any, without: Any, who: str) -> None:
    classes = getattr(with_it, "classes", ())
    if isinstance(without, Probabilities | Labels) and set(without.classes) <= set(classes):
        without = without.align(classes)
    must_match(law, case.subject, with_it, without, f"without {who} it differs", tolerance=case.tolerance)


def unanswered_stays_unanswered(case: FuserCase) -> None:
    """A row that nobody answered is not answered; one that somebody answered is, in the same way."""
    law, rows = "unanswered stays unanswered", case.rows
    silent = np.zeros(rows, dtype=bool)
    silent[:: max(2, rows // 3)] = True
    fused: Any = case.fuser({n: silenced(o, silent) for n, o in case.outputs.items()})
    invented = fused.answered & silent
    if invented.any():
        raise LawBroken(law, case.subject, "an answer was invented", row=int(np.argmax(invented)))
    spoken = np.flatnonzero(~silent)
    row = first_difference(case.answer.take(spoken), fused.take(spoken), case.tolerance)
    if row is not None:
        raise LawBroken(law, case.subject, "silence in other rows changes the answer", row=int(spoken[row]))


def chunks_are_the_whole(case: FuserCase) -> None:
    """Fused in two chunks of rows, the answer is the same."""
    half = case.rows // 2
    cuts = (slice(0, half), slice(half, None))
    parts = [case.fuser({n: o.take(cut) for n, o in case.outputs.items()}) for cut in cuts]
    what = "in two chunks, it differs"
    must_match(
        "chunks are the whole", case.subject, case.answer, concat(parts), what, tolerance=case.tolerance
    )


def never_worse_than_the_best(case: FittedCase) -> None:
    """On the rows that it was fitted to, its loss is at most that of the best single member."""
    best = min(case.score.loss(o, case.truth) for o in case.outputs.values())
    mine = case.score.loss(case.fuser(case.outputs), case.truth)
    if not mine <= best + case.tolerance * max(1.0, abs(best)):
        what = f"{case.score.name} loss {mine:.6g}, the best member has {best:.6g}"
        raise LawBroken("never worse than the best", case.subject, what)


def same_truth_same_fuser(case: FittedCase) -> None:
    """Fitted again, it answers the same, to the bit."""
    again = case.fit(case.outputs, case.truth)
    what = "fitted twice, it differs"
    a, b = case.fuser(case.outputs), again(case.outputs)
    must_match("same truth, same fuser", case.subject, a, b, what)


def fuser_survives_packing(case: FittedCase) -> None:
    """Packed and unpacked, with its children, it answers the same."""
    law = "fuser survives packing"
    part: object = case.fuser
    if not isinstance(part, Storable):
        raise LawBroken(law, case.subject, f"a {type(part).__name__} cannot be packed")
    again: Any = _through_packing(part)
    a, b = case.fuser(case.outputs), again(case.outputs)
    must_match(law, case.subject, a, b, "unpacked, it differs")


def _through_packing(part: Storable) -> Storable:
    children = {name: _through_packing(child) for name, child in part.children().items()}
    cls: Any = type(part)
    return cast(Storable, cls.unpack(*part.pack(), children))


def _wide(output: Any) -> Any:
    """Numbers as float64, so that they can be compared."""
    if output.ragged or not isinstance(output, Probabilities | Values | Quantiles | Embeddings):
        return output
    return replace(output, values=output.values.astype(np.float64))


FUSER_LAWS: dict[str, Callable[[FuserCase], None]] = {
    "one answer per row": one_answer_per_row,
    "order does not matter": order_does_not_matter,
    "one member is that member": one_member_is_that_member,
    "weight 0 is absent": weight_0_is_absent,
    "unanswered stays unanswered": unanswered_stays_unanswered,
    "chunks are the whole": chunks_are_the_whole,
}
"""Name -> law of fusers, fitted or not."""

FITTED_LAWS: dict[str, Callable[[FittedCase], None]] = {
    "never worse than the best": never_worse_than_the_best,
    "same truth, same fuser": same_truth_same_fuser,
    "fuser survives packing": fuser_survives_packing,
}
"""Name -> law of functions that fit a fuser."""
