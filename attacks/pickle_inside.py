"""A pickle lies among the files, where a careless reader would load it."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import good


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


def build(folder: Path) -> None:
    good.save(folder)
    raw = pickle.dumps(Payload())
    (folder / "model.pkl").write_bytes(raw)
    record = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    good.tamper(folder, lambda document: document["files"].update({"model.pkl": record}))
