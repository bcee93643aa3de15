"""A listed file lies outside the folder, by `..`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import good


def build(folder: Path) -> None:
    good.save(folder)
    (folder.parent / "secret.safetensors").write_bytes((folder / good.ARRAYS).read_bytes())

    def change(document: dict[str, Any]) -> None:
        document["files"]["../secret.safetensors"] = document["files"].pop(good.ARRAYS)

    (folder / good.ARRAYS).unlink()
    good.tamper(folder, change)
