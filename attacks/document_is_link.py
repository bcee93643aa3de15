"""conjoin.json itself is a link to a file outside."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    (folder / "conjoin.json").rename(folder.parent / "secret.json")
    (folder / "conjoin.json").symlink_to(folder.parent / "secret.json")
