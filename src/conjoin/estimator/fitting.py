"""How an ensemble is fitted for an estimator of scikit-learn: from given estimators, or by `conjoin.fit`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.compose import Ensemble
from conjoin.compose.calls import is_fit
from conjoin.errors import InputError
from conjoin.members import wrap
from conjoin.outputs import Labels, Output, Probabilities, concat
from conjoin.tables import batch_of

if TYPE_CHECKING:
    from conjoin.outputs import Array


@dataclass(frozen=True, eq=False)
class Data:
    """n rows: X an array or a dataframe, y (n,) as given, the same as an output, weights (n,) or None."""

    X: Any
    y: Array
    truth: Output
    weights: Array | None

    def take(self, rows: Array) -> Data:
        """These rows."""
        from sklearn.utils import _safe_indexing

        weights = None if self.weights is None else self.weights[rows]
        return Data(_safe_indexing(self.X, rows), self.y[rows], self.truth.take(rows), weights)


def fit_given(
    estimators: Sequence[tuple[str, Any]],
    fuser: Callable[..., Any] | None,
    data: Data,
    *,
    folds: int,
    seed: int,
) -> Ensemble:
    """Clones of these estimators, fitted to all rows, and the fuser.

    A fuser that has to be fitted learns from what clones answer to the folds that they were not fitted to.
    Raises InputError where there are no estimators, or two of one name.
    """
    from conjoin.fusion import mean

    named = dict(estimators)
    if not named or len(named) < len(list(estimators)):
        raise InputError(
            f"estimators need different names, at least one; given were {[n for n, _ in estimators]}"
        )
    fuser = mean if fuser is None else fuser
    whole = Ensemble(_members(named, data, seed), fuser)
    if not is_fit(fuser):
        return whole
    parts = []
    for fit_rows, left_out in _folds(data, folds, seed):
        members = _members(named, data.take(fit_rows), seed)
        asked = batch_of(data.take(left_out).X)
        parts.append((left_out, {n: m.predict(asked) for n, m in members.items()}))
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    outputs = {n: _joined([answers[n] for _, answers in parts], data.truth).take(order) for n in named}
    return whole.fit_fuser(outputs, data.truth, weights=data.weights, seed=seed)


def _members(named: dict[str, Any], data: Data, seed: int) -> dict[str, Any]:
    return {name: _fitted(name, estimator, data, seed) for name, estimator in named.items()}


def _fitted(name: str, estimator: Any, data: Data, seed: int) -> Any:
    from sklearn.base import clone

    own = clone(estimator)
    unset = {k: seed for k, v in own.get_params().items() if k.endswith("random_state") and v is None}
    own.set_params(**unset)
    weighted = {} if data.weights is None else {"sample_weight": data.weights}
    return wrap(own.fit(data.X, data.y, **weighted), name=name)


def _folds(data: Data, folds: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """Rows to fit and rows left out, `folds` times; each class is spread over the folds."""
    rows = np.random.default_rng(seed).permutation(len(data.y))
    if isinstance(data.truth, Labels):
        rows = rows[np.argsort(data.truth.codes[rows], kind="stable")]
        counts = np.bincount(data.truth.codes)
        if (counts >= 2).sum() < 2:
            raise InputError("a fuser can be fitted only where at least two classes have two rows or more")
    fold = np.empty(len(rows), dtype=np.int64)
    fold[rows] = np.arange(len(rows)) % max(2, min(folds, len(rows)))
    for k in range(fold.max() + 1):
        yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


def _joined(parts: list[Any], truth: Output) -> Output:
    """The parts one after another; classes that a fold did not see get 0."""
    if isinstance(truth, Labels):
        parts = [cast(Probabilities, p).align(truth.classes) for p in parts]
    return concat(parts)


def fit_own(data: Data, **settings: Any) -> Ensemble:
    """`conjoin.fit` on these rows."""
    from conjoin.train import fit

    batch = batch_of(data.X)
    target = "target"
    while target in batch:
        target += "_"
    truth = data.truth
    column = cast(Any, truth).names() if isinstance(truth, Labels) else cast(Any, truth).values
    task = "classification" if isinstance(truth, Labels) else "regression"
    return fit({**batch, target: column}, target=target, task=task, weights=data.weights, **settings)
