"""A file of the bundle is a link to a file outside."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    arrays = folder / good.ARRAYS
    arrays.rename(folder.parent / "secret.safetensors")
    arrays.symlink_to(folder.parent / "secret.safetensors")
    good.tamper(folder, good.nothing)
