"""A listed file has an absolute path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import good


def build(folder: Path) -> None:
    good.save(folder)
    secret = folder.parent / "secret.safetensors"
    secret.write_bytes((folder / good.ARRAYS).read_bytes())

    def change(document: dict[str, Any]) -> None:
        document["files"][str(secret)] = document["files"].pop(good.ARRAYS)

    (folder / good.ARRAYS).unlink()
    good.tamper(folder, change)
