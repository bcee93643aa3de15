"""Members made of members: an ensemble answers, nests and is saved as any member."""

from __future__ import annotations

from conjoin.compose.ensemble import Ensemble

__all__ = ["Ensemble"]
