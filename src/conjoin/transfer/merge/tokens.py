"""One vocabulary for all models of a recipe.

The vocabulary is the base's, another model's, or the union of all: the base's tokens keep their ids, and
those of others come after. Each model is then seen with its rows in the order of that vocabulary. The row of
a token that a model lacks is, as in mergekit: that of the only model that has it; else the base's; else the
mean of those that have it; zeros where nobody has. The recipe may say otherwise for a token.

Rows that no token uses stay, from the model itself where it does not use them either, else from the model of
the vocabulary; with `pad_to_multiple_of` the rows after the last token are the mean of all before them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import FileError, listed, nearest
from conjoin.transfer.checkpoints import Weights
from conjoin.transfer.checkpoints.dtypes import FLOATS, wider
from conjoin.transfer.merge.adapters import Adapted
from conjoin.transfer.merge.parts import Recipe
from conjoin.transfer.merge.rows import Retokened, Rows, looks_like_tokens, token_tensors
from conjoin.transfer.merge.vocabulary import (
    JSON,
    PIECES,
    VOCAB,
    WORDS,
    Vocabulary,
    plain,
    read_bytes,
    read_vocabulary,
)
from conjoin.transfer.merge.wanted import BASE, UNION, Row, Wanted

if TYPE_CHECKING:
    from conjoin.outputs import Array


TOKENIZER = "the tokenizer of"


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Models with one vocabulary. inputs: the models. home: the model whose tokenizer and ids the answer has.
    vocabulary: of the answer; None is that of `home`, as it is. rows: of the embedding, where it is changed.
    """

    inputs: tuple[Weights, ...]
    home: int = 0
    vocabulary: Vocabulary | None = None
    rows: int | None = None
    notes: tuple[str, ...] = ()


def join_tokens(
    recipe: Recipe, names: Sequence[str], inputs: Sequence[Weights], scratch: Path | None = None
) -> Joined:
    """The models of a recipe, brought to the vocabulary that it wants; as they are where it wants none.

    Raises InputError with the line, where a tokenizer is missing or cannot be read, a token or a model is not
    there, or an id is out of range.
    """
    if recipe.tokens is None:
        return Joined(tuple(inputs), rows=_grown(inputs[0]))
    return _Joiner(recipe, recipe.tokens, names, inputs).join(scratch)


def folder_of(path: Path) -> Path:
    """The folder in which a model's other files lie."""
    return path if path.is_dir() else path.parent


def tokenizer_folder(model: Weights) -> Path:
    """The folder of a model's tokenizer: its adapter's, where that changed the number of rows and has one."""
    inner = model.inner if isinstance(model, Retokened) else model
    if isinstance(inner, Adapted) and _grown(inner) is not None:
        own = inner.config.parent
        if any((own / name).is_file() for name in (JSON, VOCAB, WORDS)):
            return own
    return folder_of(model.path)


def _grown(model: Weights) -> int | None:
    """The rows of the embedding of a model whose adapter changed their number, else None."""
    if not isinstance(model, Adapted):
        return None
    rows = next(iter(token_tensors(model).values()), None)
    return None if rows == next(iter(token_tensors(model.base).values()), None) else rows


