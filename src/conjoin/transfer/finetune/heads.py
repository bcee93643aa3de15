"""The head of a module: the last layer, which says how many outputs there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conjoin.errors import InputError, listed, nearest, need


@dataclass(frozen=True, slots=True)
class Head:
    """What was done with the head. name: of the layer, None where none was found. replaced: by a new one.
    before, after: its outputs. carried: classes whose rows came from the old head.
    """

    name: str | None
    replaced: bool
    before: int
    after: int
    carried: tuple[str, ...] = ()


def find(module: Any, order: Sequence[str], wanted: str | None) -> str | None:
    """The name of the last Linear or 1 x 1 convolution that ran, or the wanted one. Raises InputError."""
    modules = dict(module.named_modules())
    if wanted is not None:
        if wanted not in modules:
            raise InputError(f"head: the module has no layer {wanted!r}{nearest(wanted, modules)}")
        if not _fits(modules[wanted]):
            kind = type(modules[wanted]).__name__
            raise InputError(f"head: {wanted!r} is a {kind}; a head is a Linear or a 1 x 1 convolution")
        return wanted
    return next((n for n in reversed(order) if _fits(modules[n])), None)


def _fits(layer: Any) -> bool:
    nn = need("torch").nn
    if isinstance(layer, nn.Linear):
        return True
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return isinstance(layer, convolutions) and set(layer.kernel_size) == {1} and layer.groups == 1


def renew(
    module: Any, name: str | None, width: int, *, old: Sequence[str] | None, new: Sequence[str], given: int
) -> Head:
    """Put a new head with `width` outputs into the module, where the old one does not fit.

    old, new: names of the classes; rows of a class in both are carried. given: outputs of the module now.
    A head with the right number of outputs is kept, unless the classes are known to be others.
    """
    torch = need("torch")
    if old is not None and len(old) != given:
        raise InputError(f"the module has {given} outputs and {len(old)} classes were given: {listed(old)}")
    if given == width and (old is None or not new or tuple(old) == tuple(new)):
        return Head(name, False, given, width, tuple(new) if old is not None else ())
    if name is None:
        raise InputError(
            f"the module has {given} outputs and the task needs {width}, and no Linear or 1 x 1 "
            "convolution was found that could be replaced; name it: head='...'"
        )
    before = module.get_submodule(name)
    count = before.weight.shape[0]
    if count != given:
        raise InputError(
            f"the head {name!r} has {count} outputs and the module {given}, so it is not the last layer; "
            "name the layer whose outputs are the answer: head='...'"
        )
    after = _like(before, width)
    carried = [c for c in new if c in (old or ())]
    with torch.no_grad():
        for name_of_class in carried:
            i, j = list(new).index(name_of_class), list(old or ()).index(name_of_class)
            after.weight[i] = before.weight[j]
            if after.bias is not None:
                after.bias[i] = before.bias[j]
    parent, _, last = name.rpartition(".")
    if not name:
        raise InputError("the module is a single layer; put it into a Sequential, so that it can be replaced")
    setattr(module.get_submodule(parent), last, after)
    return Head(name, True, given, width, tuple(carried))


def _like(layer: Any, width: int) -> Any:
    """A fresh layer of this kind with another number of outputs."""
    torch = need("torch")
    nn = torch.nn
    common = {"bias": layer.bias is not None, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, width, **common)
    kind = next(c for c in (nn.Conv1d, nn.Conv2d, nn.Conv3d) if isinstance(layer, c))
    return kind(layer.in_channels, width, 1, stride=layer.stride, padding=layer.padding, **common)


def is_last(answer: Any, answers: Mapping[str, Any], name: str | None) -> bool:
    """Whether what a layer answered is the module's answer, but for its shape."""
    torch = need("torch")
    own = answers.get(name or "")
    if not isinstance(own, torch.Tensor) or own.numel() != answer.numel():
        return False
    return bool(torch.equal(own.reshape(-1), answer.reshape(-1)))


def scale(module: Any, name: str, shift: Any, spread: Any, *, back: bool) -> None:
    """Let a head answer in units of the spread around the shift; `back` in the numbers' own units."""
    torch = need("torch")
    layer = module.get_submodule(name)
    shift, spread = (torch.as_tensor(a, dtype=layer.weight.dtype) for a in (shift, spread))
    wide = spread.reshape(-1, *[1] * (layer.weight.ndim - 1))
    with torch.no_grad():
        if back:
            layer.weight.mul_(wide)
            layer.bias.mul_(spread).add_(shift)
        else:
            layer.weight.div_(wide)
            layer.bias.sub_(shift).div_(spread)
