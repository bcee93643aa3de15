"""Adapters of LoRA as peft writes them, put into their model: a view that answers W + scale * B @ A.

scale = alpha / r, or alpha / sqrt(r) (rank-stabilised). Weight-decomposed adapters (DoRA) answer
m * (W + scale * B @ A) / |W + scale * B @ A|, the norm of each output. Hu and others, LoRA, ICLR 2022;
Kalajdzievski, rsLoRA, 2023; Liu and others, DoRA, ICML 2024.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from conjoin.errors import FileError, listed, nearest
from conjoin.transfer.checkpoints import Checkpoint, Entry, Place, Weights, open_checkpoint
from conjoin.transfer.checkpoints.checkpoint import stamps
from conjoin.transfer.checkpoints.dtypes import STORED, read_as, write_as
from conjoin.transfer.checkpoints.header import SIZES
from conjoin.transfer.checkpoints.scratch import scratch_map

if TYPE_CHECKING:
    from conjoin.outputs import Array

CONFIG, MODEL, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
MOST = 10_000_000
BLOCK = 1 << 20
"""Elements of a tensor that are computed at once."""
OTHERS = (
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
)
"""Keys of a config, of kinds of LoRA that are not a sum of the weights and a product."""
STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin that change the model's own weights."""
_LORA = re.compile(
    r"^(.*)\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(?:\.default)?(?:\.(weight|bias))?$"
)
_PATTERN = re.compile(r"[)\]][*+{?]|\{")


