"""NIST's files of speech recognition: CTM (time-marked words) in and out, STM or CTM as the reference.

    CTM: file channel start duration word [confidence]
    STM: file channel speaker start end [<label>] words ...

A row is a file and channel; where an STM has several segments of one, a row is a segment, and a word belongs
to the segment that holds its middle. Lines that begin with ;; are remarks. Words `@` are nothing. Of
alternatives in an answer (<ALT_BEGIN> <ALT> <ALT_END>) the first counts; in a reference all are kept, as
`{ a / b / @ }`.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conjoin.errors import InputError
from conjoin.formats.record import Format, Found, read_text, write_text
from conjoin.outputs import Output, Texts

IGNORED = "ignore_time_segment_in_scoring"
ALTERNATION = {"<alt_begin>": "{", "<alt>": "/", "<alt_end>": "}"}
_MARKS = {"{": "<ALT_BEGIN>", "/": "<ALT>", "}": "<ALT_END>"}

Key = tuple[str, str]
"""File and channel."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its start and end in seconds and its confidence; NaN is unknown."""

    spelled: str
    start: float
    end: float
    confidence: float

    @property
    def middle(self) -> float:
        """The middle of its time."""
        return (self.start + self.end) / 2.0


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a file and channel with its true text; None where it is not to be scored."""

    start: float
    end: float
    text: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row lies: file, channel, and the segment's times (-inf and inf: all of the file)."""

    key: Key
    start: float = -math.inf
    end: float = math.inf
    rest: bool = False

    @property
    def name(self) -> str:
        """How the row is called."""
        file = " ".join(self.key)
        if self.rest:
            return f"{file} outside all segments"
        return file if math.isinf(self.end) else f"{file} {self.start:g}-{self.end:g}"


Heard = dict[Key, list[Word]]


def read(files: Mapping[str, Path], truth: Path | None) -> Found:
    """Answers by name of the system, and the reference. Rows are those of the reference, then others.

    A file and channel that a system's CTM lacks is not answered by it. Raises InputError with file and line,
    FileError.
    """
    heard = {name: read_ctm(path) for name, path in files.items()}
    segments = {} if truth is None else read_reference(truth)
    keys = dict.fromkeys([*segments, *(k for words in heard.values() for k in words)])
    places: list[Place] = []
    said: list[str | None] = []
    for key in keys:
        stretches = segments.get(key, [])
        if len(stretches) < 2:
            places.append(Place(key))
            said.append(stretches[0].text if stretches else None)
            continue
        places += [Place(key, s.start, s.end) for s in stretches]
        said += [s.text for s in stretches]
        if any(None in _parted(words.get(key, ()), stretches) for words in heard.values()):
            places.append(Place(key, rest=True))
            said.append(None)
    outputs: dict[str, Output] = {n: _texts(words, places, segments) for n, words in heard.items()}
    rows = np.empty(len(places), dtype=object)
    rows[:] = [p.name for p in places]
    answered = np.array([t is not None for t in said], dtype=bool)
    told = None if truth is None else Texts(np.array([t or "" for t in said], dtype=object), None, answered)  # type: ignore[arg-type]
    return Found(rows, outputs, told, tuple(places))


def _parted(words: Sequence[Word], segments: Sequence[Segment]) -> dict[int | None, list[Word]]:
    """Words by the number of their segment: the last to begin that holds the word's middle; None for none."""
    begins = [s.start for s in segments]
    latest = list(itertools.accumulate((s.end for s in segments), max))
    found: dict[int | None, list[Word]] = {}
    for word in words:
        at: int | None = bisect.bisect_right(begins, word.middle) - 1
        while at is not None and segments[at].end <= word.middle:
            at = at - 1 if at > 0 and latest[at - 1] > word.middle else None
        found.setdefault(None if at == -1 else at, []).append(word)
    return found


