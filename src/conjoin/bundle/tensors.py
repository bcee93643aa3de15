"""Reads and writes safetensors files; checks a header before the library sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from conjoin.bundle.format import MAX_DOCUMENT, parse
from conjoin.errors import BundleError
from conjoin.outputs import Array

_TYPES = {
    "BOOL": "bool",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
}


def dump(tensors: Mapping[str, Array]) -> bytes:
    """The bytes of a safetensors file; same tensors, same bytes."""
    from safetensors.numpy import save

    return cast(bytes, save(dict(tensors)))


def load(raw: bytes, name: str) -> dict[str, Array]:
    """Tensors of a safetensors file, after our own check of its header. Raises BundleError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as load_checked

    check_header(raw, name)
    try:
        return cast("dict[str, Array]", load_checked(raw))
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{name!r} is not a sound safetensors file: {error}") from error


def check_header(raw: bytes, name: str) -> None:
    """Length, nesting, types, shapes and places of the tensors: they fill the file without gap or overlap."""
    if len(raw) < 8:
        raise BundleError(f"{name!r} has {len(raw)} bytes; a safetensors file begins with 8 bytes of length")
    length = int.from_bytes(raw[:8], "little")
    if length > min(len(raw) - 8, MAX_DOCUMENT):
        raise BundleError(
            f"{name!r} declares a header of {length} bytes; the file has {len(raw)}, "
            f"headers at most {MAX_DOCUMENT}"
        )
    header = parse(raw[8 : 8 + length], f"the header of {name!r}")
    spans = sorted(_span(t, r, name) for t, r in header.items() if t != "__metadata__")
    end = 0
    for start, stop in spans:
        if start != end:
            raise BundleError(f"{name!r}: tensors overlap or leave a gap at byte {min(start, end)}")
        end = stop
    if end != len(raw) - 8 - length:
        raise BundleError(f"{name!r}: tensors take {end} bytes, the file holds {len(raw) - 8 - length}")


def _span(tensor: str, record: Any, name: str) -> tuple[int, int]:
    where = f"{name!r}, tensor {tensor[:80]!r}"
    if not isinstance(record, dict) or set(record) != {"dtype", "shape", "data_offsets"}:
        raise BundleError(f"{where}: needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = record["dtype"], record["shape"], record["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _TYPES:
        raise BundleError(f"{where}: element type {str(dtype)[:40]!r} is not one of {', '.join(_TYPES)}")
    if not _whole_numbers(shape) or len(shape) > 8 or not _whole_numbers(offsets) or len(offsets) != 2:
        raise BundleError(f"{where}: shape and data_offsets must be whole numbers")
    size = math.prod(shape) * np.dtype(_TYPES[dtype]).itemsize
    if offsets[1] - offsets[0] != size:
        raise BundleError(f"{where}: {dtype} {shape} takes {size} bytes, not {offsets[1] - offsets[0]}")
    return offsets[0], offsets[1]


def _whole_numbers(found: Any) -> bool:
    return isinstance(found, list) and all(type(v) is int and 0 <= v < 2**48 for v in found)
