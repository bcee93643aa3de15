"""Weights wherever they lie: a checkpoint, a state dict of arrays or of torch tensors, a torch module."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import FileError, InputError, listed, need
from conjoin.transfer.checkpoints import open_checkpoint
from conjoin.transfer.checkpoints.dtypes import FLOATS, STORED, read_as, write_as

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.transfer.weights.matching import Shape

BLOCK = 1 << 22
MOST_JSON = 500_000_000
_NUMPY = {np.dtype(kind): name for name, kind in STORED.items() if name not in ("F8_E4M3", "F8_E5M2", "U16")}


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Named tensors: shapes and types (as safetensors names them), and `read`, which gives one as it is
    stored: bfloat16 and 8-bit floats as their bits.

    folder: with config.json and tokenizer.json, where there is one. label: for messages.
    """

    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, str]
    read: Callable[[str], Array]
    label: str
    folder: Path | None = None

    def numbers(self, name: str) -> Array:
        """A tensor in float32, or float64 where it is stored so; whole numbers as they are."""
        dtype = self.dtypes[name]
        array = self.read(name)
        return read_as(array, dtype, "F64" if dtype == "F64" else "F32") if dtype in FLOATS else array

    def floating(self, name: str) -> bool:
        """Whether the tensor holds numbers with a fraction."""
        return self.dtypes[name] in FLOATS

    def check_finite(self, name: str) -> None:
        """Raises InputError for NaN or infinite weights. Block by block."""
        dtype = self.dtypes[name]
        if dtype not in FLOATS:
            return
        flat = self.read(name).reshape(-1)
        for start in range(0, len(flat), BLOCK):
            part = read_as(flat[start : start + BLOCK], dtype, "F64" if dtype == "F64" else "F32")
            if not np.isfinite(part).all():
                at = start + int(np.flatnonzero(~np.isfinite(part))[0])
                place = tuple(int(i) for i in np.unravel_index(at, self.shapes[name]))
                raise InputError(f"{name}: NaN or infinite weights in the source, first at {place}")

    def config(self) -> Mapping[str, Any]:
        """config.json of the folder; empty where there is none. Raises FileError."""
        return {} if self.folder is None else read_object(self.folder / "config.json")


def read_object(path: Path) -> Mapping[str, Any]:
    """A JSON object of a file; empty where there is none. Raises FileError."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MOST_JSON:
            raise FileError(f"{path} is larger than any such file")
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise FileError(f"{path} must hold a JSON object")
    return found


def weights_of(given: Any, side: str) -> Weights:
    """The weights of a path, a state dict, or a torch module. side: "source" or "target", for messages.

    Raises InputError, FileError.
    """
    if isinstance(given, str | os.PathLike):
        return _of_path(Path(given))
    if isinstance(given, Mapping):
        return _of_arrays(given, side)
    if callable(getattr(given, "state_dict", None)):
        return _of_arrays(given.state_dict(), side)
    raise InputError(
        f"the {side} must be a folder or file of safetensors, a state dict or a torch module, "
        f"not {type(given).__name__}"
    )


def _of_path(path: Path) -> Weights:
    found = open_checkpoint(path)
    return Weights(
        {n: p.entry.shape for n, p in found.items()},
        {n: p.entry.dtype for n, p in found.items()},
        found.array,
        str(path),
        path if path.is_dir() else path.parent,
    )


def _of_arrays(given: Mapping[Any, Any], side: str) -> Weights:
    shapes, dtypes, odd = {}, {}, []
    for name, value in given.items():
        dtype = _dtype(value)
        if not isinstance(name, str) or dtype is None:
            odd.append(f"{name!r} ({type(value).__name__})")
            continue
        shapes[name], dtypes[name] = tuple(int(n) for n in value.shape), dtype
    if odd:
        raise InputError(f"the {side} holds what is no tensor of numbers: {listed(odd, 4)}")
    return Weights(shapes, dtypes, lambda name: stored(given[name]), f"the {side}")


def is_torch(value: Any) -> bool:
    """Whether a value is of torch, without importing it."""
    return type(value).__module__.partition(".")[0] == "torch"


_TORCH = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "bool": "BOOL",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
}


def _dtype(value: Any) -> str | None:
    if isinstance(value, np.ndarray | np.generic):
        return _NUMPY.get(value.dtype)
    name = str(getattr(value, "dtype", "")).removeprefix("torch.")
    return _TORCH.get(name) if hasattr(value, "detach") and not value.is_meta else None


def stored(value: Any) -> Array:
    """A numpy array as it is, a torch tensor as an array that shares its memory where it can."""
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    torch = need("torch")
    plain = value.detach().cpu().contiguous()
    bits: Any = {"torch.bfloat16": (torch.int16, np.uint16)}.get(str(plain.dtype))
    if "float8" in str(plain.dtype):
        bits = (torch.uint8, np.uint8)
    found: Array = plain.view(bits[0]).numpy().view(bits[1]) if bits else plain.numpy()
    return found


def as_given(array: Array, dtype: str, like: Any) -> Any:
    """An array of numbers as it is stored, in the kind of `like`: numpy, or torch on the same device."""
    if isinstance(like, np.ndarray | np.generic):
        return array
    torch = need("torch")
    owned = np.array(array)
    if dtype == "BF16":
        tensor = torch.from_numpy(owned.view(np.int16)).view(torch.bfloat16)
    elif dtype in ("F8_E4M3", "F8_E5M2"):
        tensor = torch.from_numpy(owned).view(like.dtype)
    else:
        tensor = torch.from_numpy(owned)
    return tensor.to(like.device)


def rounded(name: str, numbers: Array, wanted: str) -> Array:
    """Numbers in a stored type. Raises InputError where they are too large for it."""
    if wanted not in FLOATS:
        return numbers.astype(STORED[wanted], copy=False)
    kind = "F64" if numbers.dtype == np.float64 else "F32"
    answer = write_as(numbers, kind, wanted)
    if wanted in ("F16", "BF16", "F32") and kind != wanted:
        back = read_as(answer, wanted, "F32")
        if not np.isfinite(back).all():
            raise InputError(f"{name}: weights too large for the target's {wanted}")
    return answer


def blocks_of(array: Array) -> Iterator[tuple[slice, Array]]:
    """A flat array in blocks."""
    for start in range(0, len(array), BLOCK):
        block = slice(start, start + BLOCK)
        yield block, array[block]


def size_of(shape: Shape) -> int:
    """The number of elements."""
    return math.prod(shape)
