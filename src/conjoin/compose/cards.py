"""What is known of an ensemble from its members' cards."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

from conjoin.contracts import Card, Column, Member
from conjoin.errors import InputError, OutputsError, listed

if TYPE_CHECKING:
    from collections.abc import Iterable


def check_members(members: Mapping[str, Any]) -> None:
    """Raises InputError where there is no member or something else, OutputsError where they differ."""
    if not members:
        raise InputError("an ensemble needs at least one member")
    for name, member in members.items():
        if not isinstance(name, str) or not name:
            raise InputError(f"members are named by texts, not by {name!r}")
        if isinstance(member, type) or not isinstance(member, Member):
            raise InputError(
                f"member {name!r} is a {type(member).__name__}, not a member; wrap it: conjoin.wrap(...)"
            )
    kinds = {n: m.card.kind for n, m in members.items()}
    if len(set(kinds.values())) > 1:
        raise OutputsError(f"members must answer one kind of output; {_told(kinds)}")
    levels = {n: m.card.levels for n, m in members.items()}
    if len(set(levels.values())) > 1:
        raise OutputsError(f"members must answer the same quantile levels; {_told(levels)}")
    _check_classes({n: m.card.classes for n, m in members.items() if m.card.classes})


def _check_classes(classes: Mapping[str, tuple[str, ...]]) -> None:
    for name, own in classes.items():
        others = {c for n, theirs in classes.items() if n != name for c in theirs}
        if others and others.isdisjoint(own):
            raise OutputsError(
                f"member {name!r} has the classes {listed(own)}, the others {listed(sorted(others))}: none "
                "in common. Name its classes as the others do: wrap(..., classes=[...])"
            )


def _told(found: Mapping[str, object]) -> str:
    return listed(f"{n}: {v}" for n, v in found.items())


def union(classes: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The classes of the first, then what the others add.

    >>> union([("b", "a"), ("c", "a")])
    ('b', 'a', 'c')
    """
    return tuple(dict.fromkeys(c for own in classes for c in own))


def card_of(members: Mapping[str, Member[Any]], name: str) -> Card:
    """The card of an ensemble of these members: their columns and classes together, the sum of their costs.

    Raises InputError where two members read one column under different types.
    """
    cards = [m.card for m in members.values()]
    first = cards[0]
    return Card(
        name,
        "probabilities" if first.kind == "labels" else first.kind,
        columns=_columns(members),
        classes=union(c.classes for c in cards) if all(c.classes for c in cards) else (),
        levels=first.levels,
        deterministic=all(c.deterministic for c in cards),
        rowwise=all(c.rowwise for c in cards),
        cost=reduce(add, (c.cost for c in cards)),
    )


def _columns(members: Mapping[str, Member[Any]]) -> tuple[Column, ...]:
    if not all(m.card.columns for m in members.values()):
        return ()
    found: dict[str, Column] = {}
    for name, member in members.items():
        for column in member.card.columns:
            known = found.setdefault(column.name, column)
            if known.type != column.type:
                raise InputError(
                    f"column {column.name!r} is a {column.type} to member {name!r} and a {known.type} to "
                    "another; say what it is: wrap(..., columns={...})"
                )
    return tuple(found.values())
