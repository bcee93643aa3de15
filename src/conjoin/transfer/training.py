"""What a training is given, checked before it begins: settings, groups of parameters, rows, the device."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from conjoin.errors import InputError, listed, nearest, need

Optimiser = Literal["adamw", "sgd"]
Precision = Literal["float32", "bfloat16"]
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train.

    epochs: passes over the rows at most. batch_size: rows of a step; the last step of an epoch takes what is
    left. rate: the learning rate, of groups that name none. decay: decoupled weight decay, of matrices and
    kernels; biases and norms have none. clip: largest norm of the gradient, None does not clip.
    warmup: share of the steps in which the rate rises from 0; then it falls along a cosine to `floor` times
    the rate. patience: epochs without a better validation after which it stops, None never does.
    device: "cpu", "cuda", "cuda:1", "mps"; None takes a device where there is one. precision: None is
    bfloat16 (mixed) on a GPU that has it, else float32. time_limit: seconds on the clock.
    """

    epochs: int = 30
    batch_size: int = 64
    rate: float = 1e-3
    optimiser: Optimiser = "adamw"
    decay: float = 0.01
    clip: float | None = 1.0
    warmup: float = 0.05
    floor: float = 0.0
    patience: int | None = 5
    seed: int = 0
    device: str | None = None
    precision: Precision | None = None
    time_limit: float | None = None

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("batch_size", 1), ("patience", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
                raise InputError(f"{name} must be a whole number from {low}, not {value!r}")
        for name in ("rate", "clip", "time_limit"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} must be above 0, not {value!r}")
        for name in ("warmup", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in 0 to 1, not {getattr(self, name)!r}")
        if not (self.decay >= 0 and math.isfinite(self.decay)):
            raise InputError(f"decay must be 0 or more, not {self.decay!r}")
        if self.optimiser not in ("adamw", "sgd"):
            raise InputError(f"optimiser must be 'adamw' or 'sgd', not {self.optimiser!r}")
        if self.precision is not None and self.precision not in PRECISIONS:
            raise InputError(f"precision must be one of {listed(PRECISIONS)}, not {self.precision!r}")


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that learn at one rate: names in the module, and the epoch (from 0) where they begin."""

    names: tuple[str, ...]
    rate: float
    begin: int = 0


def optimiser_of(module: Any, groups: Sequence[Group], settings: Settings) -> Any:
    """AdamW, or SGD with Nesterov's momentum; weight decay for matrices and kernels alone."""
    torch = need("torch")
    parameters = dict(module.named_parameters())
    found = []
    for group in groups:
        own = [parameters[n] for n in group.names]
        for chosen, decay in (
            ([p for p in own if p.ndim > 1], settings.decay),
            ([p for p in own if p.ndim <= 1], 0.0),
        ):
            if chosen:
                common = {"lr": group.rate, "full_rate": group.rate, "weight_decay": decay}
                found.append({"params": chosen, **common})
    if settings.optimiser == "sgd":
        return torch.optim.SGD(found, lr=settings.rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(found, lr=settings.rate)


def checked_groups(module: Any, groups: Sequence[Group] | None, settings: Settings) -> tuple[Group, ...]:
    """The groups, whose names are parameters of the module, each in one group. Raises InputError."""
    torch = need("torch")
    parameters = dict(module.named_parameters())
    if not parameters:
        raise InputError(f"the {type(module).__name__} has no parameters, so there is nothing to train")
    lazy = [n for n, p in parameters.items() if isinstance(p, torch.nn.UninitializedParameter)]
    if lazy:
        raise InputError(f"parameter {lazy[0]!r} has no shape yet; run the module once on a few rows first")
    if groups is None:
        groups = (Group(tuple(n for n, p in parameters.items() if p.requires_grad), settings.rate),)
    names = [n for g in groups for n in g.names]
    unknown = [n for n in names if n not in parameters]
    if unknown:
        raise InputError(f"the module has no parameter {unknown[0]!r}{nearest(unknown[0], parameters)}")
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise InputError(f"parameter {twice!r} is in two groups; give it one rate")
    bad = [g.rate for g in groups if not (g.rate > 0 and math.isfinite(g.rate))]
    if bad:
        raise InputError(f"the rate of a group must be above 0, not {bad[0]!r}")
    kept = tuple(g for g in groups if g.names)
    if not kept:
        raise InputError("every layer is frozen, so there is nothing to train; thaw one")
    if min(g.begin for g in kept) > 0:
        raise InputError("no group begins with the first epoch; let one have begin=0")
    return kept


def copied(module: Any) -> Any:
    """A deep copy of a module. Raises InputError."""
    torch = need("torch")
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"a torch.nn.Module is trained, not a {type(module).__name__}")
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"the {type(module).__name__} cannot be copied: {error}") from error


def tensors_by_name(data: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Tensors on the CPU by name, and their number of rows. Raises InputError."""
    torch = need("torch")
    if not data:
        raise InputError("there are no columns to train on")
    found = {n: torch.as_tensor(a).detach().cpu() for n, a in data.items()}
    lengths = {n: len(t) if t.ndim else 0 for n, t in found.items()}
    if len(set(lengths.values())) > 1:
        told = listed(f"{n} has {k}" for n, k in lengths.items())
        raise InputError(f"the columns have different numbers of rows: {told}")
    count = next(iter(lengths.values()))
    if count == 0:
        raise InputError("there are no rows to train on")
    return found, count


def fabric_on(settings: Settings) -> Any:
    """Fabric on one device. Raises InputError where the device is not there."""
    torch = need("torch")
    lightning = need("lightning_fabric")
    kind, _, number = (settings.device or "auto").partition(":")
    kind = {"gpu": "cuda"}.get(kind, kind)
    there = {"cpu": True, "auto": True, "cuda": torch.cuda.is_available()}
    there["mps"] = torch.backends.mps.is_available()
    if not there.get(kind, False) or not (number.isdigit() or not number):
        have = listed(k for k, v in there.items() if v and k != "auto")
        raise InputError(f"there is no device {settings.device!r} here; there is {have}")
    if number and kind == "cuda" and int(number) >= torch.cuda.device_count():
        raise InputError(f"there is no device {settings.device!r}; there are {torch.cuda.device_count()}")
    if kind == "auto":
        kind = "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    half = kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    precision = settings.precision or ("bfloat16" if half else "float32")
    devices = [int(number)] if number and kind == "cuda" else 1
    return lightning.Fabric(accelerator=kind, devices=devices, precision=PRECISIONS[precision])
