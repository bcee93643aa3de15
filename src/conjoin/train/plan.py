"""The plan of a run: what it takes to do the same again without a clock, as JSON."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from conjoin.contracts import Batch, Cost
from conjoin.errors import InputError, listed
from conjoin.outputs import Array, Json
from conjoin.train.learners import LEARNERS
from conjoin.train.portfolio import Entry
from conjoin.train.prepare import Request
from conjoin.train.run import Tried

FORMAT = 1
LIBRARIES = ("conjoin", "numpy", "scipy", "scikit-learn", "lightgbm", "xgboost-cpu", "xgboost", "catboost",
             "onnx", "onnxruntime")  # fmt: skip
_REQUEST = ("target", "task", "seed", "folds", "quantiles", "balance", "ignore")


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One member of a plan."""

    entry: Entry
    seed: int
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A whole run: what was asked for, how many rows were used, members in order, how they were fused.

    data: the fingerprint of the table, groups and weights that it was made on. measured: what the run
    recorded that a clock had a part in (scores with costs and times, the choice, notes); a repetition on the
    same data takes it over.
    """

    request: Mapping[str, Any]
    metric: str
    most_rows: int
    steps: tuple[Step, ...]
    fusion: Mapping[str, Any]
    data: str
    measured: Mapping[str, Any]

    def to_json(self) -> dict[str, Json]:
        """The plan as JSON."""
        members = [
            {
                "name": s.entry.name,
                "learner": s.entry.learner,
                "settings": dict(s.entry.settings),
                "seed": s.seed,
                "record": dict(s.record),
            }
            for s in self.steps
        ]
        return cast(
            "dict[str, Json]",
            {
                "format": FORMAT,
                "request": dict(self.request),
                "metric": self.metric,
                "most_rows": self.most_rows,
                "members": members,
                "fusion": dict(self.fusion),
                "data": self.data,
                "measured": dict(self.measured),
            },
        )

    @classmethod
    def from_json(cls, json: Any) -> Plan:
        """The inverse of `to_json`. Raises InputError where it does not make sense."""
        try:
            if json["format"] != FORMAT:
                raise InputError(f"the plan has format {json['format']!r}; this version reads {FORMAT}")
            steps = tuple(_step(m) for m in json["members"])
            request = {k: json["request"][k] for k in _REQUEST}
            return cls(
                request,
                str(json["metric"]),
                int(json["most_rows"]),
                steps,
                dict(json["fusion"]),
                str(json["data"]),
                dict(json["measured"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the plan does not make sense: {error!r}") from error

    def costs(self) -> dict[str, Cost]:
        """What the members were measured to cost. Raises InputError where that does not make sense."""
        try:
            rows = self.measured["scores"]
            return {str(r["name"]): Cost(r["cpu_seconds_per_row"], r["bytes"]) for r in rows}
        except (KeyError, TypeError) as error:
            raise InputError(f"the plan does not make sense: {error!r}") from error

    def applied(self, request: Request) -> Request:
        """The request as the plan had it; groups, weights and threads are the caller's."""
        known = dict(self.request)
        known["quantiles"], known["ignore"] = tuple(known["quantiles"]), tuple(known["ignore"])
        return replace(request, **known)


def _step(json: Any) -> Step:
    if json["learner"] not in LEARNERS:
        raise InputError(f"the plan names learner {json['learner']!r}; there are {listed(LEARNERS)}")
    entry = Entry(str(json["name"]), json["learner"], dict(json["settings"]), 1.0, frozenset())
    return Step(entry, int(json["seed"]), dict(json["record"]))


def plan_of(
    request: Request,
    metric: str,
    most_rows: int,
    tried: Sequence[Tried],
    fusion: Mapping[str, Any],
    data: str,
    measured: Mapping[str, Any],
) -> Plan:
    """The plan of a finished run. `request.task` and `folds` are those that were found."""
    asked = {k: getattr(request, k) for k in _REQUEST}
    asked |= {"quantiles": list(request.quantiles), "ignore": list(request.ignore)}
    steps = tuple(Step(t.entry, t.seed, t.fitted.record) for t in tried)
    return Plan(asked, metric, most_rows, steps, fusion, data, measured)


def fingerprint_of(batch: Batch, request: Request) -> str:
    """sha256 of all rows that a run is given: the table, and groups and weights that do not stand in it."""
    beside = {"groups": request.groups, "weights": request.weights}
    extra = {f"\0{n}": np.asarray(v) for n, v in beside.items() if v is not None and not isinstance(v, str)}
    return fingerprint({**batch, **extra})


def fingerprint(batch: Batch) -> str:
    """sha256 of a table: names, types and values of its columns, in order of the names."""
    digest = hashlib.sha256()
    for name in sorted(batch):
        array = np.asarray(batch[name])
        digest.update(f"\0{name}\0{array.dtype.kind}{array.shape}\0".encode())
        digest.update(_bytes(array))
    return digest.hexdigest()


def _bytes(array: Array) -> bytes:
    if array.dtype == object:
        return "\1".join(map(str, array.ravel().tolist())).encode("utf-8", "surrogatepass")
    return np.ascontiguousarray(array).tobytes()


def versions() -> dict[str, Json]:
    """The versions of Python and of the libraries that are installed."""
    found: dict[str, Json] = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
