"""What is to be done with every tensor, from shapes and types alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError, nearest
from conjoin.transfer.transplant.report import Kind
from conjoin.transfer.weights import adapt
from conjoin.transfer.weights.matching import Shape, normalised
from conjoin.transfer.weights.selection import evenly, most_important
from conjoin.transfer.weights.wiring import Wired, is_table

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.transfer.transplant.options import Options
    from conjoin.transfer.transplant.pairing import Paired
    from conjoin.transfer.transplant.tokens import Vocabulary
    from conjoin.transfer.transplant.weights import Weights

Change = Callable[["Array", "Array"], "Array"]
"""(the tensor so far, the target's own) -> the next one; numbers in float32 or float64."""
_POSITION = re.compile(r"(^|[._])(wpe|pos|pos_emb\w*|positional\w*|position\w*|embed_positions)([._]|$)")
_KERNEL = re.compile(r"(^|\.)(weight|kernel)$")
_BIAS_TABLE = "relative_position_bias_table"
_WORDS = re.compile(
    r"(^|[._])(wte|word_embeddings?|embed_tokens|tok_embeddings?|token_embeddings?|embed_in|shared|tokens_embed)"
    r"(\.weight)?$"
)
_WORD_HEAD = re.compile(
    r"(^|[._])(lm_head|embed_out|output|decoder|predictions|output_projection)(\.(weight|bias))?$"
)
_CLASSES = re.compile(
    r"(^|[._])(head|fc|classifier|score|classification_head|out_proj|head_dist|output|out)(\.\w+)*$"
)


@dataclass(frozen=True, slots=True)
class Step:
    """What to do for one tensor of the target. changes: one after the other; none for a copy as it lies."""

    name: str
    kind: Kind
    source: str | None
    how: str
    changes: tuple[Change, ...] = ()
    grown: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Planner:
    """Everything that a step depends on. scores: importance of units by group, if asked for. notes: grows."""

    source: Weights
    target: Weights
    paired: Paired
    options: Options
    wired: Wired
    sizes: Mapping[str, int]
    vocabularies: tuple[Vocabulary, Vocabulary] | None = None
    pieces: Mapping[str, Sequence[str]] = field(default_factory=dict)
    classes: tuple[list[str], list[str]] | None = None
    scores: Mapping[str, Array] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)

    def steps(self) -> list[Step]:
        """A step for each tensor of the target. Raises InputError."""
        for pattern in self.options.leave:
            if not any(fnmatchcase(n, pattern) for n in self.target.shapes):
                raise InputError(
                    f"the target has no tensor {pattern!r}{nearest(pattern, self.target.shapes)}"
                )
        return [self._step(name) for name in self.target.shapes]

    def _step(self, name: str) -> Step:
        if any(fnmatchcase(name, pattern) for pattern in self.options.leave):
            return Step(name, "fresh", None, "as asked")
        if name in self.paired.zero:
            return Step(name, "adapted", None, "0: the block answers what it is given", (_zeros,))
        if name in self.paired.square and self.target.floating(name):
            return Step(
                name, "adapted", None, "unit matrix: the layer answers what it is given", (_unit(name),)
            )
        there = self.paired.found.get(name)
        if there is None:
            why = self.paired.unsure.get(name)
            asked = "as asked" if name in self.paired.asked else "no partner in the source"
            return Step(name, "fresh", None, f"not clear: {why}; give a map" if why else asked)
        try:
            return self._paired(name, there)
        except _UnfitError as why:
            if name in self.paired.asked:
                raise InputError(f"the map gives {there!r} for {name!r}, which does not fit: {why}") from None
            return Step(name, "fresh", there, str(why))

    def _paired(self, name: str, there: str) -> Step:
        old, new = self.source.shapes[there], self.target.shapes[name]
        kinds = self.source.dtypes[there], self.target.dtypes[name]
        typed = "" if kinds[0] == kinds[1] else f"{kinds[0]} as {kinds[1]}"
        if typed and not (self.source.floating(there) and self.target.floating(name)):
            raise _UnfitError(f"{kinds[0]} does not go over into {kinds[1]}")
        changes: list[tuple[str, Change]] = []
        rows = self._rows(name, there, old, new)
        if old == new and rows is None:
            return Step(name, "carried", there, typed)
        if not self.source.floating(there):
            raise _UnfitError(f"whole numbers of shape {told(old)}, {told(new)} in the target")
        if 0 in old or 0 in new:
            raise _UnfitError(f"shape {told(old)} in the source, {told(new)} in the target")
        shape = old
        if len(old) != len(new):
            shape = _reshaped(old, new)
            changes.append(("reshaped", lambda x, _: x.reshape(shape)))
        grown = False
        if shape != new:
            more, grown, shape = self._changes(name, there, shape, new, rows is not None)
            changes += more
        if rows is not None:
            changes.append(rows)
        how = ", ".join(dict.fromkeys(word for word, _ in changes))
        how = f"{how}, {told(old)} to {told(new)}{f', {typed}' if typed else ''}"
        return Step(name, "adapted", there, how, tuple(c for _, c in changes), grown)

    def _rows(self, name: str, there: str, old: Shape, new: Shape) -> tuple[str, Change] | None:
        """Rows by name: tokens of another vocabulary, or classes."""
        plain = normalised(there)
        if self.vocabularies is not None and old and new:
            ours, theirs = self.vocabularies
            fits = old[0] >= ours.least and new[0] >= theirs.least
            if fits and (_WORDS.search(plain) or _WORD_HEAD.search(plain)):
                return "rows by token", self._tokens(new[0])
        if self.classes is not None and old and new:
            names, wanted = self.classes
            fits = (old[0], new[0]) == (len(names), len(wanted)) and self.wired.group(there, 0) in (
                None,
                f"width {old[0]}",
            )
            layers = [n for n, s in self.source.shapes.items() if len(s) >= 2] or [there]
            last = layers[-1]
            named = _CLASSES.search(plain) or there.rpartition(".")[0] == last.rpartition(".")[0]
            if fits and not is_table(there, old) and named:
                shared = sum(n in set(wanted) for n in names)
                if not shared:
                    raise _UnfitError("no class in common")
                how = f"{shared} of {len(wanted)} classes by name"
                return how, lambda x, own: adapt.classifier(x, names, own, wanted)
        return None

    def _tokens(self, rows: int) -> Change:
        assert self.vocabularies is not None
        ours, theirs = (v.rows for v in self.vocabularies)
        unseen = self.options.unseen

        def change(x: Array, own: Array) -> Array:
            table = x[:, None] if x.ndim == 1 else x
            base = own[:, None] if x.ndim == 1 else own
            fresh = {"fresh": base, "zero": np.zeros_like(base)}.get(unseen)
            pieces = self.pieces if unseen == "pieces" else None
            done = adapt.token_embeddings(table, ours, theirs, pieces=pieces, rows=rows, fresh=fresh)
            return done[:, 0] if x.ndim == 1 else done

        return change

    def _changes(
        self, name: str, there: str, old: Shape, new: Shape, by_row: bool
    ) -> tuple[list[tuple[str, Change]], bool, Shape]:
        """Positions, channels, then widths; whether something grew; the shape after."""
        changes: list[tuple[str, Change]] = []
        shape = list(old)
        at = len(old) - 2
        if at >= 0 and old[at] != new[at] and self._is_position(name, there):
            changes.append(self._positions(there, old, new, at))
            shape[at] = new[at]
        elif self._is_input(there, old) and old[1] != new[1]:
            changes.append((f"channels {self.options.channels}", self._channels(new[1])))
            shape[1] = new[1]
        if by_row:
            shape[0] = new[0]
        if tuple(shape) == new:
            return changes, False, new
        if self.options.width == "crop":
            if by_row:
                raise _UnfitError("rows by name and a cropped width do not go together")
            return [*changes, ("cropped", adapt.cropped)], False, new
        edits, grown = self._widths(there, shape, new)
        changes.append(("grown" if grown else "selected", lambda x, _: adapt.widths(x, edits)))
        return changes, grown, new

    def _is_position(self, name: str, there: str) -> bool:
        plain = normalised(there)
        return self.options.positions != "fresh" and bool(_POSITION.search(plain) or _BIAS_TABLE in plain)

    def _positions(self, there: str, old: Shape, new: Shape, at: int) -> tuple[str, Change]:
        if any(n != 1 for n in (*old[:at], *new[:at])):
            raise _UnfitError(f"positions of shape {told(old)}")
        rows, wanted = old[at], new[at]
        if self.options.positions == "crop":
            return "positions cropped", adapt.cropped

        def flat(change: Callable[[Array], Array]) -> Change:
            return lambda x, _: change(x.reshape(rows, -1)).reshape(*old[:at], wanted, -1)

        grids = _grids(rows, wanted, self.options.prefix, [0] if _BIAS_TABLE in there else [1, 0, 2, 5])
        if self.options.positions == "grid" and grids is None:
            raise _UnfitError(f"{rows} and {wanted} positions are no squares; name the prefix")
        looks_like_grid = len(old) == 3 or _BIAS_TABLE in there or self.options.positions == "grid"
        if grids and looks_like_grid and self.options.positions != "line":
            a, b, prefix = grids
            return (
                f"grid {a} x {a} to {b} x {b}" + (f" after {prefix}" if prefix else ""),
                flat(lambda x: adapt.grid_positions(x, (a, a), (b, b), prefix)),
            )
        return "positions resampled", flat(lambda x: adapt.positions(x, wanted))

    def _is_input(self, there: str, old: Shape) -> bool:
        kernels = (n for n, s in self.source.shapes.items() if len(s) >= 3 and _KERNEL.search(normalised(n)))
        return there == next(kernels, None) and self.options.channels != "fresh"

    def _channels(self, wanted: int) -> Change:
        rule = self.options.channels
        if rule == "repeat":
            return lambda x, _: adapt.input_channels(x, wanted)
        if rule == "mean":
            return lambda x, _: (
                np.repeat(x.mean(axis=1, keepdims=True), wanted, axis=1) * (x.shape[1] / wanted)
            )

        def first(x: Array, _: Array) -> Array:
            answer = np.zeros((x.shape[0], wanted, *x.shape[2:]), x.dtype)
            both = min(wanted, x.shape[1])
            answer[:, :both] = x[:, :both]
            return answer

        return first

    def _widths(
        self, there: str, old: Sequence[int], new: Shape
    ) -> tuple[list[tuple[int, Array, bool]], bool]:
        edits: list[tuple[int, Array, bool]] = []
        rule, grown = self.options.width, False
        for axis, (a, b) in enumerate(zip(old, new, strict=True)):
            if a == b:
                continue
            group = self.wired.group(there, axis)
            if group is None:
                unknown = ", or units whose way is not known" if self.wired.kind == "traced" else ""
                raise _UnfitError(
                    f"{_meaning(axis, len(new))} differ: {told(tuple(old))} in the source, "
                    f"{told(new)} in the target{unknown}"
                )
            if rule == "none":
                raise _UnfitError(
                    f"widths differ: {told(tuple(old))} in the source, {told(new)} in the target"
                )
            parts = self.wired.groups.parts_of(there, axis)
            if a % parts or b % parts:
                raise _UnfitError(f"{a} and {b} units in {parts} equal parts")
            if b > a:
                grown = True
                units = adapt.repeated(a, b, parts)
                self._check_growth(there, a, b, group)
            elif rule == "grow":
                raise _UnfitError(
                    f"narrower in the target, and only growth is asked for: {told(tuple(old))} to {told(new)}"
                )
            else:
                units = self._selected(group, a // parts, b // parts)
                units = np.concatenate([units + i * (a // parts) for i in range(parts)])
            edits.append((axis, units, self.wired.inputs.get(there) == axis))
        return edits, grown

    def _selected(self, group: str, old: int, new: int) -> Array:
        """Units of a part of an axis: whole units of the group where the sizes allow."""
        units = self.sizes.get(group, old)
        near = old // units
        if new % near:
            self.notes[f"{group}: {units} units of {near} do not go into {new}; spaced by size alone"] = None
            return evenly(old, new)
        scores = self.scores.get(group)
        chosen = evenly(units, new // near) if scores is None else most_important(scores, new // near)
        return (chosen[:, None] * near + np.arange(near)).ravel()

    def _check_growth(self, there: str, old: int, new: int, group: str) -> None:
        normed = len(self.source.shapes[there]) == 1 and re.search(r"(norm|ln)\w*\.", normalised(there))
        running = f"{there.rpartition('.')[0]}.running_mean" in self.source.shapes
        if new % old and normed and not running:
            self.notes[
                f"a norm over {old} units grows to {new}, no multiple of it: the function is kept only nearly"
            ] = None


class _UnfitError(Exception):
    """Why a tensor does not fit, in words."""


def told(shape: Shape) -> str:
    """A shape for people.

    >>> told((3, 4)), told(())
    ('3 x 4', 'a scalar')
    """
    return " x ".join(map(str, shape)) or "a scalar"


def _meaning(axis: int, rank: int) -> str:
    if axis >= 2:
        return "kernels"
    return "rows (classes, tokens, positions)" if axis == 0 else "inputs"


def _reshaped(old: Shape, new: Shape) -> Shape:
    """The old shape with axes of one element as in the new one."""
    short, long = sorted((old, new), key=len)
    more = len(long) - len(short)
    if all(n == 1 for n in long[len(short) :]):  # a convolution of 1 x 1 and a dense layer
        return old + (1,) * more if len(old) < len(new) else old[: len(new)]
    if all(n == 1 for n in long[:more]):
        return (1,) * more + old if len(old) < len(new) else old[more:]
    raise _UnfitError(f"{told(old)} in the source, {told(new)} in the target")


def _grids(old: int, new: int, prefix: int | None, guesses: Sequence[int]) -> tuple[int, int, int] | None:
    """Sides of two square grids, and the rows before them."""
    for rows in guesses if prefix is None else [prefix]:
        sides = [int(max(n - rows, 0) ** 0.5 + 0.5) for n in (old, new)]
        if all(s > 0 and s * s + rows == n for s, n in zip(sides, (old, new), strict=True)):
            return sides[0], sides[1], rows
    return None


def _zeros(x: Array, own: Array) -> Array:
    return np.zeros_like(own)


def _unit(name: str) -> Change:
    """A layer that answers what it is given, with its bias, or norm (Net2Deeper)."""
    leaf = normalised(name).rpartition(".")[2]

    def change(_: Array, own: Array) -> Array:
        answer = np.zeros_like(own)
        if own.ndim >= 2:
            units = np.arange(len(own))
            answer[(units, units, *(n // 2 for n in own.shape[2:]))] = 1
        elif leaf in ("weight", "running_var"):
            answer[:] = 1 if leaf == "running_var" else np.sqrt(1 + 1e-5)
        return answer

    return change
