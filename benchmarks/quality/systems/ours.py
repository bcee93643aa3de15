"""conjoin: fitted and used through its public functions, as its README says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .base import Answers, Fitted, Job, Loaded, as_answers


def fit(train: pd.DataFrame, job: Job) -> Fitted:
    """Fit with the limit and save the bundle."""
    import conjoin

    ensemble: Any = conjoin.fit(train, target=job.target, time_limit=job.limit, seed=job.seed)
    bundle = job.folder / "bundle.conjoin"
    conjoin.save(ensemble, str(bundle))
    return Fitted(bundle, {"deployed": sorted(ensemble.members)})


def load(bundle: Path, job: Job) -> Loaded:
    """Load the bundle; the members are asked one by one for the comparison with the best single one."""
    import conjoin

    ensemble: Any = conjoin.load(str(bundle))

    def members(frame: pd.DataFrame) -> Mapping[str, Answers]:
        return {str(name): _answers(member.predict(frame)) for name, member in ensemble.members.items()}

    return Loaded(ensemble.predict, _answers, members, {"mapping": ensemble.predict})


def _answers(output: Any) -> Answers:
    return as_answers(output.values, getattr(output, "classes", ()))
