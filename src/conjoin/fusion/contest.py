"""The contest behind `choose`: held-out answers of every contender, and paired tests between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import ConjoinError
from conjoin.fusion.calibrate import Calibrated, fit_temperature
from conjoin.fusion.calibrators import Calibrator
from conjoin.fusion.columns import fit_class_weights
from conjoin.fusion.decisions import fit_decided_log_pool
from conjoin.fusion.folds import fold_numbers
from conjoin.fusion.gate import fit_gate
from conjoin.fusion.greedy import PICKS, QUICK, fit_greedy_selection
from conjoin.fusion.linear import fit_best_single, fit_linear_pool, fit_mean
from conjoin.fusion.logpool import fit_log_pool
from conjoin.fusion.perceptron import MOST_INPUTS, fit_network_fuser
from conjoin.fusion.problems import ClassProblem, ValueProblem
from conjoin.fusion.stack import as_rows
from conjoin.fusion.stacking import fit_stacking
from conjoin.scores import SCORES, p_value

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.fusion.stack import Dense
    from conjoin.outputs import Array
    from conjoin.scores import Score

Rows = ClassProblem | ValueProblem
_REPEATED = 200_000  # numbers above which folds are not repeated


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to fuse. needed: how many corrected standard errors it must be better than the incumbent.

    A negative number: it takes over unless it is that much worse (for what is known to be better as a rule).
    least_rows: with fewer it does not take part. batch: it reads the batch, and takes part if there is one.
    decides: it fits decisions, and takes part where the score looks at decisions alone. seconds: of CPU for
    one fit per number that the members gave (roughly; a deadline looks at it). row_seconds: the same per row.
    """

    name: str
    fit: Callable[..., Any]
    needed: float
    least_rows: int = 0
    batch: bool = False
    decides: bool = False
    seconds: float = 5e-8
    row_seconds: float = 0.0


def _calibrated_log_pool(outputs: Mapping[str, Dense], truth: Any, **more: Any) -> Calibrated:
    """A log pool of members whose temperature and smoothing are fitted first."""
    weights = more.get("weights")
    made: dict[str, Calibrator] = {n: fit_temperature(o, truth, weights=weights) for n, o in outputs.items()}
    used: dict[str, Any] = {n: made[n](o) for n, o in outputs.items()}  # type: ignore[arg-type]
    return Calibrated(fit_log_pool(used, truth, **more), made, None)


def _dynamic(outputs: Mapping[str, Dense], truth: Any, *, rule: str, **more: Any) -> Any:
    """Dynamic selection; its loops need numba, so it is imported when it is first wanted."""
    from conjoin.fusion.dynamic import FIT_FUSERS

    return FIT_FUSERS[rule](outputs, truth, guard=False, **more)


CLASS_CONTENDERS = (
    Contender("best_single", fit_best_single, 0.0),
    Contender("mean", fit_mean, 1.0),
    Contender("greedy_selection", fit_greedy_selection, 0.0),
    Contender("linear_pool", partial(fit_linear_pool, least_share=0.03), -0.5),
    Contender("log_pool", fit_log_pool, -1.0),
    Contender("stacking, penalty 300", partial(fit_stacking, penalty=300.0), 0.75, seconds=4e-7),
    Contender("stacking, penalty 100", partial(fit_stacking, penalty=100.0), 0.75, seconds=4e-7),
    Contender("stacking, penalty 30", partial(fit_stacking, penalty=30.0), 0.75, seconds=4e-7),
    Contender("gate, penalty 3000", partial(fit_gate, penalty=3000.0), 0.75, seconds=4e-7),
    Contender("gate, penalty 1000", partial(fit_gate, penalty=1000.0), 1.0, seconds=4e-7),
    Contender("log_pool, calibrated", _calibrated_log_pool, 1.0, seconds=6e-7),
    Contender(
        "class_weights, penalty 300", partial(fit_class_weights, penalty=300.0), 1.5, 200, seconds=2e-7
    ),
    Contender("gate on the batch", fit_gate, 1.0, 500, batch=True, seconds=4e-7),
    Contender("knora_u", partial(_dynamic, rule="knora_u"), 1.0, 300, batch=True, row_seconds=2e-5),
    Contender("meta_des", partial(_dynamic, rule="meta_des"), 1.0, 300, batch=True, row_seconds=5e-5),
    Contender("network", fit_network_fuser, 1.0, 1000, row_seconds=2e-4),
    Contender("log_pool, decisions", fit_decided_log_pool, 0.5, 100, decides=True),
)
"""Ways to fuse probabilities, from simple to rich. The numbers were tuned on benchmarks/quality/fusion.py."""

