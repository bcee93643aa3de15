"""The table of parts: which class a type name in a bundle stands for. A bundle can make nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from conjoin.errors import BundleError, NotExportableError, listed

if TYPE_CHECKING:
    from conjoin.contracts import Storable

PARTS: dict[str, str] = {
    "ensemble": "conjoin.compose.ensemble:Ensemble",
    "portable": "conjoin.members.portable:Portable",
    "onnx": "conjoin.members.onnx:OnnxMember",
    "encoder": "conjoin.graph.encoder:Encoder",
    "dense_view": "conjoin.graph.dense:DenseView",
    "trees": "conjoin.graph.trees:Trees",
    "linear": "conjoin.graph.linear:Linear",
    "neighbours": "conjoin.graph.neighbours:Neighbours",
    "nearest": "conjoin.graph.nearest:Nearest",
    "average": "conjoin.graph.average:Average",
    "network": "conjoin.fusion.network_weights:NetworkWeights",
    "predictions": "conjoin.members.predictions:Predictions",
    "static_embeddings": "conjoin.members.static:StaticEmbeddings",
    "plain": "conjoin.fusion.plain:Plain",
    "linear_pool": "conjoin.fusion.linear:LinearPool",
    "affine_pool": "conjoin.fusion.affine:AffinePool",
    "log_pool": "conjoin.fusion.logpool:LogPool",
    "column_weights": "conjoin.fusion.columns:ColumnWeights",
    "stacking": "conjoin.fusion.stacking:Stacking",
    "network_fuser": "conjoin.fusion.perceptron:NetworkFuser",
    "gate": "conjoin.fusion.gate:Gate",
    "calibrated": "conjoin.fusion.calibrate:Calibrated",
    "selected": "conjoin.fusion.selected:Selected",
    "single": "conjoin.fusion.single:Single",
    "applied": "conjoin.fusion.applied:Applied",
    "worker_model": "conjoin.fusion.labels.model:WorkerModel",
    "positions": "conjoin.fusion.ranking.positions:Positions",
    "platt_sum": "conjoin.fusion.ranking.platt:PlattSum",
    "span_posterior": "conjoin.fusion.spans.fitted:SpanPosterior",
    "hypothesis_selection": "conjoin.fusion.texts.hypothesis:HypothesisSelection",
    "projected": "conjoin.fusion.embeddings.projected:Projected",
    "rank_mean": "conjoin.fusion.embeddings.ranks:RankMean",
    "dynamic_selection": "conjoin.fusion.dynamic.record:DynamicSelection",
    "templates": "conjoin.fusion.combiners.templates:Templates",
    "ballots": "conjoin.fusion.combiners.ballots:Ballots",
    "late_fusion": "conjoin.fusion.modalities.late:LateFusion",
    "early_fusion": "conjoin.fusion.modalities.early:EarlyFusion",
    "gated_fusion": "conjoin.fusion.modalities.gated:GatedFusion",
    "low_rank_fusion": "conjoin.fusion.modalities.tensor:LowRankFusion",
    "by_cell": "conjoin.fusion.series.cells:ByCell",
    "by_horizon": "conjoin.fusion.series.cells:ByHorizon",
    "distribution_pool": "conjoin.fusion.series.quantile:DistributionPool",
    "quantile_regression": "conjoin.fusion.series.averaging:QuantileRegression",
    "emos": "conjoin.fusion.series.gaussian:Emos",
    "fforma": "conjoin.fusion.series.fforma:Fforma",
    "online": "conjoin.fusion.series.online:Online",
    "conformal": "conjoin.fusion.series.conformal:Conformal",
    "cross_conformal": "conjoin.fusion.series.cross:CrossConformal",
    "adaptive_conformal": "conjoin.fusion.series.adaptive:AdaptiveConformal",
    "conformal_sets": "conjoin.fusion.series.sets:ConformalSets",
    "reconciliation": "conjoin.fusion.series.hierarchy:Reconciliation",
    "temperature": "conjoin.fusion.calibrators:Temperature",
    "vector_scaling": "conjoin.fusion.calibrators:VectorScaling",
    "sigmoid": "conjoin.fusion.calibrators:Sigmoid",
    "isotonic": "conjoin.fusion.calibrators:Isotonic",
    "histogram": "conjoin.fusion.binning:Histogram",
    "matrix_scaling": "conjoin.fusion.dirichlet:MatrixScaling",
}
"""Type name -> "module:Class". Names stay for ever; a class may move."""

ONNX_ARRAYS: dict[str, str] = {"onnx": "model"}
"""Type name -> the array of bytes that is an ONNX model; it gets a file of its own and is checked as one."""

MEMBERS = ("ensemble", "portable", "onnx", "predictions", "static_embeddings")
MODELS = ("trees", "linear", "neighbours", "nearest", "average", "network")
FUSERS = (
    *("plain", "linear_pool", "affine_pool", "log_pool", "column_weights", "stacking", "gate"),
    *("network_fuser", "calibrated", "selected", "single", "applied"),
    *("worker_model", "positions", "platt_sum", "span_posterior", "hypothesis_selection", "projected"),
    *("rank_mean", "dynamic_selection", "late_fusion", "early_fusion", "gated_fusion", "low_rank_fusion"),
    *("templates", "ballots"),
    *("by_cell", "by_horizon", "distribution_pool", "quantile_regression", "emos", "fforma", "online"),
)
CALIBRATORS = ("temperature", "vector_scaling", "sigmoid", "isotonic", "histogram", "matrix_scaling")
CHILDREN: dict[str, dict[str, tuple[str, ...]]] = {
    "ensemble": {"member:": MEMBERS, "fuser": FUSERS},
    "portable": {"encoder": ("encoder",), "view": ("dense_view",), "model": MODELS},
    "average": {"part": MODELS},
    "network_fuser": {"pool": FUSERS, "network": ("network",)},
    "calibrated": {"fuser": FUSERS, "before.": CALIBRATORS, "after": CALIBRATORS},
    "selected": {"fuser": FUSERS},
    "by_cell": {"fuser": FUSERS},
    "by_horizon": {"horizon.": FUSERS},
    "cross_conformal": {"fuser.": FUSERS},
    **{key: {} for key in ("conformal", "adaptive_conformal", "conformal_sets", "reconciliation")},
    "early_fusion": {"late": ("late_fusion",)},
}
"""Type name -> how names of its children begin -> the types that they may be of."""

_NAMES = {target: name for name, target in PARTS.items()}


def type_of(part: object) -> str:
    """The type name of a part. Raises NotExportableError where its class is not in the table."""
    name = _NAMES.get(f"{type(part).__module__}:{type(part).__qualname__}")
    if name is None:
        raise NotExportableError(
            f"a {type(part).__qualname__} has no place in a bundle; "
            f"parts that have one: {listed(PARTS, most=40)}"
        )
    return name


def class_of(name: str) -> type[Storable]:
    """The class of a type name. Raises BundleError where the table lacks it."""
    target = PARTS.get(name)
    if target is None:
        raise BundleError(
            f"the bundle holds a part of type {name[:80]!r}, which this conjoin does not know; "
            "a later conjoin may (pip install -U conjoin)"
        )
    module, _, cls = target.partition(":")
    return cast("type[Storable]", getattr(importlib.import_module(module), cls))


def check_children(name: str, children: Sequence[tuple[str, str]]) -> None:
    """Raises BundleError where a part of this type has a child that it cannot have: (name, type) each."""
    allowed = CHILDREN.get(name, {})
    for child, kind in children:
        if not any(child.startswith(begin) and kind in types for begin, types in allowed.items()):
            raise BundleError(f"it cannot have a part {child[:80]!r} of type {kind[:80]!r}")


def storable(part: object, name: str) -> Storable:
    """The part itself, or its stored form. `name` is for messages. Raises NotExportableError."""
    if f"{type(part).__module__}:{type(part).__qualname__}" in _NAMES:
        return cast("Storable", part)
    return _converted(part, name)


def _converted(part: Any, name: str) -> Storable:
    """The ONNX form of a member that answers through its own library."""
    from conjoin.contracts import Member
    from conjoin.members.onnx import onnx_form

    if not isinstance(part, Member):
        type_of(part)
    return onnx_form(part)
