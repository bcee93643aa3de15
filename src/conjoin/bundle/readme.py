"""The model card of a bundle, README.md, made from the same records as `conjoin.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from conjoin.errors import bytes_text as bytes_text
from conjoin.errors import printable as printable
from conjoin.errors import seconds_text as seconds_text

MOST_ROWS = 60
MOST_CATEGORIES = 6

_ANSWERS = {
    "probabilities": "a probability for each class",
    "values": "a number",
    "quantiles": "a value for each quantile level",
    "labels": "a class, or no answer",
}


def readme(document: Mapping[str, Any], size: int) -> str:
    """Markdown: what the model answers, what it needs, how good it is, what is inside, how to use it."""
    sections = [
        f"# {_cell(document['name'])}",
        _summary(document, size),
        _section("How good it is", _scores(document)),
        _section("What was tried", _rows(_tried(document))),
        _section("What is inside", _members(document)),
        _section("What it needs", _columns(document)),
        _section("What it was trained on", _facts(document.get("data"))),
        _section("What to know", _notes(document)),
        _section("How to use it", _usage(document)),
        _section("Made with", _facts(document.get("versions"))),
    ]
    return "\n\n".join(s for s in sections if s) + "\n"


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _summary(document: Mapping[str, Any], size: int) -> str:
    kind = str(document["kind"])
    lines = [f"- For each row: {_ANSWERS.get(kind, kind)}."]
    if document.get("classes"):
        lines.append(f"- Classes: {_named(document['classes'])}.")
    if document.get("levels"):
        lines.append(f"- Levels: {_named(document['levels'])}.")
    lines.append(f"- Size: {bytes_text(size)}.")
    cost = document.get("cost") or {}
    if cost.get("cpu_seconds_per_row"):
        lines.append(f"- Cost: {seconds_text(cost['cpu_seconds_per_row'])} of one CPU for a row, in batches.")
    lines.append(f"- Licence: {_cell(document['licence']) if document.get('licence') else 'not stated'}.")
    lines.append(f"- Written by {_cell(document['written_by'])}, bundle format {document['format']}.")
    return "\n".join(lines)


def _scores(document: Mapping[str, Any]) -> str:
    rows = document.get("scores")
    if not isinstance(rows, list):
        return _facts(rows)
    shown = [_score(r) for r in rows if isinstance(r, Mapping)]
    text = "Measured on rows that the models had not seen (cross-validation), with 95 % intervals."
    return f"{text}\n\n{_rows(shown)}" if shown else ""


def _score(row: Mapping[str, Any]) -> dict[str, Any]:
    interval = (
        f"{_number(row.get('low'))} to {_number(row.get('high'))}" if row.get("low") is not None else ""
    )
    return {
        "model": row.get("name"),
        str(row.get("score", "value")): row.get("value"),
        "95 %": interval,
        "in the bundle": "yes" if row.get("kept") else "",
        "CPU per row": seconds_text(row["cpu_seconds_per_row"]) if row.get("cpu_seconds_per_row") else "",
        "size": bytes_text(row["bytes"]) if isinstance(row.get("bytes"), int) else "",
    }


def _tried(document: Mapping[str, Any]) -> Any:
    choice = document.get("choice")
    return choice.get("candidates") if isinstance(choice, Mapping) else None


def _members(document: Mapping[str, Any]) -> str:
    rows = []
    for member in document.get("members") or []:
        cost = member.get("cpu_seconds_per_row")
        rows.append(
            {"member": member["name"], "answers": member["kind"], "size": bytes_text(member["bytes"])}
        )
        rows[-1]["CPU per row"] = seconds_text(cost) if cost else ""
    fuser = document.get("fuser")
    text = _rows(rows)
    return text + (f"\n\nTheir answers are fused by `{_cell(fuser['type'])}`." if fuser else "")


def _columns(document: Mapping[str, Any]) -> str:
    columns = document["columns"]
    return _rows([{"column": c["name"], "type": c["type"], "categories": categories(c)} for c in columns])


def categories(column: Mapping[str, Any]) -> str:
    """The first categories of a column of the document, and how many more there are."""
    known = [str(v) for v in column.get("categories") or []][:MOST_CATEGORIES]
    more = (column.get("categories_in_all") or 0) - len(known)
    return ", ".join(known) + (f" and {more} more" if more > 0 else "")


def _notes(document: Mapping[str, Any]) -> str:
    notes = (document.get("provenance") or {}).get("notes")
    return "\n".join(f"- {_cell(n)}" for n in notes) if isinstance(notes, list) else ""


_EXAMPLES = {"number": "1.0", "boolean": "True", "date": '"2024-01-31"', "tensor": "..."}


def _usage(document: Mapping[str, Any]) -> str:
    columns = document["columns"][:3]
    row = ", ".join(f"{c['name']!r}: [{_example(c)}]" for c in columns)
    more = ", ..." if len(document["columns"]) > len(columns) else ""
    return """\
```
conjoin predict THIS_FOLDER rows.csv -o answers.csv
conjoin info THIS_FOLDER
```

```python
import conjoin

member = conjoin.load("THIS_FOLDER")
member.predict({ROW})
```

Loading runs no code of this folder: it holds JSON, arrays and ONNX graphs.""".replace(
        "ROW", printable(row) + more
    )


def _example(column: Mapping[str, Any]) -> str:
    known = column.get("categories") or ["some text"]
    return _EXAMPLES.get(column["type"], repr(str(known[0])))


def _facts(found: Any) -> str:
    if not isinstance(found, Mapping):
        return ""
    plain = {k: v for k, v in found.items() if isinstance(v, str | int | float) and not isinstance(v, bool)}
    return "\n".join(f"- {_cell(k)}: {_cell(_number(v))}" for k, v in plain.items())


def _rows(rows: Any) -> str:
    """A Markdown table of JSON objects; columns are their keys, in the order of first use."""
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        return ""
    shown = [r for r in rows if isinstance(r, Mapping)][:MOST_ROWS]
    plain = {k: None for r in shown for k, v in r.items() if not isinstance(v, Mapping | list)}
    keys = [k for k in plain if any(r.get(k) not in (None, "") for r in shown)]
    if not keys:
        return ""
    lines = [_line(keys), _line(["---"] * len(keys))]
    lines += [_line([_number(r.get(k)) for k in keys]) for r in shown]
    rest = len(rows) - len(shown)
    return "\n".join(lines) + (f"\n\nand {rest} more." if rest else "")


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(_cell(c) for c in cells) + " |"


def _number(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _named(names: Sequence[object]) -> str:
    shown = ", ".join(_cell(n) for n in names[:MOST_ROWS])
    return shown + (f" and {len(names) - MOST_ROWS} more" if len(names) > MOST_ROWS else "")


def _cell(value: object) -> str:
    """Text that stays on its line and in its cell, and means nothing to Markdown."""
    text = printable(" ".join(str(value).split()))
    return "".join("\\" + c if c in "|\\`*[]<>" else c for c in text)
