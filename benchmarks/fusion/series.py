"""Values and quantiles beside scikit-learn, hierarchicalforecast and MAPIE, on data made with a seed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from hierarchicalforecast.methods import MinTrace
from mapie.classification import SplitConformalClassifier
from sklearn.linear_model import LogisticRegression, QuantileRegressor

from conjoin.fusion.series import (
    conformal_sets,
    fit_quantile_regression_averaging,
    reconciliation,
    summing_matrix,
)
from conjoin.outputs import Labels, Probabilities, Values

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def seconds(run: Callable[[], Any]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def row(
    operator: str, workload: str, peer: str, mine: Callable[[], Any], theirs: Callable[[], Any], same: str
) -> dict[str, Any]:
    """Both sides once, then three times in turn; the least CPU time of each."""
    times = np.array([(seconds(mine), seconds(theirs)) for _ in range(4)])[1:].min(axis=0)
    return {
        "operator": operator,
        "workload": workload,
        "peer": peer,
        "conjoin_cpu": float(times[0]),
        "peer_cpu": float(times[1]),
        "ratio": float(times[1] / times[0]),
        "asked": "",
        "same": same,
    }


def pinball(y: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The loss of each level."""
    e, q = y[:, None] - values, np.array(LEVELS)
    return np.maximum(q * e, (q - 1) * e).mean(axis=0)


def averaging() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    y = rng.normal(size=2000) * 10
    X = y[:, None] + rng.standard_t(4, size=(2000, 8)) * np.linspace(1, 4, 8)
    outputs = {f"m{m}": Values(x) for m, x in enumerate(X.T)}

    def mine() -> np.ndarray:
        return fit_quantile_regression_averaging(outputs, Values(y), levels=LEVELS)(outputs).values

    def theirs() -> np.ndarray:
        fits = [QuantileRegressor(quantile=q, alpha=0, solver="highs").fit(X, y) for q in LEVELS]
        return np.sort(np.stack([f.predict(X) for f in fits], axis=1), axis=1)

    gap = float(np.abs(pinball(y, mine()) / pinball(y, theirs()) - 1).max())
    told = f"pinball losses differ by {gap:.1e} of themselves"
    return row(
        "quantile regression averaging", "2,000 x 8, 5 levels", "scikit-learn 1.9.1", mine, theirs, told
    )


def reconciling(method: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    S, _ = summing_matrix([(f"r{i}", f"s{j}", f"p{k}") for i in range(8) for j in range(5) for k in range(5)])
    y = rng.uniform(1, 10, (200, S.shape[1])) @ S.T
    forecasts = y + rng.normal(size=y.shape) * np.sqrt(S.sum(axis=1))
    given = {"S": S, "y_hat": forecasts.T, "y_insample": y.T, "y_hat_insample": forecasts.T}

    def mine() -> np.ndarray:
        made = reconciliation(S, method=method, output=Values(forecasts), truth=Values(y))
        return made(Values(forecasts)).values

    def theirs() -> np.ndarray:
        return MinTrace(method).fit_predict(**given)["mean"].T

    gap = float(np.abs(mine() - theirs()).max() / np.abs(y).max())
    told = f"largest difference {gap:.1e} of the largest value"
    workload = f"{len(S)} nodes, 200 rows"
    return row(f"reconciliation, {method}", workload, "hierarchicalforecast 1.5.3", mine, theirs, told)


def sets() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(21_000, 4))
    y = (X @ rng.normal(size=(4, 10)) + rng.gumbel(size=(21_000, 10))).argmax(axis=1)
    model = LogisticRegression().fit(X[:1000], y[:1000])
    names = [str(c) for c in model.classes_]
    old, new = slice(1000, 11_000), slice(11_000, None)
    truth = Labels(y[old], names)

    def mine() -> np.ndarray:
        p_old, p_new = (Probabilities(model.predict_proba(X[at]), names) for at in (old, new))
        return conformal_sets(p_old, truth, never_empty=False)(p_new).inside

    def theirs() -> np.ndarray:
        made = SplitConformalClassifier(model, confidence_level=0.9, prefit=True)
        made.conformalize(X[old], y[old])
        return made.predict_set(X[new])[1][:, :, 0]

    told = f"{int((mine() != theirs()).sum())} of 100,000 memberships differ"
    workload = "10,000 + 10,000 rows, 10 classes, with the model's predictions"
    return row("conformal sets, LAC", workload, "mapie 1.6.0", mine, theirs, told)


def run() -> list[dict[str, Any]]:
    """Every row of the table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [averaging(), reconciling("ols"), reconciling("mint_shrink"), sets()]
