"""Fusers without fitting, as plain functions, and `Plain`, the record by which one is stored and exported.

Each takes a mapping of member name to output and gives one output of the same kind:

    fuser(outputs, /, *, weights=None, batch=None)

weights: one per member, by name or in the order of the outputs; weight 0 is an absent member. Where a member
did not answer a row, the weights of the others count; a row that nobody answered stays unanswered. The order
of the members does not matter. Classes are aligned by name; one that a member does not know has probability 0
there.
All raise OutputsError where outputs or weights do not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conjoin.errors import BundleError, NotExportableError, OutputsError, listed, nearest
from conjoin.fusion import rules
from conjoin.fusion.packing import ask, members_of, number
from conjoin.fusion.rules import FLOOR, Options
from conjoin.fusion.stack import Dense, Stack, Weights, checked, named_weights, stack

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Storable
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array, Json


def _fused(
    outputs: Mapping[str, Any], weights: Mapping[str, float], rule: rules.Rule, options: Options
) -> Dense:
    laid = stack(outputs)
    return _ruled(laid, np.array([weights[n] for n in laid.names]), rule, options)


def _ruled(laid: Stack, weights: Array, rule: rules.Rule, options: Options) -> Dense:
    if not (weights != 0).any():
        blank = np.full((laid.rows, laid.width), np.nan)
        return laid.output(blank, np.zeros(laid.rows, dtype=bool))
    return laid.output(*rule(*rules.counting(laid, weights), options))


def linear_pool(
    outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None
) -> Dense:
    """Weighted mean: sum_m w_m v_m / sum_m w_m (Stone 1961). Of quantiles: Vincentization (Vincent 1912).

    >>> from conjoin.outputs import Values
    >>> linear_pool({"a": Values([1.0]), "b": Values([4.0])}, weights={"a": 2, "b": 1}).values
    array([2.])
    """
    return _fused(outputs, named_weights(outputs, weights), rules.linear, Options())


def mean(outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None) -> Dense:
    """The mean of the members, or `linear_pool` where weights are given.

    >>> from conjoin.outputs import Probabilities
    >>> mean({"a": Probabilities([[1, 0]], "xy"), "b": Probabilities([[1, 0]], "yx")}).values
    array([[0.5, 0.5]])
    """
    return linear_pool(outputs, weights=weights)


def weighted_sum(
    outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None
) -> Dense:
    """sum_m w_m v_m; weights may be negative and are not scaled, also where a member did not answer.

    Probabilities are then cut at 0 and scaled to sum 1 (a row of zeros becomes the mean).
    """
    return _fused(outputs, named_weights(outputs, weights, signed=True), rules.weighted_sum, Options())


def log_pool(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    floor: float = FLOOR,
) -> Dense:
    """Normalised geometric mean: p proportional to prod_m p_m^(w_m / sum w) (Genest and Zidek 1986).

    floor: probabilities below it count as it, 1e-12.
    """
    return _fused(outputs, named_weights(outputs, weights), rules.normalised_log_linear, Options(floor=floor))


def product(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    floor: float = FLOOR,
) -> Dense:
    """Product rule: p proportional to prod_m p_m^w_m, w_m = 1 by default (Kittler et al. 1998).

    floor: probabilities below it count as it, 1e-12. Where a member did not answer, the others' exponents are
    scaled to the same sum.
    """
    return _fused(outputs, named_weights(outputs, weights), rules.log_linear, Options(floor=floor))


def median(outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None) -> Dense:
    """The weighted median of each class, target or level; probabilities are then scaled to sum 1."""
    return _fused(outputs, named_weights(outputs, weights), rules.median, Options())


def trimmed_mean(
    outputs: Mapping[str, Any],
    /,
    *,
    weights: Weights = None,
    batch: Batch | None = None,
    trim: float = 0.1,
) -> Dense:
    """The mean without the lowest and highest `trim` of the members (of their weight), in each number.

    Only members that lie wholly in a tail are left out: floor(trim x M) at each end for equal weights.
    Probabilities are then scaled to sum 1.
    """
    return _fused(outputs, named_weights(outputs, weights), rules.trimmed_mean, Options(trim=trim))


def vote(outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None) -> Dense:
    """Each member votes for its most probable class; the answer is the share of votes, or of weight.

    Takes labels too: they fuse to probabilities. A tie inside a member goes to its first class.
    """
    return _fused(outputs, named_weights(outputs, weights), rules.vote, Options())


def maximum(outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None) -> Dense:
    """The greatest number of any member with a weight; probabilities are then scaled to sum 1."""
    return _fused(outputs, named_weights(outputs, weights), rules.maximum, Options())


def minimum(outputs: Mapping[str, Any], /, *, weights: Weights = None, batch: Batch | None = None) -> Dense:
    """The least number of any member with a weight; probabilities are then scaled to sum 1."""
    return _fused(outputs, named_weights(outputs, weights), rules.minimum, Options())


PlainFuser = Callable[..., Any]
_RULES: dict[str, tuple[PlainFuser, rules.Rule, rules.EmitRule]] = {
    "mean": (mean, rules.linear, rules.emit_linear),
    "linear_pool": (linear_pool, rules.linear, rules.emit_linear),
    "weighted_sum": (weighted_sum, rules.weighted_sum, rules.emit_weighted_sum),
    "log_pool": (log_pool, rules.normalised_log_linear, rules.emit_normalised_log_linear),
    "product": (product, rules.log_linear, rules.emit_log_linear),
    "median": (median, rules.median, rules.emit_median),
    "trimmed_mean": (trimmed_mean, rules.trimmed_mean, rules.emit_trimmed_mean),
    "vote": (vote, rules.vote, rules.emit_vote),
    "maximum": (maximum, rules.maximum, rules.emit_maximum),
    "minimum": (minimum, rules.minimum, rules.emit_minimum),
}
_SCALED = ("median", "trimmed_mean", "maximum", "minimum")


@dataclass(frozen=True, slots=True, eq=False)
class Plain:
    """A plain fuser with its weights, to be stored and exported.

    name: of a function of this file. weights: by member name; empty gives each member that answers weight 1.
    kind: of the members' output; only `emit` needs it. floor, trim: as of the functions.
    Make one with `plain`.
    """

    name: str
    weights: Mapping[str, float]
    kind: str | None = None
    floor: float = FLOOR
    trim: float = 0.1

    def __post_init__(self) -> None:
        if self.name not in _RULES:
            raise OutputsError(
                f"no plain fuser {self.name!r}{nearest(self.name, _RULES)}; there are {listed(_RULES)}"
            )
        if self.weights:
            found = {str(n): float(w) for n, w in sorted(self.weights.items())}
            object.__setattr__(self, "weights", checked(found, signed=self.name == "weighted_sum"))

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members it knows; empty where it takes any."""
        return tuple(self.weights)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the members whose output matters; empty where it takes any."""
        return tuple(n for n, w in self.weights.items() if w != 0)

    def __call__(self, outputs: Mapping[str, Any], /, *, batch: Batch | None = None) -> Dense:
        """Fuse. A member that is absent does not count. Raises OutputsError on one that has no weight."""
        laid = stack(outputs)
        return _ruled(laid, self._weights(laid.names), _RULES[self.name][1], self._options)

    def emit(self, graph: Graph, outputs: Mapping[str, str], /) -> str:
        """Nodes of the rule. Raises NotExportableError where `kind` is unknown."""
        if self.kind is None:
            raise NotExportableError(
                f"Plain({self.name!r}) needs the members' kind to be exported: kind='values'"
            )
        names = sorted(n for n in outputs if not self.weights or self.weights.get(n, 0.0) != 0)
        weights = self._weights(tuple(names))
        x = rules.emit_stack(graph, [outputs[n] for n in names])
        if self.kind != "probabilities":
            return _RULES[self.name][2](graph, x, weights, self._options)
        emit = rules.emit_cut_sum if self.name == "weighted_sum" else _RULES[self.name][2]
        values = emit(graph, x, weights, self._options)
        if self.name in _SCALED:
            values = rules.emit_scaled(graph, values, x)
        return graph.cast(values, 1)

    def children(self) -> Mapping[str, Storable]:
        """None."""
        return {}

    def pack(self) -> tuple[dict[str, Array], dict[str, Json]]:
        """The weights, and everything else as JSON."""
        meta: dict[str, Json] = {"name": self.name, "kind": self.kind, "floor": self.floor, "trim": self.trim}
        return {"weights": np.array(list(self.weights.values()), dtype=np.float64)}, {
            **meta,
            "members": list(self.weights),
        }

    @classmethod
    def unpack(
        cls, arrays: Mapping[str, Array], meta: Mapping[str, Json], children: Mapping[str, Any]
    ) -> Self:
        """The inverse of `pack`. Raises BundleError."""
        names = members_of(meta)
        weights = ask(arrays, "weights", (len(names),))
        kind = meta.get("kind")
        try:
            return cls(
                str(meta.get("name")),
                dict(zip(names, weights.tolist(), strict=True)),
                None if kind is None else str(kind),
                number(meta, "floor"),
                number(meta, "trim"),
            )
        except (OutputsError, ValueError) as error:
            raise BundleError(f"a packed plain fuser does not make sense: {error}") from error

    @property
    def _options(self) -> Options:
        return Options(self.floor, self.trim)

    def _weights(self, names: tuple[str, ...]) -> Array:
        if not self.weights:
            return np.ones(len(names))
        unknown = [n for n in names if n not in self.weights]
        if unknown:
            raise OutputsError(f"no weight for {listed(unknown)}; this fuser knows {listed(self.weights)}")
        return np.array([self.weights[n] for n in names])


def plain(fuser: PlainFuser, *, weights: Mapping[str, float] | None = None, kind: str | None = None) -> Plain:
    """The record of a plain function of this file. Raises OutputsError for any other function.

    >>> plain(median).name
    'median'
    """
    for name, (function, _, _) in _RULES.items():
        if function is fuser:
            return Plain(name, dict(weights or {}), kind)
    raise OutputsError(f"{fuser!r} is not a plain fuser of conjoin.fusion; there are {listed(_RULES)}")
