"""The twelve tables: what each one asks, where it lies, and which of its rows are the test part.

Only the standard library is imported at the top: every worker environment reads this file.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

Task = Literal["binary", "multiclass", "regression"]

REPOSITORY = Path(__file__).resolve().parents[2]
TARGET = "target"

TASKS: dict[str, Task] = {
    "breast_cancer": "binary",
    "diabetes": "regression",
    "adult": "binary",
    "credit_g": "binary",
    "abalone": "regression",
    "phoneme": "binary",
    "wine_quality_white": "regression",
    "california_housing": "regression",
    "titanic": "binary",
    "diamonds": "regression",
    "telco_churn": "binary",
    "letter": "multiclass",
}


@dataclass(frozen=True)
class Table:
    """One table: its name, its task, and the file with one header line and the target last."""

    name: str
    task: Task
    path: Path

    @property
    def classifies(self) -> bool:
        """Whether the answer is a class, so that log-loss is the measure; else RMSE."""
        return self.task != "regression"


def folder() -> Path:
    """Where the tables lie: `CONJOIN_TABLES`, or `../shared/data/tables` beside the repository."""
    return Path(os.environ.get("CONJOIN_TABLES", REPOSITORY.parent / "shared" / "data" / "tables"))


def table(name: str) -> Table:
    """Return the table of that name; `KeyError` names the known ones when there is none."""
    if name not in TASKS:
        raise KeyError(f"no table {name!r}; there are {', '.join(TASKS)}")
    return Table(name, TASKS[name], folder() / f"{name}.csv")


def in_test_part(row: int) -> bool:
    """Say whether the row with this 0-based index is in the fixed test part (about a fifth)."""
    return zlib.crc32(str(row).encode()) % 5 == 0


def read(one: Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the table as `(train, test)`, both in file order, with the types that the CSV gives."""
    import pandas as pd

    frame: Any = pd.read_csv(one.path)
    test = [in_test_part(row) for row in range(len(frame))]
    train = [not flag for flag in test]
    return frame[train].reset_index(drop=True), frame[test].reset_index(drop=True)
