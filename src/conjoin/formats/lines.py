"""Lines of text: one text a line, or JSON lines with texts, scores and names of rows; plain or gzip.

Only a line feed ends a line (a carriage return before it is left out), so that other separators of Unicode
may stand in a text. In plain files row n is line n and an empty line is an empty text. A JSON line is a
string, null (not answered), or an object:

    {"id": "q7", "text": "...", "score": -1.2}             one answer; id and score may be missing
    {"id": "q7", "texts": ["...", "..."], "scores": [...]} several: of system a, members "a#1", "a#2" ...

A file is JSON lines if its name ends in .jsonl or .ndjson, .gz aside. Where every line has an id, rows are
laid side by side by id.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import InputError, listed
from conjoin.formats.record import Format, Found, read_text, write_text
from conjoin.outputs import Output, Texts

if TYPE_CHECKING:
    from conjoin.outputs import Array

_JSON = (".jsonl", ".ndjson")
_KEYS = ("id", "text", "score", "texts", "scores")


@dataclass(frozen=True, slots=True)
class Answers:
    """What a line says: texts with their scores, best first; none where it was not answered. name: its id."""

    texts: tuple[str, ...]
    scores: tuple[float, ...]
    name: str | None = None


def read(files: Mapping[str, Path], truth: Path | None) -> Found:
    """Texts by name of the system, and true texts. Rows are line numbers from 1, or ids.

    Raises InputError with file and line, and where files differ in their number of lines; FileError.
    """
    given = {name: read_answers(path) for name, path in files.items()}
    right = None if truth is None else read_answers(truth)
    everything = {
        **{str(files[n]): a for n, a in given.items()},
        **({} if right is None else {str(truth): right}),
    }
    rows = _rows(everything)
    outputs: dict[str, Output] = {}
    for name, answers in given.items():
        for member, output in _members(name, _placed(answers, rows)).items():
            if member in outputs:
                raise InputError(f"{files[name]}: the member {member!r} is there twice; rename a file")
            outputs[member] = output
    names = np.empty(len(rows), dtype=object)
    names[:] = rows
    return Found(names, outputs, None if right is None else _truth(cast(Path, truth), right, rows))


def _truth(path: Path, answers: list[Answers], rows: Sequence[str]) -> Texts:
    for n, answer in enumerate(answers, 1):
        if len(answer.texts) > 1:
            raise InputError(f"{path}, line {n}: {len(answer.texts)} true texts; give one")
    return _texts(_placed(answers, rows), 0)


def read_answers(path: Path) -> list[Answers]:
    """The lines of one file. Raises InputError with file and line, FileError."""
    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise InputError(f"{path} has no lines; a file needs a line for each text")
    lines = [line.removesuffix("\r") for line in lines]
    if not is_json(path):
        return [Answers((line,), (math.nan,)) for line in lines]
    found = [_answers(line, f"{path}, line {n}") for n, line in enumerate(lines, 1)]
    seen: dict[str, int] = {}
    for n, answer in enumerate(found, 1):
        if answer.name is not None and seen.setdefault(answer.name, n) != n:
            raise InputError(
                f"{path}, line {n}: the id {answer.name!r} was on line {seen[answer.name]} already"
            )
    return found


def is_json(path: Path) -> bool:
    """Whether a file of this name holds JSON lines.

    >>> is_json(Path("a.jsonl.gz")), is_json(Path("a.txt"))
    (True, False)
    """
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(_JSON)


def _answers(line: str, where: str) -> Answers:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from error
    if said is None or isinstance(said, str):
        return Answers(() if said is None else (said,), () if said is None else (math.nan,))
    if not isinstance(said, dict):
        raise InputError(
            f"{where}: a line is a string, null or an object with {listed(_KEYS)}, not {line:.60}"
        )
    if ("text" in said) == ("texts" in said):
        raise InputError(f"{where}: an object needs 'text' or 'texts', one of them; it has {listed(said)}")
    name = said.get("id")
    if name is not None and (isinstance(name, bool) or not isinstance(name, str | int)):
        raise InputError(f"{where}: the id must be a string or a whole number, not {name!r:.60}")
    many = "texts" in said
    texts = said["texts"] if many else ([] if said["text"] is None else [said["text"]])
    scores = said.get("scores" if many else "score")
    if not many:
        scores = None if scores is None or not texts else [scores]
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
        raise InputError(f"{where}: texts must be strings, not {texts!r:.60}")
    if any("\ud800" <= c <= "\udfff" for t in texts for c in t):
        raise InputError(f"{where}: a text holds half of a pair of surrogates; write the character itself")
    return Answers(tuple(texts), _scores(scores, len(texts), where), None if name is None else str(name))


def _scores(given: Any, count: int, where: str) -> tuple[float, ...]:
    if given is None:
        return (math.nan,) * count
    if not isinstance(given, list) or len(given) != count:
        raise InputError(f"{where}: {count} texts need {count} scores, not {given!r:.60}")
    out = []
    for score in given:
        good = score is None or (isinstance(score, int | float) and not isinstance(score, bool))
        if not good or (score is not None and math.isinf(_float(score))):
            raise InputError(f"{where}: a score must be a finite number or null, not {score!r:.60}")
        out.append(math.nan if score is None else _float(score))
    return tuple(out)


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # a whole number with more than 308 digits
        return math.inf


def _rows(files: Mapping[str, list[Answers]]) -> list[str]:
    """Names of the rows: the union of ids, or numbers of lines. Raises InputError."""
    named = {path for path, answers in files.items() if any(a.name is not None for a in answers)}
    if named:
        for path, answers in files.items():
            lacking = next((n for n, a in enumerate(answers, 1) if a.name is None), None)
            if lacking is not None:
                raise InputError(
                    f"{path}, line {lacking}: no id, but {min(named)} has ids; give all lines one, or none"
                )
        return list(dict.fromkeys(cast(str, a.name) for answers in files.values() for a in answers))
    counts = {path: len(answers) for path, answers in files.items()}
    if len(set(counts.values())) > 1:
        told = listed(f"{path}: {n}" for path, n in counts.items())
        raise InputError(f"files must have the same number of lines, a line for each text; lines are {told}")
    return [str(n + 1) for n in range(max(counts.values(), default=0))]


def _placed(answers: list[Answers], rows: Sequence[str]) -> list[Answers]:
    if answers and answers[0].name is None:
        return answers
    by_name = {cast(str, a.name): a for a in answers}
    return [by_name.get(row, Answers((), ())) for row in rows]


def _members(name: str, answers: list[Answers]) -> dict[str, Texts]:
    """One member, or "name#1" and so on where a line has several texts."""
    most = max((len(a.texts) for a in answers), default=1)
    if most <= 1:
        return {name: _texts(answers, 0)}
    return {f"{name}#{k + 1}": _texts(answers, k) for k in range(most)}


def _texts(answers: list[Answers], k: int) -> Texts:
    has = np.array([len(a.texts) > k for a in answers], dtype=bool)
    texts = [a.texts[k] if h else "" for a, h in zip(answers, has, strict=True)]
    scores = [a.scores[k] if h else math.nan for a, h in zip(answers, has, strict=True)]
    return Texts(cast("Array", texts), np.array(scores, dtype=np.float64), has)


def write(output: Output, found: Found, path: Path) -> None:
    """Write texts: JSON lines with id, text and score where the name says so, else one text a line.

    A row that is not answered is null, or an empty line. Raises InputError where a text has a line break and
    the file is plain, FileError.
    """
    if not isinstance(output, Texts):
        raise InputError(f"lines of text hold texts, not {output.kind}")
    rows = [str(r) for r in found.rows]
    each = zip(rows, output.texts.tolist(), output.scores.tolist(), output.answered.tolist(), strict=True)
    lines = []
    for row, text, score, answered in each:
        if is_json(path):
            said: dict[str, Any] = {"id": row, "text": text if answered else None}
            if answered and math.isfinite(score):
                said["score"] = score
            lines.append(json.dumps(said, ensure_ascii=False))
            continue
        if answered and ("\n" in text or text.endswith("\r")):
            raise InputError(
                f"{path}: the text of row {row} holds a line break; write JSON lines: a name in .jsonl"
            )
        lines.append(text if answered else "")
    write_text(path, "".join(f"{line}\n" for line in lines))


FORMAT = Format(
    "texts", "texts, one a line, or JSON lines with text, score and id; gzip; truth the same", read, write
)
