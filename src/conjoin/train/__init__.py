"""Training: features, folds, learners, the portfolio."""

from __future__ import annotations

from conjoin.train.fit import fit

__all__ = ["fit"]
