"""Plain functions as members."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from conjoin.errors import InputError
from conjoin.members.answers import ARRAY_KINDS
from conjoin.members.wrapped import Given, Wrapped

if TYPE_CHECKING:
    from conjoin.contracts import Batch


def function_member(
    function: Callable[[Batch], Any], given: Given, *, rowwise: bool = True, deterministic: bool = True
) -> Wrapped:
    """A member around `batch -> array | Output`.

    The kind must be given, or the classes (then it answers probabilities). rowwise: the answer for a row
    depends on that row alone. deterministic: same batch, same answer.
    """
    kind = given.kind or ("probabilities" if given.classes is not None else None)
    if kind is None:
        raise InputError(
            "what the function answers must be given: wrap(function, classes=['no', 'yes']) for "
            f"probabilities, or wrap(function, kind=...) with one of {', '.join(ARRAY_KINDS)}"
        )
    if kind == "probabilities" and given.classes is None:
        raise InputError("probabilities need the names of their columns: wrap(function, classes=[...])")
    card = given.card(
        _name_of(function),
        kind,
        columns=given.column_list(),
        classes=given.class_names(()),
        rowwise=rowwise,
        deterministic=deterministic,
    )
    return Wrapped(card, function)


def _name_of(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return "function" if name == "<lambda>" else str(name)