class _Joiner:
    """Holds what each step looks up."""

    def __init__(
        self, recipe: Recipe, wanted: Wanted, names: Sequence[str], inputs: Sequence[Weights]
    ) -> None:
        self.recipe, self.wanted, self.names, self.inputs = recipe, wanted, names, inputs
        self.number = {name: i for i, name in enumerate(names)}
        self.notes: list[str] = []
        self.home = 0
        if wanted.source not in (BASE, UNION):
            self.home = self.model(wanted.source, TOKENIZER, wanted.line)
        self.folders = [tokenizer_folder(m) for m in inputs]
        self.tensors = [token_tensors(m, rows_of(folder_of(m.path))) for m in inputs]

    def model(self, name: str, what: str, line: int) -> int:
        if name not in self.number:
            hint = nearest(name, (*self.names, *((BASE, UNION) if what == TOKENIZER else ())))
            self.recipe.refuse(f"{what} {name!r}: it is no model of this recipe{hint}", line)
        return self.number[name]

    def join(self, scratch: Path | None) -> Joined:
        read = [self.read(f) for f in self.folders]
        if read[self.home] is None and self.alike():
            self.notes.append("the tokenizers are the same, byte by byte; nothing is changed")
            return Joined(tuple(self.inputs), self.home, notes=tuple(self.notes))
        vocabularies = [self.known(i, read) for i in range(len(read))]
        # the tokens of each model that have rows; others cannot be merged
        kept = [self.with_rows(i, v) for i, v in enumerate(vocabularies)]
        out = kept[self.home]
        if self.wanted.source == UNION:
            out = self.union(kept)
        new = [t for t in self.wanted.rows if t not in out.ids]
        out = out.with_added(plain(t) for t in new)
        count = self.count(out)
        self.note_lost(out, kept, count)
        views = self.views(out, [v.ids for v in kept], count)
        inputs = tuple(
            Retokened(m.path, m, rows, self.inputs, scratch) if rows else m
            for m, rows in zip(self.inputs, views, strict=True)
        )
        return Joined(inputs, self.home, out, count, tuple(self.notes))

    def read(self, folder: Path) -> Vocabulary | None:
        try:
            return read_vocabulary(folder)
        except FileError as error:
            self.recipe.refuse(str(error), self.wanted.line)

    def alike(self) -> bool:
        """Whether all models have one tokenizer of sentencepiece, and nothing is to change."""
        found = [_pieces(f) for f in self.folders]
        sizes = {next(iter(t.values()), None) for t in self.tensors}
        plain_ = not self.wanted.rows and self.wanted.multiple is None
        return plain_ and len(sizes) == 1 and found[0] is not None and all(f == found[0] for f in found)

    def known(self, model: int, read: Sequence[Vocabulary | None]) -> Vocabulary:
        """The vocabulary of a model; that of the base where the model has none and as many rows."""
        found = read[model]
        if found is not None:
            return found
        folder, base = self.folders[model], read[0]
        only = [p for p in PIECES if (folder / p).is_file()]
        same = base is not None and bool(only) and _pieces(folder) == _pieces(self.folders[0])
        if only and not same:
            self.recipe.refuse(
                f"{self.names[model]} has only {only[0]}, a vocabulary of sentencepiece, which is not read; "
                "save its tokenizer as tokenizer.json (transformers does, with save_pretrained)",
                self.wanted.line,
            )
        if base is None or self.rows(model) != self.rows(0):
            self.recipe.refuse(
                f"{self.names[model]} has no tokenizer ({folder / 'tokenizer.json'} is not there), so its "
                "rows cannot be matched with tokens",
                self.wanted.line,
            )
        if not only:
            self.notes.append(f"{self.names[model]} has no tokenizer; taken to be that of {self.names[0]}")
        return base

    def rows(self, model: int) -> int | None:
        return next(iter(self.tensors[model].values()), None)

    def with_rows(self, model: int, vocabulary: Vocabulary) -> Vocabulary:
        rows = self.rows(model)
        if rows is None:
            if model == self.home:
                self.recipe.refuse(
                    f"no tensor of {self.names[model]} is known as the embedding of tokens", self.wanted.line
                )
            return vocabulary
        lost = [t for t, i in vocabulary.ids.items() if i >= rows]
        if lost:
            self.notes.append(
                f"tokens of {self.names[model]} that its {rows} rows do not reach are left out: "
                f"{listed(lost, 4)}"
            )
        return vocabulary.without(lost)

    def union(self, kept: Sequence[Vocabulary]) -> Vocabulary:
        out = kept[0]
        for number, other in enumerate(kept):
            whole = {t["content"] for t in other.added}
            there = out.ids
            more = sorted((i, t) for t, i in other.pieces.items() if t not in there and t not in whole)
            if more and other.style != out.style:
                self.notes.append(
                    f"{self.names[number]} cuts text in another way than {self.names[0]}; its {len(more)} "
                    "tokens are there by their ids, but text is not cut into them"
                )
            out = out.with_pieces(other, [t for _, t in more])
        return out.with_added(t for other in kept for t in other.added)

    def count(self, out: Vocabulary) -> int:
        """How many rows the answer has."""
        own = self.rows(self.home) or 0
        multiple = self.wanted.multiple
        return max(out.next, own) if multiple is None else -(-out.next // multiple) * multiple

    def note_lost(self, out: Vocabulary, kept: Sequence[Vocabulary], count: int) -> None:
        """Tells what does not come into the answer."""
        ids = out.ids
        for model, (name, vocabulary) in enumerate(zip(self.names, kept, strict=True)):
            lost = [t for t in vocabulary.ids if t not in ids]
            if lost:
                self.notes.append(f"tokens of {name} that the vocabulary does not have: {listed(lost, 4)}")
            unused = (self.rows(model) or 0) - max(count, vocabulary.next)
            if unused > 0:
                self.notes.append(f"rows of {name} that no token uses and that are left out: {unused}")

    def views(
        self, out: Vocabulary, tokens: Sequence[Mapping[str, int]], count: int
    ) -> list[dict[str, Rows]]:
        found: list[dict[str, Rows]] = [{} for _ in self.inputs]
        tables: dict[tuple[tuple[int, int], ...], _Table] = {}
        for name in dict.fromkeys(n for t in self.tensors for n in t):
            models = [i for i, t in enumerate(self.tensors) if name in t]
            entries = [self.inputs[i][name].entry for i in models]
            if len({e.shape[1:] for e in entries}) > 1:
                continue  # told by the plan, with the shapes
            kinds = {e.dtype for e in entries}
            if not kinds <= set(FLOATS):
                self.recipe.refuse(f"{name} is quantised; its rows cannot be moved", self.wanted.line)
            dtype = kinds.pop() if len(kinds) == 1 else wider(tuple(e.dtype for e in entries))
            sizes = tuple((m, self.tensors[m][name]) for m in models)
            if sizes not in tables:
                tables[sizes] = _Table(self, name, models, out, tokens, count)
            table = tables[sizes]
            if self.recipe.dtype in ("F32", "F64") and (table.averaged or table.mean is not None):
                dtype = wider((dtype, self.recipe.dtype))  # means keep the bits that the answer has room for
            for model, entry in zip(models, entries, strict=True):
                rows = table.rows(model, dtype, (count, *entry.shape[1:]))
                if rows.mean is not None or entry.shape[0] != count or not _in_order(rows.own):
                    found[model][name] = rows
        for model, changed in enumerate(found):
            lost = looks_like_tokens(self.inputs[model], self.tensors[model]) if changed else []
            if lost:
                self.recipe.refuse(
                    f"{listed(lost)} of {self.names[model]} has an entry for each token, but no row; such a "
                    "tensor cannot be brought to another vocabulary",
                    self.wanted.line,
                )
        return found


class _Table:
    """For one tensor: which row each model, and each model that lacks a token, takes."""

    def __init__(
        self,
        joiner: _Joiner,
        name: str,
        models: Sequence[int],
        out: Vocabulary,
        tokens: Sequence[Mapping[str, int]],
        count: int,
    ) -> None:
        self.joiner, self.name, self.tokens = joiner, name, tokens
        self.sizes = {m: joiner.tensors[m][name] for m in models}
        ids = out.ids
        places = np.fromiter(ids.values(), np.int64, len(ids))
        self.own = {m: self.placed(m, ids, places, count) for m in models}
        self.donor = np.full(count, -1)
        self.row = np.full(count, -1)
        self.forced = np.zeros(count, bool)
        self.averaged: dict[int, tuple[tuple[int, int], ...]] = {}
        self.mean = out.next if joiner.wanted.multiple and count > out.next else None
        self.usual()
        free = np.ones(self.mean or count, bool)
        free[places] = False
        self.free(np.flatnonzero(free))
        for token, row in joiner.wanted.rows.items():
            self.told(token, ids[token], row)

    def placed(self, model: int, ids: Mapping[str, int], places: Array, count: int) -> Array:
        theirs = self.tokens[model]
        found = np.full(count, -1)
        found[places] = [theirs.get(t, -1) for t in ids]
        found[found >= self.sizes[model]] = -1
        return found

    def usual(self) -> None:
        """Donors of tokens that the recipe says nothing about."""
        models = list(self.own)
        there = np.stack([self.own[m] >= 0 for m in models])
        have = there.sum(0)
        base = self.joiner.number.get(self.joiner.recipe.base or "")
        first = np.asarray(models)[there.argmax(0)]
        self.donor = np.where(have == 1, first, -1)
        if base in self.own:
            self.donor = np.where((have > 1) & (self.own[base] >= 0), base, self.donor)
        for row in np.flatnonzero((have > 1) & (have < len(models)) & (self.donor < 0)).tolist():
            self.averaged[row] = tuple((m, int(self.own[m][row])) for m in models if self.own[m][row] >= 0)
        for model in models:
            mine = self.donor == model
            self.row[mine] = self.own[model][mine]

    def free(self, rows: Array) -> None:
        """Rows that no token uses."""
        home = self.joiner.home
        for model, own in self.own.items():
            ids = np.fromiter(self.tokens[model].values(), np.int64, len(self.tokens[model]))
            unused = np.ones(self.sizes[model], bool)
            unused[ids[ids < self.sizes[model]]] = False
            mine = rows[rows < self.sizes[model]]
            mine = mine[unused[mine]]
            own[mine] = mine
        theirs = rows[rows < self.sizes.get(home, 0)]
        self.donor[theirs], self.row[theirs] = home, theirs

    def told(self, token: str, place: int, row: Row) -> None:
        """What the recipe says of a token."""
        if row.kind == "usual":
            return
        self.averaged.pop(place, None)
        self.forced[place] = row.force
        self.donor[place], self.row[place] = -1, -1
        if row.kind == "zero":
            return
        joiner = self.joiner
        model = joiner.model(row.model, f"the row of the token {token!r} of", row.line)
        if model not in self.own:
            joiner.recipe.refuse(f"{joiner.names[model]} has no {self.name}", row.line)
        wanted = row.token if row.kind == "other" else token
        found = row.number if wanted is None else self.tokens[model].get(wanted)
        if found is None:
            hint = nearest(str(wanted), self.tokens[model])
            joiner.recipe.refuse(f"{joiner.names[model]} has no token {wanted!r}{hint}", row.line)
        if found >= self.sizes[model]:
            joiner.recipe.refuse(
                f"{joiner.names[model]} has no row {found}; {self.name} has {self.sizes[model]}", row.line
            )
        self.donor[place], self.row[place] = model, found

    def rows(self, model: int, dtype: str, shape: tuple[int, ...]) -> Rows:
        own = np.where(self.forced, -1, self.own[model])
        lacking = own < 0
        donors = {}
        for other in self.own:
            to = np.flatnonzero(lacking & (self.donor == other))
            if len(to):
                donors[other] = (to, self.row[to])
        averaged = {r: s for r, s in self.averaged.items() if lacking[r]}
        return Rows(dtype, shape, own, donors, averaged, self.mean)


def _in_order(own: Array) -> bool:
    return bool((own == np.arange(len(own))).all())


def _pieces(folder: Path) -> bytes | None:
    for name in PIECES:
        if (folder / name).is_file():
            return read_bytes(folder / name)
    return None


def rows_of(folder: Path) -> int | None:
    """`vocab_size` of the config in a folder; None where it says none that makes sense."""
    try:
        config: Any = json.loads((folder / "config.json").read_bytes())
        parts = [
            config,
            *(config[k] for k in ("text_config", "llm_config", "language_config") if k in config),
        ]
        found = [p["vocab_size"] for p in parts if type(p.get("vocab_size")) is int]
    except (OSError, ValueError, RecursionError, AttributeError, TypeError):
        return None
    return found[-1] if found else None
