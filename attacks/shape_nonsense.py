"""The arrays of a part have shapes that do not fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import good


def build(folder: Path) -> None:
    good.save(folder)

    def change(document: dict[str, Any]) -> None:
        linear = document["parts"][2]["arrays"]
        linear["coefficients"], linear["intercept"] = linear["intercept"], linear["coefficients"]

    good.tamper(folder, change)
