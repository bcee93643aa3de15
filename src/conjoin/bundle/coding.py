"""How arrays are stored: plain, or deflated after a reordering that makes them smaller.

| coding     | what is deflated                                                                              |
|------------|-----------------------------------------------------------------------------------------------|
| plain      | nothing: the safetensors tensor is the array                                                  |
| deflate    | the array's bytes                                                                             |
| shuffle    | first the lowest byte of every element, then the second, ...: exponents lie together          |
| dictionary | the distinct bit patterns, ascending, shuffled; then for each element its place among them,   |
|            | as the least of uint8, uint16, uint32 that holds it, shuffled                                 |

A deflated array is a tensor of bytes; its dtype and shape stand in the document. Split thresholds repeat
(a histogram has 255 bins), so the dictionary takes a third off the trees that dominate a bundle.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from conjoin.errors import BundleError
from conjoin.outputs import Array

_TYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
DTYPES = {n: np.dtype(n).newbyteorder("<") for n in _TYPES.split()}
"""Element types of a bundle, all little-endian."""

SMALL = 512
"""Arrays of fewer bytes stay plain."""
WORTH = 0.9
"""An array is deflated where that leaves at most this share of it."""
TRIAL = 2**21
"""Bytes of the sample on which codings are compared."""
LEVEL = 6
_BITS: dict[int, np.dtype[Any]] = {
    1: np.dtype("<u1"),
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
    8: np.dtype("<u8"),
}


def encode(array: Array) -> tuple[Array, dict[str, Any]]:
    """The tensor to store and its record without the tensor's name; same array, same bytes."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype.name not in DTYPES:
        raise TypeError(f"an array of {array.dtype} cannot be stored; pack gives numbers")
    array = array.astype(DTYPES[array.dtype.name], copy=False)
    if array.nbytes < SMALL:
        return array, {}
    flat = array.reshape(-1)
    sample = flat[: TRIAL // array.itemsize]
    sizes = {name: len(_deflate(sample, name)[0]) for name in _fitting(flat)}
    best = min(sizes, key=lambda name: sizes[name])
    if sizes[best] > WORTH * sample.nbytes:
        return array, {}
    raw, more = _deflate(flat, best)
    record = {"coding": best, "dtype": array.dtype.name, "shape": list(array.shape), **more}
    return np.frombuffer(raw, dtype=np.uint8), record


def _fitting(flat: Array) -> tuple[str, ...]:
    return ("deflate",) if flat.itemsize == 1 else ("deflate", "shuffle", "dictionary")


def _deflate(flat: Array, coding: str) -> tuple[bytes, dict[str, Any]]:
    if coding == "deflate":
        return zlib.compress(flat.tobytes(), LEVEL), {}
    if coding == "shuffle":
        return zlib.compress(_shuffled(flat), LEVEL), {}
    table, places = np.unique(flat.view(_BITS[flat.itemsize]), return_inverse=True)
    coded = _shuffled(table) + _shuffled(places.astype(_index(len(table))))
    return zlib.compress(coded, LEVEL), {"table": len(table)}


def _index(count: int) -> np.dtype[Any]:
    return _BITS[1 if count <= 2**8 else 2 if count <= 2**16 else 4]


def _shuffled(flat: Array) -> bytes:
    return np.ascontiguousarray(flat.view(np.uint8).reshape(-1, flat.itemsize).T).tobytes()


def _unshuffled(raw: bytes, dtype: np.dtype[Any]) -> Array:
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(dtype.itemsize, -1)
    return np.ascontiguousarray(rows.T).reshape(-1).view(dtype)


def decoded_bytes(record: Mapping[str, Any], tensor: Array) -> int:
    """How many bytes decoding takes; known before it is done. Raises BundleError."""
    if "coding" not in record:
        return int(tensor.nbytes)
    dtype, shape = _declared(record)
    return math.prod(shape) * dtype.itemsize


def decode(record: Mapping[str, Any], tensor: Array) -> Array:
    """The array of a record and its tensor. Raises BundleError where they do not fit."""
    if "coding" not in record:
        return tensor
    dtype, shape = _declared(record)
    if tensor.dtype != np.uint8 or tensor.ndim != 1:
        raise BundleError("a deflated array must be stored as a row of bytes")
    n, table, coding = math.prod(shape), 0, record["coding"]
    if coding == "dictionary":
        table = record.get("table", 0)
        if not isinstance(table, int) or not 0 < table <= n:
            raise BundleError(f"a dictionary of {table!r} entries for {n} elements")
        index = _index(table)
        raw = _inflate(tensor, table * dtype.itemsize + n * index.itemsize)
        cut = table * dtype.itemsize
        places = _unshuffled(raw[cut:], index)
        if int(places.max(initial=0)) >= table:
            raise BundleError(f"an element lies outside its dictionary of {table} entries")
        return _unshuffled(raw[:cut], dtype)[places].reshape(shape)
    raw = _inflate(tensor, n * dtype.itemsize)
    flat = _unshuffled(raw, dtype) if coding == "shuffle" else np.frombuffer(raw, dtype=dtype)
    return flat.reshape(shape)


def _declared(record: Mapping[str, Any]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    shape, dtype = record.get("shape"), record.get("dtype")
    if record["coding"] not in ("deflate", "shuffle", "dictionary"):
        raise BundleError(
            f"unknown coding {str(record['coding'])[:40]!r} of an array; is the bundle from a later conjoin?"
        )
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise BundleError(f"unknown element type {str(dtype)[:40]!r} of an array")
    ok = isinstance(shape, list) and len(shape) <= 8 and all(type(d) is int and 0 <= d < 2**40 for d in shape)
    if not ok or not isinstance(shape, list):
        raise BundleError(f"the shape {str(shape)[:80]} of an array does not make sense")
    return DTYPES[dtype], tuple(shape)


def _inflate(tensor: Array, size: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(tensor.tobytes(), size + 1)
    except zlib.error as error:
        raise BundleError(f"a deflated array is damaged: {error}") from error
    if len(raw) != size or not inflater.eof:
        raise BundleError(
            f"a deflated array holds {'more' if len(raw) > size else 'less'} than its {size} bytes"
        )
    return raw