@dataclass(frozen=True, slots=True)
class Patch:
    """What an adapter does to a tensor. left, right: their product is added; `turned` as (left @ right).T.
    length: of the outputs (DoRA). other: a tensor in place of it, or, if `added`, added to it, times scale.
    own: what is changed, where the adapter brings that, too.
    """

    scale: float = 1.0
    left: str = ""
    right: str = ""
    turned: bool = False
    length: str = ""
    other: str = ""
    added: bool = False
    own: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Adapted(Weights):
    """A model with an adapter in it."""

    path: Path
    base: Weights
    adapter: Checkpoint
    patches: Mapping[str, Patch]
    places: Mapping[str, Place]
    config: Path
    scratch: Path | None

    def __getitem__(self, name: str) -> Place:
        return self.places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def told(self) -> list[Any]:
        """The files of both, with sizes and times."""
        return [self.base.told(), self.adapter.told(), stamps([self.config])]

    def array(self, name: str) -> Array:
        """The tensor with what the adapter does to it; one that it leaves alone is the model's."""
        if name not in self.patches:
            return self.base.array(name)
        patch, entry = self.patches[name], self.places[name].entry
        out = scratch_map(self.scratch, STORED[entry.dtype], entry.shape)
        if not entry.elements:
            return out
        if patch.other:
            self._replaced(name, patch, out)
        elif patch.length:
            self._decomposed(name, patch, out)
        else:
            for rows, sums in self._sums(name, patch):
                self._write(name, out, rows, sums)
        return out

    def _replaced(self, name: str, patch: Patch, out: Array) -> None:
        """A tensor of the adapter, or (bias of LoRA) the model's with that of the adapter added."""
        given, flat = self.adapter.array(patch.other).reshape(-1), out.reshape(-1)
        kind = self.adapter[patch.other].entry.dtype
        own = self.base.array(name).reshape(-1) if patch.added else None
        for start in range(0, len(flat), BLOCK):
            rows = slice(start, start + BLOCK)
            numbers = read_as(given[rows], kind, "F32") if kind != "F64" else given[rows]
            if own is not None:
                stored = self.base[name].entry.dtype
                wide = read_as(own[rows], stored, "F64" if stored == "F64" else "F32")
                numbers = wide + patch.scale * numbers
            self._write(name, flat, rows, numbers)

    def _decomposed(self, name: str, patch: Patch, out: Array) -> None:
        length = self._wide(patch.length).reshape(-1)
        if not patch.turned:
            for rows, sums in self._sums(name, patch):
                norms = np.linalg.norm(sums, axis=1)
                self._write(name, out, rows, (length[rows] / norms)[:, None] * sums)
            return
        squares = np.zeros(out.shape[1])
        for _, sums in self._sums(name, patch):
            squares += np.square(sums, dtype=np.float64).sum(0)
        factor = (length / np.sqrt(squares)).astype(np.float32)
        for rows, sums in self._sums(name, patch):
            self._write(name, out, rows, sums * factor)

    def _sums(self, name: str, patch: Patch) -> Iterator[tuple[slice, Array]]:
        """W + scale * left @ right, rows by rows, float32 (float64 where W is)."""
        home, key = (self.adapter, patch.own) if patch.own else (self.base, name)
        stored, own = home[key].entry.dtype, home.array(key)
        left, right = self._wide(patch.left), self._wide(patch.right)
        left, right = left.reshape(len(left), -1), right.reshape(len(right), -1)
        if patch.turned:
            left, right = right.T, left.T
        rows = own.reshape(own.shape[0], -1)
        step = max(1, BLOCK // max(1, rows.shape[1]))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            wide = read_as(rows[part], stored, "F64" if stored == "F64" else "F32")
            yield part, wide + patch.scale * (left[part] @ right)

    def _write(self, name: str, out: Array, rows: slice, numbers: Array) -> None:
        kind = "F64" if numbers.dtype == np.float64 else "F32"
        found = write_as(numbers, kind, self.places[name].entry.dtype)
        out[rows] = found.reshape(out[rows].shape)

    def _wide(self, name: str) -> Array:
        """A tensor of the adapter as float32 or float64, in a file."""
        kind = self.adapter[name].entry.dtype
        given = self.adapter.array(name)
        if kind in ("F32", "F64"):
            return given
        out = scratch_map(self.scratch, np.float32, given.shape)
        flat, source = out.reshape(-1), given.reshape(-1)
        for start in range(0, len(flat), BLOCK):
            flat[start : start + BLOCK] = read_as(source[start : start + BLOCK], kind, "F32")
        return out


def adapted(model: Weights, folder: Path, scratch: Path | None = None) -> Adapted:
    """The model with the adapter of a folder. Raises FileError where the kind of adapter is another one, or
    where it does not fit the model, with the tensor's name.
    """
    config = _config(folder / CONFIG)
    if (folder / MODEL).is_file() or not (folder / PICKLED).is_file():
        adapter = open_checkpoint(folder / MODEL)
    else:
        adapter = open_checkpoint(folder / PICKLED)
    return _Fitter(model, folder, config, adapter).view(scratch)


def _config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST:
            raise FileError(f"{path} is larger than any such file")
        found: Any = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise FileError(f"{str(path.parent)!r} is no adapter: it has no {CONFIG}") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise FileError(f"{path} must hold a JSON object")
    kind = found.get("peft_type")
    if kind != "LORA":
        raise FileError(f"{path}: adapters of the kind {kind!r:.40} are not merged in; only LORA is")
    for key in OTHERS:
        if found.get(key):
            raise FileError(f"{path}: LoRA with {key} is not merged in; merge it with peft first")
    start = found.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(STARTS):
        raise FileError(
            f"{path}: init_lora_weights is {start!r:.40}, which changes the model's own weights; save the "
            "adapter with path_initial_model_for_weight_conversion, as peft says, or merge it with peft first"
        )
    return found


class _Fitter:
    """Finds what each tensor of an adapter does to which tensor of the model."""

    def __init__(self, model: Weights, folder: Path, config: Mapping[str, Any], adapter: Checkpoint) -> None:
        self.model, self.folder, self.config, self.adapter = model, folder, config, adapter
        self.ends: dict[str, list[str]] = {}

    def refuse(self, message: str) -> NoReturn:
        raise FileError(f"{self.folder}: {message}")

    def view(self, scratch: Path | None) -> Adapted:
        parts: dict[str, dict[str, str]] = {}
        patches: dict[str, Patch] = {}
        places = dict(self.model.items())
        for name in self.adapter:
            if found := _LORA.match(name):
                key = found[2] if found[3] != "bias" else f"{found[2]}.bias"
                parts.setdefault(_plain(found[1]), {})[key] = name
                continue
            own = self.own(_plain(name)) or _plain(name)
            patches[own] = Patch(other=name)
            places[own] = self.place(own, name)
        for module, given in parts.items():
            for own, patch in self.lora(module, given):
                whole = patches[own].other if own in patches else ""
                if own in patches and ".base_layer." not in whole:
                    self.refuse(f"{own} is both saved whole and changed")
                if whole and self.adapter[whole].entry.shape != self.model[own].entry.shape:
                    self.refuse(f"{own} is saved with another number of rows than the model has")
                patches[own] = replace(patch, own=whole)
        if not patches:
            self.refuse("the adapter holds no tensors")
        return Adapted(
            self.model.path, self.model, self.adapter, patches, places, self.folder / CONFIG, scratch
        )

    def place(self, own: str, name: str) -> Place:
        """Of a tensor that is saved whole: of the adapter's shape and the model's type."""
        given = self.adapter[name]
        dtype = self.model[own].entry.dtype if own in self.model else given.entry.dtype
        size = given.entry.elements * SIZES[dtype]
        return Place(Entry(own, dtype, given.entry.shape, 0, size), given.path, 0)

    def own(self, wanted: str) -> str | None:
        """The model's name of a tensor; prefixes that only one of the two writes do not count."""
        if wanted in self.model:
            return wanted
        parts = wanted.split(".")
        for start in range(1, len(parts) - 1):
            if (name := ".".join(parts[start:])) in self.model:
                return name
        if not self.ends:
            for name in self.model:
                self.ends.setdefault(".".join(name.split(".")[-3:]), []).append(name)
        found = [n for n in self.ends.get(".".join(parts[-3:]), []) if n.endswith(f".{wanted}")]
        return found[0] if len(found) == 1 else None

    def lora(self, module: str, given: Mapping[str, str]) -> Iterator[tuple[str, Patch]]:
        embedding = "lora_embedding_A" in given or "lora_embedding_B" in given
        kinds = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
        lost = [k for k in kinds if k not in given]
        if lost:
            self.refuse(f"{module} lacks {listed(lost)}")
        own = self.own(f"{module}.weight")
        if own is None:
            self.refuse(
                f"the model has no tensor {module}.weight{nearest(f'{module}.weight', self.model)}; "
                "the adapter is of another model"
            )
        a, b = (self.adapter[given[k]].entry for k in kinds)
        if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[0] != b.shape[1] or math.prod(b.shape[2:]) != 1:
            self.refuse(f"{module}: shapes {list(a.shape)} and {list(b.shape)} are no LoRA")
        entry = self.model[own].entry
        if entry.dtype not in ("F64", "F32", "F16", "BF16"):
            self.refuse(f"{own} is of type {entry.dtype}; LoRA is merged into floats of 16 bits or more")
        turned = self.turned(own, embedding, entry.shape, (b.shape[0], *a.shape[1:]))
        scale = self.scale(module, a.shape[0])
        length = given.get("lora_magnitude_vector", "")
        if bool(length) != bool(self.config.get("use_dora")):
            self.refuse(f"{module}: use_dora and the lengths (lora_magnitude_vector) do not go together")
        if length and (embedding or len(entry.shape) != 2):
            self.refuse(f"{own}: DoRA is merged into linear layers only; merge it with peft first")
        if length and self.adapter[length].entry.elements != b.shape[0]:
            self.refuse(
                f"{length} has {self.adapter[length].entry.elements} lengths for {b.shape[0]} outputs"
            )
        yield own, Patch(scale, given[kinds[1]], given[kinds[0]], turned, length)
        if "lora_B.bias" in given:
            yield self.bias(module, given["lora_B.bias"], scale)

    def bias(self, module: str, name: str, scale: float) -> tuple[str, Patch]:
        own = self.own(f"{module}.bias")
        if own is None or self.model[own].entry.shape != self.adapter[name].entry.shape:
            self.refuse(f"{name} has no bias of its shape to go to in the model")
        return own, Patch(scale, other=name, added=True)

    def turned(self, own: str, embedding: bool, shape: tuple[int, ...], product: tuple[int, ...]) -> bool:
        """Whether the weights lie as (in, out). Square ones tell nothing; there the config counts."""
        as_is, turned = shape == product, len(product) == 2 and shape == product[::-1]
        if embedding and turned:
            return True
        if not as_is and not turned:
            self.refuse(f"{own} has the shape {list(shape)}, the adapter makes {list(product)}")
        return bool(self.config.get("fan_in_fan_out")) if as_is and turned else turned

    def scale(self, module: str, rank: int) -> float:
        wanted = self.pattern("rank_pattern", module, self.config.get("r"))
        if wanted != rank:
            self.refuse(f"{module} has rank {rank}, {CONFIG} says {wanted!r:.40}")
        alpha = self.pattern("alpha_pattern", module, self.config.get("lora_alpha"))
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
            self.refuse(f"{CONFIG}: lora_alpha must be a number, not {alpha!r:.40}")
        if not rank:
            self.refuse(f"{module} has rank 0")
        return float(alpha) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def pattern(self, key: str, module: str, usual: Any) -> Any:
        """The value of the first pattern that ends the module's name, as in peft."""
        patterns = self.config.get(key) or {}
        if not isinstance(patterns, dict):
            self.refuse(f"{CONFIG}: {key} must be an object")
        for pattern, value in patterns.items():
            if _PATTERN.search(pattern) or sum(pattern.count(c) for c in "*+") > 2 or len(pattern) > 300:
                self.refuse(f"{CONFIG}: the pattern {pattern!r:.60} of {key} is too involved")
            try:
                if re.match(rf"(.*\.)?({pattern})$", module):
                    return value
            except re.error as error:
                self.refuse(f"{CONFIG}: {pattern!r:.60} of {key} is no pattern: {error}")
        return usual


def _plain(name: str) -> str:
    """The module's own name of what an adapter stores."""
    name = name.removeprefix("base_model.model.")
    for inner in (".modules_to_save.default.", ".modules_to_save.", ".base_layer.", ".original_module."):
        name = name.replace(inner, ".")
    return name
