"""COCO's JSON: results of detectors, annotations as the truth, and fused results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from conjoin.errors import InputError, OutputsError, listed
from conjoin.formats.record import Format, Found, read_text, write_text
from conjoin.outputs import Array, Boxes, Output

Id: TypeAlias = "int | str"


@dataclass(frozen=True, slots=True, eq=False)
class CocoContext:
    """What a results file needs beside boxes: ids of images, one a row, and of categories, by class name."""

    images: tuple[Id, ...]
    categories: Mapping[str, Id]


@dataclass(frozen=True, slots=True, eq=False)
class _Raw:
    """One file's boxes: image, category, corners (t, 4) and score of each, in the order of the file."""

    images: list[Id]
    categories: list[Id]
    coords: Array
    scores: Array


def read(files: Mapping[str, Path], truth: Path | None = None) -> Found:
    """Results of several detectors, and annotations.

    files: results, each a JSON list of {"image_id", "category_id", "bbox": [x, y, width, height], "score"}.
    truth: {"images": [{"id"}], "categories": [{"id", "name"}], "annotations": [{"image_id", "category_id",
    "bbox", "iscrowd"}]}; a crowd gets score 0, an object 1. Rows are the images by id: all of the truth, or
    without one all that any file names. Every detector answers every row: an image that its file lacks has no
    boxes. Boxes without area stay out. Raises InputError (with file and entry) and FileError.
    """
    told = None if truth is None else _annotations(truth)
    raws = {name: _results(path, told) for name, path in sorted(files.items())}
    if told is None:
        images = _in_order(i for raw in raws.values() for i in raw.images)
        ids = _in_order(c for raw in raws.values() for c in raw.categories)
        categories: dict[str, Id] = {str(c): c for c in ids}
    else:
        images, categories = told[0], told[1]
    context = CocoContext(tuple(images), categories)
    outputs: dict[str, Output] = {name: _boxes(raw, context) for name, raw in raws.items()}
    rows = np.empty(len(images), dtype=object)
    rows[:] = [str(i) for i in images]
    return Found(rows, outputs, None if told is None else _boxes(told[2], context), context)


def write(output: Output, found: Found, path: Path) -> None:
    """Write fused boxes as a results file, packed where its name ends in .gz. Raises FileError."""
    context = found.context
    if not isinstance(output, Boxes) or not isinstance(context, CocoContext):
        raise OutputsError("only boxes that were read from COCO's JSON can be written as such")
    ids = [context.categories[c] for c in output.classes]
    lines = []
    for row, image in enumerate(context.images):
        for p in range(int(output.offsets[row]), int(output.offsets[row + 1])):
            x, y, right, top = (float(v) for v in output.coords[p])
            box = [x, y, right - x, top - y]
            entry = {"image_id": image, "category_id": ids[int(output.codes[p])], "bbox": box}
            lines.append(json.dumps(entry | {"score": float(output.scores[p])}, ensure_ascii=False))
    write_text(path, "[" + ",\n".join(lines) + "]\n")


def _annotations(path: Path) -> tuple[list[Id], dict[str, Id], _Raw]:
    """Ids of images, ids of categories by name, and the objects, crowds with score 0."""
    given = _json(path)
    parts = (
        {k: given.get(k) for k in ("images", "categories", "annotations")} if isinstance(given, dict) else {}
    )
    lacking = [k for k in ("images", "categories", "annotations") if not isinstance(parts.get(k), list)]
    if lacking:
        raise InputError(
            f"{path}: no COCO annotations; they are an object with lists of images, categories and "
            f"annotations, and this lacks {listed(lacking)}"
        )
    images = [_id(e, "id", f"{path}, images[{k}]") for k, e in enumerate(parts["images"] or [])]
    categories: dict[str, Id] = {}
    for k, entry in enumerate(parts["categories"] or []):
        number = _id(entry, "id", f"{path}, categories[{k}]")
        name = str(entry.get("name", number))
        if name in categories or number in categories.values():
            raise InputError(
                f"{path}, categories[{k}]: the category {name!r} (id {number!r}) stands there twice"
            )
        categories[name] = number
    if len(set(images)) < len(images):
        raise InputError(f"{path}: an image id stands there twice")
    known = (set(images), set(categories.values()))
    raw = _entries(path, parts["annotations"] or [], known, "annotations", scored=False)
    return _in_order(images), categories, raw


