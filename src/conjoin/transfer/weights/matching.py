"""Which tensor of a source goes to which tensor of a target: by name, by structure, or as the user says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from conjoin.errors import InputError, listed, nearest

Shape = tuple[int, ...]
Looks = tuple[tuple[Shape, str], ...]
"""Shape and last part of the name of each tensor of a block."""
RULES = ("name", "normalised", "structure")
_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|model|net|network|backbone)[._/])+")
_LEAVES = {"gamma": "weight", "beta": "bias", "scale": "weight"}


def match(
    source: Mapping[str, Shape], target: Mapping[str, Shape], rule: str | Mapping[str, str] = "name"
) -> dict[str, str]:
    """Name in the target -> name in the source; a target tensor without a partner is absent.

    source, target: shapes by name, in the order of the layers. rule: "name": equal names. "normalised":
    equal names first, then names equal after `normalised`. "structure": blocks in order, and inside blocks
    tensors of equal shape in order; of equal blocks the first. A mapping says it all: target name -> source
    name. Shapes play a part in "structure" only. Raises InputError for unknown names and rules, and where
    normalised names are doubled.

    >>> match({"module.fc.weight": (2, 3)}, {"fc.weight": (2, 3)}, "normalised")
    {'fc.weight': 'module.fc.weight'}
    """
    if not isinstance(rule, str):
        return _as_told(source, target, rule)
    if rule == "name":
        return {name: name for name in target if name in source}
    if rule == "normalised":
        return _by_normalised(source, target)
    if rule == "structure":
        return _by_structure(source, target)
    raise InputError(
        f"no rule of matching {rule!r}{nearest(rule, RULES)}; there are {listed(RULES)}, or a map"
    )


def normalised(name: str) -> str:
    """A name without wrappers, in small letters, dots between parts, `weight` and `bias` for the last part.

    Wrappers at the front are module, _orig_mod, model, net, network and backbone.

    >>> normalised("module.Encoder/LayerNorm.gamma")
    'encoder.layernorm.weight'
    """
    parts = _WRAPPERS.sub("", name.casefold()).replace("/", ".").split(".")
    parts[-1] = _LEAVES.get(parts[-1], parts[-1])
    return ".".join(parts)


def _as_told(
    source: Mapping[str, Shape], target: Mapping[str, Shape], told: Mapping[str, str]
) -> dict[str, str]:
    for here, there in told.items():
        for side, name, known in (("target", here, target), ("source", there, source)):
            if name not in known:
                raise InputError(f"the map names {name!r}, which the {side} lacks{nearest(name, known)}")
    return {name: told[name] for name in target if name in told}


def _by_normalised(source: Mapping[str, Shape], target: Mapping[str, Shape]) -> dict[str, str]:
    found = {name: name for name in target if name in source}
    left = _folded([n for n in source if n not in found], "source")
    open_names = _folded([n for n in target if n not in found], "target")
    found |= {name: left[key] for key, name in open_names.items() if key in left}
    return {name: found[name] for name in target if name in found}


def _folded(names: Sequence[str], side: str) -> dict[str, str]:
    folded: dict[str, str] = {}
    for name in names:
        other = folded.setdefault(normalised(name), name)
        if other != name:
            raise InputError(
                f"{side}: {other!r} and {name!r} are one name when normalised; give a map of names instead"
            )
    return folded


def _by_structure(source: Mapping[str, Shape], target: Mapping[str, Shape]) -> dict[str, str]:
    there, here = blocks(source), blocks(target)
    old, new = ([_looks(b, shapes) for b in bs] for bs, shapes in ((there, source), (here, target)))

    @cache  # many blocks look alike
    def inside(a: Looks, b: Looks) -> tuple[float, list[tuple[int, int]]]:
        pairs = _aligned(len(a), len(b), lambda i, j: _alike(a[i], b[j]))
        return sum(_alike(a[i], b[j]) for i, j in pairs), pairs

    pairs = _aligned(len(there), len(here), lambda a, b: inside(old[a], new[b])[0])
    return {here[b][j]: there[a][i] for a, b in pairs for i, j in inside(old[a], new[b])[1]}


def _looks(names: Sequence[str], shapes: Mapping[str, Shape]) -> Looks:
    return tuple((shapes[name], normalised(name).rpartition(".")[2]) for name in names)


def _alike(a: tuple[Shape, str], b: tuple[Shape, str]) -> float:
    """0 for other shapes, 1 for equal ones, and half as much again where the last part is equal too."""
    return 0.0 if a[0] != b[0] else 1.0 + 0.5 * (a[1] == b[1])


def blocks(names: Mapping[str, Shape] | Sequence[str]) -> list[list[str]]:
    """Names in blocks, in order: a block is a numbered part with all before it, else all but the last part.

    >>> blocks(["emb.weight", "layers.0.q.weight", "layers.0.q.bias", "layers.1.q.weight"])
    [['emb.weight'], ['layers.0.q.weight', 'layers.0.q.bias'], ['layers.1.q.weight']]
    """
    found: dict[str, list[str]] = {}
    for name in names:
        parts = re.split(r"[./]", name)
        number = next((i + 1 for i, p in enumerate(parts) if p.isdigit()), len(parts) - 1)
        found.setdefault(".".join(parts[:number]), []).append(name)
    return list(found.values())


def _aligned(left: int, right: int, score: Callable[[int, int], float]) -> list[tuple[int, int]]:
    """Pairs (i, j), both rising, with the largest sum of scores; pairs that score 0 are left out.

    Needleman and Wunsch 1970 without a price for gaps: O(left * right).
    """
    scores = [[score(i, j) for j in range(right)] for i in range(left)]
    best = [[0.0] * (right + 1) for _ in range(left + 1)]
    for i in range(left - 1, -1, -1):
        for j in range(right - 1, -1, -1):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], scores[i][j] + best[i + 1][j + 1])
    pairs, i, j = [], 0, 0
    while i < left and j < right:
        if scores[i][j] > 0 and best[i][j] == scores[i][j] + best[i + 1][j + 1]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs
