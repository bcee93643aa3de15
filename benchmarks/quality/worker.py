"""One stage of one run, in the environment of its system: `fit`, or `answer` through the reloaded bundle.

Called by `runs.py` as `python -m benchmarks.quality.worker JOB.json`; writes its findings to the JSON file
that the job names. The two stages are two processes, so that answering starts from the disk alone.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import tables
from .systems.base import Answers, Job, Loaded, SystemModule

PACKAGES = (
    "conjoin",
    "autogluon.tabular",
    "scikit-learn",
    "lightgbm",
    "catboost",
    "xgboost-cpu",
    "torch",
    "fastai",
    "onnxruntime",
    "numpy",
    "pandas",
)
WARM_UP_ROWS = 10
SINGLE_ROWS = 120
BATCHES = 5
BATCH_SECONDS = 10.0


def main(path: str) -> None:
    """Run the stage that the job file describes and write what was found."""
    order = json.loads(Path(path).read_text())
    settings = dict(order["job"])
    job = Job(**{**settings, "folder": Path(settings["folder"])})
    module: Any = importlib.import_module(f"benchmarks.quality.systems.{order['module']}")
    stage = {"fit": fit, "answer": answer}[order["stage"]]
    try:
        found = stage(module, tables.table(order["table"]), job, order)
    except Exception as error:  # a peer that fails is a finding, whatever it raises
        import traceback

        traceback.print_exc()
        found = {"failed": f"{type(error).__name__}: {error}".strip(": ")[:500]}
    Path(order["found"]).write_text(json.dumps(found))


def fit(module: SystemModule, table: tables.Table, job: Job, order: dict[str, Any]) -> dict[str, Any]:
    """Fit on the training rows; wall and CPU seconds run until the bundle is on disk, children included."""
    train, _ = tables.read(table)
    wall, cpu = time.perf_counter(), _cpu_seconds()
    fitted = module.fit(train, job)
    return {
        "fit_wall": time.perf_counter() - wall,
        "fit_cpu": _cpu_seconds() - cpu,
        "bundle": str(fitted.bundle),
        "bundle_bytes": _bytes(fitted.bundle),
        "notes": dict(fitted.notes),
        "rows": len(train),
        "versions": _versions(),
    }


def answer(module: SystemModule, table: tables.Table, job: Job, order: dict[str, Any]) -> dict[str, Any]:
    """Load the bundle, store the answers for the test part, and measure what an answer costs."""
    _, test = tables.read(table)
    features = test.drop(columns=job.target)
    wall, cpu = time.perf_counter(), _cpu_seconds()
    loaded = module.load(Path(order["bundle"]), job)
    found: dict[str, Any] = {"load_wall": time.perf_counter() - wall, "load_cpu": _cpu_seconds() - cpu}
    found["resident_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    given = loaded.answers(loaded.predict(features))
    members = loaded.members(features) if loaded.members else {}
    _store(Path(order["answers"]), test[job.target], given, members)
    found["test_rows"] = len(test)
    found["notes"] = dict(loaded.notes)
    found |= _rows_cost(loaded, features) | _batch_cost(loaded, features)
    return found


def _rows_cost(loaded: Loaded, features: pd.DataFrame) -> dict[str, Any]:
    """Median CPU and wall milliseconds of one answer to one row, over at least 100 different rows."""
    frames = [features.iloc[[row % len(features)]] for row in range(WARM_UP_ROWS + SINGLE_ROWS)]
    cpu, wall = _each(loaded.predict, frames)
    found: dict[str, Any] = {"row_cpu_ms": cpu, "row_wall_ms": wall, "row_calls": SINGLE_ROWS}
    for name, form in loaded.row_forms.items():
        cpu, wall = _each(form, [_as_mapping(frame) for frame in frames])
        found |= {f"row_cpu_ms_{name}": cpu, f"row_wall_ms_{name}": wall}
    return found


def _each(predict: Callable[[Any], Any], batches: list[Any]) -> tuple[float, float]:
    """Return the median CPU and wall milliseconds of a call, the warm-up calls left out."""
    cpu: list[float] = []
    wall: list[float] = []
    for batch in batches:
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        predict(batch)
        cpu.append(time.process_time() - cpu_start)
        wall.append(time.perf_counter() - wall_start)
    return 1e3 * statistics.median(cpu[WARM_UP_ROWS:]), 1e3 * statistics.median(wall[WARM_UP_ROWS:])


def _batch_cost(loaded: Loaded, features: pd.DataFrame) -> dict[str, Any]:
    """Median CPU and wall microseconds per row when the whole test part is one batch."""
    cpu: list[float] = []
    wall: list[float] = []
    while len(cpu) < BATCHES and (not wall or sum(wall) < BATCH_SECONDS):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        loaded.predict(features)
        cpu.append(time.process_time() - cpu_start)
        wall.append(time.perf_counter() - wall_start)
    scale = 1e6 / len(features)
    return {
        "batch_cpu_us": scale * statistics.median(cpu),
        "batch_wall_us": scale * statistics.median(wall),
        "batches": len(cpu),
    }


def _as_mapping(frame: pd.DataFrame) -> dict[str, Any]:
    """Give a row as a service holds it: arrays by name, text as `str` or `None`."""
    arrays = {str(name): frame[name].to_numpy() for name in frame.columns}
    return {
        name: array if array.dtype.kind in "fiub" else np.array([_text(one) for one in array], dtype=object)
        for name, array in arrays.items()
    }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _store(path: Path, truth: Any, given: Answers, members: Any) -> None:
    """Write the answers compactly; names as text, so that every reader aligns by name."""
    arrays: dict[str, Any] = {"values": given.values}
    if given.classes:
        arrays |= {"classes": np.array(given.classes), "truth": np.array([str(one) for one in truth])}
    else:
        arrays["truth"] = np.asarray(truth, dtype=np.float64)
    for name, one in members.items():
        arrays[f"member:{name}"] = one.values
        if one.classes:
            arrays[f"classes:{name}"] = np.array(one.classes)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _versions() -> dict[str, str]:
    """Return the packages of this environment that decide what is measured."""
    found = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    return {name: found[name] for name in PACKAGES if name in found}


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


if __name__ == "__main__":
    main(sys.argv[1])
