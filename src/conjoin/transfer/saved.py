"""Weights of torch modules, and the state of a training, in safetensors; never a pickle."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conjoin.errors import FileError, need

STATE = "training.safetensors"
"""The file of a training in its folder."""
FORMAT = "conjoin-training-1"


def write_tensors(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write named torch tensors under a temporary name and move the file into place. Raises FileError."""
    need("torch")
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    own = {n: t.detach().to("cpu", copy=True).contiguous() for n, t in tensors.items()}  # shared ones part
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(own, str(temporary), metadata=dict(metadata))
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise FileError(f"{str(path)!r} cannot be written: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The torch tensors and the metadata of a safetensors file. Raises FileError."""
    need("torch")
    from safetensors import SafetensorError, safe_open

    from conjoin.transfer.checkpoints import read_header

    found = read_header(path)  # refuses what is no safetensors file, and says why
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in found.entries}, dict(found.metadata)
    except (OSError, SafetensorError) as error:
        raise FileError(f"{str(path)!r} cannot be read: {error}") from error


def tensors_of(module: Any) -> dict[str, Any]:
    """The parameters and buffers of a module that are kept, by name; not copied."""
    torch = need("torch")
    return {n: t.detach() for n, t in module.state_dict().items() if isinstance(t, torch.Tensor)}


def put(module: Any, tensors: Mapping[str, Any]) -> None:
    """Copy tensors of these names into the module; names and shapes fit."""
    torch = need("torch")
    own = tensors_of(module)
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def write_state(
    folder: Path, module: Any, optimiser: Any, best: Mapping[str, Any] | None, counters: Mapping[str, Any]
) -> None:
    """All that a training needs to go on: weights, best weights, the optimiser's state, counters as JSON."""
    tensors = {f"weights.{n}": t for n, t in tensors_of(module).items()}
    tensors |= {f"best.{n}": t for n, t in (best or {}).items()}
    for name, parameter in module.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"optimiser.{key}.{name}"] = value
    write_tensors(folder / STATE, tensors, {"format": FORMAT, "counters": json.dumps(counters)})


def read_state(folder: Path, module: Any, optimiser: Any) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Put the state of a training back into module and optimiser; returns best weights and counters.

    Raises FileError where the file holds something else, or a training of other layers.
    """
    path = folder / STATE
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise FileError(f"{str(path)!r} holds no training of conjoin that could go on")
    own = tensors_of(module)
    weights = _part(tensors, "weights.")
    wrong = sorted(
        {n for n in own.keys() & weights.keys() if own[n].shape != weights[n].shape}
        | (own.keys() ^ weights.keys())
    )
    if wrong:
        raise FileError(
            f"{str(path)!r} is the training of another module: {wrong[0]!r} is missing or of another shape; "
            "begin anew in another folder"
        )
    try:
        counters = dict(json.loads(metadata["counters"]))
    except (KeyError, ValueError, TypeError) as error:
        raise FileError(f"{str(path)!r} is damaged: its counters cannot be read") from error
    put(module, weights)
    _put_optimiser(module, optimiser, _part(tensors, "optimiser."))
    best = _part(tensors, "best.")
    return (best if best.keys() == own.keys() else None), counters


def _part(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _put_optimiser(module: Any, optimiser: Any, tensors: Mapping[str, Any]) -> None:
    parameters = dict(module.named_parameters())
    for full, value in tensors.items():
        key, _, name = full.partition(".")
        if name in parameters:
            moved = value if key == "step" else value.to(parameters[name].device)
            optimiser.state[parameters[name]][key] = moved
