"""Fuses answers that were read from files, and says how good each file and the fused answer are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import InputError, TruthError, listed, nearest
from conjoin.fusion import FIT_FUSERS, FUSERS
from conjoin.fusion.applied import check_options
from conjoin.fusion.choose import choose
from conjoin.fusion.kinds import FAMILIES, family
from conjoin.fusion.single import as_fused
from conjoin.outputs import Output, Texts, concat
from conjoin.scores import FieldScore, Score, default_score, estimate, paired, score_of, scores_of

if TYPE_CHECKING:
    from conjoin.formats import Found
    from conjoin.outputs import Array

AUTO = "auto"
FOLDS = 5
OTHER_KIND = {"values": {"emos", "quantile_regression_averaging"}}
"""Kind -> operators that answer quantiles, which a file of that kind does not hold."""
TRUSTED = "mean"
"""What numbers and probabilities are fused by without truth: nothing surely beats it there."""


@dataclass(frozen=True, slots=True)
class How:
    """How to fuse: an operator's name or "auto", weights by file, options of the operator, the score, the
    moment to end."""

    method: str
    weights: Mapping[str, float] | None
    metric: str | None
    seed: int
    deadline: float
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Tables:
    """The operators of a kind."""

    kind: str
    plain: Mapping[str, Callable[..., Any]]
    fits: Mapping[str, Callable[..., Any]]
    trusted: str

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys([AUTO, *self.plain, *self.fits]))


def fuse(found: Found, how: How) -> tuple[Output, dict[str, Any]]:
    """The fused output, and the JSON record of how it was made.

    "auto" chooses by cross-validation where there is a truth, else it is the operator that the field trusts
    most, with weights where they are given. A fitted method is fitted on all rows with a truth; what is
    scored are answers of fits that did not see those rows. Rows without a truth are fused too. The record:
    `method`, `weights`; with a truth `metric` and `leaderboard` (as of `evaluate`), or `candidates`.

    Raises InputError, OutputsError, TruthError.
    """
    first = next(iter(found.outputs.values()))
    tables = operators(first)
    score = score_of(how.metric, first.kind) if how.metric else default_score(first)
    if how.method not in tables.names:
        raise InputError(
            f"no method {how.method!r}{nearest(how.method, tables.names)}; "
            f"there are {listed(tables.names, 60)}"
        )
    if how.weights is not None or found.truth is None:
        return _plain(found, how, tables, score)
    if not found.truth.answered.any():  # type: ignore[attr-defined]
        raise TruthError("the truth has none of the rows that the files answer")
    if how.method == AUTO:
        return _chosen(found, found.truth, how, score)
    if how.method in tables.fits:
        return _fitted(found, found.truth, how, tables, score)
    return _plain(found, how, tables, score)


def operators(output: Output) -> _Tables:
    """The operators for outputs such as this one. Words with times are trusted to ROVER."""
    if output.kind not in FAMILIES:
        return _numbers(output.kind)
    found = family(output.kind)
    spoken = isinstance(output, Texts) and output.offsets is not None
    return _Tables(output.kind, found.FUSERS, found.FIT_FUSERS, "rover" if spoken else found.TRUSTED)


def _numbers(kind: str) -> _Tables:
    """The operators for probabilities, values or quantiles, those for series too."""
    from conjoin.fusion import series

    fits = {n for n, kinds in series.KINDS.items() if kind in kinds} - OTHER_KIND.get(kind, set())
    plain = FUSERS | {n: f for n, f in series.FUSERS.items() if n in fits}
    return _Tables(
        kind, plain, FIT_FUSERS | {n: f for n, f in series.FIT_FUSERS.items() if n in fits}, TRUSTED
    )


def score_files(found: Found, metrics: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """A record for each file: its name, and by metric the value with its interval (`estimate`).

    metrics: names; by default all of the kind. Raises InputError on an unknown one, TruthError without truth.
    """
    if found.truth is None:
        raise TruthError("scoring needs the truth: --truth FILE")
    kind = next(iter(found.outputs.values())).kind
    known = scores_of(kind)
    chosen = (
        [score_of(m, kind) for m in metrics] if metrics else [s for s in known.values() if _fits(s, found)]
    )
    rows = []
    for name, output in found.outputs.items():
        scores = {s.name: asdict(estimate(cast(Any, s), as_scored(output), found.truth)) for s in chosen}
        rows.append({"name": name, "scores": scores})
    return rows


def as_scored(output: Output) -> Output:
    """Labels as probabilities of 0 and 1, other kinds as they are."""
    return as_fused(output)


def _fits(score: Any, found: Found) -> bool:
    """Whether the score is defined for this truth: F1 of two classes is not for three, say."""
    try:
        score.value(as_scored(next(iter(found.outputs.values()))), found.truth)
    except (InputError, ZeroDivisionError):
        return False
    return True


def _plain(found: Found, how: How, tables: _Tables, score: Any) -> tuple[Output, dict[str, Any]]:
    method = how.method
    if method == AUTO:
        weighted = how.weights is not None and tables.kind not in FAMILIES
        method = "linear_pool" if weighted else tables.trusted
    if method not in tables.plain:
        what = "takes no --weights" if how.weights is not None else "learns from the truth: give --truth"
        raise InputError(
            f"the method {method!r} {what}; methods that need no truth: {listed(tables.plain, 40)}"
        )
    check_options(tables.plain[method], method, how.options)
    fused = tables.plain[method](found.outputs, weights=how.weights, **how.options)
    used = dict(how.weights) if how.weights is not None else dict.fromkeys(found.outputs, 1.0)
    return fused, {"method": method, "weights": used, **_board(found, fused, method, score)}


def _fitted(found: Found, truth: Any, how: How, tables: _Tables, score: Any) -> tuple[Output, dict[str, Any]]:
    check_options(tables.fits[how.method], how.method, how.options)
    known = np.flatnonzero(truth.answered)

    def fit(rows: Array) -> Any:
        outputs = {n: o.take(rows) for n, o in found.outputs.items()}
        return tables.fits[how.method](outputs, truth.take(rows), score=score, seed=how.seed, **how.options)

    fuser = fit(known)
    fused = _call(fuser, found.outputs)
    parts = [p for p in np.array_split(np.random.default_rng(how.seed).permutation(known), FOLDS) if len(p)]
    told: dict[str, Any] = {}
    if len(parts) > 1:
        unseen = [
            _call(fit(np.setdiff1d(known, p)), {n: o.take(p) for n, o in found.outputs.items()})
            for p in parts
        ]
        order = np.argsort(np.concatenate(parts))
        told = _board(_only(found, known), _joined(unseen, truth).take(order), how.method, score)
    else:
        told = _board(found, fused, how.method, score)
    record = {"method": how.method, "weights": _weights_of(fuser), **told}
    return fused, {**record, "cross_validated": len(parts) > 1}


def _only(found: Found, rows: Array) -> Found:
    outputs = {n: o.take(rows) for n, o in found.outputs.items()}
    return replace(found, rows=found.rows[rows], outputs=outputs, truth=cast(Output, found.truth).take(rows))


def _joined(parts: Sequence[Any], truth: Any) -> Output:
    """One output of fused parts, with the classes of all."""
    if hasattr(parts[0], "align"):
        classes = sorted({c for p in parts for c in p.classes} | set(truth.classes))
        parts = [p.align(classes) for p in parts]
    return concat(parts)


def _call(fuser: Any, outputs: Mapping[str, Output]) -> Output:
    """Ask a fitted fuser; one that left members out is given only those that it knows."""
    names = getattr(fuser, "members", ()) or outputs
    return cast("Output", fuser({n: outputs[n] for n in names if n in outputs}))


def _chosen(found: Found, truth: Any, how: How, score: Any) -> tuple[Output, dict[str, Any]]:
    if how.options:
        raise InputError(f"auto chooses its own options; {listed(how.options)} need a --method")
    known = np.flatnonzero(truth.answered)
    outputs = {n: o.take(known) for n, o in found.outputs.items()}
    choice = choose(outputs, truth.take(known), score=score, seed=how.seed, deadline=how.deadline)
    fused = choice.fuser({n: found.outputs[n] for n in choice.members})
    record = {"method": choice.name, "weights": _weights_of(choice.fuser), "choice": choice.to_json()}
    return fused, {**record, **_board(_only(found, known), None, choice.name, score)}


def _weights_of(fuser: Any) -> dict[str, float] | None:
    found = getattr(fuser, "weights", None)
    if not isinstance(found, Mapping) or not all(isinstance(w, float | int) for w in found.values()):
        return None
    return {str(n): float(w) for n, w in found.items()} or None


def _board(found: Found, fused: Output | None, method: str, score: Score | FieldScore) -> dict[str, Any]:
    """The leaderboard of the files, and of the fused answer where it is given; nothing without a truth."""
    if found.truth is None:
        return {}
    scored = cast(Any, score)
    rows: list[dict[str, Any]] = []
    if fused is not None:
        rows.append(
            {"name": method, "role": "fused", **asdict(estimate(scored, as_scored(fused), found.truth))}
        )
    for name, output in found.outputs.items():
        row = {"name": name, "role": "file", **asdict(estimate(scored, as_scored(output), found.truth))}
        if fused is not None:
            row["difference"] = asdict(paired(scored, as_scored(output), as_scored(fused), found.truth))
        rows.append(row)
    return {"metric": score.name, "leaderboard": rows}
