"""Networks of other depths: which block of the source becomes which block of the target."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from conjoin.errors import InputError, listed, nearest
from conjoin.transfer.weights.matching import Shape, normalised
from conjoin.transfer.weights.selection import layers

Depth = Literal["even", "repeat", "first", "last", "none"]
DEPTHS = ("even", "repeat", "first", "last", "none")


@dataclass(frozen=True, slots=True)
class Stack:
    """Numbered blocks that look alike: their stem, and their numbers in order.

    headed: the first one looks otherwise (another stride, say), and stays the first.
    """

    stem: str
    numbers: tuple[int, ...]
    headed: bool = False

    def depths(self, new: int, rule: str) -> tuple[list[int], list[bool]]:
        """As `depths`, of its blocks; the head stays where it is."""
        old = len(self.numbers)
        if not self.headed or new < 2:
            return depths(old, new, rule)
        came, added = depths(old - 1, new - 1, rule)
        return [0, *(i + 1 for i in came)], [False, *added]


@dataclass(frozen=True, slots=True)
class Restacked:
    """names: of the source's tensors as if it had the target's blocks -> their real names. new: stems with
    numbers of blocks of the target that have no own block in the source. told: what was done.
    """

    names: Mapping[str, str]
    new: frozenset[str]
    told: tuple[str, ...]


def depths(old: int, new: int, rule: str = "even") -> tuple[list[int], list[bool]]:
    """For each of `new` blocks the block of `old` it comes from, and whether it is to be an identity.

    Fewer blocks: "even" keeps evenly spaced ones with the first and the last, "first" and "last" those at one
    end, "repeat" is "even". More blocks: "even" spreads the old ones and puts identities between them,
    "first" puts the identities after, "last" before; "repeat" lets blocks stand several times, with no
    identity. Raises InputError.

    >>> depths(2, 4), depths(4, 2, "last")
    (([0, 0, 1, 1], [False, True, False, True]), ([2, 3], [False, False]))
    """
    if rule not in DEPTHS or rule == "none":
        raise InputError(f"no rule of depth {rule!r}{nearest(rule, DEPTHS)}; there are {listed(DEPTHS)}")
    if new <= old:
        kept = {"first": range(new), "last": range(old - new, old)}.get(rule) or layers(old, new).tolist()
        return list(kept), [False] * new
    if rule == "repeat":
        return [j * old // new for j in range(new)], [False] * new
    starts = {"first": list(range(old)), "last": [new - old + i for i in range(old)]}
    places = starts.get(rule) or [-(-i * new // old) for i in range(old)]
    came = [max(sum(p <= j for p in places) - 1, 0) for j in range(new)]
    return came, [j not in places for j in range(new)]


def stacks(shapes: Mapping[str, Shape]) -> list[Stack]:
    """Numbered blocks of one stem, all alike in names and shapes but perhaps the first; the outermost ones.

    >>> stacks({f"h.{i}.{n}.w": (2, 2) for i in range(3) for n in "qk"} | {"head.0.b": (1,)})
    [Stack(stem='h', numbers=(0, 1, 2), headed=False)]
    """
    seen: dict[str, dict[int, list[tuple[str, Shape]]]] = {}
    for name, shape in shapes.items():
        parts = name.split(".")
        for at, part in enumerate(parts[:-2]):
            if part.isascii() and part.isdigit() and len(part) < 10:
                block = seen.setdefault(".".join(parts[:at]), {}).setdefault(int(part), [])
                block.append((".".join(parts[at + 1 :]), shape))
    found: list[Stack] = []
    for stem in sorted(seen, key=lambda s: s.count(".") + bool(s)):
        ordered = [tuple(sorted(seen[stem][n])) for n in sorted(seen[stem])]
        outer = any(stem.startswith(f"{s.stem}.") or not s.stem for s in found)
        headed = len(set(ordered)) > 1
        within = any(s.startswith(f"{stem}.") for s in seen)  # stages: their blocks are the stacks
        if not outer and len(set(ordered[1:])) <= 1 and not (headed and within):
            found.append(Stack(stem, tuple(sorted(seen[stem])), headed))
    return found


def restack(
    source: Mapping[str, Shape], target: Mapping[str, Shape], rule: str, *, in_order: bool = False
) -> Restacked:
    """The source's names as if its stacks had as many blocks as the target's.

    Stacks meet by stem, equal, normalised, or one the end of the other; with `in_order`, where both sides
    have equally many, one after the other. Rule: see `depths`; "none" leaves the numbers.
    """
    names = {n: n for n in source}
    if rule == "none":
        return Restacked(names, frozenset(), ())
    depths(1, 1, rule)
    old, new = stacks(source), stacks(target)
    fresh: set[str] = set()
    told = []
    for here in new:
        there = _partner(here, old, new, in_order=in_order)
        if there is None or len(there.numbers) == len(here.numbers):
            continue
        came, identity = there.depths(len(here.numbers), rule)
        inner = _inside(source, there.stem)
        for name, _, _ in inner:
            names.pop(name, None)
        for number, at, grown in zip(here.numbers, came, identity, strict=True):
            names |= {
                _named(there.stem, number, rest): name
                for name, old_number, rest in inner
                if old_number == there.numbers[at]
            }
            if grown:
                fresh.add(f"{here.stem}.{number}".lstrip("."))
        kept = listed((there.numbers[i] for i in came), 40)
        told.append(f"{here.stem}: {len(came)} blocks from {there.stem} {kept}")
    return Restacked(names, frozenset(fresh), tuple(told))


def _named(stem: str, number: int, rest: str) -> str:
    return f"{stem}.{number}.{rest}" if stem else f"{number}.{rest}"


def _inside(names: Iterable[str], stem: str) -> list[tuple[str, int, str]]:
    """Name, number and rest of the tensors of a stack."""
    pattern = re.compile((re.escape(stem) + r"\." if stem else "") + r"(\d{1,9})\.(.+)", re.DOTALL)
    return [(n, int(m[1]), m[2]) for n in names if (m := pattern.fullmatch(n))]


def _partner(here: Stack, old: Sequence[Stack], new: Sequence[Stack], *, in_order: bool) -> Stack | None:
    stem = normalised(f"{here.stem}.x")
    for test in (
        lambda s: s.stem == here.stem,
        lambda s: normalised(f"{s.stem}.x") == stem,
        lambda s: (
            normalised(f"{s.stem}.x").endswith(f".{stem}") or stem.endswith("." + normalised(f"{s.stem}.x"))
        ),
    ):
        hits = [s for s in old if test(s)]
        if len(hits) == 1:
            return hits[0]
    if in_order and len(old) == len(new):
        return old[list(new).index(here)]
    return None


_ENDS = re.compile(
    r"(^|\.)(o_proj|out_proj|out_lin|attn\.proj|attn\.c_proj|attention\.output\.dense|attention\.dense|"
    r"wo|to_out\.0|self_attn\.dense|o|down_proj|fc2|linear2|lin2|mlp\.c_proj|output\.dense|w2|mlp\.[23]|"
    r"dense_4h_to_h|pwconv2)\.(weight|bias)$"
)
_NORMS = re.compile(r"(^|\.)(bn|norm)(\d+)\.(weight|bias)$")


def ends(rests: Sequence[str]) -> frozenset[str]:
    """Of the names inside a residual block, those that are zero when the block answers what it is given.

    The projections back to the residual stream of a transformer, else the last norm of a convolutional
    block (bn2 or bn3), where it has no way around of its own. Empty where nothing is known.

    >>> sorted(ends(["attn.o_proj.weight", "attn.q_proj.weight", "mlp.down_proj.weight"]))
    ['attn.o_proj.weight', 'mlp.down_proj.weight']
    """
    found = frozenset(r for r in rests if _ENDS.search(r))
    if found or any("downsample" in r or "shortcut" in r for r in rests):
        return found
    norms = {
        r: int(m[3]) for r in rests if (m := _NORMS.search(r)) and any("running_mean" in x for x in rests)
    }
    return frozenset(r for r, n in norms.items() if n == max(norms.values()))
