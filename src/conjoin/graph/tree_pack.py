"""`Trees` as named arrays and back: bits for the shape, tables for what repeats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from conjoin.errors import BundleError
from conjoin.graph.preorder import tree_starts
from conjoin.graph.tree_sets import Sets

if TYPE_CHECKING:
    from conjoin.graph.trees import Trees
    from conjoin.outputs import Array, Json

MOST_CATEGORIES = 1 << 24
"""Integers above this have no float32 of their own."""


def pack(trees: Trees) -> tuple[dict[str, Array], dict[str, Json]]:
    """Arrays and JSON of an ensemble."""
    runs = np.flatnonzero(np.diff(trees.weight, prepend=np.nan) != 0)
    arrays = {
        "leaf": np.packbits(trees.leaf),
        "target": trees.target,
        "weight": trees.weight[runs],
        "weight.start": runs.astype(np.uint32),
        "base": trees.base,
    }
    arrays |= _pack_splits(trees.feature, trees.threshold) | _pack_values(trees.values)
    if trees.missing_left.any():
        arrays["missing_left"] = np.packbits(trees.missing_left)
    if not np.array_equal(trees.codes, np.arange(len(trees.values))):
        arrays["codes"] = trees.codes.astype(_smallest(len(trees.values)))
    if not trees.target.any():
        del arrays["target"]
    if len(trees.sets):
        arrays |= _pack_sets(trees.sets)
    meta: dict[str, Json] = {
        "nodes": len(trees.leaf),
        "trees": len(trees.weight),
        "features": trees.n_features,
        "width": trees.values.shape[1],
        "link": trees.link,
        "scale": trees.scale,
        "shift": trees.shift,
        "zero_missing": trees.zero_missing,
        "sets": len(trees.sets),
    }
    return arrays, meta


def unpack(arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Trees`. Raises BundleError where the arrays do not make sense."""
    try:
        fields = _fields(arrays, meta)
        problem = _problem(fields)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise BundleError(f"packed trees do not make sense: {error!r}") from error
    if problem:
        raise BundleError(f"packed trees do not make sense: {problem}")
    return fields


