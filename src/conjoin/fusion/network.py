"""Training of small neural networks in numpy: the tabular network of a portfolio, and the network fuser.

Several members share all wide layers and are trained in one pass, as in TabM; numbers enter through robust
scaling, smooth clipping and piecewise-linear bins. torch is not needed. `NetworkWeights` says the formula.

- Gorishniy, Kotelnikov, Babenko (2025), TabM: advancing tabular deep learning with parameter-efficient
  ensembling. ICLR.
- Holzmüller, Grinsztajn, Steinwart (2024), Better by default: strong pre-tuned MLPs and boosted trees on
  tabular data. NeurIPS.
- Gorishniy, Rubachev, Babenko (2022), On embeddings for numerical features in tabular deep learning. NeurIPS.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from conjoin.errors import InputError
from conjoin.fusion.network_weights import (
    TASKS,
    Inputs,
    NetworkWeights,
    Task,
    fit_inputs,
    product,
    rounded,
    sigmoid,
    softmax,
)
from conjoin.fusion.threads import one_thread

if TYPE_CHECKING:
    from conjoin.outputs import Array

__all__ = ["NetworkFit", "NetworkWeights", "Recipe", "Steps", "Task", "fit_network"]

_FLOAT = np.float32
_WARM = 50  # steps in which the rate rises
_PROBE = 30  # steps after which the time of a step is known
_LEAST = 120  # a deadline never plans fewer steps: the rate of the first _PROBE must not depend on it
_CHECK = 8  # steps between looks at the clock
_MASKS = 1 << 20  # numbers drawn once for dropout; steps read them from random places


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is built and trained. The defaults suit tables of a hundred to a hundred thousand rows.

    hidden: widths of the layers. members: networks trained as one. bins: piecewise-linear bins of a feature
    with more values than that; 8 with fewer; none with two; fewer where features are many. 0: no bins.
    batch: rows of a step (None: 32 to 256, by the number of rows). epochs: passes over the rows (None: 30,
    more on small tables). learning_rate: of Adam, for weights divided by sqrt(inputs) (None: 0.03, 0.1 from
    8,000 rows). flat: share of the steps before the cosine descent of the rate. weight_decay: decoupled.
    dropout: share of hidden numbers set to 0. patience: epochs without a better validation loss before
    training stops.
    """

    hidden: tuple[int, ...] = (192, 128)
    members: int = 4
    bins: int = 32
    batch: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    flat: float = 0.3
    weight_decay: float = 0.02
    dropout: float = 0.1
    patience: int = 12


@dataclass(frozen=True, slots=True)
class Steps:
    """What a run did, for a plan to repeat: the steps the rate was planned for, and the last one kept."""

    planned: int
    kept: int


@dataclass(frozen=True, slots=True, eq=False)
class NetworkFit:
    """A trained network, the steps it took, its validation loss (None without validation rows).

    loss: mean log-loss (classes), mean squared error (values) or mean pinball loss (quantiles), both of these
    on the standardised target. epochs: passes over the rows, as a fraction, up to the weights kept.
    """

    weights: NetworkWeights
    steps: Steps
    epochs: float
    loss: float | None


