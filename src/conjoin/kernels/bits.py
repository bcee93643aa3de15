"""Weights as they are stored: bfloat16 travels as uint16; compiled loops read and write its bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import extending, types

F = TypeVar("F", bound=Callable[..., Any])


def intrinsic(function: F) -> Any:
    """numba's decorator, for the type checker."""
    return extending.intrinsic(function)


def overload(target: Callable[..., Any], **options: Any) -> Callable[[F], F]:
    """numba's decorator, for the type checker."""
    return cast("Callable[[F], F]", extending.overload(target, **options))


@intrinsic
def float_of_bits(context: Any, bits: Any) -> Any:
    """The float32 whose bits these are (uint32)."""

    def emit(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), emit


@intrinsic
def bits_of_float(context: Any, value: Any) -> Any:
    """The bits (uint32) of a float32."""

    def emit(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), emit


@intrinsic
def fused(context: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c with one rounding; all three float32 or all float64."""

    def emit(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.fma(*args)

    return a(a, b, c), emit


def real(x: Any) -> Any:
    """A stored weight as a number: float32 of bfloat16 bits (uint16), float64 of float32 and float64.

    >>> real(np.uint16(0x3FC0)), real(np.float32(0.5))
    (np.float32(1.5), np.float64(0.5))
    """
    return (np.uint32(x) << np.uint32(16)).view(np.float32) if isinstance(x, np.uint16) else np.float64(x)


def stored(value: Any, like: Any) -> Any:
    """A number as it is stored where `like` is: bfloat16 bits (rounded to nearest even), float32, float64.

    >>> hex(stored(1.5, np.uint16(0))), stored(0.1, np.float32(0))
    ('0x3fc0', np.float32(0.1))
    """
    if not isinstance(like, np.uint16):
        return type(like)(value)
    bits = int(np.float32(value).view(np.uint32))
    nan = value != value
    return np.uint16(bits >> 16 | 0x40 if nan else (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


@overload(real)
def _real(x: Any) -> Any:
    if x == types.uint16:

        def decoded(x: Any) -> Any:
            return float_of_bits(np.uint32(x) << np.uint32(16))

        return decoded

    def widened(x: Any) -> Any:
        return np.float64(x)

    return widened


@overload(stored)
def _stored(value: Any, like: Any) -> Any:
    if like == types.uint16:

        def rounded(value: Any, like: Any) -> Any:
            single = np.float32(value)
            bits = bits_of_float(single)
            up = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
            return np.uint16(up) if single == single else np.uint16(quiet)

        return rounded
    if like == types.float32:

        def narrowed(value: Any, like: Any) -> Any:
            return np.float32(value)

        return narrowed

    def widened(value: Any, like: Any) -> Any:
        return np.float64(value)

    return widened
