"""Models that are already there, of three kinds: scikit-learn, an ONNX file, a plain function."""

import tempfile
from pathlib import Path

import numpy as np

import conjoin
from two_models import forest, members, show, tune, y_tune


def rule(batch: conjoin.contracts.Batch) -> np.ndarray:
    """A doctor's rule of thumb: large and irregular cells are malignant."""
    malignant = 1 / (1 + np.exp(-(batch["worst radius"] - 16) - 20 * (batch["worst concavity"] - 0.3)))
    return np.column_stack([1 - malignant, malignant])


path = Path(tempfile.mkdtemp(), "logistic.onnx")
conjoin.export(members["logistic"], path)
mixed = {
    "forest": conjoin.wrap(forest),
    "onnx": conjoin.load(path),
    "rule": conjoin.wrap(rule, classes=["benign", "malignant"]),
}
fused = conjoin.Ensemble(mixed, conjoin.fusion.fit_log_pool).fit(tune, y_tune)
for name, member in mixed.items():
    show(name, member)
show("log pool of the three", fused)
