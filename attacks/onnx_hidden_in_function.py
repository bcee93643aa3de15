"""The operator of an unknown domain is hidden in a function of the model."""

from __future__ import annotations

from pathlib import Path

import onnx_inside as inside


def build(folder: Path) -> None:
    hidden = inside.function("f", [inside.call("Run", "a", "b", "evil")])
    inside.replace(folder, inside.with_functions([hidden]))
