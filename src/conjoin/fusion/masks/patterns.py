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


def binary_patterns(images: Sequence[Array], foreground: int) -> Patterns:
    """Patterns of 0 and 1, where 1 is this label. images: M arrays (V,) of labels."""
    inside = [(i == foreground).view(np.uint8) for i in images]
    same, each = np.arange(256, dtype=np.uint16), len(images)
    return _patterns([[d] for d in inside], [[same]] * each, [[2]] * each, np.arange(2))


def label_patterns(images: Sequence[Array]) -> Patterns:
    """Patterns of labels. images: M arrays (V,) of whole numbers that are not negative."""
    if all(i.dtype == np.uint8 for i in images):
        present = np.zeros(256, dtype=np.uint8)
        for image in images:
            kernels.mark_present(image, present)
        known = np.flatnonzero(present)
        table = np.zeros(256, dtype=np.uint16)
        table[known] = np.arange(len(known))
        base = max(len(known), 1)
        each = len(images)
        return _patterns([[i] for i in images], [[table]] * each, [[base]] * each, known)
    known = np.unique(np.concatenate([np.unique(i) for i in images])).astype(np.int64)
    split = len(known) > 256
    digits, tables, bases = [], [], []
    same = np.arange(256, dtype=np.uint16)
    for image in images:
        dense = np.searchsorted(known, image)
        low = (dense & 255).astype(np.uint8)
        digits.append([(dense >> 8).astype(np.uint8), low] if split else [low])
        tables.append([same, same] if split else [same])
        bases.append([(len(known) >> 8) + 1, 256] if split else [max(len(known), 1)])
    return _patterns(digits, tables, bases, known)


def _patterns(
    digits: Sequence[Sequence[Array]],
    tables: Sequence[Sequence[Array]],
    bases: Sequence[Sequence[int]],
    known: Array,
) -> Patterns:
    """digits: of each member one or two arrays (V,) uint8; their tables and bases; the labels they count."""
    flat = [
        (m, d, t, b)
        for m in range(len(digits))
        for d, t, b in zip(digits[m], tables[m], bases[m], strict=True)
    ]
    groups: list[list[tuple[int, Array, Array, int]]] = []
    size = MOST + 1
    for item in flat:
        if size * item[3] > MOST:
            groups.append([])
            size = 1
        groups[-1].append(item)
        size *= item[3]
    coded = [_codes(group) for group in groups]
    if len(coded) == 1:
        codes, size = coded[0]
        counts = _histogram(codes, size)
        slots = np.flatnonzero(counts)
        dense = _dense(groups, [slots], len(digits))
        return Patterns(known[dense], counts[slots], codes, slots, size)
    ids, counts, first = _refined(coded)
    dense = _dense(groups, [c[first] for c, _ in coded], len(digits))
    return Patterns(known[dense], counts, ids, np.arange(len(counts)), max(len(counts), 1))


def _codes(group: Sequence[tuple[int, Array, Array, int]]) -> tuple[Array, int]:
    codes = np.zeros(len(group[0][1]), dtype=np.uint16)
    size = 1
    for _, digits, table, base in group:
        kernels.add_digit(codes, np.ascontiguousarray(digits), table, base)
        size *= base
    return codes, size


def _histogram(codes: Array, size: int) -> Array:
    counts = np.zeros((4, size), dtype=np.int64)
    kernels.count_codes(codes, counts)
    return cast(Array, counts.sum(axis=0))


def _dense(
    groups: Sequence[Sequence[tuple[int, Array, Array, int]]], codes: Sequence[Array], members: int
) -> Array:
    """(P, M): the members' labels, counted from 0, that these codes of each group stand for."""
    out = np.zeros((len(codes[0]), members), dtype=np.int64)
    scale = np.ones(members, dtype=np.int64)
    for group, rest in zip(reversed(groups), reversed([c.astype(np.int64) for c in codes]), strict=True):
        for m, _, _, base in reversed(group):
            out[:, m] += rest % base * scale[m]
            scale[m] *= base
            rest = rest // base
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
