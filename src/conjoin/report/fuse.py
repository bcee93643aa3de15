"""Fuses predictions that were read from files, and says how good each file and the fused answer are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import InputError, listed, nearest
from conjoin.fusion import FIT_FUSERS, FUSERS, LinearPool, LogPool
from conjoin.fusion.choose import choose
from conjoin.outputs import Output, concat
from conjoin.scores import Score, default_score, estimate, paired, score_of

if TYPE_CHECKING:
    from conjoin.outputs import Array
    from conjoin.report.align import Aligned

AUTO = "auto"
FOLDS = 5


@dataclass(frozen=True, slots=True)
class How:
    """How to fuse: a name of `FUSERS` or `FIT_FUSERS` or "auto", weights by file, the score, the moment to
    end."""

    method: str
    weights: Mapping[str, float] | None
    metric: str | None
    seed: int
    deadline: float


def fuse(found: Aligned, how: How) -> tuple[Output, dict[str, Any]]:
    """The fused output, and the JSON record of how it was made.

    "auto" chooses by cross-validation where there is a truth, else it is the mean (`linear_pool` with
    weights). A fitted method is fitted on all rows; what is scored are answers of fits that did not see
    those rows. The record: `method`, `weights`; with a truth `metric` and `leaderboard` (as of
    `evaluate`), or `candidates`.

    Raises InputError, OutputsError.
    """
    first = next(iter(found.outputs.values()))
    score = score_of(how.metric) if how.metric else default_score(first)
    known = list(dict.fromkeys([AUTO, *FUSERS, *FIT_FUSERS]))
    if how.method not in known:
        raise InputError(
            f"no method {how.method!r}{nearest(how.method, known)}; there are {listed(known, 40)}"
        )
    if how.weights is not None or found.truth is None:
        return _plain(found, how, score)
    if how.method == AUTO:
        return _chosen(found, found.truth, how, score)
    if how.method in FIT_FUSERS:
        return _fitted(found, found.truth, how, score)
    return _plain(found, how, score)


def _plain(found: Aligned, how: How, score: Score) -> tuple[Output, dict[str, Any]]:
    method = how.method
    if method == AUTO:
        method = "mean" if how.weights is None else "linear_pool"
    if method not in FUSERS:
        what = "takes no --weights" if how.weights is not None else "learns from the truth: give --truth"
        raise InputError(f"the method {method!r} {what}; methods that need no truth: {listed(FUSERS)}")
    fused = FUSERS[method](found.outputs, weights=how.weights)
    used = dict(how.weights) if how.weights is not None else dict.fromkeys(found.outputs, 1.0)
    return fused, {"method": method, "weights": used, **_board(found, fused, method, score)}


def _fitted(found: Aligned, truth: Output, how: How, score: Score) -> tuple[Output, dict[str, Any]]:
    fit = FIT_FUSERS[how.method]
    fuser = fit(found.outputs, truth, score=score, seed=how.seed)
    rows = np.random.default_rng(how.seed).permutation(len(truth))
    parts = [p for p in np.array_split(rows, FOLDS) if len(p)]
    fused = shown = _call(fuser, found.outputs)
    if len(parts) > 1:
        shown = concat([_unseen(found, truth, how, score, p) for p in parts])
        shown = shown.take(np.argsort(np.concatenate(parts)))
    record = {"method": how.method, "weights": _weights_of(fuser), **_board(found, shown, how.method, score)}
    return fused, {**record, "cross_validated": len(parts) > 1}


def _unseen(found: Aligned, truth: Output, how: How, score: Score, part: Array) -> Output:
    """The answers to the rows `part` of a fuser that was fitted on the others."""
    rest = np.setdiff1d(np.arange(len(truth)), part)
    outputs = {n: o.take(rest) for n, o in found.outputs.items()}
    fuser = FIT_FUSERS[how.method](outputs, truth.take(rest), score=score, seed=how.seed)
    return _call(fuser, {n: o.take(part) for n, o in found.outputs.items()})


def _call(fuser: Any, outputs: Mapping[str, Output]) -> Output:
    """Ask a fitted fuser; one that left members out is given only those that it knows."""
    return cast("Output", fuser({n: outputs[n] for n in fuser.members}))


def _chosen(found: Aligned, truth: Output, how: How, score: Score) -> tuple[Output, dict[str, Any]]:
    choice = choose(found.outputs, truth, score=score, seed=how.seed, deadline=how.deadline)
    fused = choice.fuser({n: found.outputs[n] for n in choice.members})
    record = {"method": choice.name, "weights": _weights_of(choice.fuser), "choice": choice.to_json()}
    return fused, {**record, **_board(found, None, choice.name, score)}


def _weights_of(fuser: Any) -> dict[str, float] | None:
    return dict(fuser.weights) if isinstance(fuser, LinearPool | LogPool) else None


def _board(found: Aligned, fused: Output | None, method: str, score: Score) -> dict[str, Any]:
    """The leaderboard of the files, and of the fused answer where it is given; nothing without a truth."""
    if found.truth is None:
        return {}
    rows: list[dict[str, Any]] = []
    if fused is not None:
        rows.append({"name": method, "role": "fused", **asdict(estimate(score, fused, found.truth))})
    for name, output in found.outputs.items():
        row = {"name": name, "role": "file", **asdict(estimate(score, output, found.truth))}
        if fused is not None:
            row["difference"] = asdict(paired(score, output, fused, found.truth))
        rows.append(row)
    return {"metric": score.name, "leaderboard": rows}