def fit_network(
    X: Array,
    y: Array,
    *,
    task: Task,
    n_outputs: int,
    seed: int,
    recipe: Recipe = Recipe(),
    levels: tuple[float, ...] = (),
    weights: Array | None = None,
    validation: tuple[Array, Array, Array | None] | None = None,
    steps: Steps | None = None,
    deadline: float | None = None,
    stop: Callable[[], bool] | None = None,
) -> NetworkFit:
    """Train a network.

    X: (n, d) numbers, finite. y: (n,) class codes 0 to K - 1, or (n,) or (n, K) numbers; (n,) for quantiles.
    n_outputs: K, for quantiles the number of levels. levels: the quantiles wanted, each in (0, 1).
    weights: (n,) of the rows. validation: rows to stop early on; the weights with the least loss are kept.
    steps: repeat a run, for which no validation is needed: same X, y, weights, recipe, seed and steps give
    the same bytes, whatever the clock does and however many threads the matrix library uses.
    deadline: a time.monotonic value; the rate's descent is planned to end before it, and past it training
    stops with the best so far. stop: training stops the same way once it answers True.

    Raises InputError where shapes do not fit or numbers are not finite.
    """
    X, Y, scale, shift = _prepare(X, y, task, n_outputs, levels)
    rows = _Rows(X, Y, _row_weights(weights, len(X)))
    v = None
    if validation is not None:
        held = _features(validation[0])
        target = _target(validation[1], len(held), task, n_outputs, scale, shift)
        v = _Rows(held, target, _row_weights(validation[2], len(held)))
    rng = np.random.default_rng(seed)
    batch, planned = _schedule(len(X), recipe, steps)
    inputs = fit_inputs(X, recipe.bins, rng)
    model = _Model(inputs, task, n_outputs, np.asarray(levels, dtype=_FLOAT), recipe, rng)
    clock = _Clock(deadline, stop)
    with one_thread():
        kept, loss, planned = _train(model, rows, v, batch, planned, recipe, rng, clock, steps)
        final = model.finish(scale, shift)
    return NetworkFit(final, Steps(planned, kept), kept / max(1, len(X) // batch), loss)


@dataclass(frozen=True, slots=True)
class _Rows:
    X: Array
    Y: Array
    w: Array


@dataclass(frozen=True, slots=True)
class _Clock:
    deadline: float | None
    stop: Callable[[], bool] | None

    def over(self) -> bool:
        late = self.deadline is not None and time.monotonic() >= self.deadline
        return late or (self.stop is not None and self.stop())


@dataclass(frozen=True, slots=True, eq=False)
class _Best:
    flat: Array
    step: int
    loss: float | None

    def offer(self, model: _Model, step: int, validation: _Rows) -> _Best:
        """The present weights where they are better, else self."""
        loss = model.loss(validation)
        return _Best(model.flat.copy(), step, loss) if self.loss is None or loss < self.loss else self


def _schedule(n: int, recipe: Recipe, steps: Steps | None) -> tuple[int, int]:
    """Rows of a step and steps planned."""
    batch = recipe.batch or min(256, max(32, 1 << max(0, (n // 24).bit_length() - 1)))
    epoch = max(1, n // batch)
    epochs = recipe.epochs or min(120, max(30, -(-1500 // epoch)))
    return batch, steps.planned if steps is not None else epochs * epoch


def _batches(n: int, batch: int, rng: np.random.Generator) -> Iterator[Array]:
    """Index arrays without end; every pass goes over all rows in a new order."""
    epoch = max(1, n // batch)
    while True:
        order = rng.permutation(n)
        for i in range(epoch):
            yield order[i * n // epoch : (i + 1) * n // epoch]


def _share(step: int, planned: int, flat: float) -> float:
    """Of the peak rate: rising over _WARM steps, flat, then half a cosine down to 0."""
    rise = min(1.0, (step + 1) / _WARM)
    done = step / planned
    return rise if done < flat else rise * 0.5 * (1 + math.cos(math.pi * (done - flat) / (1 - flat)))


def _affordable(planned: int, step: int, began: float, deadline: float) -> int:
    """The steps that end before the deadline, with a margin for validation."""
    now = time.monotonic()
    possible = step + int(0.85 * max(0.0, deadline - now) / ((now - began) / step))
    return min(planned, max(_LEAST, possible))


class _Model:
    """Parameters in one flat vector, with gradients beside them; used while training only."""

    def __init__(
        self,
        inputs: Inputs,
        task: Task,
        n_outputs: int,
        levels: Array,
        recipe: Recipe,
        rng: np.random.Generator,
    ) -> None:
        self.inputs, self.task, self.levels, self.k = inputs, task, levels, recipe.members
        self.rng, self.keep, self.widths = rng, 1 - recipe.dropout, recipe.hidden
        shapes = self._shapes(n_outputs)
        ends = np.cumsum([0, *(math.prod(s) for s in shapes.values())])
        self.flat = np.zeros(ends[-1], dtype=_FLOAT)
        self.slope = np.zeros_like(self.flat)
        self.rates = np.zeros_like(self.flat)
        self.decay = np.zeros_like(self.flat)
        self.p: dict[str, Array] = {}
        self.g: dict[str, Array] = {}
        for (name, shape), a, b in zip(shapes.items(), ends, ends[1:], strict=False):
            self.p[name] = self.flat[a:b].reshape(shape)
            self.g[name] = self.slope[a:b].reshape(shape)
            spread, rate, decay = self._start(name, shape)
            self.p[name][...] = 1 if name == "sieve" else spread * rng.standard_normal(shape, dtype=_FLOAT)
            self.rates[a:b] = rate
            self.decay[a:b] = decay * recipe.weight_decay
        self.masks = (rng.random(_MASKS if self.keep < 1 else 0, dtype=_FLOAT) < self.keep).astype(_FLOAT)
        self.masks /= _FLOAT(self.keep)

    def _shapes(self, n_outputs: int) -> dict[str, tuple[int, ...]]:
        widths = self.widths
        shapes: dict[str, tuple[int, ...]] = {"sieve": (self.inputs.width,)}
        shapes |= {"entry": (self.inputs.width, widths[0]), "diversity": (self.k, 1, widths[0])}
        for i, (a, b) in enumerate(itertools.pairwise(widths)):
            shapes[f"inner.{i}"] = (a, b)
        shapes |= {f"bias.{i}": (self.k, 1, b) for i, b in enumerate(widths)}
        return shapes | {"head": (self.k, widths[-1], n_outputs), "head_bias": (self.k, 1, n_outputs)}

    def _start(self, name: str, shape: tuple[int, ...]) -> tuple[float, float, float]:
        """Spread of the first values, factor of the learning rate, factor of the weight decay."""
        if name == "sieve":
            return 0.0, 0.25, 0.0
        if name == "entry":
            return self.inputs.groups**-0.5, self.inputs.groups**-0.5, 1.0
        if name.startswith("inner"):
            return (2 / shape[0]) ** 0.5, shape[0] ** -0.5, 1.0
        if name == "head":
            return (0.1 / shape[1]) ** 0.5, shape[1] ** -0.5, 1.0
        return {"diversity": 1.0, "bias.0": 0.5, "head_bias": 0.0}.get(name, 0.1), 0.1, 0.0

    def step(self, X: Array, Y: Array, w: Array) -> None:
        """Forward and backward over a batch; leaves the gradient in `slope`."""
        e = self.inputs.of(X)
        x = e * self.p["sieve"]
        u0 = product(x, self.p["entry"])
        hidden: list[Array] = []
        slopes: list[Array] = []
        u = u0 * self.p["diversity"]
        for i in range(len(self.widths)):
            if i:
                u = _flat_matmul(hidden[-1], self.p[f"inner.{i - 1}"])
            u += self.p[f"bias.{i}"]
            s = sigmoid(u)
            h = u * s  # silu; its derivative is s * (1 + u - h)
            u -= h
            u += _FLOAT(1)
            u *= s
            self._drop(h, u)
            hidden.append(h)
            slopes.append(u)
        o = product(hidden[-1], self.p["head"])
        o += self.p["head_bias"]
        self._backward(_slope(self.task, o, Y, w, self.levels), e, x, u0, hidden, slopes)

    def _backward(
        self, g: Array, e: Array, x: Array, u0: Array, hidden: list[Array], slopes: list[Array]
    ) -> None:
        self.g["head"][...] = product(hidden[-1].transpose(0, 2, 1), g)
        np.sum(g, axis=1, keepdims=True, out=self.g["head_bias"])
        g = product(g, self.p["head"].transpose(0, 2, 1))
        for i in reversed(range(len(hidden))):
            g *= slopes[i]
            np.sum(g, axis=1, keepdims=True, out=self.g[f"bias.{i}"])
            if i:
                h = hidden[i - 1].reshape(-1, self.widths[i - 1])
                self.g[f"inner.{i - 1}"][...] = product(h.T, g.reshape(len(h), -1))
                g = _flat_matmul(g, self.p[f"inner.{i - 1}"].T)
        np.sum(g * u0, axis=1, keepdims=True, out=self.g["diversity"])
        g *= self.p["diversity"]
        g = g.sum(axis=0)
        self.g["entry"][...] = product(x.T, g)
        back = product(g, self.p["entry"].T)
        back *= e
        np.sum(back, axis=0, out=self.g["sieve"])

    def _drop(self, h: Array, slope: Array) -> None:
        """Multiply both by the same masks of 0 and 1 / keep."""
        if self.keep == 1:
            return
        start, done = int(self.rng.integers(_MASKS)), 0
        a, b = h.reshape(-1), slope.reshape(-1)
        while done < a.size:
            m = self.masks[start : start + a.size - done]
            a[done : done + m.size] *= m
            b[done : done + m.size] *= m
            done, start = done + m.size, 0

    def loss(self, rows: _Rows) -> float:
        """Weighted mean loss, without dropout."""
        K = self.p["head"].shape[2]
        answers = self.finish(np.ones(K), np.zeros(K)).forward(rows.X)
        return float(np.average(_losses(self.task, answers, rows.Y, self.levels), weights=rows.w[:, 0]))

    def finish(self, scale: Array, shift: Array) -> NetworkWeights:
        """A record of the present parameters, the sieve and the centring of the inputs folded in."""
        p, layers = {name: a.copy() for name, a in self.p.items()}, len(self.widths)
        p["entry"] *= p["sieve"][:, None]
        p["bias.0"] -= product(self.inputs.mean[None], p["entry"]) * p["diversity"]
        i = self.inputs
        return NetworkWeights(
            *(self.task, i.centre, i.rate, i.source, i.edge, i.slope, rounded(p["entry"]), p["diversity"]),
            inner=tuple(rounded(p[f"inner.{i}"]) for i in range(layers - 1)),
            bias=tuple(p[f"bias.{i}"] for i in range(layers)),
            head=rounded(p["head"]),
            head_bias=p["head_bias"],
            scale=scale,
            shift=shift,
        )


def _flat_matmul(h: Array, w: Array) -> Array:
    """(k, n, a) @ (a, b), as one product of matrices."""
    return product(h.reshape(-1, h.shape[-1]), w).reshape(*h.shape[:-1], w.shape[1])


def _slope(task: Task, o: Array, Y: Array, w: Array, levels: Array) -> Array:
    """The derivative of the mean loss to the scores o (k, n, K); w (n, 1)."""
    if task == "classes":
        g = softmax(o)
        g[:, np.arange(len(Y)), Y] -= 1
    elif task == "values":
        g = o - Y
    else:
        g = (o > Y).astype(_FLOAT) - levels
    g *= w * _FLOAT(1 / len(Y))
    return g


def _losses(task: Task, answers: Array, Y: Array, levels: Array) -> Array:
    """The loss of each row; answers (n, K) on the standardised target."""
    if task == "classes":
        return cast("Array", -np.log(np.maximum(answers[np.arange(len(Y)), Y], 1e-7)).astype(np.float64))
    if task == "values":
        return cast("Array", np.square(answers - Y).mean(axis=1))
    over = Y - answers
    return cast("Array", np.maximum(levels * over, (levels - 1) * over).mean(axis=1))


class _Adam:
    """Adam with decoupled weight decay over one flat vector (Kingma & Ba 2015; Loshchilov & Hutter 2019)."""

    def __init__(self, size: int) -> None:
        self.first, self.second, self.work = (np.zeros(size, dtype=_FLOAT) for _ in range(3))
        self.count = 0

    def move(self, model: _Model, rate: float, share: float) -> None:
        """One step; share: of the peak rate, which scales the decay too."""
        self.count += 1
        t, g = self.work, model.slope
        self.first *= _FLOAT(0.9)
        self.first += np.multiply(g, _FLOAT(0.1), out=t)
        self.second *= _FLOAT(0.95)
        np.multiply(g, g, out=t)
        t *= _FLOAT(0.05)
        self.second += t
        model.flat *= np.subtract(1, np.multiply(model.decay, _FLOAT(rate * share * share), out=t), out=t)
        np.sqrt(self.second, out=t)
        t *= _FLOAT(1 / math.sqrt(1 - 0.95**self.count))
        t += _FLOAT(1e-8)
        np.divide(self.first, t, out=t)
        t *= model.rates
        t *= _FLOAT(rate * share / (1 - 0.9**self.count))
        model.flat -= t


def _train(
    model: _Model,
    rows: _Rows,
    validation: _Rows | None,
    batch: int,
    planned: int,
    recipe: Recipe,
    rng: np.random.Generator,
    clock: _Clock,
    steps: Steps | None,
) -> tuple[int, float | None, int]:
    """Leaves the best weights in the model; returns their step, their loss and the steps planned."""
    adam, best, stale, step = _Adam(model.flat.size), _Best(model.flat.copy(), 0, None), 0, 0
    last = planned if steps is None else steps.kept
    rate = recipe.learning_rate or (0.03 if len(rows.X) < 8000 else 0.1)
    epoch = max(1, len(rows.X) // batch)
    began = time.monotonic()
    for index in _batches(len(rows.X), batch, rng):
        if step >= min(last, planned) or (step and step % _CHECK == 0 and clock.over()):
            break
        model.step(rows.X[index], rows.Y[index], rows.w[index])
        adam.move(model, rate, _share(step, planned, recipe.flat))
        step += 1
        if step == _PROBE and steps is None and clock.deadline is not None:
            planned = _affordable(planned, step, began, clock.deadline)
        if validation is not None and (step % epoch == 0 or step == planned):
            better = best.offer(model, step, validation)
            best, stale = (better, 0) if better is not best else (best, stale + 1)
            if stale >= recipe.patience:
                break
    if validation is None or best.loss is None:
        best = _Best(model.flat.copy(), step, None if validation is None else model.loss(validation))
    model.flat[...] = best.flat
    return best.step, best.loss, planned


def _prepare(
    X: Array, y: Array, task: Task, n_outputs: int, levels: tuple[float, ...]
) -> tuple[Array, Array, Array, Array]:
    """X float32; the target as training sees it; scale and shift (K,) that lead back."""
    if task not in TASKS:
        raise InputError(f"task {task!r} is not one of {', '.join(TASKS)}")
    if task == "quantiles" and (len(levels) != n_outputs or not all(0 < t < 1 for t in levels)):
        raise InputError(f"{n_outputs} quantile levels in (0, 1) are needed; they are {levels}")
    X = _features(X)
    one, zero = np.ones(n_outputs), np.zeros(n_outputs)
    if task == "classes":
        return X, _target(y, len(X), task, n_outputs, one, zero), one, zero
    Y = np.asarray(y, dtype=np.float64)
    shift, scale = Y.mean(axis=0) + zero, Y.std(axis=0) + zero
    scale = np.where(scale > 0, scale, 1.0)
    return X, _target(y, len(X), task, n_outputs, scale, shift), scale, shift


def _features(X: Array) -> Array:
    X = np.ascontiguousarray(X, dtype=_FLOAT)
    if X.ndim != 2 or 0 in X.shape or not np.isfinite(X).all():
        raise InputError(
            f"features must be finite numbers (rows, features), at least one of each; X is {X.shape}"
        )
    return X


def _target(y: Array, n: int, task: Task, n_outputs: int, scale: Array, shift: Array) -> Array:
    """Codes (n,), or standardised numbers (n, K), or (n, 1) for quantiles."""
    if task == "classes":
        codes = np.asarray(y)
        if codes.shape != (n,) or codes.dtype.kind not in "iu" or codes.min() < 0 or codes.max() >= n_outputs:
            raise InputError(f"y must be {n} class codes from 0 to {n_outputs - 1}")
        return codes.astype(np.int64)
    Y = np.asarray(y, dtype=np.float64)
    Y = Y[:, None] if Y.ndim == 1 else Y
    columns = 1 if task == "quantiles" else n_outputs
    if Y.shape != (n, columns) or not np.isfinite(Y).all():
        raise InputError(f"y must be finite numbers of shape ({n}, {columns}); it is {Y.shape}")
    return np.asarray((Y - shift[:columns]) / scale[:columns], dtype=_FLOAT)


def _row_weights(weights: Array | None, n: int) -> Array:
    """(n, 1) float32 with mean 1."""
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (n,) or not np.isfinite(w).all() or w.min() < 0 or w.sum() == 0:
        raise InputError(f"weights must be {n} numbers >= 0, not all 0")
    return cast("Array", (w / w.mean()).astype(_FLOAT)[:, None])
