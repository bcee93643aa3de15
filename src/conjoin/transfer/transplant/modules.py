"""Torch modules: a copy with other weights, tied tensors, and how units hang together, traced."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from conjoin.errors import need
from conjoin.transfer.transplant.traced import traced
from conjoin.transfer.weights.wiring import Wired


def is_module(given: Any) -> bool:
    """Whether it is a torch module, without importing torch."""
    return callable(getattr(given, "state_dict", None)) and not isinstance(given, Mapping)


def ties(target: Any) -> dict[str, str]:
    """Name -> the first name of the same memory, for tensors of a module that has several names for one."""
    if not is_module(target):
        return {}
    first: dict[tuple[int, Any], str] = {}
    found = {}
    for name, tensor in target.state_dict().items():
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.numel() and first.setdefault(key, name) != name:
            found[name] = first[key]
    return found


def filled(target: Any, tensors: Mapping[str, Any]) -> Any:
    """A deep copy of a module with these tensors."""
    need("torch")
    answer = copy.deepcopy(target)
    answer.load_state_dict(tensors)
    return answer


def trace(given: Any) -> tuple[Wired, bool] | None:
    """The wiring of a module and whether all of it is known; None for what cannot be traced."""
    return traced(given, ties(given)) if is_module(given) else None


def norms_after(given: Any) -> bool:
    """Whether a module has transformer layers of torch whose norms stand after (norm_first=False)."""
    parts = given.modules() if is_module(given) else ()
    return any(getattr(part, "norm_first", True) is False for part in parts)


def config_of(given: Any) -> dict[str, Any]:
    """The config that a module of transformers carries, if any."""
    config = getattr(given, "config", None)
    made = getattr(config, "to_dict", None)
    found = made() if is_module(given) and callable(made) else {}
    return found if isinstance(found, dict) else {}
