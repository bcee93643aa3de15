"""LoRA through peft: small matrices beside the layers, trained alone, then merged into the weights.

A layer W (o, i) answers W x + (alpha / rank) B A x with A (rank, i) and B (o, rank); B begins at 0
(Hu et al. 2021, arXiv:2106.09685).
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conjoin.errors import FileError, InputError, listed, nearest, need
from conjoin.transfer.saved import write_tensors

NAME = "default"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Lora:
    """How adapters are made. targets: names of layers, or ends of them ("query"); empty takes every Linear
    and convolution but the head. merge: into the weights at the end; else the module keeps them beside its
    layers.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    merge: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise InputError(f"the rank of an adapter must be a whole number from 1, not {self.rank!r}")
        if not self.alpha > 0:
            raise InputError(f"alpha must be above 0, not {self.alpha!r}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must lie in 0 to below 1, not {self.dropout!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """Trained adapters: tensors in peft's names, and its configuration; the new head is with them."""

    tensors: Mapping[str, Any] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write a folder that `peft.PeftModel.from_pretrained` reads. Raises FileError."""
        place = Path(folder)
        write_tensors(place / WEIGHTS, self.tensors, {"format": "pt"})
        new = place / f".{CONFIG}.{os.getpid()}.part"
        try:
            new.write_text(json.dumps(dict(self.config), indent=1, sort_keys=True) + "\n", encoding="utf-8")
            new.replace(place / CONFIG)
        except OSError as error:
            raise FileError(f"{str(place / CONFIG)!r} cannot be written: {error}") from error
        return place


def lora_of(adapter: Any) -> Lora | None:
    """What `adapter=` says: None, "lora", or a `Lora`. Raises InputError."""
    if adapter is None or isinstance(adapter, Lora):
        return adapter
    if adapter == "lora":
        return Lora()
    raise InputError(f"adapter must be None, 'lora' or a Lora(...), not {adapter!r}")


def put_in(
    module: Any, lora: Lora, *, head: str | None, frozen: Iterable[str]
) -> tuple[Any, tuple[str, ...]]:
    """The module with adapters beside its layers (peft's LoraModel), and the names of those layers.

    frozen: names of parameters; their layers get no adapter. Raises InputError, MissingExtraError.
    """
    peft = need("peft")
    targets = _targets(module, lora, head, frozenset(frozen))
    config = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(targets)
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="peft")
        return peft.LoraModel(module, {NAME: config}, NAME), targets


def _targets(module: Any, lora: Lora, head: str | None, frozen: frozenset[str]) -> tuple[str, ...]:
    nn = need("torch").nn
    plain = (nn.Linear, nn.Conv1d, nn.Conv2d)
    able = {
        n: m
        for n, m in module.named_modules()
        if n and type(m) in plain and getattr(m, "groups", 1) == 1 and n != head
    }
    free = [n for n in able if f"{n}.weight" not in frozen]
    if not lora.targets:
        if not free:
            raise InputError(
                "adapter: no Linear or convolution besides the head (and frozen layers) can get an adapter; "
                "train without: adapter=None"
            )
        return tuple(free)
    found: list[str] = []
    for wanted in lora.targets:
        hits = [n for n in free if n == wanted or n.endswith("." + wanted)]
        if not hits:
            raise InputError(
                f"adapter: no layer {wanted!r} can get an adapter{nearest(wanted, able)}; "
                f"these can: {listed(able)}"
            )
        found += hits
    return tuple(dict.fromkeys(found))


def plain_name(name: str) -> str:
    """The name of the layer's own parameter, from that of a parameter in peft's LoraModel.

    >>> plain_name("model.encoder.0.lora_A.default.weight")
    'encoder.0.weight'
    """
    bare = name.removeprefix("model.").replace(".base_layer.", ".")
    for part in ("lora_A", "lora_B"):
        bare = bare.replace(f".{part}.{NAME}.", ".")
    return bare


def adapter_of(tuned: Any, lora: Lora, targets: Sequence[str], head: str | None) -> Adapter:
    """The trained adapters of peft's LoraModel, before they are merged."""
    tensors = {}
    for name, tensor in tuned.state_dict().items():
        bare = name.removeprefix("model.")
        if f".{NAME}." in bare and "lora_" in bare:
            bare = bare.replace(f".{NAME}.", ".")
        elif not (head and bare.startswith(f"{head}.")):
            continue
        tensors[f"base_model.model.{bare}"] = tensor.detach().cpu().clone()
    config = {
        "peft_type": "LORA",
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": list(targets),
        "modules_to_save": [head] if head else None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "task_type": None,
        "base_model_name_or_path": None,
    }
    return Adapter(tensors, config)


def take_out(tuned: Any, *, merge: bool) -> Any:
    """The module inside peft's LoraModel; with merge the adapters are added to the weights and gone."""
    if not merge:
        return tuned.model
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="peft")
        return tuned.merge_and_unload()
