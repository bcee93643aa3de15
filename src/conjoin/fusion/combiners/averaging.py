"""Bayesian model averaging by predictive density: pseudo-BMA and pseudo-BMA+."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.fusion import rules
from conjoin.fusion.linear import LinearPool
from conjoin.fusion.problems import class_problem
from conjoin.fusion.single import Single, guarded

if TYPE_CHECKING:
    from conjoin.scores import Score


def fit_pseudo_bma(
    outputs: Mapping[str, Any],
    truth: Any,
    *,
    weights: Any = None,
    score: Score | None = None,
    seed: int = 0,
    draws: int = 1000,
    guard: bool = True,
) -> LinearPool | Single:
    """Weights proportional to exp(sum_i log p_m(y_i)), averaged over a Bayesian bootstrap (pseudo-BMA+).

    Yao, Vehtari, Simpson and Gelman 2018. p_m(y_i): the probability that m gave to the true class of row i,
    held out, at least 1e-15. draws: of Dirichlet weights of the rows; 0 is pseudo-BMA without the bootstrap.
    Bayesian stacking of the same paper, the weights with the best log score, is `fit_linear_pool`.
    weights: (n,) of the rows. seed: of the draws. guard: the best single member where it has the lower score
    on these rows. Raises OutputsError, TruthError.

    >>> from conjoin.outputs import Labels, Probabilities
    >>> given = {"a": Probabilities([[0.8, 0.2]], "xy"), "b": Probabilities([[0.2, 0.8]], "xy")}
    >>> fit_pseudo_bma(given, Labels([0], "xy"), draws=0, guard=False).weights
    {'a': 0.8, 'b': 0.2}
    """
    rows = class_problem(outputs, truth, weights)
    logs = np.log(rows.of_truth())
    n = len(rows.codes)
    if draws <= 0:
        found = rules.softmax((logs @ rows.shares * n)[None])[0]
    else:
        rng, found = np.random.default_rng(seed), np.zeros(len(logs))
        for _ in range(draws):
            alpha = rng.standard_exponential(n) * rows.shares
            found += rules.softmax((logs @ (alpha / alpha.sum()) * n)[None])[0]
        found /= draws
    named = dict(zip(rows.stack.names, found.tolist(), strict=True))
    pool = LinearPool(named, rows.stack.kind, rows.stack.classes)
    return guarded(pool, outputs, truth, score, weights) if guard else pool
