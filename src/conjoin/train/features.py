"""Fitting the feature encoder and the dense view, and running them.

The encoder has one implementation, its graph: training matrices come from running it. Only the target
statistics of the training rows are their own: each row's come from the rows of other folds, so that what a
model learns from them, and its out-of-fold answers, stay honest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from conjoin.contracts import Batch, Column
from conjoin.errors import ColumnError, TruthError, listed
from conjoin.graph.builder import MISSING_DATE, Graph
from conjoin.graph.dense import DenseView
from conjoin.graph.encoder import DATE_FEATURES, Encoder
from conjoin.graph.session import Session
from conjoin.outputs import Labels, Output, Values
from conjoin.tables import conform
from conjoin.train.levels import Fitted, Target, fit_category
from conjoin.train.text import fit_words

if TYPE_CHECKING:
    from conjoin.outputs import Array

CLASSES = 10
"""Target statistics are kept for at most so many classes, the most frequent ones."""
SAMPLE = 100_000
"""Medians, scales and the choice of a number's precision look at no more rows than this."""


@dataclass(frozen=True, slots=True, eq=False)
class FittedFeatures:
    """A fitted encoder, the training rows through it, and what there is to say about the columns.

    X: (n, d) float32; target statistics in it are cross-fitted. notes: a line per column left out or changed.
    """

    encoder: Encoder
    X: Array
    notes: list[str]


