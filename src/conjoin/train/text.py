"""Fitting the features of columns of short text: a small vector per word, from tf-idf and a truncated SVD."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from conjoin.contracts import Column
from conjoin.graph.encoder import MOST_WORDS, Words

if TYPE_CHECKING:
    from conjoin.outputs import Array

VOCABULARY = 2000
"""At most so many words, the ones that stand in most rows."""
COMPONENTS = 16
"""At most so many numbers per word, ..."""
ROWS_PER_COMPONENT = 200
"""... and no more than one for so many rows, but two: few rows and many features make trees worse."""
LEAST = 3
"""A word that stands in fewer rows is left out."""
SPELLINGS = 8
"""At most so many spellings of a word are remembered, the most frequent ones."""
ROWS = 100_000
"""The vectors are fitted on at most so many rows."""
_EDGES = re.compile(r"^\W+|\W+$")


def fit_words(column: Column, values: Array, *, seed: int) -> Words | None:
    """Fit one column of text; None where no word stands in enough rows.

    values: (n,) object array of str, "" where missing.
    """
    given = values.tolist()
    if len(given) > ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(len(given), ROWS, replace=False))
        given = [given[k] for k in rows]
    split = [[w for w in v.split(" ") if w][: MOST_WORDS - 1] for v in given]
    spelled = Counter(w for words in split for w in words)
    stems = {w: _stem(w) for w in spelled}
    in_rows = Counter(s for words in split for s in {stems[w] for w in words})
    common = sorted((-k, s) for s, k in in_rows.items() if s and k >= LEAST)[:VOCABULARY]
    if not common:
        return None
    place = {s: k for k, (_, s) in enumerate(common)}
    rarity = np.log((1 + len(given)) / (1 + np.array([-k for k, _ in common]))) + 1
    matrix = _vectors(split, stems, place, rarity)
    words, rows_of = _spellings(spelled, stems, place)
    return Words(column, words, rows_of, matrix)


def _stem(word: str) -> str:
    return _EDGES.sub("", word.casefold())


def _spellings(
    spelled: Counter[str], stems: dict[str, str], place: dict[str, int]
) -> tuple[tuple[str, ...], Array]:
    taken: Counter[int] = Counter()
    found: list[tuple[str, int]] = []
    for word, _ in sorted(spelled.items(), key=lambda item: (-item[1], item[0])):
        k = place.get(stems[word])
        if k is not None and taken[k] < SPELLINGS:
            taken[k] += 1
            found.append((word, k))
    seen = {w for w, _ in found}
    found += [(s, k) for s, k in place.items() if s not in seen]
    found.sort()
    return tuple(w for w, _ in found), np.array([k for _, k in found], dtype=np.int64)


def _vectors(split: list[list[str]], stems: dict[str, str], place: dict[str, int], rarity: Array) -> Array:
    """(V, c) float32: the right singular vectors of the tf-idf matrix, each word times its rarity."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import svds

    cells = [
        (r, place[s], len(words))
        for r, words in enumerate(split)
        for s in map(stems.get, words)
        if s in place
    ]
    row, word, count = np.array(cells, dtype=np.int64).T
    table = csr_matrix((rarity[word] / np.sqrt(count), (row, word)), shape=(len(split), len(place)))
    c = min(COMPONENTS, max(2, len(split) // ROWS_PER_COMPONENT), min(table.shape) - 1)
    if c < 1:
        return rarity[:, None].astype(np.float32)
    start = np.ones(min(table.shape)) / np.sqrt(min(table.shape))
    _, sizes, axes = svds(table, k=c, v0=start)
    axes = axes[np.argsort(-sizes, kind="stable")]
    axes = axes * np.sign(axes[np.arange(c), np.abs(axes).argmax(axis=1)])[:, None]
    return np.ascontiguousarray((axes * rarity).T, dtype=np.float32)
