"""Forecasts and predictive quantiles of members of different skill, who skip rows."""

from __future__ import annotations

import numpy as np

from conjoin.outputs import Quantiles, Values

NAMES = ("arima 1", "Прогноз", "naive", "ets")
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
SCORES = np.array([-1.2816, -0.6745, 0.0, 0.6745, 1.2816])


def world(rng, rows=12, kind="values", *, width=None, skip=0.15):
    """Outputs of four members, of whom three skip some rows, and the truth. width: of values (n, H)."""
    y = 50 + 10 * rng.normal(size=(rows, width or 1))
    outputs = {}
    for i, name in enumerate(NAMES):
        answered = rng.random(rows) >= (skip if i else 0.0)
        error = rng.normal(size=y.shape) * (2 + 2 * i) + (i == 2)
        if kind == "values":
            v = y + error
            outputs[name] = Values(v if width else v[:, 0], answered)
        else:
            outputs[name] = Quantiles(y + error + SCORES * (2 + 2 * i), LEVELS, answered)
    return outputs, Values(y if width else y[:, 0])


_OTHER = "its answers are quantiles, the members' are values: their losses cannot be compared"
_LEARNED = "what it learned of a member it also does to that member alone"
_ONE = "one member is that member"
_BEST = "never worse than the best"

EXCEPT: dict[str, dict[str, str]] = {
    "product_of_experts of quantiles": {_ONE: "the quantiles of a member become those of a normal one"},
    "fit granger_ramanathan of values": {_ONE: _LEARNED},
    "fit lad of values": {_ONE: _LEARNED},
    "fit recent_inverse_error of quantiles": {_BEST: "its weights do not come from this loss"},
    "fit quantile_regression_averaging of values": {_BEST: _OTHER},
    "fit quantile_regression_averaging of quantiles": {_ONE: _LEARNED},
    "fit emos of values": {_BEST: _OTHER},
    "fit beta_transformed_pool of quantiles": {_ONE: _LEARNED},
    "fit spread_adjusted_pool of quantiles": {_ONE: _LEARNED},
}
"""Operator of a kind -> law that it does not keep -> why."""
