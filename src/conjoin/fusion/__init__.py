"""Fusers: several members' outputs become one.

Plain functions (`FUSERS`) need no fitting; fit functions (`FIT_FUSERS`) take outputs and truth and give a
frozen record, which is called, stored and exported. `choose` is the default: it picks among them by
cross-validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conjoin.fusion.affine import AffinePool
from conjoin.fusion.binning import Histogram, fit_histogram
from conjoin.fusion.calibrate import (
    Calibrated,
    calibrated,
    fit_beta,
    fit_guarded,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    fit_vector_scaling,
)
from conjoin.fusion.calibrators import Isotonic, Sigmoid, Temperature, VectorScaling
from conjoin.fusion.choose import Candidate, Choice, choose, fit_choice
from conjoin.fusion.columns import ColumnWeights, fit_class_weights
from conjoin.fusion.dirichlet import MatrixScaling, fit_dirichlet, fit_matrix_scaling
from conjoin.fusion.gate import Gate, fit_gate
from conjoin.fusion.greedy import fit_greedy_selection
from conjoin.fusion.linear import (
    LinearPool,
    fit_best_single,
    fit_inverse_error,
    fit_linear_pool,
    fit_mean,
    fit_nnls,
)
from conjoin.fusion.logpool import LogPool, fit_log_pool
from conjoin.fusion.network import fit_network
from conjoin.fusion.network_weights import NetworkWeights
from conjoin.fusion.perceptron import NetworkFuser, fit_network_fuser
from conjoin.fusion.plain import (
    Plain,
    linear_pool,
    log_pool,
    maximum,
    mean,
    median,
    minimum,
    plain,
    product,
    trimmed_mean,
    vote,
    weighted_sum,
)
from conjoin.fusion.selected import Selected
from conjoin.fusion.stacking import Stacking, fit_stacking

if TYPE_CHECKING:
    from conjoin.contracts import FitFuser
    from conjoin.fusion.plain import PlainFuser

FUSERS: dict[str, PlainFuser] = {
    "mean": mean,
    "linear_pool": linear_pool,
    "weighted_sum": weighted_sum,
    "log_pool": log_pool,
    "product": product,
    "median": median,
    "trimmed_mean": trimmed_mean,
    "vote": vote,
    "maximum": maximum,
    "minimum": minimum,
}
"""Fusers without fitting, by name."""

FIT_FUSERS: dict[str, FitFuser] = {
    "best_single": fit_best_single,
    "equal_weights": fit_mean,
    "linear_pool": fit_linear_pool,
    "log_pool": fit_log_pool,
    "greedy_selection": fit_greedy_selection,
    "inverse_error": fit_inverse_error,
    "nnls": fit_nnls,
    "class_weights": fit_class_weights,
    "stacking": fit_stacking,
    "gate": fit_gate,
    "network": fit_network_fuser,
}
"""Functions (outputs, truth, *, weights, score, seed) that fit a fuser, by name."""

CALIBRATORS = {
    "temperature": fit_temperature,
    "vector_scaling": fit_vector_scaling,
    "platt": fit_platt,
    "beta": fit_beta,
    "isotonic": fit_isotonic,
    "histogram": fit_histogram,
    "matrix_scaling": fit_matrix_scaling,
    "dirichlet": fit_dirichlet,
}
"""Functions (output, truth, *, weights) that fit a calibrator, by name."""

PARTS: dict[str, type] = {
    "Plain": Plain,
    "LinearPool": LinearPool,
    "LogPool": LogPool,
    "AffinePool": AffinePool,
    "ColumnWeights": ColumnWeights,
    "Stacking": Stacking,
    "Gate": Gate,
    "NetworkFuser": NetworkFuser,
    "NetworkWeights": NetworkWeights,
    "Calibrated": Calibrated,
    "Selected": Selected,
    "Temperature": Temperature,
    "VectorScaling": VectorScaling,
    "Sigmoid": Sigmoid,
    "Isotonic": Isotonic,
    "Histogram": Histogram,
    "MatrixScaling": MatrixScaling,
}
"""Storable records of this package, by the name under which a bundle keeps them."""

__all__ = [
    "CALIBRATORS",
    "FIT_FUSERS",
    "FUSERS",
    "PARTS",
    "AffinePool",
    "Calibrated",
    "Candidate",
    "Choice",
    "ColumnWeights",
    "Gate",
    "Histogram",
    "Isotonic",
    "LinearPool",
    "LogPool",
    "MatrixScaling",
    "NetworkFuser",
    "NetworkWeights",
    "Plain",
    "Selected",
    "Sigmoid",
    "Stacking",
    "Temperature",
    "VectorScaling",
    "calibrated",
    "choose",
    "fit_best_single",
    "fit_beta",
    "fit_choice",
    "fit_class_weights",
    "fit_dirichlet",
    "fit_gate",
    "fit_greedy_selection",
    "fit_guarded",
    "fit_histogram",
    "fit_inverse_error",
    "fit_isotonic",
    "fit_linear_pool",
    "fit_log_pool",
    "fit_matrix_scaling",
    "fit_mean",
    "fit_network",
    "fit_network_fuser",
    "fit_nnls",
    "fit_platt",
    "fit_stacking",
    "fit_temperature",
    "fit_vector_scaling",
    "linear_pool",
    "log_pool",
    "maximum",
    "mean",
    "median",
    "minimum",
    "plain",
    "product",
    "trimmed_mean",
    "vote",
    "weighted_sum",
]
