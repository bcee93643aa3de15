"""Values, quantiles and time series: what the plain and fitted fusers of `conjoin.fusion` do not hold.

Combining forecasts (`forecast`), distributions given by quantiles (`quantile`, `distributions`), quantile
regression averaging (`averaging`), normal distributions (`gaussian`), weights from features of series
(`fforma`, `features`); time order (`rolling`), learning from each outcome (`online`); sums that add up
(`hierarchy`); conformal intervals and sets around any output (`conformal`, `cross`, `adaptive`, `sets`).
Mean, median, trimmed mean, inverse error, non-negative least squares and the pools at their optimum are in
`conjoin.fusion`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conjoin.fusion.series.adaptive import AdaptiveConformal
from conjoin.fusion.series.averaging import QuantileRegression, fit_quantile_regression_averaging
from conjoin.fusion.series.cells import ByCell, ByHorizon, cellwise, each_horizon
from conjoin.fusion.series.conformal import Conformal, conformal, conformal_quantile, members_spread
from conjoin.fusion.series.cross import CrossConformal, fit_cross_conformal
from conjoin.fusion.series.distributions import (
    fit_beta_transformed_pool,
    fit_distribution_pool,
    fit_quantile_averaging,
    fit_spread_adjusted_pool,
)
from conjoin.fusion.series.features import series_features
from conjoin.fusion.series.fforma import Fforma, fit_fforma
from conjoin.fusion.series.forecast import (
    fit_bates_granger,
    fit_constrained_least_squares,
    fit_granger_ramanathan,
    fit_lad,
    winsorised_mean,
)
from conjoin.fusion.series.gaussian import Emos, fit_emos, product_of_experts
from conjoin.fusion.series.hierarchy import Reconciliation, reconciliation, summing_matrix
from conjoin.fusion.series.online import (
    Online,
    fit_boa,
    fit_exponential_weights,
    fit_fixed_share,
    fit_ml_poly,
    fit_online,
    online,
)
from conjoin.fusion.series.quantile import (
    DistributionPool,
    at_levels,
    beta_transformed_pool,
    distribution_pool,
    quantile_averaging,
    spread_adjusted_pool,
)
from conjoin.fusion.series.rolling import Rolled, fit_recent_inverse_error, recency, rolling_origin
from conjoin.fusion.series.sets import (
    ClassSets,
    ConformalSets,
    conformal_sets,
    majority_intervals,
    majority_sets,
)

FUSERS: dict[str, Callable[..., Any]] = {
    "winsorised_mean": winsorised_mean,
    "quantile_averaging": quantile_averaging,
    "distribution_pool": distribution_pool,
    "beta_transformed_pool": beta_transformed_pool,
    "spread_adjusted_pool": spread_adjusted_pool,
    "product_of_experts": product_of_experts,
}
"""Plain operators by name; all but the first fuse quantiles."""

FIT_FUSERS: dict[str, Callable[..., Any]] = {
    "bates_granger": fit_bates_granger,
    "granger_ramanathan": fit_granger_ramanathan,
    "constrained_least_squares": fit_constrained_least_squares,
    "lad": fit_lad,
    "recent_inverse_error": fit_recent_inverse_error,
    "quantile_averaging": fit_quantile_averaging,
    "distribution_pool": fit_distribution_pool,
    "beta_transformed_pool": fit_beta_transformed_pool,
    "spread_adjusted_pool": fit_spread_adjusted_pool,
    "quantile_regression_averaging": fit_quantile_regression_averaging,
    "emos": fit_emos,
    "fforma": fit_fforma,
    "exponential_weights": fit_exponential_weights,
    "fixed_share": fit_fixed_share,
    "boa": fit_boa,
    "ml_poly": fit_ml_poly,
}
"""Functions (outputs, truth, *, weights, score, seed) that fit a fuser, by name."""

KINDS: dict[str, tuple[str, ...]] = {
    "winsorised_mean": ("probabilities", "values", "quantiles"),
    "quantile_averaging": ("quantiles",),
    "distribution_pool": ("quantiles",),
    "beta_transformed_pool": ("quantiles",),
    "spread_adjusted_pool": ("quantiles",),
    "product_of_experts": ("quantiles",),
    "bates_granger": ("values",),
    "granger_ramanathan": ("values",),
    "constrained_least_squares": ("values",),
    "lad": ("values",),
    "recent_inverse_error": ("values", "quantiles"),
    "quantile_regression_averaging": ("values", "quantiles"),
    "emos": ("values",),
    "fforma": ("values",),
    "exponential_weights": ("values", "quantiles"),
    "fixed_share": ("values", "quantiles"),
    "boa": ("values", "quantiles"),
    "ml_poly": ("values", "quantiles"),
}
"""Kinds of output that each operator takes."""

PARTS: dict[str, type] = {
    "ByCell": ByCell,
    "ByHorizon": ByHorizon,
    "DistributionPool": DistributionPool,
    "QuantileRegression": QuantileRegression,
    "Emos": Emos,
    "Fforma": Fforma,
    "Online": Online,
    "Conformal": Conformal,
    "CrossConformal": CrossConformal,
    "AdaptiveConformal": AdaptiveConformal,
    "ConformalSets": ConformalSets,
    "Reconciliation": Reconciliation,
}
"""Storable records of this package, by the name under which a bundle keeps them."""

TRUSTED = "winsorised_mean"
SCORE = "rmse"
CANDIDATES = ("constrained_least_squares", "bates_granger")
"""What an automatic choice may try for values, beside the fusers of `conjoin.fusion`; simple first."""
QUANTILE_CANDIDATES = ("distribution_pool", "beta_transformed_pool", "quantile_regression_averaging")
"""The same for quantiles."""

__all__ = [
    "CANDIDATES",
    "FIT_FUSERS",
    "FUSERS",
    "KINDS",
    "PARTS",
    "QUANTILE_CANDIDATES",
    "SCORE",
    "TRUSTED",
    "AdaptiveConformal",
    "ByCell",
    "ByHorizon",
    "ClassSets",
    "Conformal",
    "ConformalSets",
    "CrossConformal",
    "DistributionPool",
    "Emos",
    "Fforma",
    "Online",
    "QuantileRegression",
    "Reconciliation",
    "Rolled",
    "at_levels",
    "beta_transformed_pool",
    "cellwise",
    "conformal",
    "conformal_quantile",
    "conformal_sets",
    "distribution_pool",
    "each_horizon",
    "fit_bates_granger",
    "fit_beta_transformed_pool",
    "fit_boa",
    "fit_constrained_least_squares",
    "fit_cross_conformal",
    "fit_distribution_pool",
    "fit_emos",
    "fit_exponential_weights",
    "fit_fforma",
    "fit_fixed_share",
    "fit_granger_ramanathan",
    "fit_lad",
    "fit_ml_poly",
    "fit_online",
    "fit_quantile_averaging",
    "fit_quantile_regression_averaging",
    "fit_recent_inverse_error",
    "fit_spread_adjusted_pool",
    "majority_intervals",
    "majority_sets",
    "members_spread",
    "online",
    "product_of_experts",
    "quantile_averaging",
    "recency",
    "reconciliation",
    "rolling_origin",
    "series_features",
    "spread_adjusted_pool",
    "summing_matrix",
    "winsorised_mean",
]
