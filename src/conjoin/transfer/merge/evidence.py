"""How good a model is on held-out data: by its answers to rows with a truth, or by anybody's function.

Two models are compared on the same rows wherever what they did row by row is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from conjoin.errors import ConjoinError, InputError, TruthError
from conjoin.outputs import Labels, Output, Values
from conjoin.scores import Estimate, default_score, estimate, p_value, paired, score_of
from conjoin.scores.student import student_quantile

if TYPE_CHECKING:
    from conjoin.outputs import Array

Scoring = Callable[[Any], Any]
LEAST = 20
"""Rows that a part of the held-out data needs at least; with fewer all rows do everything."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Held-out rows, and how a model answers them.

    predict: a model (state dict, module or folder) -> its answers to all rows. truth: of the rows, Labels or
    Values, (n,). score: a name of `conjoin.scores.SCORES`, or a Score; by default the one of the kind.
    weights: of the rows, (n,), or None.
    """

    predict: Callable[[Any], Output]
    truth: Output
    score: Any = None
    weights: Any = None


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better one model is than another (above 0 is better), with its 95 % interval if known."""

    mean: float
    standard_error: float
    low: float
    high: float
    p_value: float


class Evidence(Protocol):
    """What judges models. rows: of the held-out data; None where a model gets one number."""

    @property
    def metric(self) -> str: ...  # noqa: D102
    @property
    def better(self) -> str: ...  # noqa: D102
    @property
    def rows(self) -> int | None: ...  # noqa: D102
    def ask(self, model: Any, name: str) -> Any: ...  # noqa: D102
    def value(self, answer: Any, rows: Array | None) -> Estimate: ...  # noqa: D102
    def gain(self, a: Any, b: Any, rows: Array | None) -> Gain: ...  # noqa: D102
    def numbers(self, answer: Any) -> Mapping[str, float]: ...  # noqa: D102
    def strata(self) -> Array | None: ...  # noqa: D102


def evidence_of(score: Scoring | HeldOut) -> Evidence:
    """Evidence by held-out rows, or by a function model -> number, mapping of numbers, or (n,) of rows.

    Larger numbers of a function are better. A mapping counts as its mean. Raises InputError.
    """
    if isinstance(score, HeldOut):
        return _ByRows(score)
    if not callable(score):
        raise InputError(
            f"score must be a function of a model, or HeldOut(predict, truth), not {type(score).__name__}"
        )
    return _ByFunction(score)


def goodness(evidence: Evidence, answer: Any, rows: Array | None) -> float:
    """The value turned so that larger is better; minus infinity where there is none."""
    value = evidence.value(answer, rows).value
    if math.isnan(value):
        return -math.inf
    return value if evidence.better == "higher" else -value


def parts(evidence: Evidence, shares: Sequence[int], *, seed: int) -> list[Array | None]:
    """Row numbers of each part, in the proportion of `shares`, every class in each; [None, ...] where rows
    are unknown or too few for parts.
    """
    count = evidence.rows
    if count is None or count * min(shares) < LEAST * sum(shares):
        return [None for _ in shares]
    order = np.random.default_rng(seed).permutation(count)
    strata = evidence.strata()
    if strata is not None:
        order = order[np.argsort(strata[order], kind="stable")]
    turns = np.repeat(np.arange(len(shares)), shares)
    owner = np.random.default_rng(seed + 1).permutation(turns)[np.arange(count) % len(turns)]
    return [np.sort(order[owner == part]) for part in range(len(shares))]


