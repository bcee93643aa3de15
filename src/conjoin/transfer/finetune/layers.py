"""Layers of a module in the order in which they run: which learn, how fast, and from which epoch on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from conjoin.errors import InputError, listed, nearest, need
from conjoin.transfer.training import Group


@dataclass(frozen=True, slots=True)
class Layer:
    """A block of a module: its name, the names of its parameters, how many numbers they hold."""

    name: str
    parameters: tuple[str, ...]
    numbers: int


@dataclass(frozen=True, slots=True)
class Use:
    """What was done with a layer. rate: None where it is frozen. begin: the epoch (from 0) where it began."""

    layer: str
    numbers: int
    rate: float | None
    begin: int = 0


def layers_of(module: Any, order: Sequence[str]) -> tuple[Layer, ...]:
    """Blocks, first to last. order: names of modules as they ran; those that did not run come where they
    are defined.

    A block is what stands under the first number of a name ("layer1.0", "features.3"), else a module with
    parameters of its own; a block of norms and biases alone belongs to the one before it.
    """
    at = {name: k for k, name in enumerate(order)}
    owners = [(n, m) for n, m in module.named_modules() if any(True for _ in m.parameters(recurse=False))]
    place, last = {}, -1.0
    for name, _ in owners:
        last = at.get(name, last + 1e-3)
        place[name] = last
    blocks: dict[str, list[tuple[str, Any]]] = {}
    seen: set[int] = set()
    for name, owner in sorted(owners, key=lambda o: place[o[0]]):
        for key, parameter in owner.named_parameters(recurse=False):
            if id(parameter) not in seen:  # tied parameters belong to the layer that runs first
                seen.add(id(parameter))
                full = f"{name}.{key}" if name else key
                blocks.setdefault(_block(name), []).append((full, parameter))
    joined: list[tuple[str, list[tuple[str, Any]]]] = []
    for name, found in blocks.items():
        if joined and all(p.ndim < 2 for _, p in found):
            joined[-1][1].extend(found)
        else:
            joined.append((name, list(found)))
    return tuple(
        Layer(name, tuple(n for n, _ in found), sum(p.numel() for _, p in found)) for name, found in joined
    )


def _block(name: str) -> str:
    parts = name.split(".")
    first = next((k for k, p in enumerate(parts) if p.isdigit()), len(parts) - 1)
    return ".".join(parts[: first + 1])


def frozen_names(
    module: Any, layers: Sequence[Layer], freeze: int | str | Sequence[str], keep: frozenset[str]
) -> frozenset[str]:
    """Names of the parameters that do not learn. keep: those of the head, which always learn.

    freeze: how many layers from the first one (negative: all but so many of the last), or patterns of names
    of layers or parameters, such as "encoder", "layer1.*".
    """
    if isinstance(freeze, bool):
        raise InputError("freeze is a number of layers or patterns of names, not True or False")
    if isinstance(freeze, int):
        if abs(freeze) > len(layers):
            raise InputError(f"freeze={freeze}: the module has {len(layers)} layers, {_told(layers)}")
        return frozenset(n for layer in layers[:freeze] for n in layer.parameters) - keep
    patterns = [freeze] if isinstance(freeze, str) else list(freeze)
    found: set[str] = set()
    for pattern in patterns:
        found |= matching(module, layers, pattern, "freeze")
    return frozenset(found) - keep


def matching(module: Any, layers: Sequence[Layer], pattern: str, option: str) -> set[str]:
    """Names of the parameters that a pattern means: by their own name, or that of a module around them."""
    names = [n for n, _ in module.named_parameters()]
    hits = {n for n in names if any(fnmatchcase(p, pattern) for p in _prefixes(n))}
    if not hits:
        known = [n for n, _ in module.named_modules() if n] + names
        raise InputError(
            f"{option}: no layer is called {pattern!r}{nearest(pattern, known)}; the layers are "
            f"{_told(layers)}"
        )
    return hits


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: k + 1]) for k in range(len(parts))]


def _told(layers: Sequence[Layer]) -> str:
    return listed(layer.name or "(the module itself)" for layer in layers)


def plan(
    module: Any,
    layers: Sequence[Layer],
    *,
    frozen: frozenset[str],
    rates: float | Mapping[str, float] | None,
    rate: float,
    thaw: int | None,
) -> tuple[tuple[Group, ...], tuple[Use, ...]]:
    """Groups of parameters with their rates, and what was done with each layer.

    rates: None gives every layer `rate`; a number f in (0, 1] gives the d-th layer below the last one
    rate * f^d (Howard and Ruder 2018); patterns give rates of their own, the first that matches counts.
    thaw: a layer more learns after every so many epochs, from the last one down.
    """
    if thaw is not None and (isinstance(thaw, bool) or not isinstance(thaw, int) or thaw < 1):
        raise InputError(f"thaw must be a number of epochs from 1, not {thaw!r}")
    alive = [layer for layer in layers if any(n not in frozen for n in layer.parameters)]
    own = _rates(module, layers, rates, rate)
    groups: dict[tuple[float, int], list[str]] = {}
    uses = {layer.name: Use(layer.name, layer.numbers, None) for layer in layers}
    for up, layer in enumerate(reversed(alive)):
        depth = len(layers) - 1 - layers.index(layer)
        begin = 0 if thaw is None else thaw * up
        factor = rates**depth if isinstance(rates, int | float) else 1.0
        names = [n for n in layer.parameters if n not in frozen]
        for name in names:
            groups.setdefault((own.get(name, rate * factor), begin), []).append(name)
        uses[layer.name] = Use(layer.name, layer.numbers, own.get(names[0], rate * factor), begin)
    found = tuple(Group(tuple(names), r, b) for (r, b), names in groups.items())
    return found, tuple(uses.values())


def _rates(
    module: Any, layers: Sequence[Layer], rates: float | Mapping[str, float] | None, rate: float
) -> dict[str, float]:
    if isinstance(rates, int | float):
        if not 0 < rates <= 1:
            raise InputError(f"rates as a factor for each layer down must lie in (0, 1], not {rates!r}")
        return {}
    own: dict[str, float] = {}
    for pattern, value in (rates or {}).items():
        if not (value > 0 and math.isfinite(value)):
            raise InputError(
                f"rates: the rate of {pattern!r} must be above 0, not {value!r}; freeze it instead"
            )
        for name in matching(module, layers, pattern, "rates"):
            own.setdefault(name, float(value))
    return own


def order_of(module: Any, example: Any) -> tuple[Any, list[str], dict[str, Any]]:
    """Run a module on a few rows: its answer, names of modules in the order in which they ran, and what each
    of those answered. Raises InputError where it cannot read the rows.
    """
    torch = need("torch")
    order: list[str] = []
    answers: dict[str, Any] = {}
    handles = []

    def note(name: str) -> Any:
        def hook(_: Any, __: Any, answer: Any) -> None:
            if name not in answers:
                order.append(name)
            answers[name] = answer

        return hook

    for name, one in module.named_modules():
        if not any(True for _ in one.children()):
            handles.append(one.register_forward_hook(note(name)))
    modes = {n: m.training for n, m in module.named_modules()}
    module.eval()
    try:
        with torch.no_grad():
            answer = module(example)
    except Exception as error:  # whatever the caller's own code raises
        raise InputError(
            f"the {type(module).__name__} cannot read rows of shape {tuple(example.shape[1:])}: "
            f"{type(error).__name__}: {str(error)[:300]}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for name, one in module.named_modules():
            one.training = modes[name]
    return answer, order, answers
