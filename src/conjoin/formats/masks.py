"""Masks: NIfTI volumes, PNG images, NumPy arrays; one image a file, a folder of them, or an .npz archive.

| given                   | rows                                                                    |
|-------------------------|-------------------------------------------------------------------------|
| folder                  | its .png, .nii, .nii.gz and .npy files, by name without ending           |
| .png .nii .nii.gz .npy  | one row, whatever the file is called                                     |
| .npz                    | `masks` (n, *shape) with names in `rows`; or an array a row, by its name |

In an .npz `classes` names the classes and `answered` tells which rows hold a mask. Whole numbers are labels,
other numbers probabilities. Where all pictures of all systems hold 0 and 255 alone, 255 is label 1, and is
written as 255 again. Images of one system must have one shape. NIfTI needs nibabel, PNG Pillow (extra
`masks`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from conjoin.errors import FileError, InputError, OutputsError, listed, need
from conjoin.formats.record import MOST_BYTES, Format, Found, place
from conjoin.outputs import Array, Masks, Output

ENDS = (".nii.gz", ".nii", ".png", ".npy")
ONE = "image"
"""The name of the row where a system gives one file."""


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """How fused masks are written back.

    end: of the files of each row. folder: systems gave folders. space: header and affine of a NIfTI file, by
    row. white: 255 stood for label 1.
    """

    end: str
    folder: bool
    space: Mapping[str, Any]
    white: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """The images of one system by row, the names of classes, and where they are from."""

    images: dict[str, Array]
    classes: tuple[str, ...]
    origin: Origin


def read(files: Mapping[str, Path], truth: Path | None) -> Found:
    """Masks of each system, rows matched by name. Raises InputError and FileError."""
    parts = {name: _system(path) for name, path in files.items()}
    answer = None if truth is None else _system(truth)
    every = [*parts.values(), *([answer] if answer else [])]
    if len({p.origin.folder for p in every}) > 1:
        every = [_only(p) for p in every]
    parts = dict(zip(parts, every, strict=False))
    answer = every[-1] if answer else None
    rows = sorted({r for p in every for r in p.images})
    white = bool(rows) and all(p.origin.end == ".png" for p in every) and _is_white(every)
    outputs = {n: _masks(str(files[n]), p, rows, white) for n, p in parts.items()}
    right = None if answer is None else _masks(str(truth), answer, rows, white)
    shapes = {n: _shape(m) for n, m in outputs.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(f"masks of the systems differ in shape; resample them to one grid first: {shapes}")
    first = next(iter(parts.values())).origin
    space = {r: s for p in reversed(list(parts.values())) for r, s in p.origin.space.items()}
    context = replace(first, white=white, space=space)
    return Found(np.array(rows, dtype=object), cast("dict[str, Output]", outputs), right, context)


def write(fused: Output, found: Found, path: Path) -> None:
    """Write .npz, one .nii, .nii.gz, .png or .npy, or (no ending) a folder of such files as were read.

    NIfTI keeps the header of the first system that has the row. Raises InputError and FileError.
    """
    if not isinstance(fused, Masks):
        raise OutputsError(f"{fused.kind} are not masks and do not go into a file of masks")
    origin = found.context if isinstance(found.context, Origin) else Origin(".npy", True, {})
    name = path.name.lower()
    if name.endswith(".npz"):
        with place(path) as working, working.open("wb") as file:
            arrays: dict[str, Any] = {
                "masks": fused.values,
                "rows": np.array([str(r) for r in found.rows]),
                "answered": fused.answered,
            }
            if fused.classes:
                arrays["classes"] = np.array(fused.classes)
            np.savez_compressed(file, **arrays)
        return
    end = next((e for e in ENDS if name.endswith(e)), None)
    if end is None and path.suffix and not path.is_dir():
        raise InputError(f"{path}: masks are written to {listed(ENDS)}, .npz or a folder (no ending)")
    kept = np.flatnonzero(fused.answered)
    if end is None:
        with _folder(path) as working:
            for row in kept:
                _write_image(fused, int(row), found, origin, working / f"{found.rows[row]}{origin.end}")
        return
    if len(fused) != 1 or not len(kept):
        raise InputError(
            f"{path} holds one image; there are {len(kept)} to write: give a folder or an .npz file"
        )
    with place(path) as working:
        _write_image(fused, 0, found, replace(origin, end=end), working)


def _only(part: _Read) -> _Read:
    """The one image of a system, called as a single file is."""
    if len(part.images) != 1:
        raise InputError(
            "give a folder (or .npz) for each system and the truth, or a file for each: a single file has no "
            "name of a row"
        )
    (row, image), space = next(iter(part.images.items())), part.origin.space
    origin = replace(part.origin, space={ONE: space[row]} if row in space else {})
    return replace(part, images={ONE: image}, origin=origin)


def _system(path: Path) -> _Read:
    if path.is_dir():
        return _read_folder(path)
    name = path.name.lower()
    if name.endswith(".npz"):
        return _read_archive(path)
    end = next((e for e in ENDS if name.endswith(e)), None)
    if end is None:
        raise InputError(f"{path}: not a file of masks; give {listed(ENDS)}, .npz or a folder of them")
    image, space = _image(path, end)
    return _Read({ONE: image}, (), Origin(end, False, {ONE: space} if space else {}))


def _read_folder(path: Path) -> _Read:
    images: dict[str, Array] = {}
    spaces, ends = {}, []
    for file in sorted(path.iterdir()):
        end = next((e for e in ENDS if file.name.lower().endswith(e)), None)
        if end is None or file.name.startswith(".") or not file.is_file():
            continue
        row = file.name[: -len(end)]
        if row in images:
            raise InputError(f"{path}: two files are called {row!r} with different endings")
        images[row], space = _image(file, end)
        ends.append(end)
        if space:
            spaces[row] = space
    if not images:
        raise InputError(f"{path}: the folder holds no {listed(ENDS)} file")
    return _Read(images, (), Origin(ends[0], True, spaces))


def _read_archive(path: Path) -> _Read:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(i.file_size for i in archive.infolist())
        if size > MOST_BYTES:
            raise FileError(f"{path} unpacks to more than {MOST_BYTES >> 30} GiB")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {n: archive[n] for n in archive.files}
    except FileNotFoundError as error:
        raise FileError(f"there is no file {str(path)!r}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FileError(f"{path} is no archive of plain arrays (.npz): {error}") from error
    classes = tuple(str(c) for c in arrays.pop("classes", ()))
    if "masks" not in arrays:
        return _Read({n: _checked(a, path, n) for n, a in arrays.items()}, classes, Origin(".npy", True, {}))
    masks = _checked(arrays["masks"], path, "masks")
    if masks.ndim < 2:
        raise InputError(f"{path}: `masks` must have shape (n, *shape), not {masks.shape}")
    rows = [str(r) for r in arrays.get("rows", np.arange(1, len(masks) + 1))]
    answered = arrays.get("answered", np.ones(len(masks), dtype=bool))
    if len(set(rows)) != len(masks) or np.shape(answered) != (len(masks),):
        raise InputError(f"{path}: {len(masks)} masks need as many different `rows` and `answered`")
    images = {r: masks[k] for k, r in enumerate(rows) if answered[k]}
    return _Read(images, classes, Origin(".npy", True, {}))


def _image(path: Path, end: str) -> tuple[Array, Any]:
    """The pixels of a file, and for NIfTI its header and affine."""
    if not path.exists():
        raise FileError(f"there is no file {str(path)!r}")
    if end == ".png":
        return _png(path), None
    if end != ".npy":
        return _nifti(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise FileError(f"{path} holds more than {MOST_BYTES >> 30} GiB")
        return _checked(np.load(path, allow_pickle=False), path, "it"), None
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path} is no plain array (.npy): {error}") from error


def _png(path: Path) -> Array:
    pillow = cast(Any, need("PIL.Image"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            with pillow.open(path, formats=["PNG"]) as image:
                mode, pixels = image.mode, np.asarray(image)
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombWarning) as error:
        raise FileError(f"{path} is no PNG image that can be read: {error}") from error
    except pillow.DecompressionBombError as error:
        raise FileError(f"{path}: {error}") from error
    if pixels.ndim != 2:
        raise InputError(
            f"{path}: a mask has one number a pixel (grey or palette), not the colours of mode {mode}"
        )
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def _nifti(path: Path) -> tuple[Array, Any]:
    nibabel = cast(Any, need("nibabel"))
    try:
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):
            raise FileError(f"{path} is {type(image).__name__}, not NIfTI")
        if int(np.prod([int(s) for s in image.shape], dtype=object)) * 8 > MOST_BYTES:
            raise FileError(f"{path} unpacks to more than {MOST_BYTES >> 30} GiB; its shape is {image.shape}")
        pixels = np.ascontiguousarray(np.asanyarray(image.dataobj))
    except FileError:
        raise
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise FileError(f"{path} is no NIfTI file that can be read: {error}") from error
    except nibabel.spatialimages.HeaderDataError as error:
        raise FileError(f"{path}: its header makes no sense: {error}") from error
    return _checked(pixels, path, "it"), (image.header.copy(), image.affine)


def _checked(array: Array, path: Path, what: str) -> Array:
    if array.dtype.kind not in "fiub":
        raise InputError(f"{path}: {what} must hold numbers, not {array.dtype}")
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def _is_white(parts: list[_Read]) -> bool:
    values = {v for p in parts for i in p.images.values() for v in np.unique(i)[:3].tolist()}
    return values == {0, 255} or values == {255}


def _masks(what: str, part: _Read, rows: list[str], white: bool) -> Masks:
    """One system's images as masks of all rows."""
    shapes = {r: i.shape for r, i in part.images.items()}
    if len(set(shapes.values())) > 1:
        some = listed(f"{r} {s}" for r, s in list(shapes.items())[:4])
        raise InputError(f"{what}: images differ in shape ({some}); fuse them in groups of one shape")
    shape = next(iter(shapes.values()), (1, 1))
    images = list(part.images.values())
    soft = not all(_whole(i) for i in images)
    kind = np.result_type(*images, np.uint8) if images else np.dtype(np.uint8)
    if kind.kind == "f":
        most = max(float(i.max(initial=0)) for i in images)
        kind = np.result_type(np.float32, kind) if soft else np.dtype(np.uint8 if most < 256 else np.int64)
    values = np.zeros((len(rows), *shape), dtype=kind)
    answered = np.array([r in part.images for r in rows], dtype=bool)
    for k in np.flatnonzero(answered):
        image = part.images[rows[k]]
        values[k] = image // 255 if white else image
    try:
        return Masks(values, part.classes, answered)
    except OutputsError as error:
        raise InputError(f"{what}: {error}") from error


