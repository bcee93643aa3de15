"""Records and stored answers of finished runs, turned into losses and their differences."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from . import metrics
from .metrics import Floats
from .runs import Run


@dataclass(frozen=True)
class Outcome:
    """A finished run: its record, and the loss of every test row (empty when it failed)."""

    run: Run
    record: Mapping[str, Any]
    per_row: Floats
    members: Mapping[str, Floats]
    others: Mapping[str, float]

    @property
    def failed(self) -> str:
        """Why the run has no answers, or nothing."""
        return str(self.record.get("failed", ""))

    @property
    def measure(self) -> str:
        """Name of the loss."""
        return "log-loss" if self.run.table.classifies else "RMSE"

    @cached_property
    def loss(self) -> float:
        """Log-loss or RMSE on the test part; NaN when the run failed."""
        if self.failed:
            return math.nan
        return metrics.loss(self.per_row, classifies=self.run.table.classifies)

    def against(self, other: Outcome) -> metrics.Difference:
        """Our loss minus the other's on the same rows."""
        return metrics.difference(self.per_row, other.per_row, classifies=self.run.table.classifies)

    def against_member(self, name: str) -> metrics.Difference:
        """Our loss minus that of one of our members."""
        return metrics.difference(self.per_row, self.members[name], classifies=self.run.table.classifies)

    def best_member(self) -> str | None:
        """The single member that validation put first; where no score is kept, the test part's best."""
        return self._first(set(self.members)) or self.luckiest_member()

    def luckiest_member(self) -> str | None:
        """The member with the least test loss: a bound, since nobody could have chosen it."""
        classifies = self.run.table.classifies
        losses = {name: metrics.loss(rows, classifies=classifies) for name, rows in self.members.items()}
        return min(losses, key=lambda name: (losses[name], name)) if losses else None

    @property
    def chosen_on_validation(self) -> bool:
        """Whether `best_member` comes from validation scores of the fit."""
        return self._first(set(self.members)) is not None

    def dropped_best(self) -> str | None:
        """The member that validation put first, where the ensemble did without it, so that it is not here."""
        best = self._first(None)
        return None if best in self.members else best

    def _first(self, among: set[str] | None) -> str | None:
        """Return the member with the least validation loss, of those given or of all that were tried."""
        losses = self.record.get("notes", {}).get("validation_losses", {})
        names = [name for name in losses if among is None or name in among]
        return min(names, key=lambda name: (losses[name], name)) if names else None


@cache
def outcome(run: Run) -> Outcome | None:
    """Read what the run left; `None` when it is not done."""
    if not run.record.exists():
        return None
    record = json.loads(run.record.read_text())
    if "failed" in record:
        return Outcome(run, record, np.empty(0), {}, {})
    with np.load(run.answers) as stored:
        arrays = {name: stored[name] for name in stored.files}
    truth = arrays["truth"]
    prefix = "member:"
    members = {
        name.removeprefix(prefix): _per_row(
            run, values, arrays.get(f"classes:{name.removeprefix(prefix)}"), truth
        )
        for name, values in arrays.items()
        if name.startswith(prefix)
    }
    per_row = _per_row(run, arrays["values"], arrays.get("classes"), truth)
    return Outcome(run, record, per_row, members, _others(run, arrays))


def _per_row(run: Run, values: Floats, classes: Any, truth: Any) -> Floats:
    if run.table.classifies:
        return metrics.class_losses(values, classes, truth)
    return metrics.squared_errors(values, truth)


def _others(run: Run, arrays: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy, and ROC AUC for two classes; or the mean absolute error."""
    values, truth = arrays["values"], arrays["truth"]
    if not run.table.classifies:
        return {"MAE": float(np.mean(np.abs(values - truth)))}
    classes = arrays["classes"]
    found = {"accuracy": metrics.accuracy(values, classes, truth)}
    if run.table.task == "binary":
        positive = sorted(classes.tolist())[-1]
        column = classes.tolist().index(positive)
        found["ROC AUC"] = metrics.roc_auc(values[:, column].astype(np.float64), truth == positive)
    return found
