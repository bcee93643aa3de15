"""An embedding model becomes a table: each piece of a vocabulary is embedded once, and a text is the mean of
its pieces. Hundreds of times faster; what is lost is the order of words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import InputError, listed, need
from conjoin.members.static import INSIDE, StaticEmbeddings, static_member, words_of
from conjoin.outputs import Embeddings

if TYPE_CHECKING:
    from conjoin.contracts import Member
    from conjoin.outputs import Array

SIF = 1e-4
"""The a of smooth inverse frequency, a / (a + p)."""
ROWS = 512
"""So many texts are handed to the teacher at once."""
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Penalties among which `refined` chooses on texts that it left out."""


def static_embeddings(
    teacher: Member[Any],
    vocabulary: Sequence[str] | None = None,
    *,
    texts: Sequence[str] = (),
    size: int = 256,
    words: int = 30_000,
    lower: bool = True,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
) -> StaticEmbeddings:
    """Distil a member of kind embeddings that reads one column of text into a table of pieces.

    Each piece is embedded by the teacher, the vectors are brought to `size` principal components, and
    weighted by smooth inverse frequency a / (a + p) (Arora et al. 2017). With texts, the table then learns to
    say of them what the teacher says (`refined`); without, p follows Zipf's law over the places in the
    vocabulary, as in model2vec.

    vocabulary: pieces, frequent ones first; "##" before those inside words (a WordPiece vocabulary); names
    in brackets such as [CLS] are left out. None takes the `words` most frequent words of `texts` and their
    letters. report: called with (rows done, rows) while the teacher answers.

    Raises InputError where the teacher does not embed one column of text, or there is no vocabulary.
    """
    card = teacher.card
    if card.kind != "embeddings" or len(card.columns) != 1:
        raise InputError(
            f"a static table is distilled from a member that embeds one column of text; {card.name!r} "
            f"answers {card.kind} of the columns {listed(c.name for c in card.columns) or '(not told)'}"
        )
    counts = Counter(w for t in texts for w in words_of(t, lower=lower))
    tokens = _tokens(vocabulary, counts, words)
    if size < 1:
        raise InputError(f"size must be at least 1, not {size}")
    if not tokens:
        raise InputError("there is no vocabulary: give one, or texts whose words are taken")
    column, everything = card.columns[0].name, len(tokens) + len(texts)
    said = _asked(teacher, column, [t.removeprefix(INSIDE) for t in tokens], 0, everything, report)
    vectors, axes = _components(said, size)
    name = f"{card.name} as a table"
    vectors = vectors * _rarity(tokens, counts, lower)[:, None]
    table = static_member(name, column, tokens, vectors, lower=lower)
    if not texts:
        return table
    wanted = _asked(teacher, column, list(texts), len(tokens), everything, report)
    return static_member(name, column, tokens, refined(table, texts, wanted @ axes, seed=seed), lower=lower)


def _tokens(vocabulary: Sequence[str] | None, counts: Counter[str], words: int) -> tuple[str, ...]:
    if vocabulary is not None:
        real = (str(t) for t in vocabulary if t and not (t[0] == "[" and t[-1] == "]" and len(t) > 2))
        return tuple(dict.fromkeys(real))
    common = [w for w, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:words]]
    letters = sorted({c for w in common for c in w})
    return tuple(dict.fromkeys([*common, *letters, *(INSIDE + c for c in letters)]))


