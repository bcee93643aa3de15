"""Patterns: the distinct tuples of labels that members gave to the pixels of an image, and how often.

EM and votes over patterns give the same numbers as over pixels. There are 2^M patterns at most, mostly far
fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from conjoin.kernels import masks as kernels
from conjoin.outputs import Array

MOST = 1 << 16
"""Codes that fit in 16 bits; more are told apart by a hash table."""


@dataclass(frozen=True, slots=True, eq=False)
class Patterns:
    """labels (P, M) int64: the label of each member in each pattern; counts (P,) int64: its pixels.

    codes (V,): the code of each pixel; slots (P,): the code of each pattern; size: codes lie below it.
    """

    labels: Array
    counts: Array
    codes: Array
    slots: Array
    size: int

    def spread(self, values: Array) -> Array:
        """(V,) float64: the value of each pixel's pattern. values (P,)."""
        table = np.zeros(self.size)
        table[self.slots] = values
        if self.codes.dtype != np.uint16:
            return cast(Array, table[self.codes])
        out = np.empty(len(self.codes))
        kernels.look_up(self.codes, table, out)
        return out

    def spread_labels(self, labels: Array) -> Array:
        """(V,) the label of each pixel's pattern, in the smallest dtype that holds them. labels (P,)."""
        most = int(labels.max(initial=0))
        kind = np.uint8 if most < 256 else np.uint16 if most < MOST else np.int64
        table = np.zeros(self.size, dtype=kind)
        table[self.slots] = labels
        if self.codes.dtype != np.uint16 or kind is not np.uint8:
            return cast(Array, table[self.codes])
        out = np.empty(len(self.codes), dtype=np.uint8)
        kernels.look_up_labels(self.codes, table, out)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class _Digit:
    """What a member adds to the codes: codes * base + values, or + table[values]. values (V,) uint8."""

    member: int
    values: Array
    base: int
    table: Array | None = None


def binary_patterns(images: Sequence[Array], foreground: int) -> Patterns:
    """Patterns of 0 and 1, where 1 is this label. images: M arrays (V,) of labels."""
    digits = [_Digit(m, (i == foreground).view(np.uint8), 2) for m, i in enumerate(images)]
    return _patterns(digits, len(images), np.arange(2))


def label_patterns(images: Sequence[Array]) -> Patterns:
    """Patterns of labels. images: M arrays (V,) of whole numbers that are not negative."""
    if not all(i.dtype == np.uint8 for i in images):
        return _wide_patterns(images)
    present = np.zeros(256, dtype=np.uint8)
    for image in images:
        kernels.mark_present(image, present)
    known = np.flatnonzero(present)
    table = np.zeros(256, dtype=np.uint16)
    table[known] = np.arange(len(known))
    base = max(len(known), 1)
    kept = None if (table[known] == known).all() else table
    return _patterns([_Digit(m, i, base, kept) for m, i in enumerate(images)], len(images), known)


def _wide_patterns(images: Sequence[Array]) -> Patterns:
    """Labels beyond 255: two digits a member where there are more than 256 different ones."""
    known = np.unique(np.concatenate([np.unique(i) for i in images])).astype(np.int64)
    digits = []
    for m, image in enumerate(images):
        dense = np.searchsorted(known, image)
        low = (dense & 255).astype(np.uint8)
        if len(known) > 256:
            digits.append(_Digit(m, (dense >> 8).astype(np.uint8), (len(known) >> 8) + 1))
        digits.append(_Digit(m, low, 256 if len(known) > 256 else max(len(known), 1)))
    return _patterns(digits, len(images), known)


def _patterns(digits: Sequence[_Digit], members: int, known: Array) -> Patterns:
    """known: the labels that the members' digits count."""
    groups: list[list[_Digit]] = []
    size = MOST + 1
    for digit in digits:
        if size * digit.base > MOST:
            groups.append([])
            size = 1
        groups[-1].append(digit)
        size *= digit.base
    coded = [_codes(group) for group in groups]
    if len(coded) == 1:
        codes, size = coded[0]
        counts = _histogram(codes, size)
        slots = np.flatnonzero(counts)
        return Patterns(known[_dense(groups, [slots], members)], counts[slots], codes, slots, size)
    ids, counts, first = _refined(coded)
    dense = _dense(groups, [c[first] for c, _ in coded], members)
    return Patterns(known[dense], counts, ids, np.arange(len(counts)), max(len(counts), 1))


def _codes(group: Sequence[_Digit]) -> tuple[Array, int]:
    codes = np.zeros(len(group[0].values), dtype=np.uint16)
    size = 1
    for digit in group:
        values = np.ascontiguousarray(digit.values)
        if digit.table is None:
            kernels.add_digit(codes, values, digit.base)
        else:
            kernels.add_mapped_digit(codes, values, digit.table, digit.base)
        size *= digit.base
    return codes, size


def _histogram(codes: Array, size: int) -> Array:
    counts = np.zeros((4, size), dtype=np.int64)
    kernels.count_codes(codes, counts)
    return cast(Array, counts.sum(axis=0))


def _dense(groups: Sequence[Sequence[_Digit]], codes: Sequence[Array], members: int) -> Array:
    """(P, M): the members' labels, counted from 0, that these codes of each group stand for."""
    out = np.zeros((len(codes[0]), members), dtype=np.int64)
    scale = np.ones(members, dtype=np.int64)
    for group, rest in zip(reversed(groups), reversed([c.astype(np.int64) for c in codes]), strict=True):
        for digit in reversed(group):
            out[:, digit.member] += rest % digit.base * scale[digit.member]
            scale[digit.member] *= digit.base
            rest = rest // digit.base
    return out


def _refined(coded: Sequence[tuple[Array, int]]) -> tuple[Array, Array, Array]:
    """Ids (V,) of the tuples of several groups' codes, the pixels of each, and one pixel of each."""
    pixels = len(coded[0][0])
    ids, first, count = np.zeros(pixels, dtype=np.int64), np.zeros(pixels, dtype=np.int64), 1
    for codes, size in coded:
        slots = 1 << (2 * max(min(pixels, count * size), 1)).bit_length()
        count = kernels.refine(
            ids, codes, size, np.full(slots, -1, dtype=np.int64), np.zeros(slots, dtype=np.int64), first
        )
    return ids, np.bincount(ids, minlength=count), first[:count]
