"""Tensors that must change their shape to fit: input channels, positions, classes, tokens, widths.

Every function takes float arrays and returns a new array; nothing is changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError, listed

if TYPE_CHECKING:
    from conjoin.outputs import Array


def input_channels(weight: Array, channels: int) -> Array:
    """The first layer's weights (out, in, ...) for another count of input channels.

    One channel: the sum over the old ones, so that a grey picture answers as its copy in every channel.
    More, or fewer: the old ones in turn, times in / channels, so that equal channels give the same sum
    where channels is a multiple of in. The rule of timm (`adapt_input_conv`) for any old count.

    >>> input_channels(np.ones((1, 3)), 1)
    array([[3.]])
    >>> input_channels(np.ones((1, 3)), 6)
    array([[0.5, 0.5, 0.5, 0.5, 0.5, 0.5]])
    """
    if weight.ndim < 2 or not weight.shape[1] or channels < 1:
        raise InputError(f"weights {weight.shape} cannot take {channels} input channels")
    old = weight.shape[1]
    if channels == old:
        return weight.copy()
    if channels == 1:
        answer: Array = weight.sum(axis=1, keepdims=True, dtype=np.float64)
    else:
        answer = np.take(weight, np.arange(channels) % old, axis=1) * (old / channels)
    return answer.astype(weight.dtype)


def positions(table: Array, length: int) -> Array:
    """A table of position embeddings (old, dim) at another length, by linear interpolation.

    Position i stands at (i + 1/2) / length of the sequence; a triangle as wide as the step where the table
    gets shorter (antialias). Equal to torch's `interpolate` of mode "linear" where it gets longer.

    >>> positions(np.array([[0.0], [1.0]]), 4).ravel()
    array([0.  , 0.25, 0.75, 1.  ])
    """
    _check_table(table, length)
    return (_resizing(len(table), length, cubic=False) @ table).astype(table.dtype)


def grid_positions(table: Array, old: tuple[int, int], new: tuple[int, int], prefix: int = 0) -> Array:
    """Position embeddings (prefix + height * width, dim) of a grid, at another height and width.

    Bicubic interpolation (Keys 1981, a = -1/2) with antialias, as timm's `resample_abs_pos_embed`. The first
    `prefix` rows (class tokens) are carried.

    >>> grid_positions(np.ones((5, 2)), (2, 2), (3, 3), prefix=1).shape
    (10, 2)
    """
    if min(*new, *old) < 1 or prefix < 0 or table.ndim != 2 or len(table) != prefix + old[0] * old[1]:
        raise InputError(f"a table {table.shape} is no grid {old} after {prefix} rows, to be made {new}")
    tall, wide = (_resizing(o, n, cubic=True) for o, n in zip(old, new, strict=True))
    grid = table[prefix:].reshape(*old, -1)
    resized = np.einsum("yh,xw,hwd->yxd", tall, wide, grid, optimize=True)
    return np.concatenate([table[:prefix], resized.reshape(new[0] * new[1], -1)]).astype(table.dtype)


def _check_table(table: Array, rows: int) -> None:
    if table.ndim != 2 or not len(table) or rows < 1:
        raise InputError(f"a table must be (rows, dim) with rows, not {table.shape}; asked for {rows} rows")


def _resizing(old: int, new: int, *, cubic: bool) -> Array:
    """The matrix (new, old) that interpolates along one axis; its rows sum to 1."""
    scale = old / new
    wide = max(scale, 1.0)
    support = (2.0 if cubic else 1.0) * wide
    centres = scale * (np.arange(new) + 0.5)
    first = np.maximum((centres - support + 0.5).astype(int), 0)[:, None]
    last = np.minimum((centres + support + 0.5).astype(int), old)[:, None]
    taps = np.arange(old)
    far = np.abs(taps + 0.5 - centres[:, None]) / wide
    if cubic:
        near = (1.5 * far - 2.5) * far * far + 1
        outer = ((-0.5 * far + 2.5) * far - 4) * far + 2
        weights = np.where(far < 1, near, np.where(far < 2, outer, 0.0))
    else:
        weights = np.maximum(1 - far, 0)
    weights = np.where((taps >= first) & (taps < last), weights, 0.0)
    answer: Array = weights / weights.sum(axis=1, keepdims=True)
    return answer


def classifier(rows: Array, classes: Sequence[str], fresh: Array, wanted: Sequence[str]) -> Array:
    """Rows of a classifier (classes, ...) for other classes, or another order of them.

    rows: of the source, a row for each of `classes`; weights or bias. fresh: of the target, a row for each of
    `wanted`; it gives the rows of classes that the source does not know. Classes meet by name. Raises
    InputError where no class is shared.

    >>> classifier(np.array([1.0, 2.0]), ["cat", "dog"], np.zeros(3), ["dog", "emu", "cat"])
    array([2., 0., 1.])
    """
    for what, array, names in (("source", rows, classes), ("target", fresh, wanted)):
        if array.ndim < 1 or len(array) != len(names) or len(set(names)) != len(names):
            raise InputError(
                f"{what}: a classifier {array.shape} and {len(names)} classes: one name a row, once"
            )
    if rows.shape[1:] != fresh.shape[1:]:
        raise InputError(f"the source's rows are {rows.shape[1:]}, the target's {fresh.shape[1:]}")
    at = {name: i for i, name in enumerate(classes)}
    shared = [(j, at[name]) for j, name in enumerate(wanted) if name in at]
    if not shared:
        raise InputError(f"no class in common: {listed(classes, 5)} against {listed(wanted, 5)}")
    answer = fresh.copy()
    new, old = map(list, zip(*shared, strict=True))
    answer[new] = rows[old]
    return answer


def token_embeddings(
    table: Array,
    tokens: Mapping[str, int],
    wanted: Mapping[str, int],
    *,
    pieces: Mapping[str, Sequence[str]] | None = None,
    rows: int | None = None,
    fresh: Array | None = None,
) -> Array:
    """An embedding table (old rows, dim) for another tokenizer's vocabulary.

    tokens, wanted: token -> row, of the source and of the target. A token of both carries its row. Another
    one gets the mean of its `pieces` (the source's tokens that spell it) where given and known, else the mean
    of the rows of all the source's tokens, or its row of `fresh` (rows, dim) where that is given. rows:
    of the answer, where it is padded past the last token; padding is as an unknown token. Raises
    InputError where no token is shared.

    >>> t = np.array([[1.0], [3.0]])
    >>> token_embeddings(t, {"a": 0, "b": 1}, {"b": 0, "ab": 1}, pieces={"ab": ["a", "b"]}).ravel()
    array([3., 2.])
    """
    _check_table(table, 1)
    count = max(wanted.values(), default=-1) + 1 if rows is None else rows
    _check_rows(tokens, len(table), "source")
    _check_rows(wanted, count, "target")
    if not tokens.keys() & wanted.keys():
        raise InputError(f"no token in common: {listed(tokens, 5)} against {listed(wanted, 5)}")
    known = table[sorted(set(tokens.values()))]
    answer = np.empty((count, table.shape[1]), table.dtype)
    answer[:] = known.mean(axis=0, dtype=np.float64) if fresh is None else fresh
    for token, row in wanted.items():
        if token in tokens:
            answer[row] = table[tokens[token]]
        elif spelled := [tokens[p] for p in (pieces or {}).get(token, ()) if p in tokens]:
            answer[row] = table[spelled].mean(axis=0, dtype=np.float64)
    return answer


def _check_rows(tokens: Mapping[str, int], count: int, side: str) -> None:
    for token, row in tokens.items():
        if not 0 <= row < count:
            raise InputError(f"{side}: token {token!r} has row {row}, and the table {count} rows")


def widths(weight: Array, changes: Sequence[tuple[int, Array, bool]]) -> Array:
    """Weights with other units at some axes.

    changes: axis, the old unit for each new one, and whether the axis is summed over: there a unit that
    stands c times is divided by c, so that in the layers before and after the function stays (Net2Net, Chen
    et al. 2016, arXiv 1511.05641).

    >>> widths(np.array([[1.0, 2.0]]), [(0, np.array([0, 0]), False), (1, np.array([0, 1, 0]), True)])
    array([[0.5, 2. , 0.5],
           [0.5, 2. , 0.5]])
    """
    answer = weight
    for axis, units, summed in changes:
        answer = np.take(answer, units, axis=axis)
        counts = np.bincount(units)[units]
        if summed and counts.max(initial=1) > 1:
            answer = answer / counts.reshape(-1, *[1] * (weight.ndim - axis - 1))
    return answer.astype(weight.dtype, copy=False)


def repeated(old: int, new: int, parts: int = 1) -> Array:
    """Units of a grown axis: unit j is the old unit j mod old, in each of equal parts.

    It depends on the sizes alone, so layers that share a width agree, skips, heads and flattened channels
    too.

    >>> repeated(2, 5), repeated(4, 8, parts=2)
    (array([0, 1, 0, 1, 0]), array([0, 1, 0, 1, 2, 3, 2, 3]))
    """
    inner = np.arange(new // parts) % (old // parts)
    return np.concatenate([inner + i * (old // parts) for i in range(parts)])


def cropped(weight: Array, fresh: Array) -> Array:
    """The part that both shapes have, from the first corner; the rest is the target's own.

    >>> cropped(np.ones((1, 2)), np.zeros((2, 2)))
    array([[1., 1.],
           [0., 0.]])
    """
    answer = fresh.copy()
    both = tuple(slice(0, min(a, b)) for a, b in zip(weight.shape, fresh.shape, strict=True))
    answer[both] = weight[both]
    return answer
