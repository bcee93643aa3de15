"""Does the compiled graph answer as native models do? Every row of twelve tables, six libraries' models.

    python -m benchmarks.quality.natives [TABLE ...]

Encodes each table with conjoin's encoder, trains native models on four fifths of the rows, converts them, and
compares native answers with those of the compiled graph on all rows. Writes NATIVES.md beside this file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from conjoin.contracts import Column
from conjoin.graph.builder import Graph
from conjoin.graph.session import Session
from conjoin.members.convert import catboost_trees, convert, lightgbm_trees, xgboost_trees
from conjoin.outputs import Labels, Values
from conjoin.tables import columns_of, read_table
from conjoin.train.features import encode, fit_encoder

from .tables import TASKS, table

HERE = Path(__file__).parent
FLOAT, DOUBLE = 1, 11
THREADS = 2


def encoded(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Features of all rows, codes or numbers of the target, and how many classes (0: a regression)."""
    batch = dict(read_table(table(name).path))
    target = batch.pop("target")
    if table(name).classifies:
        truth: Labels | Values = Labels.of([str(v) for v in target])
        y, classes = truth.codes, len(truth.classes)
    else:
        y, classes = np.asarray(target, dtype=np.float64), 0
        truth = Values(y)
    return encode(fit_encoder(batch, columns_of(batch), truth).encoder, batch), y, classes


def boosters(X: np.ndarray, y: np.ndarray, K: int, rows: np.ndarray) -> Iterator[tuple[str, Any, np.ndarray]]:
    """Library, converted part, native answers for all rows."""
    import catboost
    import lightgbm
    import xgboost

    many, rounds = {"num_class": K} if K > 2 else {}, 50 if K > 10 else 200
    task = "binary" if K == 2 else "multiclass" if K else "regression"
    model: Any = lightgbm.train(
        {"objective": task, "verbose": -1, "num_threads": THREADS, "num_leaves": 63} | many,
        lightgbm.Dataset(X[rows], y[rows]),
        rounds,
    )
    yield "LightGBM", lightgbm_trees(model), model.predict(X)
    task = "binary:logistic" if K == 2 else "multi:softprob" if K else "reg:squarederror"
    model = xgboost.train(
        {"objective": task, "nthread": THREADS, "max_depth": 7} | many,
        xgboost.DMatrix(X[rows], y[rows]),
        rounds,
    )
    yield "XGBoost", xgboost_trees(model), model.predict(xgboost.DMatrix(X))
    task = "Logloss" if K == 2 else "MultiClass" if K else "RMSE"
    quiet = {"verbose": False, "allow_writing_files": False, "thread_count": THREADS}
    model = catboost.CatBoost({"loss_function": task, "iterations": rounds, "depth": 6} | quiet)
    model.fit(X[rows], y[rows])
    kind = "Probability" if K else "RawFormulaVal"
    yield "CatBoost", catboost_trees(model), model.predict(X, prediction_type=kind)


def scikit(X: np.ndarray, y: np.ndarray, K: int, rows: np.ndarray) -> Iterator[tuple[str, Any, np.ndarray]]:
    """The same for forests and histogram boosting of scikit-learn."""
    from sklearn import ensemble

    suffix = "Classifier" if K else "Regressor"
    for name in ("RandomForest", "ExtraTrees", "HistGradientBoosting"):
        size = {"max_iter": 30} if name.startswith("Hist") else {"n_estimators": 50, "n_jobs": THREADS}
        model = getattr(ensemble, name + suffix)(**size, random_state=0).fit(X[rows], y[rows])
        yield name, convert(model), model.predict_proba(X) if K else model.predict(X)


def difference(part: Any, native: np.ndarray, X: np.ndarray, K: int) -> float:
    """The largest difference on any row: of probabilities, or of values in standard deviations."""
    graph = Graph()
    x = graph.column(Column("x", "tensor", (X.shape[1],)))
    graph.output("y", part.emit(graph, x), FLOAT if K else DOUBLE)
    ours = Session.of(graph).run({"x": X})[0]
    native = np.asarray(native, dtype=np.float64).reshape(len(X), -1)
    if K and native.shape[1] == 1:
        native = np.column_stack([1 - native, native])
    return float(np.abs(ours - native).max() / (1 if K else native.std()))


def main(names: list[str]) -> None:
    lines, worst = [], 0.0
    for name in names or list(TASKS):
        X, y, K = encoded(name)
        rows = np.flatnonzero(np.arange(len(y)) % 5 != 0)
        cells = []
        for make in (boosters, scikit):
            for library, part, native in make(X, y, K, rows):
                cells.append((library, difference(part, native, X, K)))
        worst = max(worst, *(d for _, d in cells))
        if not lines:
            lines = [
                "| table | rows | " + " | ".join(n for n, _ in cells) + " |",
                "|---" * (len(cells) + 2) + "|",
            ]
        lines.append(f"| {name} | {len(y):,} | " + " | ".join(f"{d:.1e}" for _, d in cells) + " |")
        print(lines[-1], flush=True)
    head = "# The compiled graph against native models\n\nMade by `python -m benchmarks.quality.natives`. "
    text = "The largest difference on any row: of probabilities, or of values in standard deviations.\n\n"
    (HERE / "NATIVES.md").write_text(head + text + "\n".join(lines) + f"\n\nWorst: {worst:.1e}.\n")
    print(f"worst: {worst:.1e}")


if __name__ == "__main__":
    main(sys.argv[1:])