VALUE_CONTENDERS = (
    Contender("best_single", fit_best_single, 0.0),
    Contender("mean", fit_mean, 1.0),
    Contender("greedy_selection", fit_greedy_selection, 0.0),
    Contender("linear_pool", partial(fit_linear_pool, least_share=0.03), -1.0),
    Contender("stacking, penalty 3000", partial(fit_stacking, penalty=3000.0), 0.75),
    Contender("gate, penalty 10000", partial(fit_gate, penalty=10_000.0), 0.75),
    Contender("stacking, penalty 1000", partial(fit_stacking, penalty=1000.0), 1.0),
    Contender("stacking, penalty 300", partial(fit_stacking, penalty=300.0), 1.0),
    Contender("gate, penalty 3000", partial(fit_gate, penalty=3000.0), 1.0),
    Contender("gate on the batch", fit_gate, 1.0, 500, batch=True),
    Contender("network", fit_network_fuser, 1.5, 1000, row_seconds=2e-4),
)
"""Ways to fuse values, from simple to rich. The first stacking and gate are so near the pool that better is
enough.
"""

QUANTILE_CONTENDERS = (
    Contender("best_single", fit_best_single, 0.0),
    Contender("mean", fit_mean, 1.0),
    Contender("greedy_selection", fit_greedy_selection, 0.0),
    Contender("linear_pool", partial(fit_linear_pool, least_share=0.03), -1.0),
    Contender("class_weights", fit_class_weights, 1.0),
    Contender("stacking, penalty 1000", partial(fit_stacking, penalty=1000.0), 1.0),
    Contender("gate, penalty 10000", partial(fit_gate, penalty=10_000.0), 1.0),
)
"""Ways to fuse quantiles, from simple to rich."""

CONTENDERS = {
    "probabilities": CLASS_CONTENDERS,
    "values": VALUE_CONTENDERS,
    "quantiles": QUANTILE_CONTENDERS,
}
MOST_PROBABLE = ("accuracy", "error", "f1_micro")
"""Scores of decisions that want the most probable class. They are coarse, so the surrogate has more say."""
SURROGATES = {"probabilities": "log_loss", "values": "mse", "quantiles": "pinball"}


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Answers for rows that the fuser was not fitted to, of R repeats of K folds.

    losses: (n,) per-row losses of the asked score, mean over repeats (None where the score has no rows).
    loss: the asked loss, mean over repeats. repeats: the loss of each repeat. surrogate: (n,) per-row
    log-loss, squared error or pinball loss. seconds: CPU time of one fit.
    """

    losses: Array | None
    loss: float
    repeats: Array
    surrogate: Array
    seconds: float


@dataclass(frozen=True, slots=True)
class Gap:
    """loss(a) - loss(b), its corrected standard error, p (two-sided)."""

    mean: float
    error: float
    p: float


@dataclass(frozen=True, slots=True, eq=False)
class Folds:
    """The folds of a contest, the same for all contenders.

    numbers: (R, n), the fold of each row in each repeat. batch: columns of the same rows.
    """

    rows: Rows
    numbers: Array
    score: Score
    batch: Batch | None
    seed: int

    @property
    def correction(self) -> float:
        """Factor on the standard error: fits of different folds share rows (Nadeau and Bengio 2003)."""
        k = int(self.numbers.max()) + 1
        return math.sqrt(1 + k / (k - 1))

    def held(self, contender: Contender, names: Sequence[str] | None = None) -> Held | None:
        """Fit to all folds but one, answer that one; None where the fit refuses these rows.

        names: the members that take part; None is all.
        """
        rows = self.rows if names is None else self.rows.only(names)
        truth, start = rows.truth, time.process_time()
        out, surrogate, losses = [], [], []
        for number in self.numbers:
            try:
                answer = self._answers(rows, contender, number)
            except ConjoinError:
                return None
            out.append(self.score.loss(answer, truth, rows.shares))
            losses.append(self.score.rows(answer, truth, rows.shares))
            surrogate.append(SCORES[SURROGATES[rows.stack.kind]].rows(answer, truth, rows.shares))
        fits = len(self.numbers) * (int(self.numbers.max()) + 1)
        mean = None if losses[0] is None else np.mean([x for x in losses if x is not None], axis=0)
        return Held(
            mean,
            float(np.mean(out)),
            np.array(out),
            np.mean([s for s in surrogate if s is not None], axis=0),
            (time.process_time() - start) / fits,
        )

    def _answers(self, rows: Rows, contender: Contender, number: Array) -> Dense:
        batch = self.batch if contender.batch else None
        values = np.empty((rows.stack.rows, rows.stack.width))
        for k in range(int(number.max()) + 1):
            inside, outside = np.flatnonzero(number != k), np.flatnonzero(number == k)
            fuser = fitted(contender, rows.rows(inside), self.score, self.seed, rows_of(batch, inside))
            asked = rows.rows(outside).stack.outputs()
            values[outside] = as_rows(fuser(asked, batch=rows_of(batch, outside)).values)
        return rows.stack.output(values)

    def gap(self, a: Held, b: Held) -> Gap:
        """By the asked score."""
        if a.losses is None or b.losses is None:
            return self._repeat_gap(a, b)
        return self._row_gap(a.losses - b.losses)

    def surrogate_gap(self, a: Held, b: Held) -> Gap:
        """By log-loss, squared error or pinball loss."""
        return self._row_gap(a.surrogate - b.surrogate)

    def _row_gap(self, d: Array) -> Gap:
        share = self.rows.shares
        mean = float(share @ d)
        n = len(d)
        if n < 2:
            return Gap(mean, math.nan, 1.0)
        error = math.sqrt(float(share**2 @ (d - mean) ** 2) * n / (n - 1)) * self.correction
        return Gap(mean, error, p_value(mean, error, n - 1))

    def _repeat_gap(self, a: Held, b: Held) -> Gap:
        """A score without rows: the spread of the surrogate's gap, scaled to this score's size."""
        mean = a.loss - b.loss
        by_rows = self.surrogate_gap(a, b)
        size = abs(mean) / max(abs(by_rows.mean), 1e-300)
        error = max(by_rows.error * size, float(np.std(a.repeats - b.repeats)))
        return Gap(mean, error, p_value(mean, error, len(self.rows.shares) - 1))


def fitted(contender: Contender, rows: Rows, score: Score, seed: int, batch: Batch | None) -> Any:
    """The contender's fuser, fitted to these rows."""
    more = {"batch": batch} if contender.batch else {}
    given = rows.stack.outputs()
    return contender.fit(given, rows.truth, weights=rows.shares, score=score, seed=seed, **more)


