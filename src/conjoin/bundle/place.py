"""Places on disk: a bundle or a file appears whole, in one step, and nothing of somebody else's is lost."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from conjoin.bundle.format import file_error, read_document, strangers
from conjoin.errors import BundleError, FileError, InputError


def check_place(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Where a bundle for `path` is written to. Raises FileError where that would lose something."""
    place = Path(os.path.realpath(path))
    if not place.parent.is_dir():
        raise FileError(
            f"cannot write {str(path)!r}: the folder {str(place.parent)!r} is not there; make it first"
        )
    if not os.path.lexists(place):
        return place
    if not place.is_dir():
        raise FileError(
            f"cannot write the bundle {str(path)!r}: a file of that name is there; choose another"
        )
    try:
        extra = list(strangers(place, read_document(place)))
    except (BundleError, FileError) as error:
        if not any(place.iterdir()):
            return place
        raise FileError(
            f"cannot write the bundle {str(path)!r}: a folder of that name is there and is no sound bundle "
            f"({error}); "
            "choose another name, or remove it yourself"
        ) from error
    if extra:
        raise FileError(
            f"cannot replace the bundle {str(path)!r}: its folder also holds {extra[0]!r}, "
            "which would be lost; take it out first"
        )
    if not force:
        raise FileError(
            f"the bundle {str(path)!r} is already there; choose another name, or replace it "
            "with force=True (--force)"
        )
    return place


def write_folder(place: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a new folder beside `place`, then move it there. Raises FileError, leaving nothing."""
    token = secrets.token_hex(4)
    new, old = (place.with_name(f".{place.name[:60]}.{token}.{end}") for end in ("new", "old"))
    with _cleaned(new, place):
        new.mkdir()
        for name, raw in files.items():
            (new / name).write_bytes(raw)
        if place.exists():
            place.rename(old)
            try:
                new.rename(place)
            except OSError:
                old.rename(place)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            new.rename(place)


def write_file(path: str | os.PathLike[str], raw: bytes, *, force: bool = False) -> None:
    """Write a file in one step. Raises FileError where it is there (without `force`) or cannot be written."""
    place = check_file(path, force=force)
    new = place.with_name(f".{place.name[:60]}.{secrets.token_hex(4)}.new")
    with _cleaned(new, place):
        new.write_bytes(raw)
        new.replace(place)


def check_file(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Where a file for `path` is written to. Raises FileError where that would lose something."""
    place = Path(os.path.realpath(path))
    if not place.parent.is_dir():
        raise FileError(
            f"cannot write {str(path)!r}: the folder {str(place.parent)!r} is not there; make it first"
        )
    if place.is_dir():
        raise FileError(f"cannot write {str(path)!r}: a folder of that name is there; choose another name")
    if place.exists() and not force:
        raise FileError(
            f"{str(path)!r} is already there; choose another name, or replace it with force (--force)"
        )
    return place


@contextmanager
def _cleaned(new: Path, place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise file_error(error, place, "write") from error
    except ValueError as error:
        raise InputError(f"cannot write {str(place)!r}: {error}") from error
    finally:
        if new.is_dir():
            shutil.rmtree(new, ignore_errors=True)
        else:
            new.unlink(missing_ok=True)