def _texts(heard: Heard, places: Sequence[Place], segments: Mapping[Key, Sequence[Segment]]) -> Texts:
    rows: list[list[Word]] = []
    for key, group in itertools.groupby(places, lambda p: p.key):
        wanted = list(group)
        words = heard.get(key, [])
        if len(wanted) == 1 and math.isinf(wanted[0].end):
            rows.append(words)
            continue
        parts = _parted(words, segments[key])
        rows += [parts.get(None if place.rest else k, []) for k, place in enumerate(wanted)]
    flat = [w for row in rows for w in row]
    return Texts(
        np.array([" ".join(w.spelled for w in row) for row in rows], dtype=object),
        None,  # type: ignore[arg-type]
        np.array([p.key in heard for p in places], dtype=bool),
        confidences=np.array([w.confidence for w in flat], dtype=np.float64),
        starts=np.array([w.start for w in flat], dtype=np.float64),
        ends=np.array([w.end for w in flat], dtype=np.float64),
    )


def read_ctm(path: Path, *, reference: bool = False) -> Heard:
    """One CTM file: words of each file and channel, by their starts.

    Lines may be in any order, and words may overlap. reference: keep all alternatives, as words `{`, `/` and
    `}`, and the order of the lines. Raises InputError on a line of other than 5 to 8 fields, a time that is
    no number or negative, and alternatives that are not closed; FileError.
    """
    found: Heard = {}
    open_at: tuple[Key, int] | None = None  # where an alternation began
    skipped = False  # inside its second or a later alternative
    for n, line in enumerate(read_text(path).split("\n"), 1):
        fields = line.split()
        if not fields or line.lstrip().startswith(";;"):
            continue
        if not 5 <= len(fields) <= 8:
            told = "file channel start duration word [confidence]"
            raise InputError(f"{path}, line {n}: {len(fields)} fields, but a line is: {told}")
        key = (fields[0], fields[1])
        words = found.setdefault(key, [])
        mark = ALTERNATION.get(fields[4].lower())
        if mark is not None:
            if (mark == "{") == (open_at is not None):
                raise InputError(f"{path}, line {n}: {fields[4]} out of place")
            open_at = (key, n) if mark == "{" else None if mark == "}" else open_at
            skipped = mark == "/"
            if reference:
                at = words[-1].start if words else 0.0
                words.append(Word(mark, at, at, math.nan))
        elif fields[4] == "@" and not reference:
            continue
        elif not skipped or reference:
            words.append(_word(fields, f"{path}, line {n}"))
    if open_at is not None:
        raise InputError(f"{path}, line {open_at[1]}: <ALT_BEGIN> without <ALT_END>")
    if not reference:
        for words in found.values():
            words.sort(key=lambda w: w.start)
    return found


def _word(fields: Sequence[str], where: str) -> Word:
    start, length = (_time(fields[k], where, what) for k, what in ((2, "start"), (3, "duration")))
    told = fields[5] if len(fields) > 5 else "NA"
    if told.upper() == "NA":
        return Word(fields[4], start, start + length, math.nan)
    try:
        confidence = float(told)
    except ValueError:
        confidence = math.inf
    if not math.isfinite(confidence):
        raise InputError(f"{where}: the confidence {told!r} is no finite number; NA says that it is unknown")
    return Word(fields[4], start, start + length, math.nan if confidence == -1.0 else confidence)


def _time(told: str, where: str, what: str) -> float:
    try:
        time = float(told)
    except ValueError:
        time = math.nan
    if not math.isfinite(time):
        raise InputError(f"{where}: the {what} {told!r} is no finite number")
    if time < 0:
        raise InputError(f"{where}: the {what} {told} is negative")
    return time


def read_reference(path: Path) -> dict[Key, list[Segment]]:
    """True texts of each file and channel, by their starts: an STM, or a CTM (one segment for each).

    A file named .ctm (.ctm.gz) is a CTM, every other an STM. Raises InputError and FileError.
    """
    if path.name.lower().removesuffix(".gz").endswith(".ctm"):
        heard = read_ctm(path, reference=True)
        return {k: [Segment(0.0, math.inf, " ".join(w.spelled for w in words))] for k, words in heard.items()}
    return read_stm(path)


