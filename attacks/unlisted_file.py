"""A file lies in the folder that the document does not list."""

from __future__ import annotations

from pathlib import Path

import good


def build(folder: Path) -> None:
    good.save(folder)
    (folder / "0.model.onnx").write_bytes(b"not listed")
