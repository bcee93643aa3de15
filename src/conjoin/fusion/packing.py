"""Checks that fitted fusers make when they are unpacked: the arrays and JSON come from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import BundleError, OutputsError, listed

if TYPE_CHECKING:
    from conjoin.outputs import Array, Json


def ask(arrays: Mapping[str, Array], name: str, shape: tuple[int | None, ...]) -> Array:
    """The array of this name as float64, of this shape (None is any length), finite. Raises BundleError."""
    if name not in arrays:
        raise BundleError(f"a packed fuser lacks the array {name!r}; it has {listed(arrays)}")
    array = np.asarray(arrays[name])
    fits = array.ndim == len(shape) and all(
        w is None or w == g for w, g in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind not in "fiu" or not bool(np.isfinite(array).all()):
        raise BundleError(
            f"the array {name!r} of a packed fuser must be finite and of shape {shape}, not {array.shape}"
        )
    return array.astype(np.float64)


def names_of(meta: Mapping[str, Json], key: str) -> tuple[str, ...]:
    """A list of different strings in the JSON. Raises BundleError."""
    given = meta.get(key)
    if (
        not isinstance(given, list)
        or not all(isinstance(n, str) for n in given)
        or len(set(map(str, given))) < len(given)
    ):
        raise BundleError(f"a packed fuser needs {key!r}, a list of different names, not {given!r:.80}")
    return tuple(str(n) for n in given)


def members_of(meta: Mapping[str, Json]) -> tuple[str, ...]:
    """The names of the members. Raises BundleError."""
    return names_of(meta, "members")


def number(meta: Mapping[str, Json], key: str) -> float:
    """A finite number in the JSON. Raises BundleError."""
    given = meta.get(key)
    if isinstance(given, bool) or not isinstance(given, int | float) or not np.isfinite(given):
        raise BundleError(f"a packed fuser needs {key!r}, a number, not {given!r:.80}")
    return float(given)


def child(children: Mapping[str, Any], name: str) -> Any:
    """A part of a packed fuser. Raises BundleError."""
    if name not in children:
        raise BundleError(f"a packed fuser lacks its part {name!r}; it has {listed(children)}")
    return children[name]


def known(names: tuple[str, ...], given: Mapping[str, Any]) -> None:
    """Raises OutputsError where an output's name is not among the names that a fitted fuser knows."""
    unknown = [n for n in given if n not in names]
    if unknown:
        raise OutputsError(f"this fuser was not fitted to {listed(unknown)}; it knows {listed(names)}")


def text(meta: Mapping[str, Json], key: str, allowed: tuple[str, ...]) -> str:
    """One of these words in the JSON. Raises BundleError."""
    given = meta.get(key)
    if not isinstance(given, str) or given not in allowed:
        raise BundleError(f"a packed fuser needs {key!r}, one of {listed(allowed)}, not {given!r:.80}")
    return given
