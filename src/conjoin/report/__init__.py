"""Reports: leaderboards, tables and plots, made from JSON records."""

from __future__ import annotations

from conjoin.report.evaluate import evaluate

__all__ = ["evaluate"]
