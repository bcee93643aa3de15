"""Which tensor of a source goes to which tensor of a target: by name, by shape, or by structure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError, listed, nearest

if TYPE_CHECKING:
    from conjoin.outputs import Array

Shape = tuple[int, ...]
RULES = ("name", "shape", "structure")
_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|model|net|network|backbone)[._/])+")
_LEAVES = {"gamma": "weight", "beta": "bias", "scale": "weight"}
MOST_PAIRS = 4_000_000
_CLOSE, _LEAF, _SAME = 0.25, 0.5, 1.0


@dataclass(frozen=True, slots=True)
class Pairs:
    """found: name in the target -> name in the source. unsure: name in the target -> what is not clear.

    added: names in the target of layers that stand in a row of equal ones, longer than the source's.
    """

    found: Mapping[str, str]
    unsure: Mapping[str, str]
    added: frozenset[str] = frozenset()


def match(
    source: Mapping[str, Shape], target: Mapping[str, Shape], rule: str = "name", *, depth: Rows | None = None
) -> Pairs:
    """Which tensor of the source goes to which of the target; one without a partner is absent.

    source, target: shapes by name, in the order of the layers. rule:

    - "name": equal names; then names equal after `normalised`; then names equal after one beginning, as
      "bert.", which all of the rest lack.
    - "shape": tensors of equal shape and last part of the name, in order, where both sides have as many.
    - "structure": blocks in order, and inside blocks tensors in order, so that the sum of likenesses is
      largest (equal shapes before equal sizes before equal ranks, and the last part of the name). Layers
      that look alike and stand in a row are one row; `depth` says how rows of other lengths meet.

    Nothing is guessed: where two answers are equally good a tensor has no partner and is told in `unsure`.
    Raises InputError for an unknown rule.

    >>> match({"module.fc.weight": (2, 3)}, {"fc.weight": (2, 3)}).found
    {'fc.weight': 'module.fc.weight'}
    """
    if rule == "name":
        return _by_name(source, target)
    if rule == "shape":
        return _by_shape(source, target)
    if rule == "structure":
        return _by_structure(source, target, depth)
    raise InputError(f"no rule of matching {rule!r}{nearest(rule, RULES)}; there are {listed(RULES)}")


def normalised(name: str) -> str:
    """A name without wrappers, in small letters, dots between parts, `weight` and `bias` for the last part.

    Wrappers at the front are module, _orig_mod, model, net, network and backbone.

    >>> normalised("module.Encoder/LayerNorm.gamma")
    'encoder.layernorm.weight'
    """
    parts = _WRAPPERS.sub("", name.casefold()).replace("/", ".").split(".")
    parts[-1] = _LEAVES.get(parts[-1], parts[-1])
    return ".".join(parts)


def _by_name(source: Mapping[str, Shape], target: Mapping[str, Shape]) -> Pairs:
    found = {name: name for name in target if name in source}
    old = _folded(n for n in source if n not in found)
    new = _folded(n for n in target if n not in found)
    unsure: dict[str, str] = {}
    for key, names in new.items():
        if key in old and len(names) == len(old[key]) == 1:
            found[names[0]] = old[key][0]
        elif key in old:
            told = listed(old[key] if len(old[key]) > 1 else names, 4)
            unsure |= dict.fromkeys(names, f"{told} are one name when normalised")
    left = [k for k in old if k not in new], [k for k in new if k not in old]
    for there, here in _begun(*left):
        if len(old[there]) == len(new[here]) == 1:
            found[new[here][0]] = old[there][0]
    return Pairs({n: found[n] for n in target if n in found}, unsure)


def _folded(names: Iterable[str]) -> dict[str, list[str]]:
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(normalised(name), []).append(name)
    return folded


def _begun(source: Sequence[str], target: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names of which one is the other after a beginning of at most 3 parts: the commonest one."""
    tally: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for turned, (long, short) in enumerate(((source, set(target)), (target, set(source)))):
        for name in long:
            parts = name.split(".")
            for cut in range(1, min(4, len(parts) - 1)):
                if (rest := ".".join(parts[cut:])) in short:
                    key = (".".join(parts[:cut]), "target" if turned else "source")
                    tally.setdefault(key, []).append((rest, name) if turned else (name, rest))
    best = sorted(tally.values(), key=len, reverse=True)[:2]
    return best[0] if best and (len(best) == 1 or len(best[0]) > len(best[1])) else []


def _by_shape(source: Mapping[str, Shape], target: Mapping[str, Shape]) -> Pairs:
    kinds: dict[tuple[Shape, str], tuple[list[str], list[str]]] = {}
    for side, shapes in enumerate((source, target)):
        for name, shape in shapes.items():
            kinds.setdefault((shape, _leaf(name)), ([], []))[side].append(name)
    found: dict[str, str] = {}
    unsure: dict[str, str] = {}
    for (shape, _), (old, new) in kinds.items():
        if len(old) == len(new):
            found |= dict(zip(new, old, strict=True))
        elif old:
            why = f"{len(old)} tensors of shape {shape} in the source, {len(new)} in the target"
            unsure |= dict.fromkeys(new, f"{why}: {listed(old, 3)}")
    return Pairs({n: found[n] for n in target if n in found}, unsure)


def _leaf(name: str) -> str:
    return normalised(name).rpartition(".")[2]


