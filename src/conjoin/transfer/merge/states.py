"""Models in memory: state dicts of arrays or torch tensors, torch modules. What they hold becomes arrays that
formulas take, and the answer becomes what was given.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError, listed, need
from conjoin.transfer.checkpoints.dtypes import read_as, wider, write_as

if TYPE_CHECKING:
    from conjoin.outputs import Array

_TYPES = {np.dtype(np.float64): "F64", np.dtype(np.float32): "F32", np.dtype(np.uint16): "BF16"}
STATISTICS = ("running_mean", "running_var")
"""Ends of names of what normalisation layers count rather than learn."""


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """Models that fit together: the same names, the same shapes, finite numbers.

    names: of the models, the base's last where there is one. states: name of tensor -> value, as given.
    based: whether the last is the base. modules: torch modules, or none for state dicts.
    """

    names: tuple[str, ...]
    states: tuple[Mapping[str, Any], ...]
    based: bool
    modules: tuple[Any, ...]

    @property
    def count(self) -> int:
        """The number of models without the base."""
        return len(self.states) - self.based

    def arrays(self, name: str) -> tuple[list[Array], Array | None]:
        """A tensor of the models and of the base, in the widest of their types (bfloat16 as uint16)."""
        found = [stored(name, s[name]) for s in self.states]
        if found[0].dtype in _TYPES:
            kinds = [_TYPES[a.dtype] for a in found]
            wide = wider(tuple(kinds))
            found = [np.asarray(read_as(a, k, wide), order="C") for a, k in zip(found, kinds, strict=True)]
        base = found.pop() if self.based else None
        return found, base

    def merged(self, one: Callable[[str, list[Array], Array | None], Array]) -> dict[str, Any]:
        """The state dict whose tensors are `one(name, tensors, base)`, in the first model's types.

        What is no float is the first model's; so is what is infinite or NaN and equal in all.
        """
        out = {}
        for name, own in self.states[0].items():
            if not is_tensor(own):
                out[name] = copy.deepcopy(own)
                continue
            tensors, base = self.arrays(name)
            whole = tensors[0].dtype not in _TYPES
            same = not whole and not _finite(tensors[0])
            out[name] = restored(tensors[0] if whole or same else one(name, tensors, base), own)
        return out

    def answer(self, state: Mapping[str, Any]) -> Any:
        """A state dict as what was given: itself, or a new module like the first."""
        if not self.modules:
            return dict(state)
        module = copy.deepcopy(self.modules[0])
        module.load_state_dict(state)
        return module


def models_of(models: Mapping[str, Any], base: Any = None) -> Models:
    """Models by name, as one record. Raises InputError where they do not fit together, naming tensor and
    models.
    """
    given = {**models, **({} if base is None else {"the base": base})}
    modules = [m for m in given.values() if is_module(m)]
    if modules and len(modules) < len(given):
        raise InputError("models must be all torch modules, or all state dicts; give module.state_dict()")
    classes = {type(m).__name__ for m in modules}
    if len(classes) > 1:
        raise InputError(f"modules of different classes cannot be merged: {listed(sorted(classes))}")
    states = tuple(_state(name, m) for name, m in given.items())
    found = Models(tuple(given), states, base is not None, tuple(modules))
    _check(found)
    return found


def is_module(model: Any) -> bool:
    """Whether it is a torch module; torch is not imported for that."""
    return any(
        c.__module__ == "torch.nn.modules.module" and c.__name__ == "Module" for c in type(model).__mro__
    )


def is_tensor(value: Any) -> bool:
    """Whether it is an array or a torch tensor."""
    return isinstance(value, np.ndarray | np.generic) or is_torch(value)


def is_torch(value: Any) -> bool:
    """Whether it is a torch tensor."""
    return any(c.__module__ in ("torch", "torch._tensor") for c in type(value).__mro__)


def stored(name: str, value: Any) -> Array:
    """A tensor as an array that formulas take: bfloat16 bits as uint16, float32 (also of 16 and 8 bits),
    float64; or whole numbers as they are. Raises InputError.
    """
    if is_torch(value):
        torch = need("torch")
        if value.is_meta or value.is_complex() or value.is_quantized or value.layout != torch.strided:
            kind = "without data (meta)" if value.is_meta else f"of {value.dtype} ({value.layout})"
            raise InputError(f"{name}: tensors {kind} cannot be merged")
        plain = value.detach().cpu().contiguous()
        if plain.dtype == torch.bfloat16:
            return np.asarray(plain.view(torch.int16).numpy().view(np.uint16))
        small = plain.is_floating_point() and plain.dtype not in (torch.float32, torch.float64)
        return np.asarray((plain.float() if small else plain).numpy())
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":
        return array.view(np.uint16)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise InputError(f"{name}: {array.dtype} cannot be merged")
    return array.astype(np.float32) if array.dtype == np.float16 else array


def restored(array: Array, like: Any) -> Any:
    """An array of a formula in the library, type and place of another tensor; a copy of its own."""
    own = stored("", like)
    if array.dtype in _TYPES and own.dtype in _TYPES:
        array = write_as(array, _TYPES[array.dtype], _TYPES[own.dtype])
    if not is_torch(like):
        kind = np.asarray(like).dtype
        return array.view(kind) if kind.name == "bfloat16" else np.array(array, kind)
    torch = need("torch")
    if like.dtype == torch.bfloat16:
        return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16).to(like.device)
    return torch.from_numpy(np.array(array)).to(like.device, like.dtype)


def floats(array: Array) -> Array:
    """Any array of `stored` as float64."""
    return read_as(array, _TYPES[array.dtype], "F64")


def _state(name: str, model: Any) -> Mapping[str, Any]:
    found = model.state_dict() if is_module(model) else model
    if not isinstance(found, Mapping):
        raise InputError(
            f"{name} must be a folder, a state dict or a torch module, not {type(model).__name__}"
        )
    odd = [k for k, v in found.items() if not isinstance(k, str) or not (is_tensor(v) or is_module(model))]
    if odd:
        raise InputError(f"{name}: {odd[0]!r} is no tensor with a name, but {type(found[odd[0]]).__name__}")
    return found


def _check(models: Models) -> None:
    first = models.states[0]
    for name, state in zip(models.names, models.states, strict=True):
        lost = [n for n in first if n not in state]
        more = [n for n in state if n not in first]
        if lost or more:
            told = [f"{name} lacks {listed(lost, 4)}"] if lost else []
            told += [f"{models.names[0]} lacks {listed(more, 4)}"] if more else []
            raise InputError(f"tensors that not all models have: {'; '.join(told)}")
    for tensor, own in first.items():
        if is_tensor(own):
            _check_tensor(models, tensor)


def _check_tensor(models: Models, tensor: str) -> None:
    values = [s[tensor] for s in models.states]
    shapes = [tuple(v.shape) for v in values]
    if len(set(shapes)) > 1:
        told = listed(f"{n}: {list(s)}" for n, s in zip(models.names, shapes, strict=True))
        raise InputError(f"{tensor} has different shapes ({told})")
    arrays = [stored(tensor, v) for v in values]
    if len({a.dtype in _TYPES for a in arrays}) > 1:
        told = listed(f"{n}: {a.dtype}" for n, a in zip(models.names, arrays, strict=True))
        raise InputError(f"{tensor} holds floats in some models and whole numbers in others ({told})")
    if arrays[0].dtype not in _TYPES:
        return
    bad = [n for n, a in zip(models.names, arrays, strict=True) if not _finite(a)]
    if bad and not all(_same(arrays[0], a) for a in arrays):
        raise InputError(f"{tensor} of {listed(bad, 4)} holds NaN or infinite weights")


def _finite(array: Array) -> bool:
    if array.dtype == np.uint16:
        return bool(((array & 0x7F80) != 0x7F80).all())
    return bool(np.isfinite(array).all())


def _same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and bool(np.array_equal(a, b, equal_nan=a.dtype != np.uint16))


def named(models: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """Models by name; those of a sequence are called by their number. Raises InputError without any.

    >>> list(named([{}, {}]))
    ['model 0', 'model 1']
    """
    if isinstance(models, Mapping):
        found = {str(k): v for k, v in models.items()}
    elif isinstance(models, Sequence) and not isinstance(models, str | bytes):
        found = {f"model {i}": m for i, m in enumerate(models)}
    else:
        raise InputError(f"models must be a list or a mapping of models, not {type(models).__name__}")
    if not found:
        raise InputError("there is no model to merge")
    return found
