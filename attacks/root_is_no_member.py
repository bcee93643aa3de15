"""The first part is no member, but an encoder."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    good.tamper(folder, lambda document: document.update(parts=document["parts"][1:2]))
