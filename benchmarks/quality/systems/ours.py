"""conjoin: fitted and used through its public functions, as its README says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .base import THREADS, Answers, Fitted, Job, Loaded, as_answers


def fit(train: pd.DataFrame, job: Job) -> Fitted:
    """Fit with the limit and save the bundle. The task is given, as it is to the peers."""
    import conjoin

    ensemble: Any = conjoin.fit(
        train, target=job.target, task=job.task, time_limit=job.limit, seed=job.seed, threads=THREADS
    )
    bundle = job.folder / "bundle.conjoin"
    conjoin.save(ensemble, str(bundle))
    return Fitted(bundle, _notes(ensemble))


def _notes(ensemble: Any) -> dict[str, Any]:
    """Return what the fit recorded: the members tried with their validation losses, those kept, the fuser."""
    told = ensemble.card.provenance
    return {
        "deployed": sorted(ensemble.members),
        "validation_losses": {row["name"]: row["loss"] for row in told.get("scores", ())},
        "fuser": type(ensemble.fuser).__name__,
        "choice": told.get("choice"),
    }


def load(bundle: Path, job: Job) -> Loaded:
    """Load the bundle; the members are asked one by one for the comparison with the best single one."""
    import conjoin

    ensemble: Any = conjoin.load(str(bundle))

    def members(frame: pd.DataFrame) -> Mapping[str, Answers]:
        return {str(name): _answers(member.predict(frame)) for name, member in ensemble.members.items()}

    return Loaded(ensemble.predict, _answers, members, {"mapping": ensemble.predict})


def _answers(output: Any) -> Answers:
    return as_answers(output.values, getattr(output, "classes", ()))
