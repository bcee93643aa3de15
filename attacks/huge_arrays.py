"""The arrays are a sparse file of a terabyte, honestly declared."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    with (folder / good.ARRAYS).open("r+b") as stream:
        stream.truncate(2**40)
    good.tamper(folder, lambda document: document["files"][good.ARRAYS].update(bytes=2**40))
