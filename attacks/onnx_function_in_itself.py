"""A function of an ONNX model calls itself: writing it out never ends."""

from __future__ import annotations

from pathlib import Path

import onnx_inside as inside


def build(folder: Path) -> None:
    loop = inside.function("f", [inside.call("f", "a", "b")])
    inside.replace(folder, inside.with_functions([loop]))