def read_stm(path: Path) -> dict[Key, list[Segment]]:
    """One STM file. Raises InputError on a line of fewer than 5 fields or with bad times; FileError."""
    found: dict[Key, list[Segment]] = {}
    for n, line in enumerate(read_text(path).split("\n"), 1):
        fields = line.split()
        if not fields or line.lstrip().startswith(";;"):
            continue
        if len(fields) < 5:
            told = "file channel speaker start end [<label>] words ..."
            raise InputError(f"{path}, line {n}: {len(fields)} fields, but a line is: {told}")
        start, end = (_time(fields[k], f"{path}, line {n}", what) for k, what in ((3, "start"), (4, "end")))
        if end < start:
            raise InputError(f"{path}, line {n}: the segment ends at {end:g}, before it starts at {start:g}")
        labelled = len(fields) > 5 and fields[5].startswith("<") and fields[5].endswith(">")
        text: str | None = " ".join(fields[6 if labelled else 5 :])
        text = None if str(text).lower() == IGNORED else text
        found.setdefault((fields[0], fields[1]), []).append(Segment(start, end, text))
    for segments in found.values():
        segments.sort(key=lambda s: s.start)
    return found


def write(output: Output, found: Found, path: Path) -> None:
    """A CTM with all rows that are answered, as SCTK's rover writes it; unknown confidences as -1.

    A text without times gets those of the first system that says the same in the row; else its words share
    the time of the row's words equally. Raises InputError and FileError.
    """
    if not isinstance(output, Texts):
        raise InputError(f"a CTM holds texts, not {output.kind}")
    places: Sequence[Place] = found.context or [Place((str(r), "1")) for r in found.rows]
    told: dict[Key, list[Word]] = {}
    for r, place in enumerate(places):
        if output.answered[r]:
            told.setdefault(place.key, []).extend(_timed(output, found, r))
    parts = {place.key: 0 for place in places}
    for place in places:
        parts[place.key] += 1
    lines: list[str] = []
    for key, words in told.items():
        alternated = any(math.isnan(w.start) for w in words)
        ordered = words if alternated or parts[key] == 1 else sorted(words, key=lambda w: w.start)
        lines += [_line(key, w) for w in ordered]
    write_text(path, "".join(lines))


def _line(key: Key, word: Word) -> str:
    if math.isnan(word.start):
        return f"{key[0]} {key[1]} * * {_MARKS.get(word.spelled, word.spelled)}\n"
    confidence = -1.0 if math.isnan(word.confidence) else word.confidence
    length = word.end - word.start
    return f"{key[0]} {key[1]} {word.start:.3f} {length:.3f} {word.spelled} {confidence:.6f}\n"


def words_of(output: Texts, row: int) -> list[Word]:
    """The words of one row, with what is known of them.

    >>> [w.spelled for w in words_of(Texts(["a b", "c"]), 0)]
    ['a', 'b']
    """
    spelled = str(output.texts[row]).split()
    if output.offsets is None or output.confidences is None or output.starts is None or output.ends is None:
        return [Word(w, math.nan, math.nan, math.nan) for w in spelled]
    cut = slice(int(output.offsets[row]), int(output.offsets[row + 1]))
    marks = zip(
        output.starts[cut].tolist(), output.ends[cut].tolist(), output.confidences[cut].tolist(), strict=True
    )
    return [Word(w, *mark) for w, mark in zip(spelled, marks, strict=False)]


def _timed(output: Texts, found: Found, row: int) -> list[Word]:
    words = words_of(output, row)
    lacking = [w for w in words if math.isnan(w.start)]
    if not lacking or ("{" in {w.spelled for w in lacking} and all(w.spelled in _MARKS for w in lacking)):
        return words
    systems = [o for o in found.outputs.values() if isinstance(o, Texts) and o.answered[row]]
    for system in systems:
        same = str(system.texts[row]).split() == [w.spelled for w in words]
        theirs = words_of(system, row)
        if same and not any(math.isnan(w.start) for w in theirs):
            return theirs
    return _spread(words, [w for s in systems for w in words_of(s, row) if not math.isnan(w.start)])


def _spread(words: Sequence[Word], heard: Iterable[Word]) -> list[Word]:
    heard = list(heard)
    low = min((w.start for w in heard), default=0.0)
    high = max((w.end for w in heard), default=float(len(words)))
    step = (high - low) / len(words)
    return [Word(w.spelled, low + k * step, low + (k + 1) * step, w.confidence) for k, w in enumerate(words)]


FORMAT = Format(
    "texts",
    "CTM (file channel start duration word [confidence]); truth: STM, or CTM (named .ctm); gzip allowed",
    read,
    write,
)