def rows_of(batch: Batch | None, at: Array) -> dict[str, Any] | None:
    """Some rows of a batch."""
    return None if batch is None else {n: np.asarray(v)[at] for n, v in batch.items()}


def folds_for(
    rows: Rows, score: Score, *, folds: int, seed: int, groups: Any = None, batch: Batch | None = None
) -> Folds:
    """Stratified folds; three repeats below 200 rows, two below 1,000, else one; one of very wide outputs.

    groups, batch: of these rows.
    """
    n = len(rows.shares)
    count = max(2, min(folds, n))
    wide = n * len(rows.stack.names) * rows.stack.width > _REPEATED
    repeats = 1 if wide or n >= 1000 else 2 if n >= 200 else 3
    strata = rows.codes if isinstance(rows, ClassProblem) else None
    numbers = [fold_numbers(n, count, seed + 7919 * r, strata=strata, groups=groups) for r in range(repeats)]
    return Folds(rows, np.array(numbers), score, batch, seed)


def enters(contender: Contender, rows: Rows, score: Score, *, batch: bool) -> str | None:
    """Why a contender does not take part, or None."""
    n = len(rows.shares)
    if contender.decides and (not score.decisions or score.name in MOST_PROBABLE):
        return "for scores of decisions"
    if contender.batch and not batch:
        return "there is no batch"
    if n < contender.least_rows:
        return f"needs {contender.least_rows} rows, there are {n}"
    inputs = len(rows.stack.names) * rows.stack.width
    if contender.name == "network" and inputs > MOST_INPUTS // 4:
        return f"the members give {inputs} numbers a row, too many"
    return None


def expected_seconds(contender: Contender, folds: Folds, evaluation: float) -> float:
    """CPU seconds that holding out will take, roughly. evaluation: seconds of scoring the rows once."""
    rows, repeats = folds.rows.stack, folds.numbers
    members = len(rows.names)
    each = contender.seconds * members * rows.rows * rows.width + contender.row_seconds * rows.rows
    if contender.name == "greedy_selection" and folds.score.name not in QUICK:
        each += PICKS * members * evaluation
    return each * len(repeats) * (int(repeats.max()) + 1)


def bar(contender: Contender, incumbent: str, score: Score) -> float:
    """How many errors better the contender must be; a coarse score does not hold a pool back from one member.

    Measured with accuracy over 120 splits of real outputs, 120 to 1,000 rows: +0.05 points over all, +0.15
    where there are fewer than 300 rows.
    """
    coarse = score.name in MOST_PROBABLE and incumbent == "best_single"
    return min(contender.needed, -1.0) if coarse else contender.needed


def wins(folds: Folds, challenger: Held, incumbent: Held, needed: float) -> tuple[bool, Gap]:
    """Does the challenger take over? By the asked score; by the surrogate if the asked one is not worse.

    Of scores that want the most probable class: not worse by more than its error.
    """
    gap = folds.gap(challenger, incumbent)
    if math.isnan(challenger.loss):
        return False, gap
    if _beats(gap, needed):
        return True, gap
    if folds.score.name in SURROGATES.values() or folds.score.name == "rmse":
        return False, gap
    slack = gap.error if folds.score.name in MOST_PROBABLE and not math.isnan(gap.error) else 0.0
    return gap.mean <= slack and _beats(folds.surrogate_gap(challenger, incumbent), max(needed, 0.0)), gap


def _beats(gap: Gap, needed: float) -> bool:
    if math.isnan(gap.error):
        return gap.mean < 0 and needed <= 0
    if needed < 0:
        return gap.mean < -needed * gap.error
    return gap.mean < 0 and gap.mean < -needed * gap.error
