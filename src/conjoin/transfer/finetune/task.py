"""What a module is to learn: targets, weights of rows, the loss, and the rows that are held out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import InputError, TruthError, listed, need
from conjoin.outputs import Embeddings, Labels, Probabilities, Values
from conjoin.scores import Estimate, estimate, score_of

if TYPE_CHECKING:
    from conjoin.outputs import Array, Output

SCORES = {"probabilities": ("log_loss", "accuracy"), "values": ("rmse", "mae"), "embeddings": ("rmse",)}


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A truth, ready for a loss.

    kind: of the member that comes out. target: (n,) class codes, (n, K) probabilities, (n, D) numbers in
    units of their own. kept: rows (of the truth that was given) that have an answer. weights: (n,), mean 1.
    shift, scale: (D,) mean and spread of the numbers; 0 and 1 for classes.
    """

    kind: str
    classes: tuple[str, ...]
    target: Array
    kept: Array
    weights: Array
    shift: Array
    scale: Array
    truth: Any

    @property
    def width(self) -> int:
        """The number of outputs that the module must have."""
        return len(self.classes) or self.target.shape[1]

    def __len__(self) -> int:
        return len(self.target)

    def loss(self, answer: Any, target: Any, weights: Any, *, scaled: bool) -> Any:
        """Weighted mean over the rows: cross-entropy of logits, or squares in units of the spread.

        scaled: the module answers in these units already.
        """
        functional = need("torch").nn.functional
        if self.classes:
            answer = answer.float()
            each = functional.cross_entropy(answer, target, reduction="none")
        else:
            torch = need("torch")
            answer = answer.float().reshape(target.shape)
            if not scaled:
                shift, scale = (torch.as_tensor(a, device=answer.device) for a in (self.shift, self.scale))
                answer = (answer - shift) / scale
            each = ((answer - target) ** 2).mean(dim=1)
        return (each * weights).mean()

    def tensors(self) -> tuple[Array, Array]:
        """Targets as the loss takes them (numbers in units of their spread), and weights, float32."""
        if self.classes and self.target.ndim == 1:
            return self.target, self.weights.astype(np.float32)
        scaled = (self.target - self.shift) / self.scale if not self.classes else self.target
        return scaled.astype(np.float32), self.weights.astype(np.float32)


def task_of(
    truth: Output, rows: int, *, weights: Any = None, class_weights: Mapping[str, float] | None, balance: bool
) -> Task:
    """The task of a truth of n rows. Raises InputError and TruthError."""
    if not isinstance(truth, Labels | Probabilities | Values | Embeddings):
        given = getattr(truth, "kind", type(truth).__name__)
        raise TruthError(
            f"a module learns labels, probabilities, values or embeddings, not {given}; for names of classes "
            "give Labels.of(names), for numbers Values(numbers)"
        )
    if len(truth) != rows:
        raise InputError(f"the batch has {rows} rows and the truth {len(truth)}; give the same rows to both")
    kept = _answered(truth)
    if len(kept) < 2:
        raise TruthError(f"{len(kept)} of {rows} rows have a truth; at least two are needed to learn from")
    mass = _row_weights(weights, rows)[kept]
    known = truth.take(kept)
    if isinstance(known, Values | Embeddings):
        if class_weights or balance:
            raise InputError("weights of classes need classes; the truth is of numbers")
        return _numbers(known, kept, mass)
    return _classes(known, kept, mass, class_weights, balance)


def _answered(truth: Any) -> Array:
    if isinstance(truth, Labels):
        return np.flatnonzero(truth.answered & (truth.codes >= 0))
    flat = truth.values.reshape(len(truth), -1)
    if bool(np.isinf(flat[truth.answered]).any()):
        raise TruthError("the truth holds infinities")
    return np.flatnonzero(truth.answered & ~np.isnan(flat).any(axis=1))


