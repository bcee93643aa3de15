"""Layers of a student that are to be like layers of its teachers: looking at them, and what joins them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conjoin.errors import InputError, listed, nearest, need
from conjoin.transfer.distil.contrast import contrast
from conjoin.transfer.distil.losses import FEATURE_LOSSES

if TYPE_CHECKING:
    from conjoin.outputs import Array

CONTRAST = "crd"
"""The feature loss with a memory, beside those of `FEATURE_LOSSES`."""
Tensor = Any


@dataclass(frozen=True, slots=True)
class Feature:
    """A layer of the student that is to be like a layer of a teacher.

    student, teacher: names of layers, as `named_modules` gives them; of: the teacher's name where there are
    several. loss: "hidden" (FitNets), "attention", "rkd" or "crd". weight: of the loss in the sum. "hidden"
    brings the student's features to the teacher's width by a linear map that is learned beside it.
    """

    student: str
    teacher: str
    loss: str = "hidden"
    weight: float = 1.0
    of: str | None = None


@contextmanager
def watched(module: Any, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What layers of the student answer while it runs, by name."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: Any, __: Any, out: Tensor) -> None:
            seen[name] = out[0] if isinstance(out, tuple) else out

        return hook

    handles = [module.get_submodule(n).register_forward_hook(keep(n)) for n in dict.fromkeys(names)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def pupil(features: Sequence[Feature], teachers: Mapping[str, Any], student: Any, x: Array) -> Any:
    """The student, with what its feature losses need beside it, as one module."""
    torch = need("torch")
    used = [_checked(f, teachers, student) for f in features]
    heads = []
    for feature, name in zip(features, used, strict=True):
        ours = _sample(student, feature.student, x)
        theirs = _sample(teachers[name], feature.teacher, x)
        heads.append(_head(feature, ours, theirs, len(x)))
    frozen = {n: still(teachers[n]) for n in dict.fromkeys(used)}

    class Pupil(torch.nn.Module):  # type: ignore[misc, name-defined]
        """student, and heads of the features; the teachers stand beside, not inside: they do not learn."""

        def __init__(self) -> None:
            super().__init__()
            self.student = student
            self.heads = torch.nn.ModuleList(heads)

        def feature(
            self, k: int, feature: Feature, seen: Mapping[str, Tensor], x: Tensor, rows: Tensor
        ) -> Tensor:
            teacher = frozen[used[k]].to(x.device)
            with torch.no_grad(), watched(teacher, [feature.teacher]) as said:
                teacher(x)
            ours, theirs = seen[feature.student], said[feature.teacher]
            if feature.loss == CONTRAST:
                return self.heads[k](ours, theirs, rows.to(x.device))
            return FEATURE_LOSSES[feature.loss](self.heads[k](ours), theirs)

    return Pupil()


def _checked(feature: Feature, teachers: Mapping[str, Any], student: Any) -> str:
    """The name of the feature's teacher. Raises InputError on layers and losses that are not there."""
    torch = need("torch")
    losses = (*FEATURE_LOSSES, CONTRAST)
    if feature.loss not in losses:
        known = f"{nearest(feature.loss, losses)}; there are {listed(losses)}"
        raise InputError(f"no loss of features {feature.loss!r}{known}")
    name = feature.of or next(iter(teachers), "")
    if name not in teachers:
        raise InputError(f"no teacher {name!r}{nearest(name, teachers)}; there are {listed(teachers)}")
    if not isinstance(teachers[name], torch.nn.Module):
        raise InputError(f"the teacher {name!r} is no torch module; its layers cannot be looked at")
    for module, layer, whose in (
        (student, feature.student, "student"),
        (teachers[name], feature.teacher, "teacher"),
    ):
        layers = [n for n, _ in module.named_modules() if n]
        if layer not in layers:
            raise InputError(
                f"the {whose} has no layer {layer!r}{nearest(layer, layers)}; it has {listed(layers)}"
            )
    return name


def _sample(module: Any, layer: str, x: Array) -> Tensor:
    """What a layer answers for two rows."""
    torch = need("torch")
    own = still(module)
    with torch.no_grad(), watched(own, [layer]) as seen:
        own(torch.from_numpy(x[:2]))
    if layer not in seen:
        raise InputError(f"the layer {layer!r} does not take part when the module runs")
    return seen[layer]


def _head(feature: Feature, ours: Tensor, theirs: Tensor, rows: int) -> Any:
    """What stands between the student's features and the loss."""
    torch = need("torch")
    if feature.loss == CONTRAST:
        return contrast(ours[0].numel(), theirs[0].numel(), rows)
    if feature.loss != "hidden" or ours.shape == theirs.shape:
        return torch.nn.Identity()
    if ours.ndim != theirs.ndim:
        raise InputError(
            f"layers {feature.student!r} and {feature.teacher!r} answer arrays of {ours.ndim} and "
            f"{theirs.ndim} axes; take layers alike, or the loss 'rkd', which asks for no likeness"
        )
    if ours.ndim <= 3:
        if ours.shape[1:-1] != theirs.shape[1:-1]:
            raise InputError(
                f"layers {feature.student!r} and {feature.teacher!r} answer {tuple(ours.shape[1:])} and "
                f"{tuple(theirs.shape[1:])} numbers for a row, which no linear map joins"
            )
        return torch.nn.Linear(ours.shape[-1], theirs.shape[-1])
    kinds = {4: torch.nn.Conv2d, 5: torch.nn.Conv3d}
    pools = {4: torch.nn.AdaptiveAvgPool2d, 5: torch.nn.AdaptiveAvgPool3d}
    if ours.ndim not in kinds:
        raise InputError(f"features of {ours.ndim} axes are not read")
    across = kinds[ours.ndim](ours.shape[1], theirs.shape[1], 1)
    return torch.nn.Sequential(across, pools[ours.ndim](tuple(theirs.shape[2:])))


def still(module: Any) -> Any:
    """A copy that does not learn, on the CPU."""
    return copy.deepcopy(module).cpu().eval().requires_grad_(False)
