"""What a system's module offers to the worker, and what every one of them answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

THREADS = 2


@dataclass(frozen=True)
class Job:
    """One run: a system's settings on one table. `folder` is empty and belongs to the run."""

    task: Literal["binary", "multiclass", "regression"]
    target: str
    limit: float | None
    preset: str | None
    seed: int
    folder: Path


@dataclass(frozen=True)
class Fitted:
    """What a fit left: the folder or file to deploy, and notes for the record (members, warnings)."""

    bundle: Path
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answers:
    """Answers of one batch: (n, K) probabilities with K class names, or (n,) values without classes."""

    values: NDArray[np.float64]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """A reloaded bundle, ready to answer.

    `predict` returns what the system returns, with nothing of ours around it, so that its time is its own;
    `answers` turns that into `Answers`. `members` answers each member on its own, where a system can.
    `row_forms` are further ways to hand over one row, by name.
    """

    predict: Callable[[pd.DataFrame], Any]
    answers: Callable[[Any], Answers]
    members: Callable[[pd.DataFrame], Mapping[str, Answers]] | None = None
    row_forms: Mapping[str, Callable[[pd.DataFrame], Any]] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


class SystemModule(Protocol):
    """The two functions of a module in this folder."""

    def fit(self, train: pd.DataFrame, job: Job) -> Fitted:
        """Fit on all rows of `train` and leave a bundle under `job.folder`."""
        ...

    def load(self, bundle: Path, job: Job) -> Loaded:
        """Load the bundle as a server would."""
        ...


def as_answers(values: Any, classes: Any = ()) -> Answers:
    """Make `Answers` of anything array-like; class names become text, as `str` writes them."""
    return Answers(np.asarray(values, dtype=np.float64), tuple(str(name) for name in classes))
