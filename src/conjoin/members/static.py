"""A table of word pieces as an embedding model: a text's vector is the mean of its pieces' vectors."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.contracts import Card, Column, Cost
from conjoin.errors import BundleError, InputError
from conjoin.members.answers import as_batch
from conjoin.members.columns import require
from conjoin.members.portable import card_from_json, card_to_json
from conjoin.outputs import Embeddings
from conjoin.tables import name_of

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json

INSIDE = "##"
"""What a piece inside a word begins with."""
LONGEST = 100
"""A word of more characters has no pieces."""
REMEMBERED = 100_000
"""Pieces of at most so many different words are looked up once for a call."""
_IDEOGRAPHS = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2FA1F), (0xF900, 0xFAFF))


def words_of(text: str, *, lower: bool = True) -> list[str]:
    """Words and signs of a text: parted at white space, at each sign and at each ideograph.

    lower: without case and accents. As BERT's basic tokenizer does it (Devlin et al. 2019, arXiv 1810.04805).

    >>> words_of("Hé, you!")
    ['he', ',', 'you', '!']
    """
    if lower:
        decomposed = unicodedata.normalize("NFD", text.lower())
        text = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    return "".join(_spread(text)).split()


def _spread(text: str) -> Iterator[str]:
    for c in text:
        code = ord(c)
        if c.isalnum():
            alone = code >= 0x3400 and any(a <= code <= b for a, b in _IDEOGRAPHS)
            yield f" {c} " if alone else c
        elif c.isspace():
            yield " "
        elif unicodedata.category(c)[0] in "PS":
            yield f" {c} "
        elif unicodedata.category(c)[0] != "C":
            yield c


def pieces_of(word: str, places: Mapping[str, int]) -> list[int]:
    """Places of the longest pieces that make the word, from its beginning; empty where none do.

    >>> pieces_of("unable", {"un": 0, "##able": 1, "##a": 2})
    [0, 1]
    """
    out: list[int] = []
    start = 0
    while start < len(word) <= LONGEST:
        head = INSIDE if start else ""
        for end in range(len(word), start, -1):
            if (place := places.get(head + word[start:end])) is not None:
                out.append(place)
                start = end
                break
        else:
            return []
    return out


@dataclass(frozen=True, eq=False)
class StaticEmbeddings:
    """A member of one column of text: the mean of the vectors of a text's pieces, scaled to length 1.

    tokens: V pieces, those inside a word begin with "##". vectors: (V, d) float32, with the weights of the
    pieces in them. lower: texts are read without case and accents. A text without a known piece is not
    answered (NaN). Made by `conjoin.transfer.distil.static_embeddings`.
    """

    card: Card
    tokens: tuple[str, ...]
    vectors: Array
    lower: bool = True

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.tokens):
            raise InputError(f"{len(self.tokens)} tokens need as many vectors, not {self.vectors.shape}")
        if len(self._places) != len(self.tokens):
            raise InputError("a token stands twice in the vocabulary")

    def predict(self, batch: Batch, /) -> Embeddings:
        """Embeddings (n, d) float32. Raises ColumnError where the column of text is missing."""
        batch = as_batch(batch)
        name = self.card.columns[0].name
        require(batch, [name])
        ids, counts = self.pieces([name_of(t) or "" for t in np.asarray(batch[name]).tolist()])
        sums = np.zeros((len(counts), self.vectors.shape[1]), np.float32)
        known = counts > 0
        if len(ids):
            starts = np.concatenate([[0], np.cumsum(counts[known])[:-1]])
            sums[known] = np.add.reduceat(self.vectors[ids], starts, axis=0)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        return Embeddings(sums / np.maximum(length, 1e-12), known)

    def pieces(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """Places of the pieces of all texts in a row, (t,), and how many each text has, (n,)."""
        found: dict[str, list[int]] = {}
        ids: list[int] = []
        counts = np.zeros(len(texts), np.int64)
        for row, text in enumerate(texts):
            before = len(ids)
            for word in words_of(text, lower=self.lower):
                if (known := found.get(word)) is None:
                    known = pieces_of(word, self._places)
                    if len(found) < REMEMBERED:
                        found[word] = known
                ids += known
            counts[row] = len(ids) - before
        return np.array(ids, np.int64), counts

    def named(self, name: str) -> StaticEmbeddings:
        """The same member under another name."""
        return replace(self, card=self.card.named(name))

    def children(self) -> Mapping[str, Storable]:
        """No parts inside."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The vectors, the tokens and the card."""
        meta: dict[str, Any] = {"tokens": list(self.tokens), "lower": self.lower}
        return {"vectors": self.vectors}, {"card": card_to_json(self.card), **meta}

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError where the parts do not fit together."""
        card = card_from_json(meta.get("card"))
        tokens, vectors = meta.get("tokens"), arrays.get("vectors")
        if not isinstance(tokens, list) or not all(isinstance(t, str) for t in tokens) or vectors is None:
            raise BundleError("packed static embeddings lack their tokens or vectors")
        if len(card.columns) != 1 or vectors.dtype != np.float32:
            raise BundleError("packed static embeddings read one column and hold float32")
        try:
            return cls(card, tuple(str(t) for t in tokens), vectors, bool(meta.get("lower")))
        except InputError as error:
            raise BundleError(f"packed static embeddings do not make sense: {error}") from error

    @cached_property
    def _places(self) -> dict[str, int]:
        return {t: k for k, t in enumerate(self.tokens)}


def static_member(
    name: str, column: str, tokens: Sequence[str], vectors: Array, *, lower: bool = True
) -> StaticEmbeddings:
    """A member with a card of its own; see `StaticEmbeddings`."""
    table = np.ascontiguousarray(vectors, np.float32)
    card = Card(name, "embeddings", (Column(column, "text"),), cost=Cost(bytes=table.nbytes))
    return StaticEmbeddings(card, tuple(tokens), table, lower)