def _whole(image: Array) -> bool:
    return image.dtype.kind != "f" or bool(np.isfinite(image).all() and (image == np.floor(image)).all())


def _shape(masks: Masks) -> tuple[int, ...]:
    shape: tuple[int, ...] = masks.values.shape[1:]
    return shape[:-1] if masks.values.dtype.kind == "f" and masks.classes else shape


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """A new folder that gets its name when the block ends well. Raises FileError where it holds something."""
    working = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}")
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FileError(f"{path} is there already; give a new or empty folder")
        working.mkdir()
        yield working
        os.replace(working, path)
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _write_image(fused: Masks, row: int, found: Found, origin: Origin, path: Path) -> None:
    image = fused.values[row]
    if origin.end == ".npy":
        with path.open("wb") as file:
            np.save(file, image, allow_pickle=False)
    elif origin.end == ".png":
        _write_png(image, origin, path)
    else:
        _write_nifti(image, origin.space.get(str(found.rows[row])), path)


def _write_png(image: Array, origin: Origin, path: Path) -> None:
    pillow = cast(Any, need("PIL.Image"))
    if image.dtype.kind == "f" or image.ndim != 2:
        told = "probabilities" if image.dtype.kind == "f" else f"shape {image.shape}"
        raise InputError(
            f"a PNG image holds labels of two axes, not {told}; take a fuser that answers labels, or write "
            ".npz"
        )
    most = int(image.max(initial=0))
    if most > 65535:
        raise InputError(f"label {most} does not fit into a PNG image; write .npz")
    scaled = image * 255 if origin.white and most <= 1 else image
    pillow.fromarray(scaled.astype(np.uint8 if int(scaled.max(initial=0)) < 256 else np.uint16)).save(
        path, format="PNG"
    )


def _write_nifti(image: Array, space: Any, path: Path) -> None:
    nibabel = cast(Any, need("nibabel"))
    header, affine = space if space else (None, np.eye(4))
    kind = image.dtype
    if kind.kind != "f":
        kind = np.dtype(np.uint8 if int(image.max(initial=0)) < 256 else np.int32)
    made = nibabel.Nifti1Image(image.astype(kind), affine, header)
    made.set_data_dtype(kind)
    made.header.set_slope_inter(1, 0)
    made.header["cal_min"], made.header["cal_max"] = 0, 0
    nibabel.save(made, path)


FORMAT = Format(
    "masks",
    "masks as NIfTI (.nii, .nii.gz), PNG, .npy, folders of these, or .npz; truth: the same",
    read,
    write,
)