class _ByRows:
    """Answers and truth; scores of `conjoin.scores`."""

    def __init__(self, held: HeldOut) -> None:
        self.held = held
        self.score: Any = score_of(held.score) if isinstance(held.score, str) else held.score
        if not len(held.truth) or not cast(Any, held.truth).answered.any():
            raise TruthError("the held-out data have no row with a truth")

    @property
    def metric(self) -> str:
        return str(self.score.name) if self.score is not None else "score"

    @property
    def better(self) -> str:
        return str(self.score.better) if self.score is not None else "higher"

    @property
    def rows(self) -> int | None:
        return len(self.held.truth)

    def ask(self, model: Any, name: str) -> Output:
        found = self.held.predict(model)
        if len(found) != len(self.held.truth):
            raise InputError(f"{name} answered {len(found)} rows; the truth has {len(self.held.truth)}")
        if self.score is None:
            self.score = default_score(found)
        return found

    def value(self, answer: Output, rows: Array | None) -> Estimate:
        one, truth = self._of(rows, answer, self.held.truth)
        return estimate(self.score, one, truth, self._weights(rows))

    def gain(self, a: Output, b: Output, rows: Array | None) -> Gain:
        one, other, truth = self._of(rows, a, b, self.held.truth)
        found = paired(self.score, one, other, truth, self._weights(rows))
        return _gain(-found.mean, found.standard_error, found.p_value, len(truth))

    def numbers(self, answer: Output) -> Mapping[str, float]:
        return {}

    def strata(self) -> Array | None:
        truth = self.held.truth
        if isinstance(truth, Labels):
            return truth.codes
        return truth.values.reshape(len(truth), -1)[:, 0] if isinstance(truth, Values) else None

    def _of(self, rows: Array | None, *outputs: Output) -> tuple[Any, ...]:
        return tuple(outputs if rows is None else (o.take(rows) for o in outputs))

    def _weights(self, rows: Array | None) -> Any:
        given = self.held.weights
        return given if given is None or rows is None else np.asarray(given)[rows]


class _ByFunction:
    """A function of a model. What it returns the first time says whether rows are known."""

    metric, better = "score", "higher"

    def __init__(self, fn: Scoring) -> None:
        self.fn = fn
        self._rows: int | None = None
        self._asked = False

    @property
    def rows(self) -> int | None:
        return self._rows

    def ask(self, model: Any, name: str) -> Any:
        try:
            raw = self.fn(model)
        except ConjoinError:
            raise
        except Exception as error:  # anybody's function
            raise InputError(
                f"the scoring function fails on {name}: {type(error).__name__}: {error}"
            ) from error
        found = _numbers(raw, name)
        rows = len(found) if isinstance(found, np.ndarray) else None
        if self._asked and rows != self._rows:
            raise InputError(
                f"the scoring function gave {rows or 'no'} rows for {name}, before {self._rows or 'none'}; "
                "it must answer every model alike"
            )
        self._rows, self._asked = rows, True
        return found

    def value(self, answer: Any, rows: Array | None) -> Estimate:
        if isinstance(answer, np.ndarray):
            error, half = _spread(answer if rows is None else answer[rows])
            mean = float((answer if rows is None else answer[rows]).mean())
            return Estimate(mean, error, mean - half, mean + half)
        mean = float(np.mean(list(answer.values()))) if isinstance(answer, dict) else answer
        return Estimate(mean, math.nan, math.nan, math.nan)

    def gain(self, a: Any, b: Any, rows: Array | None) -> Gain:
        if isinstance(a, np.ndarray):
            differences = a - b if rows is None else (a - b)[rows]
            error, _ = _spread(differences)
            mean = float(differences.mean())
            return _gain(mean, error, p_value(mean, error, len(differences) - 1), len(differences))
        mean = self.value(a, None).value - self.value(b, None).value
        return Gain(mean, math.nan, math.nan, math.nan, math.nan)

    def numbers(self, answer: Any) -> Mapping[str, float]:
        return dict(answer) if isinstance(answer, dict) else {}

    def strata(self) -> Array | None:
        return None


def _numbers(raw: Any, name: str) -> Any:
    """A float, a dict of floats, or (n,) float64. Raises InputError."""
    told = (
        f"the scoring function must give a number, a mapping of numbers, or (n,) numbers of rows, for {name}"
    )
    try:
        if isinstance(raw, Mapping):
            found = {str(k): float(v) for k, v in raw.items()}
            if not found:
                raise InputError(f"{told}; the mapping is empty")
            return found
        array = np.asarray(raw, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{told}, not {type(raw).__name__}: {error}") from error
    if array.ndim == 0:
        return float(array)
    if array.ndim > 1 or not len(array):
        raise InputError(f"{told}, not an array of shape {array.shape}")
    return array


def _spread(numbers: Array) -> tuple[float, float]:
    """The standard error of the mean, and half its 95 % interval."""
    if len(numbers) < 2:
        return math.nan, math.nan
    error = float(numbers.std(ddof=1) / math.sqrt(len(numbers)))
    return error, error * student_quantile(0.975, len(numbers) - 1)


def _gain(mean: float, error: float, chance: float, count: int) -> Gain:
    half = error * student_quantile(0.975, count - 1) if count > 1 else math.nan
    return Gain(mean, error, mean - half, mean + half, chance)
