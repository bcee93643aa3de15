"""Forty functions, each of which calls the next one twice: a trillion nodes when written out."""

from __future__ import annotations

from pathlib import Path

import onnx_inside as inside


def build(folder: Path) -> None:
    steps = [
        inside.function(f"f{k}", [inside.call(f"f{k + 1}", "a", "c"), inside.call(f"f{k + 1}", "c", "b")])
        for k in range(40)
    ]
    last = inside.function("f40", [inside.call("Neg", "a", "b", "")])
    inside.replace(folder, inside.with_functions([*steps, last]))
