"""The vocabulary of a tokenizer, read from its files without any library, changed, and written again.

Read: `tokenizer.json` (BPE, WordPiece, Unigram, WordLevel), else `vocab.json` with `merges.txt`, else
`vocab.txt`; tokens that `added_tokens.json` and `tokenizer_config.json` add. A `tokenizer.model` of
sentencepiece alone is not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conjoin.errors import FileError

JSON, CONFIG, ADDED = "tokenizer.json", "tokenizer_config.json", "added_tokens.json"
VOCAB, MERGES, WORDS = "vocab.json", "merges.txt", "vocab.txt"
MAP, PIECES = "special_tokens_map.json", ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
FILES = (JSON, CONFIG, MAP, ADDED, VOCAB, MERGES, WORDS, *PIECES)
"""Files of a tokenizer."""
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
MOST = 500_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """Tokens of a model and how text is cut into them.

    form: the file that it was read from. kind: BPE, WordPiece, Unigram or WordLevel. pieces: the model's own
    tokens -> id. scores: of pieces of Unigram. merges: (left, right), of BPE, the first is the strongest.
    added: tokens that are found in text before it is cut, with their ids and flags. whole: the rest of
    `tokenizer.json`. flat: its merges are texts, not pairs. changed: since it was read.
    """

    folder: Path
    form: str
    kind: str
    pieces: Mapping[str, int]
    scores: Mapping[str, float]
    merges: tuple[tuple[str, str], ...]
    added: tuple[Mapping[str, Any], ...]
    whole: Mapping[str, Any]
    flat: bool = False
    changed: bool = False

    @property
    def ids(self) -> dict[str, int]:
        """Every token -> id."""
        return dict(self.pieces) | {t["content"]: t["id"] for t in self.added}

    @property
    def next(self) -> int:
        """One more than the largest id."""
        return 1 + max((*self.pieces.values(), *(t["id"] for t in self.added)), default=-1)

    @property
    def style(self) -> tuple[Any, ...]:
        """What two vocabularies must share so that pieces of one mean the same in the other."""
        model = self.whole.get("model") or {}
        rest = json.dumps([self.whole.get(k) for k in ("pre_tokenizer", "decoder", "normalizer")])
        marks = [model.get(k) or "" for k in ("continuing_subword_prefix", "end_of_word_suffix")]
        bytes_ = "ByteLevel" in rest or (not self.whole and "\u0120" in self.pieces)
        return self.kind, bytes_, "\\u2581" in rest or "Metaspace" in rest, *marks

    def without(self, lost: Iterable[str]) -> Vocabulary:
        """Without some tokens, and without merges that need them."""
        gone = set(lost)
        if not gone:
            return self
        prefix = _prefix(self)
        kept = tuple(m for m in self.merges if not gone & {*m, m[0] + m[1].removeprefix(prefix)})
        return replace(
            self,
            pieces={t: i for t, i in self.pieces.items() if t not in gone},
            merges=kept,
            added=tuple(t for t in self.added if t["content"] not in gone),
            changed=True,
        )

    def with_added(self, tokens: Iterable[Mapping[str, Any]]) -> Vocabulary:
        """With tokens that are found whole; one that is a piece keeps its id, others get the next ones."""
        known = {t["content"] for t in self.added}
        more: list[Mapping[str, Any]] = []
        number = self.next
        for token in tokens:
            if token["content"] in known:
                continue
            known.add(token["content"])
            place = self.pieces.get(token["content"])
            more.append({**token, "id": number if place is None else place})
            number += place is None
        return replace(self, added=(*self.added, *more), changed=True) if more else self

    def with_pieces(self, other: Vocabulary, tokens: Sequence[str]) -> Vocabulary:
        """With pieces of another vocabulary at the next ids. Where both cut text in the same way, its merges
        come after those that are there, and text is cut into the new pieces too.
        """
        if not tokens:
            return self
        first = self.next
        pieces = dict(self.pieces) | {t: first + i for i, t in enumerate(tokens)}
        scores = dict(self.scores)
        merges = self.merges
        if self.kind == "Unigram":
            low = min(scores.values(), default=0.0) - 10
            scores |= {t: other.scores.get(t, low) if other.style == self.style else low for t in tokens}
        if self.kind == "BPE" and other.style == self.style:
            known, prefix = set(merges), _prefix(self)
            fits = (m for m in other.merges if m not in known and m[0] in pieces and m[1] in pieces)
            merges += tuple(m for m in fits if m[0] + m[1].removeprefix(prefix) in pieces)
        return replace(self, pieces=pieces, scores=scores, merges=merges, changed=True)


def plain(content: str) -> dict[str, Any]:
    """A token that is found whole, with no flag."""
    return {"content": content, **dict.fromkeys(FLAGS, False), "normalized": True}


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """The vocabulary in a folder, None where there is no tokenizer that can be read. Raises FileError."""
    config = _object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if (folder / JSON).is_file():
        found = _from_json(folder)
    elif (folder / VOCAB).is_file():
        pieces = _numbers(_object(folder / VOCAB), folder / VOCAB)
        merges = _merges_of(folder / MERGES) if (folder / MERGES).is_file() else ()
        kind = "BPE" if merges else "WordLevel"
        found = Vocabulary(folder, VOCAB, kind, pieces, {}, merges, (), {})
    elif (folder / WORDS).is_file():
        lines = _text(folder / WORDS).removesuffix("\n").split("\n")
        pieces = {line.removesuffix("\r"): i for i, line in enumerate(lines)}
        found = Vocabulary(folder, WORDS, "WordPiece", pieces, {}, (), (), {})
    else:
        return None
    return _with_others(found, config)


def _with_others(found: Vocabulary, config: Mapping[str, Any]) -> Vocabulary:
    """With tokens that the files beside add."""
    known = {t["content"] for t in found.added}
    more = []
    decoder = config.get("added_tokens_decoder")
    for number, token in decoder.items() if isinstance(decoder, dict) else ():
        if isinstance(token, dict) and str(token.get("content", "")) not in known:
            more.append(_added({**token, "id": _whole(number)}, found.folder / CONFIG))
    known |= {t["content"] for t in more}
    if (found.folder / ADDED).is_file():
        others = _numbers(_object(found.folder / ADDED), found.folder / ADDED)
        more += [{**plain(t), "id": i} for t, i in others.items() if t not in known]
    more = [{**t, "id": found.pieces.get(t["content"], t["id"])} for t in more]
    return replace(found, added=(*found.added, *more))


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else -1


def _from_json(folder: Path) -> Vocabulary:
    path = folder / JSON
    whole = _object(path)
    model = whole.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise FileError(f"{path} is no tokenizer: it has no model with a vocab")
    listed_ = whole.get("added_tokens") or []
    if not isinstance(listed_, list):
        raise FileError(f"{path} is no tokenizer: added_tokens is no list")
    added = tuple(_added(t, path) for t in listed_)
    kind = model["type"] if isinstance(model.get("type"), str) else _kind(model)
    vocab, merges = model["vocab"], model.get("merges") or []
    whole["model"] = {k: v for k, v in model.items() if k not in ("vocab", "merges")}
    if not isinstance(merges, list):
        raise FileError(f"{path} is no tokenizer: merges is no list")
    if isinstance(vocab, list):
        if any(not isinstance(p, list) or len(p) != 2 or not isinstance(p[0], str) for p in vocab):
            raise FileError(f"{path} is no tokenizer: a piece is not [text, score]")
        scores = {p: _score(s, path) for p, s in vocab}
        pieces = {p: i for i, (p, _) in enumerate(vocab)}
        return Vocabulary(folder, JSON, "Unigram", pieces, scores, (), added, whole)
    flat = bool(merges) and isinstance(merges[0], str)
    pairs = tuple(_merge(m, path) for m in merges)
    return Vocabulary(folder, JSON, kind, _numbers(vocab, path), {}, pairs, added, whole, flat)


def _score(found: Any, path: Path) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float) or abs(found) > 1e300:
        raise FileError(f"{path} is no tokenizer: the score of a piece is {found!r:.40}")
    return float(found)


def _kind(model: Mapping[str, Any]) -> str:
    if isinstance(model["vocab"], list):
        return "Unigram"
    if "merges" in model:
        return "BPE"
    return "WordPiece" if "max_input_chars_per_word" in model else "WordLevel"


def _merge(found: Any, path: Path) -> tuple[str, str]:
    parts = found.split(" ") if isinstance(found, str) else found
    if isinstance(parts, list) and len(parts) == 2:
        left, right = parts
        if isinstance(left, str) and isinstance(right, str):
            return left, right
    raise FileError(f"{path} is no tokenizer: {found!r:.60} is no merge of two pieces")


def _added(token: Any, path: Path) -> dict[str, Any]:
    good = isinstance(token, dict) and isinstance(token.get("content"), str) and type(token.get("id")) is int
    if not good or token["id"] < 0:
        raise FileError(f"{path} is no tokenizer: {token!r:.80} is no added token")
    flags = {f: bool(token.get(f, f == "normalized" and not token.get("special"))) for f in FLAGS}
    return {"id": token["id"], "content": token["content"], **flags}


def _merges_of(path: Path) -> tuple[tuple[str, str], ...]:
    lines = (line.rstrip("\r") for line in _text(path).split("\n"))
    return tuple(_merge(line, path) for line in lines if line and not line.startswith("#version"))


def _numbers(found: Mapping[str, Any], path: Path) -> dict[str, int]:
    for token, number in found.items():
        if type(number) is not int or not 0 <= number < 1 << 31:
            raise FileError(f"{path} is no tokenizer: the id of {token!r:.60} is {number!r:.40}")
    return dict(found)


def read_bytes(path: Path) -> bytes:
    """A file of a tokenizer. Raises FileError."""
    try:
        if path.stat().st_size > MOST:
            raise FileError(f"{path} is larger than any such file")
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is no UTF-8 text: {error}") from error


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except FileError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise FileError(f"{path} must hold a JSON object")
    return found


def _prefix(found: Vocabulary) -> str:
    return str((found.whole.get("model") or {}).get("continuing_subword_prefix") or "")


def files_of_vocabulary(found: Vocabulary) -> dict[str, bytes]:
    """The files of a tokenizer by name. One that was not changed is copied byte by byte."""
    raw = {n: read_bytes(found.folder / n) for n in FILES if (found.folder / n).is_file()}
    if not found.changed:
        return raw
    raw = {n: b for n, b in raw.items() if n not in PIECES}  # they would not know of the change
    pieces = _written_pieces(found)
    if found.form == JSON:
        raw[JSON] = _json_of(found, pieces)
        raw = {n: b for n, b in raw.items() if n not in (VOCAB, MERGES, WORDS)}
    elif found.form == VOCAB:
        raw[VOCAB] = _dumped(pieces)
        if found.merges:
            lines = ["#version: 0.2", *(" ".join(m) for m in found.merges), ""]
            raw[MERGES] = "\n".join(lines).encode()
    else:
        raw[WORDS] = ("\n".join(_dense(pieces)) + "\n").encode()
    ids = found.ids
    outside = {t["content"]: t["id"] for t in found.added if t["content"] not in pieces}
    raw.pop(ADDED, None)
    if outside and (found.form != JSON or (found.folder / ADDED).is_file()):
        raw[ADDED] = _dumped(outside)
    if CONFIG in raw or found.form != JSON:
        config = _object(found.folder / CONFIG) if CONFIG in raw else {}
        if "added_tokens_decoder" in config or found.form != JSON:
            config["added_tokens_decoder"] = {
                str(t["id"]): {k: t[k] for k in ("content", *FLAGS)}
                for t in sorted(found.added, key=lambda t: int(t["id"]))
            }
        raw[CONFIG] = _dumped(_specials(config, ids))
    if MAP in raw:
        raw[MAP] = _dumped(_specials(_object(found.folder / MAP), ids))
    return raw


def _dumped(found: Any) -> bytes:
    return (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode()


def _specials(found: dict[str, Any], ids: Mapping[str, int]) -> dict[str, Any]:
    """Special tokens by role, without those that are no longer there."""

    def there(token: Any) -> bool:
        text = token.get("content") if isinstance(token, dict) else token
        return not isinstance(text, str) or text in ids

    out = {k: v for k, v in found.items() if not (k.endswith("_token") and v is not None and not there(v))}
    for key in ("additional_special_tokens", "extra_special_tokens"):
        if isinstance(out.get(key), list):
            out[key] = [t for t in out[key] if there(t)]
    return out


def _written_pieces(found: Vocabulary) -> dict[str, int]:
    """Pieces, and tokens that are found whole where these would get other ids: libraries number them from the
    count of pieces, but where they are pieces.
    """
    pieces = dict(found.pieces)
    outside = [t for t in found.added if t["content"] not in pieces]
    straight = range(len(pieces), len(pieces) + len(outside))
    if sorted(t["id"] for t in outside) != list(straight):
        pieces |= {t["content"]: t["id"] for t in outside}
    return pieces


def _json_of(found: Vocabulary, pieces: Mapping[str, int]) -> bytes:
    whole = {**found.whole, "model": dict(found.whole["model"])}
    whole["added_tokens"] = sorted((dict(t) for t in found.added), key=lambda t: int(t["id"]))
    if found.kind == "Unigram":
        low = min(found.scores.values(), default=0.0) - 10
        whole["model"]["vocab"] = [[p, found.scores.get(p, low)] for p in _dense(pieces)]
    else:
        whole["model"]["vocab"] = dict(sorted(pieces.items(), key=lambda pair: pair[1]))
    if found.kind == "BPE":
        flat = found.flat and not any(" " in part for m in found.merges for part in m)
        whole["model"]["merges"] = [" ".join(m) for m in found.merges] if flat else found.merges
    return json.dumps(whole, ensure_ascii=False).encode()


def _dense(pieces: Mapping[str, int]) -> list[str]:
    """Pieces in the order of their ids; an id that nobody has is a word that no text holds."""
    by_id = {i: p for p, i in pieces.items()}
    return [by_id.get(i, f"<unused id {i}>") for i in range(max(by_id, default=-1) + 1)]
