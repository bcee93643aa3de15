"""Plots, made from JSON records (extra `report`: altair). Files are made offline."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conjoin.bundle.format import file_error
from conjoin.errors import FileError, InputError, listed, need

FORMATS = (".svg", ".png", ".html", ".json")
"""Endings of plots: pictures, a page that needs no network, a Vega-Lite document."""


def pareto(
    records: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    cost: str = "cpu_seconds_per_row",
    metric: str = "loss",
) -> None:
    """Plot what is gained against what it costs, and the front of what nothing else beats in both.

    records: JSON rows with `name`, `metric` (lower is better) and `cost` ("cpu_seconds_per_row" or
    "bytes"), such as the `scores` of a bundle; rows without both are left out. path: .svg, .png, .html or
    .json. Raises InputError where no row has both, FileError, MissingExtraError.
    """
    if Path(path).suffix not in FORMATS:
        raise FileError(f"{str(path)!r} is no name of a plot; it must end with {listed(FORMATS)}")
    rows = [
        {"name": str(r.get("name")), "cost": r[cost], "loss": r[metric]}
        for r in records
        if _number(r.get(cost)) and r[cost] > 0 and _number(r.get(metric))
    ]
    if not rows:
        raise InputError(f"no record has both {cost!r} and {metric!r}; nothing to plot")
    front = on_front(rows)
    alt = need("altair")
    x = alt.X("cost:Q", title=_TITLES.get(cost, cost), scale=alt.Scale(type="log"))
    y = alt.Y("loss:Q", title=metric, scale=alt.Scale(zero=False))
    points = [{**r, "front": "on the front" if r["name"] in front else "beaten"} for r in rows]
    base = alt.Chart(alt.Data(values=points), width=560, height=360).encode(x=x, y=y, tooltip=["name:N"])
    line = base.transform_filter("datum.front == 'on the front'")
    line = line.mark_line(interpolate="step-after", opacity=0.5)
    dots = base.mark_point(filled=True, size=70).encode(color=alt.Color("front:N", title=None))
    names = base.mark_text(align="left", dx=7, dy=-6).encode(text="name:N")
    _write(line + dots + names, Path(path))


_TITLES = {"cpu_seconds_per_row": "CPU seconds per row", "bytes": "bytes"}


def on_front(rows: Sequence[Mapping[str, Any]], cost: str = "cost", loss: str = "loss") -> set[str]:
    """The names of rows than which no other is both cheaper and better.

    >>> named = zip("abc", (1, 2, 3), (3, 1, 2))
    >>> rows = [{"name": n, "cost": c, "loss": v} for n, c, v in named]
    >>> sorted(on_front(rows))
    ['a', 'b']
    """
    found, best = set(), float("inf")
    for row in sorted(rows, key=lambda r: (r[cost], r[loss])):
        if row[loss] < best:
            found.add(str(row["name"]))
            best = row[loss]
    return found


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value and abs(value) != float("inf")


def _write(chart: Any, path: Path) -> None:
    new = path.with_name(f".{secrets.token_hex(4)}{path.suffix}")
    try:
        if path.suffix == ".json":
            new.write_text(json.dumps(chart.to_dict(), indent=1), encoding="utf-8")
        else:
            need("vl_convert")
            chart.save(str(new), **({"inline": True} if path.suffix == ".html" else {}))
        new.replace(path)
    except OSError as error:
        raise file_error(error, path, "write") from error
    finally:
        new.unlink(missing_ok=True)
