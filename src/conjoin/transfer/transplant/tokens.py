"""Vocabularies and classes of two models, read from the files beside their weights."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conjoin.errors import FileError, InputError
from conjoin.transfer.transplant.weights import read_object

LONGEST = 64
"""Characters of a piece at most, where an unknown token is spelled by known ones."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_GENERIC = re.compile(r"LABEL_\d+")


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """Token, as text that tokenizers of all makes write alike -> row. A leading space is a space."""

    rows: Mapping[str, int]
    path: Path

    @property
    def least(self) -> int:
        """Rows that a table must have."""
        return max(self.rows.values(), default=-1) + 1


def read_vocabulary(path: str | os.PathLike[str]) -> Vocabulary:
    """The vocabulary of a tokenizer.json, or of the one in a folder. Raises FileError."""
    place = Path(path)
    place = place / "tokenizer.json" if place.is_dir() else place
    if not place.is_file():
        raise FileError(f"there is no tokenizer {str(place)!r}")
    document = read_object(place)
    model = document.get("model")
    raw: Any = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(raw, list):  # Unigram: pairs of a token and its score
        raw = {pair[0]: i for i, pair in enumerate(raw) if isinstance(pair, list) and pair}
    added = document.get("added_tokens") or []
    try:
        rows = {str(token): int(row) for token, row in raw.items()}
        special = {str(t["content"]): int(t["id"]) for t in added}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FileError(f"{place} holds no vocabulary of tokens and their rows: {error!r}") from error
    if not rows and not special:
        raise FileError(f"{place} holds an empty vocabulary")
    if min((*rows.values(), *special.values())) < 0:
        raise FileError(f"{place}: a token has a row below 0")
    spelled: dict[str, int] = {}
    kind = _kind(document, rows)
    for token, row in rows.items():
        spelled.setdefault(token if token in special else _plain(token, kind), row)
    return Vocabulary(spelled | special, place)


def _kind(document: Mapping[str, Any], rows: Mapping[str, int]) -> str:
    """How tokens are written: "bytes" (GPT-2), "words" (## goes on a word), or "marked"."""
    told = str(document.get("pre_tokenizer")) + str(document.get("decoder"))
    if "ByteLevel" in told or ("\u0120" in "".join(t[:1] for t in rows) and "Metaspace" not in told):
        return "bytes"
    model = document.get("model")
    return "words" if isinstance(model, dict) and model.get("type") == "WordPiece" else "marked"


def _signs() -> dict[str, int]:
    """The sign of each byte in byte-level vocabularies (GPT-2, Radford et al. 2019)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}


_SIGNS = _signs()


def _plain(token: str, kind: str) -> str:
    if kind == "bytes" and all(c in _SIGNS for c in token):
        return bytes(_SIGNS[c] for c in token).decode("utf-8", errors="surrogateescape")
    if kind == "words":
        return token[2:] if token.startswith("##") else f" {token}"
    if found := _BYTE.fullmatch(token):
        return bytes([int(found[1], 16)]).decode("utf-8", errors="surrogateescape")
    return token.replace("\u2581", " ")


def pieces_of(tokens: Mapping[str, int], wanted: Mapping[str, int]) -> dict[str, list[str]]:
    """For each wanted token that is unknown, known ones that spell it: from the left, the longest that fits.

    A sign that no known token begins with is left out. This is no tokenizer's own way, but needs none.

    >>> pieces_of({"un": 0, "do": 1, "u": 2}, {"undo?": 0, "un": 1})
    {'undo?': ['un', 'do']}
    """
    longest = min(max(map(len, tokens), default=0), LONGEST)
    found = {}
    for token in wanted:
        if token in tokens:
            continue
        pieces, at = [], 0
        while at < len(token):
            sizes = range(min(longest, len(token) - at), 0, -1)
            size = next((n for n in sizes if token[at : at + n] in tokens), 0)
            pieces += [token[at : at + size]] if size else []
            at += size or 1
        found[token] = pieces
    return found


def classes_of(
    given: Sequence[str] | str | os.PathLike[str] | None, config: Mapping[str, Any]
) -> list[str] | None:
    """Names of classes: as given, of a file with one a line, else of `id2label` in config.json; else None.

    Names that only count (LABEL_0) are none. Raises InputError, FileError.
    """
    if isinstance(given, str | os.PathLike):
        try:
            lines = Path(given).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"{given}, the classes one a line, cannot be read: {error}") from error
        names = [line.strip() for line in lines if line.strip()]
    elif given is not None:
        names = [str(n) for n in given]
    else:
        table = config.get("id2label")
        if not isinstance(table, dict):
            return None
        keys = sorted(table, key=lambda k: int(k) if str(k).isdigit() else len(table))
        names = [str(table[k]) for k in keys]
        if all(_GENERIC.fullmatch(n) for n in names) or len(set(names)) < len(names):
            return None
    if not names or len(set(names)) < len(names):
        raise InputError("classes must be named, each once")
    return names