def _fields(arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> dict[str, Any]:
    leaf = _bits(arrays["leaf"], int(meta["nodes"]))
    inner, count, width = int((~leaf).sum()), int(meta["trees"]), int(meta["width"])
    values = _unpack_values(arrays, width)
    starts = arrays["weight.start"].astype(np.int64)
    runs: Array = np.append(starts[1:], count) - starts
    missing, codes = arrays.get("missing_left"), arrays.get("codes")
    feature, threshold = _unpack_splits(arrays)
    return {
        "n_features": int(meta["features"]),
        "leaf": leaf,
        "feature": feature.astype(np.uint32),
        "threshold": threshold.astype(np.float64 if threshold.dtype == np.float64 else np.float32),
        "missing_left": np.zeros(inner, dtype=bool) if missing is None else _bits(missing, inner),
        "codes": np.arange(len(values), dtype=np.uint32) if codes is None else codes.astype(np.uint32),
        "values": values,
        "target": arrays.get("target", np.zeros(count, dtype=np.uint16)).astype(np.uint16),
        "weight": np.repeat(arrays["weight"].astype(np.float64), runs),
        "base": arrays["base"].astype(np.float64),
        "link": meta["link"],
        "scale": float(meta["scale"]),
        "shift": float(meta["shift"]),
        "zero_missing": bool(meta["zero_missing"]),
        "sets": _unpack_sets(arrays, int(meta["sets"])),
    }


def _problem(f: Mapping[str, Any]) -> str | None:
    """What is wrong with these fields."""
    from conjoin.graph.trees import Link

    leaf, values, base, link = f["leaf"], f["values"], f["base"], f["link"]
    inner, starts = int((~leaf).sum()), tree_starts(leaf)
    width = values.shape[1]
    checks = {
        "the bits of the shape are no whole trees": starts[-1] == len(leaf),
        "the number of trees is not that of their weights": len(starts) - 1 == len(f["weight"]),
        "the number of trees is not that of their targets": len(starts) - 1 == len(f["target"]),
        "the number of features is not that of inner nodes": len(f["feature"]) == inner,
        "the number of thresholds is not that of inner nodes": len(f["threshold"]) == inner,
        "the number of codes is not that of leaves": len(f["codes"]) == len(leaf) - inner,
        "a code is beyond the values": _within(f["codes"], len(values)),
        "a feature is beyond the features": _within(f["feature"], f["n_features"] + len(f["sets"])),
        "the sets do not fit together": _sets_fit(f["sets"], f["n_features"]),
        "a target is beyond the sums": _within(f["target"], len(base)),
        "leaves are neither numbers nor as wide as the sums": width in (1, len(base)) and base.ndim == 1,
        f"the link {link!r} is unknown": link in get_args(Link),
        "there must be one sum": len(base) == 1 or link not in ("sigmoid", "complement"),
        "numbers are not finite": all(np.isfinite(a).all() for a in (values, base, f["weight"])),
    }
    return next((text for text, fine in checks.items() if not fine), None)


def _pack_splits(feature: Array, threshold: Array) -> dict[str, Array]:
    """Feature and threshold of each inner node, or a table of the distinct ones where that is smaller."""
    column = _smallest(int(feature.max(initial=0)) + 1)
    entry = threshold.itemsize + np.dtype(column).itemsize
    number, order = np.unique(threshold.view(f"u{threshold.itemsize}"), return_inverse=True)
    keys = feature.astype(np.uint64) << np.uint64(32) | order.astype(np.uint64)
    distinct, codes = np.unique(keys, return_inverse=True)
    code = _smallest(len(distinct))
    if np.dtype(code).itemsize * len(keys) + entry * len(distinct) >= entry * len(keys):
        return {"feature": feature.astype(column), "threshold": threshold}
    return {
        "split": codes.astype(code),
        "feature": (distinct >> np.uint64(32)).astype(column),
        "threshold": number[distinct & np.uint64(0xFFFFFFFF)].view(threshold.dtype),
    }


def _unpack_splits(arrays: Mapping[str, Array]) -> tuple[Array, Array]:
    if "split" not in arrays:
        return arrays["feature"], arrays["threshold"]
    return arrays["feature"][arrays["split"]], arrays["threshold"][arrays["split"]]


def _pack_sets(sets: Sets) -> dict[str, Array]:
    arrays = {n: getattr(sets, n) for n in ("feature", "count", "member", "size")}
    small = {f"sets.{n}": a.astype(_smallest(int(a.max(initial=0)) + 1)) for n, a in arrays.items()}
    return small | {"sets.rest": np.packbits(sets.rest), "sets.missing": np.packbits(sets.missing)}


def _unpack_sets(arrays: Mapping[str, Array], count: int) -> Sets:
    if not count:
        return Sets.of()
    return Sets(
        arrays["sets.feature"].astype(np.uint16),
        *(arrays[f"sets.{n}"].astype(np.uint32) for n in ("count", "member", "size")),
        *(_bits(arrays[f"sets.{n}"], count) for n in ("rest", "missing")),
    )


def _sets_fit(sets: Sets, features: int) -> bool:
    """Whether the arrays have one entry per set, and members lie below the size of their set."""
    if {len(sets.count), len(sets.size), len(sets.rest)} != {len(sets)}:
        return False
    if int(sets.count.sum()) != len(sets.member) or not _within(sets.feature, features):
        return False
    small = int(sets.size.max(initial=0)) <= MOST_CATEGORIES
    return small and bool((sets.member < np.repeat(sets.size, sets.count)).all())


def _pack_values(values: Array) -> dict[str, Array]:
    """Rows of values; only the numbers that are not 0 where that is smaller."""
    at = np.nonzero(values)
    column = _smallest(values.shape[1])
    if (
        values.shape[1] == 1
        or len(at[0]) * (4 + np.dtype(column).itemsize) + 2 * len(values) >= values.nbytes
    ):
        return {"values": values}
    counts = np.bincount(at[0], minlength=len(values)).astype(np.uint16)
    return {"values": values[at], "values.column": at[1].astype(column), "values.count": counts}


def _unpack_values(arrays: Mapping[str, Array], width: int) -> Array:
    given = arrays["values"].astype(np.float32)
    if "values.column" not in arrays:
        return cast("Array", given.reshape(-1, width))
    counts = arrays["values.count"].astype(np.int64)
    values = np.zeros((len(counts), width), dtype=np.float32)
    values[np.repeat(np.arange(len(counts)), counts), arrays["values.column"]] = given
    return values


def _smallest(count: int) -> type[np.unsignedinteger[Any]]:
    """The smallest type that holds the indices of so many things."""
    return np.uint8 if count <= 1 << 8 else np.uint16 if count <= 1 << 16 else np.uint32


def _bits(packed: Array, count: int) -> Array:
    if len(packed) != (count + 7) // 8:
        raise ValueError(f"{len(packed)} bytes for {count} bits")
    return np.unpackbits(packed.astype(np.uint8), count=count).astype(bool)


def _within(indices: Array, count: int) -> bool:
    return not len(indices) or int(indices.max()) < count
