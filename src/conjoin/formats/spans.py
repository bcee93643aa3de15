"""Files of labelled spans: JSON lines, and CoNLL columns with BIO tags.

    JSON lines: {"id": ..., "text": "...", "spans": [{"start": 0, "end": 5, "label": "place", "score": 0.9}]}
    CoNLL: token <tab or space> ... tag, an empty line after each sentence

Ends are in characters of the text, the end exclusive. In a CoNLL file the text is its tokens with single
spaces, the token stands in the first column and the tag in the last. B-, I-, E-, S-, L- and U- tags are
understood; a tag that goes on where nothing began begins a span.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.errors import InputError
from conjoin.formats.record import Format, Found, read_text, write_text
from conjoin.outputs import Output, Spans

MOST = 1 << 53
"""Where the text is not told, no span may end later."""
COLUMNS = (".conll", ".bio", ".iob", ".iob2", ".bioes", ".tsv")
"""A file that ends so (before .gz) holds CoNLL columns, every other JSON lines."""


@dataclass(frozen=True, slots=True)
class Span:
    """Start and end in characters, class, and score (NaN where unknown)."""

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Text:
    """A text as a file has it: its id (as in JSON), the text if it is told, and its spans."""

    id: Any
    text: str | None
    spans: tuple[Span, ...]


def read(files: Mapping[str, Path], truth: Path | None) -> Found:
    """Spans by name of the system. Rows are ids (numbers of lines or sentences where there are none).

    A text that a file lacks is not answered by it. Raises InputError with file and line, also where two files
    have different texts under one id; FileError.
    """
    told = {name: read_file(path) for name, path in files.items()}
    true = None if truth is None else read_file(truth)
    known: dict[str, Text] = {}
    where: dict[str, Path] = {}
    for path, texts in [
        *zip(files.values(), told.values(), strict=True),
        *([(truth, true)] if truth and true else []),
    ]:
        for name, text in texts.items():
            before = known.setdefault(name, text)
            where.setdefault(name, path)
            if before.text is None and text.text is not None:
                known[name] = text
            elif text.text is not None and before.text != text.text:
                raise InputError(f"{path} and {where[name]} have different texts with the id {name!r}")
    if true is not None and told and not any(n in texts for texts in told.values() for n in true):
        raise InputError(f"{truth} has no id that an answer has ({', '.join(list(true)[:3])} ...)")
    names = list(known)
    classes = _classes([*told.values(), *([true] if true else [])])
    rows = np.empty(len(names), dtype=object)
    rows[:] = names
    outputs: dict[str, Output] = {n: spans_of(texts, names, classes) for n, texts in told.items()}
    told_truth = None if true is None else spans_of(true, names, classes)
    return Found(rows, outputs, told_truth, tuple(known.values()))


def _classes(files: Iterable[Mapping[str, Text]]) -> tuple[str, ...]:
    return tuple(sorted({s.label for texts in files for text in texts.values() for s in text.spans}))


def spans_of(texts: Mapping[str, Text], names: Sequence[str], classes: tuple[str, ...]) -> Spans:
    """The spans of the texts of these names; a text that is not there is not answered."""
    rows = [texts[n].spans if n in texts else () for n in names]
    flat = [s for row in rows for s in row]
    at = {c: k for k, c in enumerate(classes)}
    return Spans(
        np.array([s.start for s in flat], dtype=np.int64),
        np.array([s.end for s in flat], dtype=np.int64),
        np.array([s.score for s in flat], dtype=np.float64),
        np.array([at[s.label] for s in flat], dtype=np.int64),
        np.cumsum([0, *(len(row) for row in rows)]),
        classes,
        np.array([n in texts for n in names], dtype=bool),
    )


def read_file(path: Path) -> dict[str, Text]:
    """One file: texts by id. Raises InputError and FileError."""
    return _read_columns(path) if _in_columns(path) else _read_lines(path)


def _in_columns(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(COLUMNS)


def _read_lines(path: Path) -> dict[str, Text]:
    found: dict[str, Text] = {}
    for n, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {n}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: no JSON ({error})") from error
        if not isinstance(record, dict) or not isinstance(record.get("spans"), list):
            raise InputError(f'{where}: needs {{"id": ..., "text": ..., "spans": [...]}}')
        identity, text = record.get("id", n), record.get("text")
        if isinstance(identity, bool) or not isinstance(identity, str | int):
            raise InputError(f"{where}: the id must be a string or a whole number, not {identity!r:.40}")
        if text is not None and not isinstance(text, str):
            raise InputError(f"{where}: the text must be a string, not {text!r:.40}")
        if str(identity) in found:
            raise InputError(f"{where}: the id {identity!r} occurs a second time")
        spans = tuple(_span(s, text, where) for s in record["spans"])
        found[str(identity)] = Text(identity, text, spans)
    return found


def _span(told: Any, text: str | None, where: str) -> Span:
    if not isinstance(told, dict):
        raise InputError(f"{where}: a span is an object with start, end and label, not {told!r:.40}")
    start, end, label, score = (told.get(k) for k in ("start", "end", "label", "score"))
    if not isinstance(start, int) or not isinstance(end, int) or bool in (type(start), type(end)):
        raise InputError(f"{where}: start and end must be whole numbers, not {start!r:.20} and {end!r:.20}")
    most = MOST if text is None else len(text)
    if not 0 <= start <= end <= most:
        size = "" if text is None else f"; the text has {len(text)} characters"
        raise InputError(f"{where}: a span from {start} to {end} needs 0 <= start <= end{size}")
    if not isinstance(label, str) or not label:
        raise InputError(f"{where}: the label of a span must be a string, not {label!r:.40}")
    if score is None:
        return Span(start, end, label, math.nan)
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise InputError(f"{where}: the score of a span must be a finite number, not {score!r:.40}")
    return Span(start, end, label, float(score))


def _read_columns(path: Path) -> dict[str, Text]:
    found: dict[str, Text] = {}
    tokens: list[str] = []
    tags: list[str] = []
    for n, line in enumerate([*read_text(path).split("\n"), ""], 1):
        fields = line.split("\t") if "\t" in line else line.split()
        fields = [f.strip() for f in fields]
        if not any(fields) or fields[0] == "-DOCSTART-":
            if tokens:
                name = str(len(found) + 1)
                found[name] = Text(len(found) + 1, " ".join(tokens), tuple(from_tags(tokens, tags)))
            tokens, tags = [], []
            continue
        if len(fields) < 2 or not fields[0]:
            raise InputError(f"{path}, line {n}: {len(fields)} columns, but a line is: token ... tag")
        tag = fields[-1]
        if tag != "O" and (len(tag) < 3 or tag[0] not in "BIESLU" or tag[1] != "-"):
            raise InputError(
                f"{path}, line {n}: the tag {tag!r} is neither O nor B-, I-, E- or S- and a class"
            )
        tokens.append(fields[0])
        tags.append(tag)
    return found


def from_tags(tokens: Sequence[str], tags: Sequence[str]) -> list[Span]:
    """The spans of tokens that single spaces part.

    >>> from_tags(["in", "New", "York"], ["O", "B-place", "I-place"])
    [Span(start=3, end=11, label='place', score=1.0)]
    """
    found: list[Span] = []
    at, going = 0, False
    for token, tag in zip(tokens, tags, strict=True):
        end = at + len(token)
        if tag == "O":
            going = False
        else:
            label = tag[2:]
            if going and tag[0] in "IEL" and found[-1].label == label:
                found[-1] = Span(found[-1].start, end, label, 1.0)
            else:
                found.append(Span(at, end, label, 1.0))
            going = tag[0] in "BI"
        at = end + 1
    return found


def to_tags(text: str, spans: Iterable[Span]) -> list[tuple[str, str]]:
    """Tokens and BIO tags of a text; a token belongs to the first span that it meets.

    >>> to_tags("in New York", [Span(3, 11, "place", 1.0)])
    [('in', 'O'), ('New', 'B-place'), ('York', 'I-place')]
    """
    ordered = sorted(spans, key=lambda s: (s.start, -s.end))
    found: list[tuple[str, str]] = []
    at, last = 0, None
    for token in text.split():
        start = text.index(token, at)
        at = start + len(token)
        span = next((s for s in ordered if s.start < at and start < s.end), None)
        found.append((token, "O" if span is None else f"{'I' if span is last else 'B'}-{span.label}"))
        last = span
    return found


def write(output: Output, found: Found, path: Path) -> None:
    """The texts that are answered, as the file's name says: CoNLL columns or JSON lines.

    Raises InputError, also where CoNLL columns are asked for and no file told the text; FileError.
    """
    if not isinstance(output, Spans):
        raise InputError(f"a file of spans holds spans, not {output.kind}")
    texts: Sequence[Text] = found.context or [Text(str(r), None, ()) for r in found.rows]
    parts: list[str] = []
    for r, text in enumerate(texts):
        if not output.answered[r]:
            continue
        cut = slice(int(output.offsets[r]), int(output.offsets[r + 1]))
        marks = (output.starts[cut], output.ends[cut], output.codes[cut], output.scores[cut])
        spans = [
            Span(a, b, output.classes[k], s) for a, b, k, s in zip(*(m.tolist() for m in marks), strict=True)
        ]
        parts.append(_columns_of(text, spans, path) if _in_columns(path) else _line_of(text, spans))
    write_text(path, "".join(parts))


def _columns_of(text: Text, spans: Sequence[Span], path: Path) -> str:
    if text.text is None:
        raise InputError(
            f"{path}: columns need the text of {text.id!r}, which no file tells; write JSON lines"
        )
    return "".join(f"{token}\t{tag}\n" for token, tag in to_tags(text.text, spans)) + "\n"


def _line_of(text: Text, spans: Sequence[Span]) -> str:
    told = []
    for s in spans:
        one: dict[str, Any] = {"start": s.start, "end": s.end, "label": s.label}
        if not math.isnan(s.score):
            one["score"] = s.score
        if text.text is not None:
            one["text"] = text.text[s.start : s.end]
        told.append(one)
    body = {"id": text.id, **({} if text.text is None else {"text": text.text}), "spans": told}
    return json.dumps(body, ensure_ascii=False) + "\n"


FORMAT = Format(
    "spans",
    "JSON lines of spans (id, text, spans), or CoNLL columns with BIO tags (.conll .bio); truth: the same",
    read,
    write,
)
