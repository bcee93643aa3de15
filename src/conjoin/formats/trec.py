"""TREC files: runs (`query Q0 document rank score tag`) and judgements (`query iteration document gain`).

Gzip is read by its first bytes and written where the name ends in .gz. As in trec_eval, scores decide the
order and the column of ranks is not read; documents of equal scores stay in the order of the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from conjoin.errors import InputError
from conjoin.formats.record import Format, Found, read_text, write_text
from conjoin.outputs import Output, Ranking

if TYPE_CHECKING:
    from conjoin.outputs import Array

TAG = "conjoin"
Lists = dict[str, dict[str, float]]
"""Query -> document -> score, in the order of the file."""


def read(files: Mapping[str, Path], truth: Path | None) -> Found:
    """Runs by name of the system, and judgements. Rows: the queries of the runs, then those judged only.

    A query that a run lacks is not answered by it. Raises InputError with file and line, FileError.
    """
    runs = {name: read_run(path) for name, path in files.items()}
    judged = None if truth is None else read_judgements(truth)
    queries = list(dict.fromkeys(q for run in [*runs.values(), judged or {}] for q in run))
    outputs: dict[str, Output] = {name: ranking(run, queries) for name, run in runs.items()}
    rows = np.empty(len(queries), dtype=object)
    rows[:] = queries
    return Found(rows, outputs, None if judged is None else ranking(judged, queries))


def read_run(path: Path) -> Lists:
    """One run. Raises InputError on a line that has not 6 fields, on a score that is no finite number and on
    a document that a query has twice; FileError.
    """
    return _read(path, 6, 4, "query Q0 document rank score tag")


def read_judgements(path: Path) -> Lists:
    """One file of judgements (qrels). Raises InputError on a line that has not 4 fields, on a gain that is no
    number and on a document that is judged twice; FileError.
    """
    return _read(path, 4, 3, "query iteration document gain")


def _read(path: Path, fields: int, at: int, told: str) -> Lists:
    found: Lists = {}
    for n, line in enumerate(read_text(path).split("\n"), 1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != fields:
            raise InputError(f"{path}, line {n}: {len(parts)} fields, but a line is: {told}")
        query, document = parts[0], parts[2]
        try:
            score = float(parts[at])
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            what = "score" if fields == 6 else "gain"
            raise InputError(f"{path}, line {n}: the {what} {parts[at]!r} is no finite number")
        items = found.setdefault(query, {})
        if document in items:
            raise InputError(f"{path}, line {n}: query {query!r} has the document {document!r} a second time")
        items[document] = score
    return found


def ranking(run: Lists, queries: list[str]) -> Ranking:
    """Lists by falling score, a row for each query; one that the run lacks is not answered.

    >>> ranking({"q": {"a": 1.0, "b": 2.0}}, ["q", "p"]).ids.tolist()
    ['b', 'a']
    """
    lists = [run.get(q, {}) for q in queries]
    offsets = np.cumsum([0, *(len(items) for items in lists)])
    ids: Array = np.empty(int(offsets[-1]), dtype=object)
    ids[:] = [d for items in lists for d in items]
    scores = np.array([s for items in lists for s in items.values()], dtype=np.float64)
    row = np.repeat(np.arange(len(lists)), np.diff(offsets))
    best = np.lexsort((-scores, row))
    return Ranking(ids[best], scores[best], offsets, np.array([q in run for q in queries], dtype=bool))


def write(output: Output, found: Found, path: Path) -> None:
    """A run of all queries that are answered, ranks from 1, scores to the last digit.

    Raises InputError, FileError.
    """
    if not isinstance(output, Ranking):
        raise InputError(f"a TREC run holds rankings, not {output.kind}")
    ids, scores, cuts = output.ids.tolist(), output.scores.tolist(), output.offsets.tolist()
    for name in {str(i) for i in ids}:
        if not name or any(c.isspace() for c in name):
            raise InputError(f"a TREC run cannot hold the document {name!r}: names have no spaces there")
    lines = []
    for r, query in enumerate(found.rows.tolist()):
        if output.answered[r]:
            each = zip(ids[cuts[r] : cuts[r + 1]], scores[cuts[r] : cuts[r + 1]], strict=True)
            lines += [f"{query} Q0 {d} {i} {s!r} {TAG}\n" for i, (d, s) in enumerate(each, 1)]
    write_text(path, "".join(lines))


FORMAT = Format(
    "ranking",
    "TREC runs (query Q0 document rank score tag); truth: TREC judgements (qrels); gzip allowed",
    read,
    write,
)
