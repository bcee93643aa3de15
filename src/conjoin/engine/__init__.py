"""Where work runs. `ENGINES` is the table: each is an Engine, an ordered map over tasks with shared data."""

from __future__ import annotations

from conjoin.engine.local import Local

ENGINES = {"local": Local}

__all__ = ["ENGINES", "Local"]