def fit_encoder(
    batch: Batch,
    columns: tuple[Column, ...],
    truth: Output,
    *,
    folds: Array | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> FittedFeatures:
    """Fit the features of these columns.

    batch: n rows. truth: Labels or Values of the same rows; rows it does not answer count in no statistic.
    folds: (n,) int, the fold of each row, those that training uses; None makes five.
    Raises ColumnError where no column tells rows apart, TruthError where truth is of another kind.
    """
    feeds = conform(batch, columns)
    target = _target(truth, folds, seed)
    notes: list[str] = []
    numbers, shift, scale = _fit_numbers(columns, feeds, notes)
    fitted = _fit_categories(columns, feeds, target, notes)
    dates, median, kept = _fit_dates(columns, feeds, notes)
    texts = []
    for c in _of(columns, "text"):
        words = fit_words(c, feeds[c.name][:, 0], seed=seed)
        if words is None:
            notes.append(f"column {c.name!r} is left out: no word stands in several rows")
        else:
            texts.append(words)
    tensors = tuple(_of(columns, "tensor"))
    encoder = Encoder(
        numbers, shift, scale, tuple(f.category for f in fitted), dates, median, kept, tuple(texts), tensors
    )
    if not encoder.columns:
        raise ColumnError(f"no column tells rows apart: {listed(c.name for c in columns)}; {listed(notes)}")
    X = _run(encoder, feeds, threads)
    _own_statistics(X, encoder, fitted)
    return FittedFeatures(encoder, X, notes)


def encode(encoder: Encoder, batch: Batch, *, threads: int | None = None) -> Array:
    """(n, d) float32 features of a batch: the encoder's graph, run."""
    return _run(encoder, conform(batch, encoder.columns), threads)


def fit_dense_view(encoder: Encoder, X: Array) -> DenseView:
    """Fit the dense view on encoded training rows.

    X: (n, d) float32. Scales are robust: the interquartile range, or the whole range where that is 0.
    """
    codes = encoder.codes
    numbers = np.array([j for j in range(X.shape[1]) if j not in codes], dtype=np.int64)
    sample = X[:: max(1, len(X) // SAMPLE)][:, numbers].astype(np.float64)
    flags = numbers[np.isnan(X[:, numbers]).any(axis=0)]
    known = np.where(np.isnan(sample).all(axis=0), 0.0, sample)
    low, q1, center, q3, high = np.nanquantile(known, [0, 0.25, 0.5, 0.75, 1], axis=0)
    spread = np.where(q3 > q1, q3 - q1, (high - low) / 2)
    with np.errstate(divide="ignore", over="ignore"):
        scale = np.where(spread > 0, 1 / spread, 0.0)
    scale = np.where(np.isfinite(scale.astype(np.float32)), scale, 0.0)
    pairs = [(j, v) for j, size in codes.items() for v in (range(1, 2) if size == 2 else range(size))]
    code = np.array([j for j, _ in pairs], dtype=np.int64)
    value = np.array([v for _, v in pairs], dtype=np.float32)
    middle = center.astype(np.float32)
    return DenseView(X.shape[1], numbers, middle, scale.astype(np.float32), middle, flags, code, value)


def _run(encoder: Encoder, feeds: dict[str, Array], threads: int | None) -> Array:
    graph = Graph()
    longer = "#" * (
        1 + max(len(c.name) for c in encoder.columns)
    )  # than any input's name, so not one of them
    graph.output(longer, encoder.emit(graph), 1)
    session = Session(graph.build().SerializeToString(), threads=threads)
    return session.run({c.name: feeds[c.name] for c in encoder.columns})[0]


def _of(columns: tuple[Column, ...], *types: str) -> list[Column]:
    return [c for c in columns if c.type in types]


def _target(truth: Output, folds: Array | None, seed: int) -> Target:
    if isinstance(truth, Labels):
        known = truth.answered & (truth.codes >= 0)
        values, names, scale = _indicators(truth)
    elif isinstance(truth, Values):
        values = truth.values.reshape(len(truth), -1).astype(np.float64)
        known = truth.answered & np.isfinite(values).all(axis=1)
        values, names, scale = _standardised(values, known)
    else:
        raise TruthError(f"features are fitted on labels or values, not on {truth.kind}")
    if folds is None:
        folds = np.random.default_rng(seed).permutation(len(known)) % 5
    return Target(values, known, np.unique(folds, return_inverse=True)[1], names, scale)


def _indicators(truth: Labels) -> tuple[Array, tuple[str, ...], str]:
    if len(truth.classes) <= 2:
        return (
            (truth.codes == len(truth.classes) - 1)[:, None].astype(float),
            (truth.classes[-1],),
            "log-odds",
        )
    counts = np.bincount(truth.codes[truth.codes >= 0], minlength=len(truth.classes))
    shown = np.sort(np.argsort(-counts, kind="stable")[:CLASSES])
    return (truth.codes[:, None] == shown).astype(float), tuple(truth.classes[k] for k in shown), "log"


def _standardised(values: Array, known: Array) -> tuple[Array, tuple[str, ...], str]:
    """Numbers as deviations from the median in robust units, clipped so that no single row rules a mean."""
    if not known.any():
        raise TruthError("every value of the target is missing")
    low, middle, high = np.quantile(values[known], [0.25, 0.5, 0.75], axis=0)
    spread = np.where(high > low, (high - low) / 1.35, values[known].std(axis=0))
    spread = np.where(spread > 0, spread, 1.0)
    with np.errstate(invalid="ignore"):
        scaled = np.clip((values - middle) / spread, -10, 10)
    names = tuple(f"target{k}" if values.shape[1] > 1 else "target" for k in range(values.shape[1]))
    return np.where(known[:, None], scaled, 0.0), names, "mean"


def _fit_numbers(
    columns: tuple[Column, ...], feeds: dict[str, Array], notes: list[str]
) -> tuple[tuple[Column, ...], Array, Array]:
    kept, shifts, scales = [], [], []
    for c in _of(columns, "number", "boolean"):
        x = feeds[c.name][:, 0]
        gone = np.isnan(x)
        if gone.all():
            notes.append(f"column {c.name!r} is left out: every value is missing")
            continue
        known = x[~gone]
        if known.min() == known.max() and not gone.any():
            notes.append(f"column {c.name!r} is left out: it is constant")
            continue
        if np.isinf(known).any():
            notes.append(f"column {c.name!r} holds infinities: they are clipped to the range of float32")
        shift, scale = _precision(known)
        kept.append(c)
        shifts.append(shift)
        scales.append(scale)
    return tuple(kept), np.array(shifts, dtype=np.float64), np.array(scales, dtype=np.float64)


def _precision(x: Array) -> tuple[float, float]:
    """Shift and scale under which float32 tells a column's values apart; (0, 1) where it does already."""
    x = x[np.isfinite(x)]
    x = np.unique(x[:: max(1, len(x) // SAMPLE)])
    if len(x) < 2 or _told_apart(x) > 0.999:
        return 0.0, 1.0
    shift = float(x[len(x) // 2])
    scale = 1.0 / max(float(x[-1]) - shift, shift - float(x[0]))
    if np.isfinite(scale) and scale > 0 and _told_apart((x - shift) * scale) > _told_apart(x) * 1.001:
        return shift, scale
    return 0.0, 1.0


def _told_apart(x: Array) -> float:
    """The share of distinct values that are distinct as float32."""
    with np.errstate(over="ignore"):
        return len(np.unique(x.astype(np.float32))) / len(x)


def _fit_categories(
    columns: tuple[Column, ...], feeds: dict[str, Array], target: Target, notes: list[str]
) -> list[Fitted]:
    fitted = []
    for c in _of(columns, "category"):
        found = fit_category(c, feeds[c.name][:, 0], target)
        if found is None:
            one = len(set(feeds[c.name][:, 0].tolist())) == 1
            why = "it is constant" if one else "nearly every row has a value of its own, as identifiers have"
            notes.append(f"column {c.name!r} is left out: {why}")
        else:
            fitted.append(found)
    return fitted


def _own_statistics(X: Array, encoder: Encoder, fitted: list[Fitted]) -> None:
    own = {f.category.column.name: f.own for f in fitted}
    at = len(encoder.numbers)
    for group in encoder.groups():
        for c in group:
            for k, values in own[c.column.name].items():
                X[:, at + k] = values
            at += len(c.names)


def _fit_dates(
    columns: tuple[Column, ...], feeds: dict[str, Array], notes: list[str]
) -> tuple[tuple[Column, ...], Array, Array]:
    kept: list[Column] = []
    medians: list[int] = []
    varying: list[int] = []
    for c in _of(columns, "date"):
        seconds = feeds[c.name]
        known = np.sort(seconds[seconds != MISSING_DATE])
        if not len(known):
            notes.append(f"column {c.name!r} is left out: every date is missing")
            continue
        if known[0] == known[-1] and len(known) == len(seconds):
            notes.append(f"column {c.name!r} is left out: it is constant")
            continue
        median = int(known[len(known) // 2])
        everything = np.arange(len(DATE_FEATURES))
        trial = Encoder(dates=(c,), median=np.array([median]), kept=everything)
        X = _run(trial, {c.name: seconds[:: max(1, len(seconds) // SAMPLE)]}, 1)
        some = [k for k in everything if len(np.unique(X[:, k])) > 1]
        varying += [len(kept) * len(DATE_FEATURES) + int(k) for k in some]
        kept.append(c)
        medians.append(median)
    return tuple(kept), np.array(medians, dtype=np.int64), np.array(varying, dtype=np.int64)
