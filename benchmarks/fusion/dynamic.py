"""Dynamic selection against DESlib: answering new rows with a fitted selection.

The members' outputs are the same arrays for both: DESlib gets a pool of stand-ins that read them from a table
(the last column of X is the row's number, worth nothing as a distance since it is scaled to 1e-12; reading
is a few per cent of its time).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from conjoin.fusion.dynamic import fit_dynamic
from conjoin.outputs import Labels, Probabilities

Array = Any
TINY = 1e-12


class _Told:
    """A pool member that reads its answers from a table."""

    def __init__(self, table: Array) -> None:
        self.table, self.classes_ = table, np.arange(table.shape[1])
        self.votes = table.argmax(axis=1)

    def fit(self, X: Array, y: Array) -> _Told:
        return self

    def predict_proba(self, X: Array) -> Array:
        return self.table[np.rint(X[:, -1] / TINY).astype(np.int64)]

    def predict(self, X: Array) -> Array:
        return self.votes[np.rint(X[:, -1] / TINY).astype(np.int64)]


def _world(rows: int, members: int, classes: int, width: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, width))
    codes = rng.integers(0, classes, rows)
    away = rng.normal(size=(members, width))
    skill = 1.5 + 1.5 * np.tanh(X @ away.T)
    z = rng.normal(size=(rows, members, classes)) + skill[:, :, None] * np.eye(classes)[codes][:, None]
    p = np.exp(z) / np.exp(z).sum(axis=2, keepdims=True)
    return X, codes, p


def _cpu(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = call()
    return time.process_time() - start, found


def _row(
    rule: str, peer: Any, known: int, asked: int, members: int, classes: int, **more: Any
) -> dict[str, Any]:
    X, codes, P = _world(known + asked, members, classes, 20)
    Z = np.concatenate([X, TINY * np.arange(len(X))[:, None]], axis=1)
    names = [f"{m:03d}" for m in range(members)]
    labels = [str(c) for c in range(classes)]

    def outputs(at: slice) -> dict[str, Probabilities]:
        return {n: Probabilities(P[at, m], labels) for m, n in enumerate(names)}

    fitted, new = slice(0, known), slice(known, None)
    theirs = peer([_Told(P[:, m]) for m in range(members)], n_jobs=1, **more).fit(Z[fitted], codes[fitted])
    batch = {"x": X[fitted]}
    ours = fit_dynamic(
        *(outputs(fitted), Labels(codes[fitted], labels)),
        rule=rule,
        batch=batch,
        standardise=False,
        guard=False,
        voting="hard",
        mode="weighting" if rule == "knora_u" else "selection",
    )
    given, later = outputs(new), {"x": X[new]}
    ours({n: o.take(slice(0, 50)) for n, o in given.items()}, batch={"x": X[new][:50]})  # kernels compile
    times = []
    for _ in range(3):
        a, mine = _cpu(lambda: ours(given, batch=later).values.argmax(axis=1))
        b, other = _cpu(lambda: theirs.predict(Z[new]))
        times.append((a, b))
    a, b = min(t[0] for t in times), min(t[1] for t in times)
    return {
        "operator": rule,
        "workload": f"{asked:,} rows of 20 columns, {members} members, {classes} classes, {known:,} known",
        "peer": "deslib 0.3.7",
        "conjoin_cpu": a,
        "peer_cpu": b,
        "ratio": b / a,
        "same": f"{(mine == other).mean():.2%} of the answers are equal",
        "asked": "not told",
    }


def run() -> list[dict[str, Any]]:
    """KNORA-E, KNORA-U and META-DES, few members and many."""
    from deslib.des import KNORAE, KNORAU, METADES

    found = []
    for members in (12, 100):
        for rule, peer in (("knora_e", KNORAE), ("knora_u", KNORAU), ("meta_des", METADES)):
            found.append(_row(rule, peer, 2000, 4000, members, 3))
    return found


if __name__ == "__main__":
    for line in run():
        print(line)