def _results(path: Path, told: tuple[list[Id], dict[str, Id], _Raw] | None) -> _Raw:
    given = _json(path)
    if not isinstance(given, list):
        raise InputError(
            f"{path}: no COCO results; they are a list of objects with image_id, category_id, bbox, score"
        )
    known = None if told is None else (set(told[0]), set(told[1].values()))
    return _entries(path, given, known, "", scored=True)


def _entries(
    path: Path, entries: Sequence[Any], known: tuple[set[Id], set[Id]] | None, what: str, *, scored: bool
) -> _Raw:
    images: list[Id] = []
    categories: list[Id] = []
    corners: list[tuple[float, float, float, float]] = []
    scores: list[float] = []
    for k, entry in enumerate(entries):
        where = f"{path}, {what}[{k}]" if what else f"{path}, entry {k}"
        image, category = _id(entry, "image_id", where), _id(entry, "category_id", where)
        if known is not None and image not in known[0]:
            raise InputError(f"{where}: the truth has no image with the id {image!r}")
        if known is not None and category not in known[1]:
            ids = listed(_in_order(known[1]))
            raise InputError(f"{where}: the truth has no category with the id {category!r}; it has {ids}")
        x, y, width, height = _bbox(entry, where)
        if width == 0 or height == 0:
            continue
        images.append(image)
        categories.append(category)
        corners.append((x, y, x + width, y + height))
        scores.append(_score(entry, where) if scored else float(not entry.get("iscrowd", 0)))
    coords = np.array(corners, np.float64).reshape(-1, 4)
    return _Raw(images, categories, coords, np.array(scores, np.float64))


def _boxes(raw: _Raw, context: CocoContext) -> Boxes:
    """Boxes of a file, row after row in the order of the file."""
    row_of = {image: row for row, image in enumerate(context.images)}
    code_of = {c: code for code, c in enumerate(context.categories.values())}
    rows = np.array([row_of[i] for i in raw.images], np.int64)
    codes = np.array([code_of[c] for c in raw.categories], np.int64)
    order = np.argsort(rows, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(row_of)))])
    return Boxes(raw.coords[order], raw.scores[order], codes[order], offsets, tuple(context.categories))


def _json(path: Path) -> Any:
    text = read_text(path)
    try:
        return json.loads(text, parse_constant=float)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: no JSON: {error.msg}") from error
    except RecursionError as error:
        raise InputError(f"{path}: JSON that is nested too deep") from error


def _id(entry: Any, key: str, where: str) -> Id:
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(f"{where}: {key} must be a whole number or a string, not {value!r:.60}")
    return value


def _bbox(entry: Mapping[str, Any], where: str) -> tuple[float, float, float, float]:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_number(v) for v in box):
        raise InputError(f"{where}: bbox must be [x, y, width, height], four finite numbers, not {box!r:.80}")
    x, y, width, height = (float(v) for v in box)
    if width < 0 or height < 0:
        raise InputError(f"{where}: bbox has a negative width or height, {width:g} x {height:g}")
    return x, y, width, height


def _score(entry: Mapping[str, Any], where: str) -> float:
    score = entry.get("score")
    if not _number(score):
        raise InputError(f"{where}: score must be a finite number, not {score!r:.60}")
    return float(score)  # type: ignore[arg-type]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _in_order(ids: Iterable[Id]) -> list[Id]:
    """Different ids, numbers by size and before strings."""
    return sorted(set(ids), key=lambda i: (isinstance(i, str), i))


FORMAT = Format(
    kind="boxes",
    told="COCO results JSON; truth: COCO annotations JSON",
    read=read,
    write=write,
)
