"""The shape of trees as one bit per node: all nodes in preorder (node, left branch, right branch)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from conjoin.outputs import Array


def preorder(left: Array, right: Array, roots: Array) -> Array:
    """The nodes of all trees in preorder, tree after tree: (N,) indices.

    left, right: (N,) index of the child among all nodes, -1 for a leaf; roots: (T,).

    >>> preorder(np.array([2, -1, -1]), np.array([1, -1, -1]), np.array([0])).tolist()
    [0, 2, 1]
    """
    levels, level = [], np.asarray(roots, dtype=np.int64)
    while len(level):
        levels.append(level)
        inner = level[left[level] >= 0]
        level = np.concatenate([left[inner], right[inner]])
    size = np.ones(len(left), dtype=np.int64)
    for level in reversed(levels):
        inner = level[left[level] >= 0]
        size[inner] += size[left[inner]] + size[right[inner]]
    at = np.zeros(len(left), dtype=np.int64)
    at[roots] = np.concatenate([[0], np.cumsum(size[roots])[:-1]]) if len(roots) else 0
    for level in levels:
        inner = level[left[level] >= 0]
        at[left[inner]] = at[inner] + 1
        at[right[inner]] = at[inner] + 1 + size[left[inner]]
    kept = np.concatenate([*levels, np.zeros(0, dtype=np.int64)])
    order = np.empty(len(kept), dtype=np.int64)
    order[at[kept]] = kept
    return order


def tree_starts(leaf: Array) -> Array:
    """(T + 1,) where each tree begins, and the number of nodes. leaf: (N,) bool, in preorder.

    The last entry is less than N where the bits break off within a tree.

    >>> tree_starts(np.array([False, True, True, True])).tolist()
    [0, 3, 4]
    """
    height = np.cumsum(np.where(leaf, -1, 1))
    lowest = np.minimum.accumulate(np.concatenate([[0], height]))
    return np.concatenate([[0], np.flatnonzero(np.diff(lowest) < 0) + 1])


def right_children(leaf: Array) -> Array:
    """(I,) the index of the right child of each inner node; the left child is the node that follows.

    >>> right_children(np.array([False, False, True, True, True])).tolist()
    [4, 3]
    """
    n = len(leaf)
    height = np.cumsum(np.where(leaf, -1, 1))
    height -= height.min(initial=0)  # the left branch of i ends where the height first falls below that of i
    order = np.argsort(height.astype(np.uint16) if height.max(initial=0) < 65536 else height, kind="stable")
    keys = height[order] * n + order
    inner = np.flatnonzero(~leaf)
    ends = order[np.searchsorted(keys, (height[inner] - 1) * n + inner + 1)]
    return cast("Array", ends + 1)


def rounded_down(threshold: Array, *, strict: bool = False, wide: bool = False) -> Array:
    """The largest float32 that is <= each threshold (< where strict), so that `x <= it` decides alike.

    wide: the largest float64, for rows in float64.

    >>> rounded_down(np.array([0.1, 1.0])) <= np.array([0.1, 1.0])
    array([ True,  True])
    """
    exact = np.asarray(threshold, dtype=np.float64)
    if wide:
        return np.nextafter(exact, -np.inf) if strict else exact
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
        below = np.nextafter(near, np.float32(-np.inf))
    above = near.astype(np.float64) >= exact if strict else near.astype(np.float64) > exact
    return np.where(above, below, near).astype(np.float32)