def _asked(
    teacher: Member[Any],
    column: str,
    texts: Sequence[str],
    done: int,
    everything: int,
    report: Callable[[int, int], None] | None,
) -> Array:
    """(n, D) float64: what the teacher says, scaled to length 1; 0 where it does not answer."""
    parts = []
    order = sorted(range(len(texts)), key=lambda k: len(texts[k]))
    for start in range(0, len(texts), ROWS):
        some = np.empty(min(ROWS, len(texts) - start), dtype=object)
        some[:] = [texts[k] for k in order[start : start + ROWS]]
        out = teacher.predict({column: some})
        if not isinstance(out, Embeddings) or out.values.ndim != 2 or len(out) != len(some):
            raise InputError(f"{teacher.card.name!r} did not answer one vector for each text")
        parts.append(np.where(out.answered[:, None], out.values, 0.0).astype(np.float64))
        if report is not None:
            report(done + start + len(some), everything)
    joined = np.concatenate(parts)
    back = np.empty(len(texts), np.int64)
    back[order] = np.arange(len(texts))
    length = np.linalg.norm(joined, axis=1, keepdims=True)
    return np.asarray((joined / np.maximum(length, 1e-12))[back])


def _components(x: Array, size: int) -> tuple[Array, Array]:
    """(n, min(size, D)) principal components of the rows, and their axes (D, size)."""
    mean = x.mean(axis=0)
    values, axes = np.linalg.eigh((x - mean).T @ (x - mean))
    axes = axes[:, np.argsort(-values, kind="stable")][:, :size]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return (x - mean) @ axes, axes


def _rarity(tokens: Sequence[str], counts: Counter[str], lower: bool) -> Array:
    """a / (a + p) of each token, p from the words of the texts, or by Zipf's law over the places."""
    if counts:
        p = np.array([counts.get(t, 0) for t in tokens], float) + 0.5
    else:
        p = 1 / np.arange(2, len(tokens) + 2)
    return np.asarray(SIF / (SIF + p / p.sum()))


def refined(table: StaticEmbeddings, texts: Sequence[str], wanted: Array, *, seed: int = 0) -> Array:
    """(V, d): the table's vectors moved so that the mean of a text's pieces is what the teacher says of it.

    Ridge regression towards the table as it is: min |M (S + X) - Y|^2 + penalty |X|^2, M (n, V) the texts'
    shares of pieces, S the table at the scale that fits best, Y wanted (n, d). The penalty is chosen by the
    mean cosine on a tenth of the texts; where none of them helps there, the table stays.
    """
    sparse = need("scipy.sparse")
    ids, counts = table.pieces(texts)
    rows = np.repeat(np.arange(len(texts)), counts)
    shares = sparse.csr_matrix(
        (1 / np.maximum(counts, 1)[rows], (rows, ids)), shape=(len(texts), len(table.tokens))
    )
    start = table.vectors.astype(np.float64)
    said = shares @ start
    start *= (said * wanted).sum() / max((said * said).sum(), 1e-12)
    held = np.random.default_rng(seed).random(len(texts)) < 0.1
    if not held.any() or held.all():
        return table.vectors
    trials = [(_likeness(shares[held] @ start, wanted[held]), 0.0)]
    for ridge in RIDGES:
        moved = start + _ridge(shares[~held], wanted[~held] - shares[~held] @ start, ridge)
        trials.append((_likeness(shares[held] @ moved, wanted[held]), ridge))
    best = max(trials)[1]
    return start + _ridge(shares, wanted - shares @ start, best) if best else start


def _likeness(a: Array, b: Array) -> float:
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.maximum(sizes, 1e-12)).mean())


def _ridge(shares: Any, gap: Array, ridge: float, steps: int = 60) -> Array:
    """(V, d) of least |M X - gap|^2 + ridge |X|^2, by conjugate gradients for all columns at once."""
    residual = shares.T @ gap
    x, direction = np.zeros_like(residual), residual.copy()
    size = (residual * residual).sum(axis=0)
    for _ in range(steps):
        applied = shares.T @ (shares @ direction) + ridge * direction
        step = size / np.maximum((direction * applied).sum(axis=0), 1e-300)
        x += step * direction
        residual -= step * applied
        after = (residual * residual).sum(axis=0)
        direction = residual + direction * (after / np.maximum(size, 1e-300))
        size = after
    return np.asarray(x)
