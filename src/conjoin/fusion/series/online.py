"""Online aggregation: weights of members that learn from each outcome of a series.

`Online` is a frozen record: call it to fuse with the present weights, `update` it with outcomes to get the
next record, `run` it over a series to get the answers that it would have given, each before its outcome was
seen. Rows are steps in time. A member whose answer is missing sleeps: the others share its weight, and it
learns nothing. Rules and constants are those of the R package opera, so that results can be compared.

| rule | weights | paper |
|---|---|---|
| ewa | proportional to prior exp(eta R) | Cesa-Bianchi and Lugosi 2006 |
| fixed_share | as ewa; each step spreads a share over all: follows changes | Herbster and Warmuth 1998 |
| boa | proportional to prior eta_m exp(eta_m R_m), second order | Wintenberger 2017 |
| ml_poly | proportional to eta_m max(R_m, 0) | Gaillard, Stoltz and van Erven 2014 |

R_m is the member's regret: what the fused answer has lost more than the member.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, InputError, OutputsError, TruthError, listed, nearest
from conjoin.fusion.packing import ask, known, members_of, number, text
from conjoin.fusion.series.cells import has_gaps, in_cells
from conjoin.fusion.single import Single, guarded
from conjoin.fusion.stack import Dense, Stack, as_rows, stack, value_truth
from conjoin.scores import checked_weights, default_score

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.outputs import Array, Json
    from conjoin.scores import Score

RULES = ("ewa", "fixed_share", "boa", "ml_poly")
LOSSES = ("square", "absolute", "pinball")
KINDS = ("values", "quantiles")


@dataclass(frozen=True, slots=True, eq=False)
class Online:
    """The state of an aggregation. Make one with `online`; `update` gives the next.

    members: M names, sorted. kind: of the outputs. levels: of quantiles. regret, spread: (C, M), total: (C,),
    sums over past steps (C targets or levels; each has weights of its own, unless `shared`). steps: how many
    rows it has seen. prior: (M,), sum 1.
    """

    rule: str
    loss: str
    members: tuple[str, ...]
    kind: str
    levels: tuple[float, ...]
    prior: Array
    rate: float
    share: float
    gradient: bool
    shared: bool
    regret: Array
    spread: Array
    total: Array
    steps: int

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members whose weight may become more than 0."""
        return tuple(n for n, p in zip(self.members, self.prior, strict=True) if p > 0)

    @property
    def weights(self) -> Array:
        """(C, M): the present weights, where all members answer."""
        blank = np.zeros((1, len(self.total), len(self.members)))
        return np.asarray(self._steps(blank, None, None, keep=True)[1][0])

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Dense:
        """Fuse all rows with the present weights. Raises OutputsError on a member that it does not know."""
        laid, X = self._laid(outputs)
        X[:, :, self.prior <= 0] = np.nan
        weights = self.weights.T[:, None, :]
        values = np.zeros((laid.rows, laid.width))
        mass = np.zeros_like(values)
        most = np.zeros_like(values)
        for part, w in zip(np.moveaxis(X, 2, 0), weights, strict=True):
            here = ~np.isnan(part)
            values += w * np.where(here, part, 0.0)
            mass += w * here
            most += here
        alone = (mass <= 0) & (most > 0)  # only members without weight answered
        if alone.any():
            plain = np.nansum(X, axis=2) / np.maximum(most, 1)
            values, mass = np.where(alone, plain, values), np.where(alone, 1.0, mass)
        whole = mass > 1 - 1e-12
        fused = np.where(mass > 0, values / np.where(whole | (mass <= 0), 1.0, mass), np.nan)
        return self._output(laid, fused)

    def update(self, outputs: Mapping[str, Any], truth: Any, *, weights: Any = None) -> Self:
        """The record after these steps, in the order of the rows. weights: (n,), the size of each step.

        A step whose outcome is not known teaches nothing. Raises OutputsError and TruthError.
        """
        return self.run(outputs, truth, weights=weights)[1]

    def run(self, outputs: Mapping[str, Any], truth: Any, *, weights: Any = None) -> tuple[Dense, Self]:
        """Answers for all steps in order, each before its outcome is seen; and the record after them."""
        laid, X = self._laid(outputs)
        y = self._outcomes(truth, laid)
        out, _, state = self._steps(X, y, None if weights is None else checked_weights(weights, laid.rows))
        regret, spread, total = state
        after = replace(self, regret=regret, spread=spread, total=total, steps=self.steps + laid.rows)
        return self._output(laid, out), after

    def path(self, outputs: Mapping[str, Any], truth: Any) -> Array:
        """(n, C, M): the weights that each step used; members that sleep have 0."""
        laid, X = self._laid(outputs)
        return self._steps(X, self._outcomes(truth, laid), None, keep=True)[1]

    def _laid(self, outputs: Mapping[str, Any]) -> tuple[Stack, Array]:
        """The stack, and (n, C, M) of all members in order; NaN where one does not answer."""
        known(self.members, outputs)
        laid = stack(outputs)
        if laid.kind != self.kind or laid.width != len(self.total) or laid.levels != self.levels:
            raise OutputsError(
                f"this aggregation knows {len(self.total)} {self.kind}, "
                f"levels {listed(self.levels) or 'none'}; given were {laid.width} {laid.kind}"
            )
        X = np.full((laid.rows, laid.width, len(self.members)), np.nan)
        for name, part, answered in zip(laid.names, laid.parts, laid.answered, strict=True):
            X[:, :, self.members.index(name)] = np.where(answered[:, None], part, np.nan)
        if np.isinf(X).any():
            raise OutputsError("members answered infinities; mark those rows as unanswered")
        return laid, X

    def _outcomes(self, truth: Any, laid: Stack) -> Array:
        values = value_truth(truth, laid.rows)
        y = np.where(values.answered[:, None], as_rows(np.asarray(values.values, np.float64)), np.nan)
        if np.isinf(y).any():
            raise TruthError("the truth holds infinities; give a finite number or NaN")
        if self.kind == "quantiles" and y.shape[1] == 1:
            y = np.repeat(y, laid.width, axis=1)
        if y.shape[1] != laid.width:
            raise TruthError(f"the truth has {y.shape[1]} numbers a row, the members answer {laid.width}")
        return np.ascontiguousarray(y)

    def _steps(
        self, X: Array, y: Array | None, mass: Array | None, *, keep: bool = False
    ) -> tuple[Array, Array, tuple[Array, Array, Array]]:
        """Answers, weights used and the state afterwards."""
        from conjoin.kernels.series import aggregate

        steps, width, members = X.shape
        out = np.empty((steps, width))
        path = np.zeros((steps if keep else 0, width, members))
        state = self.regret.copy(), self.spread.copy(), self.total.copy()
        aggregate(
            RULES.index(self.rule),
            LOSSES.index(self.loss),
            np.array(self.levels or (0.5,) * width, dtype=np.float64),
            self.gradient,
            self.shared,
            self.prior,
            self.rate or -math.log((self.prior > 0).sum()),
            float(self.share),
            X,
            np.full((steps, width), np.nan) if y is None else y,
            np.ones(steps) if mass is None else mass,
            *state,
            out,
            path,
        )
        return out, path, state

    def _output(self, laid: Stack, values: Array) -> Dense:
        answered = np.asarray(~np.isnan(values).all(axis=1))
        if self.kind == "quantiles":
            values = np.sort(values, axis=1)
        return laid.output(values, answered)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The state as arrays, everything else as JSON; a prior of 0 stands for a regret of -inf."""
        regret = np.where(np.isfinite(self.regret), self.regret, 0.0)
        arrays = {"regret": regret, "spread": self.spread, "total": self.total, "prior": self.prior}
        meta: dict[str, Json] = {
            "rule": self.rule,
            "loss": self.loss,
            "members": list(self.members),
            "kind": self.kind,
            "levels": list(self.levels),
            "rate": self.rate,
            "share": self.share,
            "gradient": self.gradient,
            "shared": self.shared,
            "steps": self.steps,
        }
        return arrays, meta

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names, levels = members_of(meta), meta.get("levels")
        total = ask(arrays, "total", (None,))
        shape = (len(total), len(names))
        if not isinstance(levels, list) or (levels and len(levels) != len(total)):
            raise BundleError(f"a packed aggregation of {len(total)} numbers has levels {levels!r:.80}")
        rule, prior = text(meta, "rule", RULES), ask(arrays, "prior", (len(names),))
        absent = (prior <= 0) & (rule == "fixed_share")
        return cls(
            rule,
            text(meta, "loss", LOSSES),
            names,
            text(meta, "kind", KINDS),
            tuple(float(q) for q in levels),  # type: ignore[arg-type]
            prior,
            number(meta, "rate"),
            number(meta, "share"),
            bool(meta.get("gradient")),
            bool(meta.get("shared")),
            np.where(absent, -np.inf, ask(arrays, "regret", shape)),
            ask(arrays, "spread", shape),
            total,
            int(number(meta, "steps")),
        )


def online(
    rule: str,
    outputs: Mapping[str, Any],
    /,
    *,
    loss: str | None = None,
    prior: Mapping[str, float] | None = None,
    rate: float | None = None,
    share: float = 0.02,
    gradient: bool = True,
    shared: bool = False,
) -> Online:
    """A fresh aggregation for members of this kind; only names and shapes of the outputs are looked at.

    rule: ewa, fixed_share, boa or ml_poly. loss: "square" or "absolute" of values, "pinball" of quantiles
    (the default is that of the kind). prior: weights of members before the first step, equal by default.
    rate: eta of ewa and fixed_share; None makes it sqrt(log M / sum_t max_m r_tm^2), from the regrets so far
    (fixed_share forgets them by its share in each step). share: of the weight that fixed_share spreads in
    each step. gradient: regrets of the loss's slope, so that the answer competes with the best *weights* and
    not only with the best member. shared: the same weights for all targets or levels. Raises InputError and
    OutputsError.

    >>> from conjoin.outputs import Values
    >>> good, bad, y = Values([1.0, 2.0, 3.0]), Values([5.0, 5.0, 5.0]), Values([1.0, 2.0, 3.0])
    >>> start = online("boa", {"good": good, "bad": bad})
    >>> start.weights, start.update({"good": good, "bad": bad}, y).weights.round(2)
    (array([[0.5, 0.5]]), array([[0.14, 0.86]]))
    """
    laid = stack(outputs)
    if laid.kind not in KINDS or not laid.width:
        raise OutputsError(f"online aggregation is for values and quantiles, not {laid.width} {laid.kind}")
    if rule not in RULES:
        raise InputError(f"no rule {rule!r}{nearest(rule, RULES)}; there are {listed(RULES)}")
    found = loss or ("pinball" if laid.kind == "quantiles" else "square")
    if found not in LOSSES or (found == "pinball") != (laid.kind == "quantiles"):
        raise InputError(f"{laid.kind} are not aggregated by the loss {found!r}; there are {listed(LOSSES)}")
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise InputError(f"rate must be above 0 or None, not {rate}")
    if not 0 <= share <= 1:
        raise InputError(f"share must lie in [0, 1], not {share}")
    mass = _prior(laid.names, prior)
    shape = (laid.width, len(laid.names))
    with np.errstate(divide="ignore"):
        regret = np.tile(np.log(mass), (laid.width, 1)) if rule == "fixed_share" else np.zeros(shape)
    tiny = np.full(shape, 1e-300 if rule == "ml_poly" else 0.0)
    return Online(
        rule,
        found,
        laid.names,
        laid.kind,
        laid.levels,
        mass,
        rate or 0.0,
        share,
        gradient,
        shared,
        np.ascontiguousarray(regret),
        tiny,
        np.zeros(laid.width),
        0,
    )


def _prior(names: tuple[str, ...], prior: Mapping[str, float] | None) -> Array:
    from conjoin.fusion.stack import named_weights

    found = named_weights(dict.fromkeys(names), prior)
    mass = np.array([found[n] for n in names])
    return np.asarray(mass / mass.sum())


def fit_online(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    rule: str = "boa",
    **options: Any,
) -> Any:
    """An aggregation that has gone over these rows in order: to be called, and updated further.

    options: as of `online`. weights: (n,), the size of each step. Where the best single member does better on
    the same rows than the final weights, that one is given. seed has no influence.
    """
    after = online(rule, outputs, **options).update(outputs, truth, weights=weights)
    if not any(has_gaps(o) for o in outputs.values()):
        return guarded(after, outputs, truth, score, weights)
    width = len(after.total)
    each = None if weights is None else np.repeat(np.asarray(weights, dtype=np.float64), width)
    score = score or default_score(next(iter(outputs.values())))
    losses = {n: score.loss(in_cells(o), in_cells(truth), each) for n, o in outputs.items()}
    fused: Any = after(outputs)
    mine = score.loss(in_cells(fused), in_cells(truth), each)
    order = sorted(losses, key=lambda n: (math.isnan(losses[n]), losses[n], n))
    return after if not losses[order[0]] < mine else Single(tuple(order))


def _named(rule: str, name: str) -> Any:
    def fit(outputs: Mapping[str, Any], truth: Any, **options: Any) -> Any:
        return fit_online(outputs, truth, rule=rule, **options)

    fit.__name__ = fit.__qualname__ = name
    fit.__doc__ = f"`fit_online` with the rule {rule}."
    return fit


fit_exponential_weights = _named("ewa", "fit_exponential_weights")
fit_fixed_share = _named("fixed_share", "fit_fixed_share")
fit_boa = _named("boa", "fit_boa")
fit_ml_poly = _named("ml_poly", "fit_ml_poly")
