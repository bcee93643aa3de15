"""Types of weights: how they lie in a file, and as which array formulas get them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError, listed, nearest

if TYPE_CHECKING:
    from conjoin.outputs import Array

STORED: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "F8_E4M3": np.uint8,
    "F8_E5M2": np.uint8,
    "BOOL": np.bool_,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
}
"""Type of a file -> array of its bytes; bfloat16 and 8-bit floats are their bits."""
FLOATS = ("F64", "F32", "BF16", "F16", "F8_E4M3", "F8_E5M2")
NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
"""Names of types in recipes -> in files."""


def dtype_of(name: str) -> str:
    """The file's name of a type that a recipe names. Raises InputError.

    >>> dtype_of("bfloat16"), dtype_of("torch.float16")
    ('BF16', 'F16')
    """
    plain = name.removeprefix("torch.")
    if plain not in NAMES:
        raise InputError(f"no type of weights {name!r}{nearest(plain, NAMES)}; there are {listed(NAMES)}")
    return NAMES[plain]


def formula_type(dtype: str) -> str:
    """The type in which formulas get weights: float32 for 16 and 8-bit floats other than bfloat16."""
    return dtype if dtype in ("F64", "F32", "BF16") else "F32"


def wider(dtypes: tuple[str, ...]) -> str:
    """The type in which weights of these types meet without loss."""
    kinds = {formula_type(d) for d in dtypes}
    return "F64" if "F64" in kinds else "F32" if "F32" in kinds else "BF16"


def read_as(array: Array, dtype: str, wanted: str) -> Array:
    """Weights of a file (`dtype`) as the array that formulas take (`wanted`: F64, F32, BF16), exactly.

    Raises InputError on whole numbers.
    """
    if dtype == wanted:
        return array
    if dtype not in FLOATS:
        raise InputError(f"weights of type {dtype} cannot be merged; only floats can")
    if dtype == "BF16":
        numbers = (array.astype(np.uint32) << 16).view(np.float32)
    elif dtype in ("F8_E4M3", "F8_E5M2"):
        numbers = _table(dtype)[array]
    else:
        numbers = array
    return np.asarray(numbers, dtype=STORED[wanted])


def write_as(array: Array, dtype: str, wanted: str) -> Array:
    """Numbers of formulas (`dtype`: F64, F32, BF16) as the array that a file of type `wanted` holds, rounded
    to the nearest even.
    """
    if dtype == wanted:
        return array
    numbers = read_as(array, dtype, "F64" if dtype == "F64" else "F32")
    if wanted == "BF16":
        bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32).astype(np.uint64)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        return np.where(np.isnan(numbers), np.uint16(0x7FC0), rounded)
    if wanted in ("F8_E4M3", "F8_E5M2"):
        return _nearest(numbers, wanted)
    with np.errstate(over="ignore"):
        return numbers.astype(STORED[wanted])


@cache
def _table(dtype: str) -> Array:
    """The 256 numbers of an 8-bit float, float32 (OCP 8-bit floating point, 2023)."""
    bits = np.arange(256)
    mantissa = 3 if dtype == "F8_E4M3" else 2
    bias = 7 if mantissa == 3 else 15
    exponent, rest = (bits & 0x7F) >> mantissa, bits & ((1 << mantissa) - 1)
    normal = 2.0 ** (exponent - bias) * (1 + rest / 2.0**mantissa)
    small = 2.0 ** (1 - bias) * rest / 2.0**mantissa
    found = np.where(exponent == 0, small, normal)
    if mantissa == 3:
        found[(bits & 0x7F) == 0x7F] = np.nan
    else:
        found[exponent == 31] = np.where(rest[exponent == 31] == 0, np.inf, np.nan)
    return np.asarray(np.where(bits >= 128, -found, found), dtype=np.float32)


def _nearest(numbers: Array, dtype: str) -> Array:
    """Codes of the nearest 8-bit floats, ties to even; too large a number becomes the largest finite one."""
    values = _table(dtype)[:128].astype(np.float64)
    finite = values[np.isfinite(values)]
    size = np.minimum(np.abs(numbers.astype(np.float64)), finite[-1])
    above = np.clip(np.searchsorted(finite, size), 1, len(finite) - 1)
    low, high = finite[above - 1], finite[above]
    odd_low = (above - 1) % 2 == 1
    up = (size - low > high - size) | ((size - low == high - size) & odd_low)
    codes = np.where(up, above, above - 1).astype(np.uint8)
    codes = np.where(np.isnan(numbers), np.uint8(0x7F), codes)
    return np.asarray(np.where(np.signbit(numbers), codes | np.uint8(0x80), codes), dtype=np.uint8)
