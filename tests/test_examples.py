"""Every example runs, and says what it promises. The demo itself runs in `make demo`."""

from __future__ import annotations

import os
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
OTHER_KINDS = {
    "rankings": "learned weights: {'vectors'",
    "annotators": "Dawid-Skene: cat dog dog cat dog",
    "texts": "minimum Bayes risk: The cat sat on the mat.",
    "detectors": "weighted boxes fusion: cat",
}
WITH_TORCH = {"finetune"}
NOT_EXAMPLES = {"data", "demo", "two_models"}


def test_each_script_is_known() -> None:
    known = PROMISES.keys() | OTHER_KINDS.keys() | WITH_TORCH | NOT_EXAMPLES
    assert {p.stem for p in FOLDER.glob("*.py")} == known


@pytest.mark.parametrize("name", PROMISES)
def test_example(name: str) -> None:
    shown = run(name)
    assert PROMISES[name] in shown
    assert "log-loss" in shown


@pytest.mark.parametrize("name", OTHER_KINDS)
def test_example_of_another_kind(name: str) -> None:
    assert OTHER_KINDS[name] in run(name)


def test_the_textbook_case_beats_training_from_nothing() -> None:
    for library in ("torch", "lightning_fabric", "peft"):
        pytest.importorskip(library, reason="the example needs conjoin[torch]")
    lines = run("finetune").splitlines()
    nothing, transferred = (float(line.split()[-1]) for line in lines[-2:])
    assert transferred > nothing + 0.05


def run(name: str) -> str:
    """What an example prints."""
    command = [sys.executable, str(FOLDER / f"{name}.py")]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout
