"""ONNX forms of wrapped estimators: their columns, and what `members.convert` makes of the model."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.errors import NotExportableError
from conjoin.tables import name_of

if TYPE_CHECKING:
    from conjoin.contracts import Batch, Card
    from conjoin.graph.builder import Graph
    from conjoin.members.convert.foreign import ColumnsPart

TEXT = ("category", "text")


@dataclass(frozen=True, eq=False)
class EstimatorForm:
    """What puts a fitted estimator into a graph; it is converted once, when it is first asked for.

    model: of scikit-learn, LightGBM, XGBoost or CatBoost. frame: makes of a batch what it was fitted on; None
    where that is a matrix of numbers. codes: category -> code, for columns of categories that a booster
    reads as numbers.
    """

    model: Any
    card: Card
    frame: Callable[[Batch], Any] | None = None
    codes: Mapping[str, Mapping[object, int]] = field(default_factory=dict)

    def emit(self, graph: Graph) -> str:
        """Add the nodes; returns the tensor of answers. Raises NotExportableError."""
        if self.card.kind not in ("probabilities", "values", "quantiles"):
            raise NotExportableError(
                f"member {self.card.name!r} answers {self.card.kind}, which has no ONNX form"
            )
        if self._named is not None:
            return self._named.emit(graph)
        tensors = [self._number(graph, i) for i in range(len(self.card.columns))]
        return cast(str, self._plain.emit(graph, graph.concat(tensors)))

    @cached_property
    def _named(self) -> ColumnsPart | None:
        """The form over named columns, where the model reads text or has no form over a matrix."""
        from conjoin.members.convert import convert_columns

        text = any(c.type in TEXT and c.name not in self.codes for c in self.card.columns)
        if self.frame is None or (not text and self._plain is not None):
            return None
        return convert_columns(self.model, self.card.columns, frame=self.frame)

    @cached_property
    def _plain(self) -> Any:
        """The form over a matrix of numbers; None where there is none, but perhaps one over named columns."""
        from conjoin.members.convert import convert

        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "X does not have valid feature names")
                return convert(self.model)
        except NotExportableError:
            if self.frame is None:
                raise
            return None

    def _number(self, graph: Graph, place: int) -> str:
        column = self.card.columns[place]
        tensor = graph.column(column)
        if column.type not in TEXT:
            return tensor
        if column.name not in self.codes:
            raise NotExportableError(
                f"member {self.card.name!r} reads the categories of {column.name!r}, which have no ONNX form"
            )
        spelled = {name_of(value): float(code) for value, code in self.codes[column.name].items()}
        return graph.cast(
            graph.op(
                "LabelEncoder",
                tensor,
                domain="ai.onnx.ml",
                keys_strings=list(spelled),
                values_floats=list(spelled.values()),
                default_float=float("nan"),
            ),
            11,
        )


def xgboost_codes(booster: Any, names: list[str]) -> dict[str, dict[object, int]]:
    """Category -> code of the columns of categories, as far as the model records them (from XGBoost 3.1)."""
    model = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"].get("model", {})
    entries = model.get("cats", {}).get("enc", [])
    found: dict[str, dict[object, int]] = {}
    for name, entry in zip(names, entries, strict=False):
        values = entry.get("values", [])
        if "offsets" in entry:
            raw = np.array(values, dtype=np.int64).astype(np.uint8).tobytes()
            cuts = entry["offsets"]
            texts = [raw[a:b] for a, b in itertools.pairwise(cuts)]
            values = [t.decode("ascii", errors="replace") for t in texts]
        if values and not any("\ufffd" in str(v) for v in values):
            found[name] = {v: code for code, v in enumerate(values)}
    return found
