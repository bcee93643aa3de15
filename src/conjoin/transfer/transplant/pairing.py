"""Which tensor of the source goes where: by rules, in stacks of other depths, or as the user says."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from conjoin.errors import FileError, InputError, listed, nearest
from conjoin.transfer.weights.depth import Restacked, depths, ends, restack
from conjoin.transfer.weights.matching import Pairs, Shape, match
from conjoin.transfer.weights.wiring import is_table

MATCHES = ("auto", "name", "shape", "structure", "none")
_POST_NORM = re.compile(r"attention\.output\.layernorm|sa_layer_norm", re.IGNORECASE)
MOST_STARS = 4
MOST_MAP = 10_000_000


@dataclass(frozen=True, slots=True)
class Paired:
    """found: target name -> source name. unsure: target name -> why nothing was guessed. asked: target names
    that the user's map names; those mapped to nothing are in `asked` only. zero: target names of blocks
    that are to answer what they are given, whose weights are 0. square: target names of whole layers that
    are to do so. by: the rule. told: notes.
    """

    found: Mapping[str, str]
    unsure: Mapping[str, str]
    asked: frozenset[str]
    zero: frozenset[str]
    square: frozenset[str]
    by: str
    told: tuple[str, ...]


def pair(
    source: Mapping[str, Shape],
    target: Mapping[str, Shape],
    *,
    rule: str = "auto",
    mapping: Mapping[str, str | None] | str | os.PathLike[str] | None = None,
    depth: str = "even",
) -> Paired:
    """Pair the tensors of two networks. Raises InputError, FileError."""
    if rule not in MATCHES:
        raise InputError(f"no rule of matching {rule!r}{nearest(rule, MATCHES)}; there are {listed(MATCHES)}")
    told = resolve({} if mapping is None else read_map(mapping), source, target)
    free = {n: s for n, s in target.items() if n not in told}
    if rule == "none":
        pairs, stacked, by = Pairs({}, {}), Restacked({n: n for n in source}, frozenset(), ()), "map"
    elif rule == "auto":
        pairs, stacked = _matched(source, free, "name", depth)
        by = "name"
        if (why := _doubt(source, free, pairs)) is not None:
            other = _matched(source, free, "structure", depth)
            if other[0].found:
                (pairs, stacked), by = other, f"structure ({why})"
    else:
        (pairs, stacked), by = _matched(source, free, rule, depth), rule
    found = {n: stacked.names[s] for n, s in pairs.found.items()}
    found |= {n: s for n, s in told.items() if s is not None}
    notes = list(stacked.told)
    zero, blind = _zeros(stacked.new, target)
    notes += [
        f"{b}: which weights lead back is not known, so the block is a copy, and no identity" for b in blind
    ]
    if zero and any(_POST_NORM.search(n) for n in target):
        notes.append("norms stand after the layers, so added blocks change what the network answers")
    elif zero:
        notes.append("added blocks answer what they are given where norms stand before the layers (pre-norm)")
    square = {n for n in pairs.added if not any(n.startswith(f"{b}.") for b in stacked.new)}
    if by.startswith("structure") and depth != "none":
        square |= _squares(target, found)
    if square:
        notes.append(
            "added layers are unit matrices: the function stays where the activation is relu, or none"
        )
    by = by if not told else f"{by} and the map" if by != "map" else by
    return Paired(found, pairs.unsure, frozenset(told), zero, frozenset(square), by, tuple(notes))


def _matched(
    source: Mapping[str, Shape], target: Mapping[str, Shape], rule: str, depth: str
) -> tuple[Pairs, Restacked]:
    stacked = restack(source, target, depth, in_order=rule == "structure")
    shapes = {n: source[s] for n, s in stacked.names.items()}
    if rule == "structure":
        shapes = _in_order(shapes, source, stacked)
    rows = None if depth == "none" else partial(depths, rule=depth)
    return match(shapes, target, rule, depth=rows), stacked


def _in_order(
    shapes: Mapping[str, Shape], source: Mapping[str, Shape], stacked: Restacked
) -> dict[str, Shape]:
    """Restacked names where the source has its blocks: blocks were put at the end."""
    if all(n == s for n, s in stacked.names.items()):
        return dict(shapes)
    place = {n: i for i, n in enumerate(source)}
    first: dict[str, int] = {}
    for name, real in stacked.names.items():
        stem = re.split(r"(?:^|\.)\d+\.", name)[0]
        first[stem] = min(first.get(stem, len(place)), place[real])

    def key(name: str) -> tuple[int, list[int], int]:
        numbers = [int(n) for n in re.findall(r"(?:^|\.)(\d{1,9})(?=\.)", name)]
        return first[re.split(r"(?:^|\.)\d+\.", name)[0]], numbers, place[stacked.names[name]]

    return {n: shapes[n] for n in sorted(shapes, key=key)}


def _doubt(source: Mapping[str, Shape], target: Mapping[str, Shape], pairs: Pairs) -> str | None:
    """Why names alone may not be trusted, or None."""
    layers = [n for n in pairs.found if len(target[n]) >= 2]
    if not layers and any(len(s) >= 2 for s in target.values()):
        return "no layer of an equal name"
    counted = re.compile(r"(^|\.)\d+\.[^.]+$")
    old, new = (
        {n for n, s in side.items() if len(s) >= 2 and counted.search(n)} for side in (source, target)
    )
    clash = [n for n in pairs.found if n in old | new and source.get(n, target[n]) != target[n]]
    if clash and (len(old) != len(new) or old != new):
        return f"{clash[0]} and others are named by their place, and the places differ"
    return None


def _zeros(new: frozenset[str], target: Mapping[str, Shape]) -> tuple[frozenset[str], list[str]]:
    zero: set[str] = set()
    blind = []
    for block in sorted(new):
        rests = [n.removeprefix(f"{block}.") for n in target if n.startswith(f"{block}.")]
        found = ends(rests)
        zero |= {f"{block}.{r}" for r in found}
        blind += [] if found else [block]
    return frozenset(zero), blind


def _squares(target: Mapping[str, Shape], found: Mapping[str, str]) -> set[str]:
    """Layers of a plain chain without a partner that can be unit matrices, with their biases."""
    names = list(target)
    layers = [n for n in names if len(target[n]) >= 2]
    if any(is_table(n, target[n]) for n in layers):
        return set()
    square = set()
    for at, name in enumerate(layers):
        shape = target[name]
        inner = 0 < at < len(layers) - 1
        if name not in found and inner and shape[0] == shape[1] and all(k % 2 for k in shape[2:]):
            begin = names.index(name)
            stop = names.index(layers[at + 1])
            square |= {n for n in names[begin:stop] if n not in found}
    return square


def read_map(given: Mapping[str, str | None] | str | os.PathLike[str]) -> dict[str, str | None]:
    """A map of names: a mapping, or a file of JSON or YAML. Raises InputError, FileError."""
    if isinstance(given, Mapping):
        found: Any = dict(given)
        where = "the map"
    else:
        path, where = Path(given), str(given)
        try:
            if path.stat().st_size > MOST_MAP:
                raise FileError(f"{path} is larger than any map of names")
            raw = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"{path} cannot be read: {error}") from error
        found = _parsed(path, raw)
    if not isinstance(found, dict) or not all(
        isinstance(k, str) and (v is None or isinstance(v, str)) for k, v in found.items()
    ):
        raise InputError(f"{where} must hold names: of the target -> of the source, or null for none")
    return found


def _parsed(path: Path, raw: str) -> Any:
    if path.suffix.lower() == ".json":
        try:
            return json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise FileError(f"{path} is no JSON: {error}") from error
    import yaml

    try:
        return yaml.safe_load(raw)
    except (yaml.YAMLError, RecursionError) as error:
        raise FileError(f"{path} is no YAML: {error}") from error


def resolve(
    told: Mapping[str, str | None], source: Mapping[str, Shape], target: Mapping[str, Shape]
) -> dict[str, str | None]:
    """The map written out: target name -> source name or None. Raises InputError for names that are not
    there.

    A star stands for any text; the stars of the source's name are filled with what those of the target's
    name stood for. Names without stars come first, then patterns in their order.

    >>> resolve({"b.*.w": "a.*.v"}, {"a.0.v": (1,)}, {"b.0.w": (1,)})
    {'b.0.w': 'a.0.v'}
    """
    found: dict[str, str | None] = {}
    for here, there in sorted(told.items(), key=lambda item: "*" in item[0] and item[0] not in target):
        if here in target or "*" not in here:
            hits = {here: there} if here in target else {}
        else:
            hits = _starred(here, there, target)
        if not hits:
            raise InputError(f"the map names {here!r}, which the target lacks{nearest(here, target)}")
        for name, real in hits.items():
            if name in found:
                continue
            if real is not None and real not in source:
                raise InputError(f"the map names {real!r}, which the source lacks{nearest(real, source)}")
            found[name] = real
    return found


def _starred(here: str, there: str | None, target: Mapping[str, Shape]) -> dict[str, str | None]:
    if here.count("*") > MOST_STARS:
        raise InputError(f"the map: {here!r} has more than {MOST_STARS} stars")
    if there is not None and there.count("*") not in (0, here.count("*")):
        raise InputError(f"the map: {here!r} and {there!r} must have equally many stars")
    pattern = re.compile("(.*)".join(re.escape(p) for p in here.split("*")), re.DOTALL)
    hits: dict[str, str | None] = {}
    for name in target:
        if hit := pattern.fullmatch(name):
            words = hit.groups()
            ends_ = (there or "").split("*")
            filled = "".join(a + b for a, b in zip(ends_, (*words, ""), strict=False))
            hits[name] = None if there is None else filled if len(ends_) > 1 else there
    return hits
