"""Every example runs, and says what it promises. The demo itself runs in `make demo`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the examples need conjoin[train]")
FOLDER = Path(__file__).parents[1] / "examples"
PROMISES = {
    "average": "0.5 forest, 0.5 logistic",
    "learned_weights": "learned weights",
    "perceptron": "multilayer perceptron",
    "train_and_save": "trained and fused",
    "your_own_models": "log pool of the three",
    "scikit_learn": "folds from",
}
NOT_EXAMPLES = {"data", "demo", "two_models"}


def test_each_script_is_known() -> None:
    assert {p.stem for p in FOLDER.glob("*.py")} == PROMISES.keys() | NOT_EXAMPLES


@pytest.mark.parametrize("name", PROMISES)
def test_example(name: str) -> None:
    command = [sys.executable, str(FOLDER / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert PROMISES[name] in done.stdout
    assert "log-loss" in done.stdout
