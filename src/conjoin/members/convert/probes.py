"""Rows on which a conversion must answer as the model does before it is accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.contracts import Column
from conjoin.errors import NotExportableError
from conjoin.graph.builder import Graph
from conjoin.graph.session import Session
from conjoin.outputs import Array

if TYPE_CHECKING:
    from conjoin.contracts import Batch

ROWS = 256
MOST = 1e-5
"""How far a conversion may be from the model, in probability, or in standard deviations of its answers."""
TEXT = ("category", "text")
Emit = Callable[[Graph], str]


def verified(emit: Emit, native: Array, feeds: Batch, *, name: str, shares: bool) -> None:
    """Raises NotExportableError where the graph's answers are not those of the model.

    native: (n,) or (n, K) answers of the model for the rows in `feeds`.
    """
    graph = Graph()
    graph.output("y", emit(graph), 1 if shares else 11)
    found = Session(graph.build().SerializeToString(), threads=1).run(feeds)[0]
    native = np.asarray(native, dtype=np.float64).reshape(len(found), -1)
    if native.shape != found.shape:
        raise NotExportableError(
            f"the ONNX form of {name} answers {found.shape[1]} numbers; it answers {native.shape[1]}"
        )
    unit = 1.0 if shares else max(float(np.nanstd(native)), 1e-12)
    apart = np.abs(found - native) / unit
    worst = float("inf") if np.isnan(found).any() else float(np.nanmax(apart, initial=0.0))
    if worst > MOST:
        rows = int((~(apart <= MOST)).any(axis=1).sum())
        raise NotExportableError(
            f"the ONNX form of {name} answers otherwise than {name}: up to {worst:.2g} apart, on {rows} of "
            f"{len(found)} probe rows; at most {MOST:g} is allowed"
        )


def probe_batch(estimator: Any, columns: Sequence[Column], *, seed: int = 0) -> dict[str, Array]:
    """Rows for an estimator: categories that its encoders know, numbers near what it was fitted on."""
    rng = np.random.default_rng(seed)
    names = [c.name for c in columns]
    known = dict(_known(estimator, names))
    places = dict(_places(estimator, names))
    gaps = set(_imputed(estimator, names))
    batch: dict[str, Array] = {}
    for c in columns:
        if c.name in known and len(known[c.name]):
            batch[c.name] = rng.choice(known[c.name], ROWS)
        elif c.type in TEXT:
            words = np.array([f"word{k}" for k in range(5)], dtype=object)
            batch[c.name] = rng.choice(words, ROWS)
        else:
            middle, spread = places.get(c.name, (0.0, None))
            scale = 10.0 ** rng.uniform(-2, 2, ROWS) if spread is None else 1.5 * spread
            batch[c.name] = middle + scale * rng.normal(size=ROWS)
        if c.name in gaps and c.type not in TEXT:
            batch[c.name] = np.where(rng.random(ROWS) < 0.1, np.nan, batch[c.name])
    return batch


def _steps(estimator: Any, names: list[str]) -> Iterator[tuple[Any, list[str]]]:
    """The fitted steps that see the columns themselves, with the columns that each sees."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline

    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            yield from _steps(step, names)
            if not type(step).__name__.endswith("Imputer"):
                return
    elif isinstance(estimator, ColumnTransformer):
        for _, step, chosen in estimator.transformers_:
            if not isinstance(step, str):
                own = np.atleast_1d(np.array(names, dtype=object)[_index(chosen, names)])
                yield from _steps(step, own.tolist())
    elif isinstance(estimator, FeatureUnion):
        for _, step in estimator.transformer_list:
            yield from _steps(step, names)
    else:
        yield estimator, names


def _index(chosen: Any, names: list[str]) -> Any:
    if isinstance(chosen, str):
        return [names.index(chosen)]
    if isinstance(chosen, list | tuple) or (isinstance(chosen, np.ndarray) and chosen.dtype.kind in "OU"):
        return [names.index(c) if isinstance(c, str) else c for c in chosen]
    return chosen


def _known(estimator: Any, names: list[str]) -> Iterator[tuple[str, Array]]:
    """Columns with the categories that an encoder knows."""
    for step, own in _steps(estimator, names):
        for name, values in zip(own, vars(step).get("categories_", []), strict=False):
            present = np.array([v for v in np.asarray(values, dtype=object) if v is not None and v == v])
            yield name, present.astype(object) if present.dtype.kind in "OU" else present.astype(np.float64)


def _imputed(estimator: Any, names: list[str]) -> Iterator[str]:
    """Columns of which missing values are filled in first."""
    for step, own in _steps(estimator, names):
        if type(step).__name__ == "SimpleImputer" and np.ndim(step.missing_values) == 0:
            yield from own if step.missing_values != step.missing_values else ()


def _places(estimator: Any, names: list[str]) -> Iterator[tuple[str, tuple[float, float]]]:
    """Columns of numbers with where they lie and how far they spread."""
    for step, own in _steps(estimator, names):
        fitted = vars(step)
        for middle, spread in (("mean_", "scale_"), ("center_", "scale_"), ("theta_", "var_")):
            if fitted.get(middle) is not None and fitted.get(spread) is not None:
                m, s = (np.atleast_2d(fitted[k]).mean(axis=0) for k in (middle, spread))
                s = np.sqrt(s) if spread == "var_" else s
                yield from ((n, (float(a), float(b))) for n, a, b in zip(own, m, s, strict=False))
        if fitted.get("data_min_") is not None:
            low, high = fitted["data_min_"], fitted["data_max_"]
            yield from ((n, ((a + b) / 2, (b - a) / 3)) for n, a, b in zip(own, low, high, strict=False))
        for rows in ("support_vectors_", "X_train_", "_fit_X"):
            if isinstance(fitted.get(rows), np.ndarray):
                m, s = fitted[rows].mean(axis=0), fitted[rows].std(axis=0)
                yield from ((n, (float(a), float(b))) for n, a, b in zip(own, m, s, strict=False))