def _numbers(truth: Values | Embeddings, kept: Array, mass: Array) -> Task:
    values = np.asarray(truth.values, np.float64)
    if isinstance(truth, Embeddings) and values.ndim != 2:
        raise TruthError(f"one vector for each row is needed, not shape {values.shape}")
    target = values.reshape(len(values), -1)
    shift, scale = target.mean(axis=0), target.std(axis=0)
    if not (scale > 0).any():
        raise TruthError("the truth is the same number in every row: there is nothing to learn")
    scale = np.where(scale > 0, scale, 1.0)
    small, spread = shift.astype(np.float32), scale.astype(np.float32)
    return Task(truth.kind, (), target, kept, mass / mass.mean(), small, spread, truth)


def _classes(
    truth: Labels | Probabilities,
    kept: Array,
    mass: Array,
    class_weights: Mapping[str, float] | None,
    balance: bool,
) -> Task:
    names = truth.classes
    hard = truth.labels() if isinstance(truth, Probabilities) else truth
    counts = np.bincount(hard.codes, minlength=len(names))
    share = truth.values.sum(axis=0) if isinstance(truth, Probabilities) else counts
    if len(names) < 2 or (share > 0).sum() < 2:
        one = names[int(np.argmax(share))] if names else ""
        raise TruthError(f"the truth has one class only, {one!r}: there is nothing to learn")
    lost = [names[k] for k in np.flatnonzero(share == 0)]
    if lost:
        raise TruthError(
            f"class {listed(map(repr, lost))} never occurs in the truth, so it cannot be learned; leave "
            "it out (Labels.of(names) takes the names that occur) or bring rows of it"
        )
    factor = _factors(names, counts, class_weights, balance)
    mass = mass * factor[hard.codes]
    target = np.asarray(truth.values, np.float64) if isinstance(truth, Probabilities) else truth.codes
    zeros = np.zeros(1, dtype=np.float32)
    return Task("probabilities", names, target, kept, mass / mass.mean(), zeros, zeros + 1, hard)


def _factors(
    names: tuple[str, ...], counts: Array, given: Mapping[str, float] | None, balance: bool
) -> Array:
    if given is not None and balance:
        raise InputError("give class_weights or balance, not both")
    if balance:
        return cast("Array", counts.sum() / (len(names) * np.maximum(counts, 1)))
    unknown = [c for c in given or {} if c not in names]
    if unknown:
        raise InputError(f"class_weights names {listed(unknown)}; the classes are {listed(names)}")
    found = np.array([float((given or {}).get(c, 1.0)) for c in names])
    if not (np.isfinite(found).all() and (found > 0).all()):
        raise InputError("class_weights must be above 0")
    return found


def _row_weights(weights: Any, rows: int) -> Array:
    mass = np.ones(rows) if weights is None else np.asarray(weights, np.float64)
    if mass.shape != (rows,) or not np.isfinite(mass).all() or (mass < 0).any() or not mass.sum() > 0:
        raise InputError(f"weights must be {rows} finite numbers, none negative, not shape {mass.shape}")
    return mass


def held_out(task: Task, share: float, seed: int) -> tuple[Array, Array]:
    """Positions of rows to learn from, and of rows to validate on: a share of each class, at random."""
    if not 0 <= share < 1:
        raise InputError(f"validation must be a share of the rows from 0 to below 1, not {share!r}")
    rng = np.random.default_rng([seed, 7])
    groups = [np.arange(len(task))]
    if task.classes:
        groups = [np.flatnonzero(task.truth.codes == k) for k in range(len(task.classes))]
    held = []
    for rows in groups:
        count = min(math.floor(share * len(rows) + 0.5), len(rows) - 1)
        if count > 0:
            held.append(rng.permutation(rows)[:count])
    chosen = np.sort(np.concatenate(held)) if held else np.zeros(0, dtype=np.int64)
    return np.setdiff1d(np.arange(len(task)), chosen), chosen


def estimates(kind: str, output: Output, truth: Output) -> dict[str, Estimate]:
    """Scores of the held-out rows with their 95 % intervals."""
    if isinstance(output, Embeddings) and isinstance(truth, Embeddings):
        output, truth = Values(output.values), Values(truth.values)
    return {n: estimate(cast(Any, score_of(n)), output, truth) for n in SCORES[kind]}