Looks = tuple[tuple[Shape, str], ...]
"""Shape and last part of the name of each tensor of a block."""


Rows = Callable[[int, int], tuple[list[int], list[bool]]]
"""(old, new) lengths of a row -> the old one for each new one, and whether it is an addition."""


def _by_structure(source: Mapping[str, Shape], target: Mapping[str, Shape], depth: Rows | None) -> Pairs:
    (old, there), (new, here) = (_rows(shapes) for shapes in (source, target))
    if len(old) * len(new) > MOST_PAIRS:
        raise InputError(
            f"{len(old)} and {len(new)} blocks are too many to be matched by structure; give a map"
        )

    @cache  # many blocks look alike
    def inside(a: Looks, b: Looks) -> tuple[float, list[tuple[int, int]], dict[int, list[int]]]:
        pairs, also = _aligned(len(a), len(b), lambda i, j: _alike(a[i], b[j]))
        return sum(_alike(a[i], b[j]) for i, j in pairs), pairs, also

    pairs, also = _aligned(len(there), len(here), lambda a, b: inside(old[a], new[b])[0])
    found: dict[str, str] = {}
    unsure: dict[str, str] = {}
    added: list[str] = []
    for a, b in pairs:
        row, rows = here[b], there[a]
        if b in also or (len(row) != len(rows) and depth is None):
            could = listed((block[0] for i in also.get(b, [a]) for block in there[i]), 3)
            unsure |= {n: f"several fit equally well: those of {could}" for block in row for n in block}
            continue
        came, grown = depth(len(rows), len(row)) if depth else (list(range(len(row))), [False] * len(row))
        _, inner, doubt = inside(old[a], new[b])
        for block, at, more in zip(row, came, grown, strict=True):
            added += block if more else []
            for i, j in inner:
                if j in doubt:
                    unsure[block[j]] = f"fit equally well: {listed((rows[at][k] for k in doubt[j]), 3)}"
                else:
                    found[block[j]] = rows[at][i]
    return Pairs({n: found[n] for n in target if n in found}, unsure, frozenset(added))


def _rows(shapes: Mapping[str, Shape]) -> tuple[list[Looks], list[list[list[str]]]]:
    """Looks of blocks, and the blocks of these looks that stand in a row; norms go with the layer before."""
    joined: list[list[str]] = []
    for block in blocks(shapes):
        if joined and all(len(shapes[n]) < 2 for n in block) and len(joined[-1]) < 9:
            joined[-1] = joined[-1] + block
        else:
            joined.append(block)
    looks: list[Looks] = []
    rows: list[list[list[str]]] = []
    for block in joined:
        look = _looks(block, shapes)
        if looks and looks[-1] == look:
            rows[-1].append(block)
        else:
            looks.append(look)
            rows.append([block])
    return looks, rows


def _looks(names: Sequence[str], shapes: Mapping[str, Shape]) -> Looks:
    return tuple((shapes[name], _leaf(name)) for name in names)


def _alike(a: tuple[Shape, str], b: tuple[Shape, str]) -> float:
    """0 for another rank or kernel; more for equal sizes, most for equal shapes; more for an equal leaf."""
    (old, leaf), (new, other) = a, b
    if len(old) != len(new) or old[2:] != new[2:]:
        return 0.0
    leaves = _LEAF * (leaf == other)
    if old == new:
        return _SAME + leaves
    if leaf != other:
        return 0.0
    same = sum(x == y for x, y in zip(old, new, strict=True))
    return _CLOSE + _CLOSE * same + leaves / 2


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


def _aligned(
    left: int, right: int, score: Callable[[int, int], float]
) -> tuple[list[tuple[int, int]], dict[int, list[int]]]:
    """Pairs (i, j), both rising, with the largest sum of scores; pairs that score 0 are left out.

    And, for each j that has several partners among equally good answers (or none in one of them), these
    partners. Needleman and Wunsch 1970 without a price for gaps: O(left * right).
    """
    scores = np.array([[score(i, j) for j in range(right)] for i in range(left)]).reshape(left, right)
    ahead = _best(scores)
    behind = _best(scores[::-1, ::-1])[::-1, ::-1]
    total = ahead[0, 0] if left and right else 0.0
    whole = behind[:left, :right] + scores + ahead[1:, 1:]
    on = (scores > 0) & (np.abs(whole - total) < 1e-9)
    pairs, i, j = [], 0, 0
    while i < left and j < right:
        if scores[i, j] > 0 and abs(ahead[i, j] - scores[i, j] - ahead[i + 1, j + 1]) < 1e-9:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif abs(ahead[i, j] - ahead[i + 1, j]) < 1e-9:
            i += 1
        else:
            j += 1
    several = {j: np.flatnonzero(on[:, j]).tolist() for _, j in pairs if on[:, j].sum() > 1}
    rivals = {j: [i] for i, j in pairs if j not in several and on[i].sum() > 1}
    return pairs, several | rivals


def _best(scores: Array) -> Array:
    """The largest sum from (i, j) to the end, (left + 1, right + 1)."""
    left, right = scores.shape
    best = np.zeros((left + 1, right + 1))
    for i in range(left - 1, -1, -1):
        row, below, now = best[i], best[i + 1], scores[i]
        for j in range(right - 1, -1, -1):
            row[j] = max(below[j], row[j + 1], now[j] + below[j + 1])
    return best
