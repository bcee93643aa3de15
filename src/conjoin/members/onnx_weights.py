"""An ONNX member with other weights: a graph whose initialisers carry the names of a model's tensors, as
exporters of torch write it, answers with the tensors of another checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError, listed, nearest
from conjoin.members.onnx import OnnxMember

if TYPE_CHECKING:
    from conjoin.outputs import Array

_FLOATS = (1, 10, 11, 16)
"""ONNX's numbers of float, float16, double and bfloat16."""


def with_weights(member: OnnxMember, tensors: Mapping[str, Array]) -> OnnxMember:
    """The member whose graph holds these tensors; initialisers that are none of them stay (a head, say).

    tensors: of a model, by name; floats. A tensor belongs to the initialiser of its name, or of the one name
    that ends with it or that it ends with (`model.fc.weight`, `fc.weight`). Its shape must be the same; a
    matrix that only fits transposed, as MatMul wants it, is transposed.

    Raises InputError where a tensor has no place in the graph (exporters fold batch normalisation into
    others, and rename what they transpose), a shape differs, or a square matrix may be either way round.
    """
    from onnx import numpy_helper

    proto = member._proto()
    slots = {t.name: t for t in proto.graph.initializer if t.data_type in _FLOATS}
    places = _places(tensors, slots)
    turned = {n: _turned(n, np.shape(tensors[n]), tuple(slots[p].dims)) for n, p in places.items()}
    square = [n for n in places if np.ndim(tensors[n]) == 2 and len(set(np.shape(tensors[n]))) == 1]
    if any(turned.values()) and square:
        raise InputError(
            f"the graph holds some matrices transposed ({listed([n for n, t in turned.items() if t], 3)}); "
            f"{listed(square, 3)} is square, so nobody can tell which way round it lies there; export the "
            "model with its weights as they are"
        )
    for name, place in places.items():
        array = np.asarray(tensors[name])
        kept = numpy_helper.to_array(slots[place]).dtype
        fitted = np.ascontiguousarray(array.T if turned[name] else array, dtype=kept)
        slots[place].CopyFrom(numpy_helper.from_array(fitted, place))
    return replace(member, model=proto.SerializeToString())


def _places(tensors: Mapping[str, Array], slots: Mapping[str, Any]) -> dict[str, str]:
    """The initialiser of each tensor. Raises InputError where one has none, or two have one."""
    found: dict[str, str] = {}
    lost: list[str] = []
    for name in tensors:
        near = [s for s in slots if s.endswith(f".{name}") or name.endswith(f".{s}")]
        if name in slots:
            found[name] = name
        elif len(near) == 1:
            found[name] = near[0]
        else:
            lost.append(name)
    if lost:
        raise InputError(
            f"the graph has no weights called {listed(lost, 4)}{nearest(lost[0], slots)}; it has "
            f"{listed(slots, 8) or 'none'}. Export the model without folding or renaming of weights, or "
            "evaluate with a function (--evaluate file.py:function)"
        )
    if len(set(found.values())) < len(found):
        owners: dict[str, list[str]] = {}
        for name, place in found.items():
            owners.setdefault(place, []).append(name)
        place, names = next((p, n) for p, n in owners.items() if len(n) > 1)
        raise InputError(f"{listed(names)} would both be {place!r} of the graph")
    return found


def _turned(name: str, given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a tensor fits transposed only. Raises InputError where it does not fit."""
    if given == wanted:
        return False
    if len(given) == 2 and given[::-1] == wanted:
        return True
    raise InputError(f"{name} has the shape {list(given)}; the graph's has {list(wanted)}")
