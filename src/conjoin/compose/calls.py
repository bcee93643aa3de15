"""How an ensemble calls members and fusers that others wrote."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from conjoin.errors import ConjoinError, InputError, MemberError, OutputsError
from conjoin.fusion.plain import Plain, plain
from conjoin.members.answers import check_answer
from conjoin.outputs import Output

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Member


def ask(name: str, member: Member[Any], batch: Batch, rows: int) -> Output:
    """The member's answer, checked. Raises MemberError, InputError where the batch is to blame."""
    try:
        output = member.predict(batch)
    except InputError as error:
        raise type(error)(f"member {name!r}: {error}") from error
    except ConjoinError as error:
        if repr(name) in str(error):
            raise
        raise MemberError(f"member {name!r}: {error}") from error
    except Exception as error:
        raise MemberError(f"member {name!r} raised {type(error).__name__}: {error}") from error
    if not isinstance(output, Output):
        raise MemberError(f"member {name!r} answered a {type(output).__name__}, not an Output")
    check_answer(output, member.card.named(name), rows)
    return output


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (ValueError, TypeError):  # some compiled functions do not say
        return {}


def is_fit(fuser: Callable[..., Any]) -> bool:
    """Whether this makes a fuser from outputs and a truth, and is not one itself."""
    return "truth" in _parameters(fuser)


def _takes(function: Callable[..., Any], name: str) -> bool:
    known = _parameters(function)
    return name in known or any(p.kind is p.VAR_KEYWORD for p in known.values())


def call_fuser(fuser: Callable[..., Any], outputs: Mapping[str, Output], batch: Batch | None) -> Any:
    """The fused output; a fuser that takes no batch does not get one."""
    return fuser(outputs, batch=batch) if _takes(fuser, "batch") else fuser(outputs)


def call_fit(
    fit: Callable[..., Any], outputs: Mapping[str, Output], truth: Output, parameters: Mapping[str, Any]
) -> Callable[..., Any]:
    """A fitted fuser. Raises InputError on a parameter that it does not take, but `seed` and `batch`."""
    name = getattr(fit, "__name__", repr(fit))
    given = {k: v for k, v in parameters.items() if v is not None}
    strange = [k for k in given if not _takes(fit, k) and k not in ("seed", "batch")]
    if strange:
        raise InputError(f"{name} takes no {' and no '.join(strange)}")
    fitted = fit(outputs, truth, **{k: v for k, v in given.items() if _takes(fit, k)})
    if not callable(fitted):
        raise InputError(f"{name} made a {type(fitted).__name__}, not a fuser")
    return fitted  # type: ignore[no-any-return]


def recorded(fuser: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """A plain function of `conjoin.fusion` as a record that can be stored; others as they are."""
    if isinstance(fuser, Plain):
        return fuser if fuser.kind is not None else replace(fuser, kind=kind)
    function = fuser.func if isinstance(fuser, partial) else fuser
    options = dict(fuser.keywords) if isinstance(fuser, partial) else {}
    weights = options.pop("weights", None)
    if (weights is not None and not isinstance(weights, Mapping)) or options.keys() - {"floor", "trim"}:
        return fuser
    try:
        return replace(plain(function, weights=weights, kind=kind), **options)
    except OutputsError:
        return fuser
