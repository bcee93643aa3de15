"""The builder of ONNX graphs. Parts add their nodes with `op`; shared parts are emitted once.

Inputs, one per column of the batch, all of shape (n, 1) but for tensors:

| column type              | ONNX type        | missing is   |
|--------------------------|------------------|--------------|
| number, boolean          | double           | NaN          |
| category, text           | string           | ""           |
| date                     | int64, seconds since 1970-01-01 | the least int64 |
| tensor                   | float, (n, *shape) | NaN        |

Formulas know no files: nothing here reads or writes one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.contracts import Column
from conjoin.errors import NotExportableError

if TYPE_CHECKING:
    from conjoin.outputs import Array

OPSET = 21
ML_OPSET = 5
IR_VERSION = 10
DOMAINS = {"": OPSET, "ai.onnx.ml": ML_OPSET}
"""Operator domains that our graphs use, with versions. Everything in them runs in plain onnxruntime."""

MOST_ROWS = 4096
"""How many rows run at once at most: their features stay in the processor's cache."""
OLD_TREES = ("TreeEnsembleRegressor", "TreeEnsembleClassifier")
"""Operators that version 5 of ai.onnx.ml no longer has."""
_OWN = "conjoin/"  # tensors inside; columns and outputs have names of their own
MISSING_DATE = np.iinfo(np.int64).min
_ELEMENT = {"number": 11, "boolean": 11, "category": 8, "text": 8, "date": 7, "tensor": 1}  # TensorProto


class Graph:
    """A graph under construction. Tensors are named by strings; `op` returns the names it made.

    >>> g = Graph()
    >>> x = g.column(Column("age", "number"))
    >>> g.output("double_age", g.op("Add", x, x), 11)
    >>> [i.name for i in g.build().graph.input]
    ['age']
    """

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._inputs: dict[str, Column] = {}
        self._outputs: list[tuple[str, str, int]] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[Any] = []
        self._once: dict[tuple[int, tuple[str, ...]], tuple[object, Any]] = {}
        self._count = 0
        self._rows = MOST_ROWS

    @property
    def columns(self) -> tuple[Column, ...]:
        """The input columns, in the order in which they were first asked for."""
        return tuple(self._inputs.values())

    @property
    def rows_at_once(self) -> int:
        """How many rows should run at once at most."""
        return self._rows

    def limit_rows(self, rows: int) -> None:
        """Called by a part that makes large tensors: no more rows than this should run at once."""
        self._rows = max(1, min(self._rows, rows))

    def column(self, column: Column) -> str:
        """The tensor of an input column. Raises NotExportableError if it is asked for under two types."""
        if column.name.startswith(_OWN):
            raise NotExportableError(
                f"column {column.name!r}: names that begin with {_OWN!r} are the graph's own"
            )
        known = self._inputs.setdefault(column.name, column)
        if known != column:
            raise NotExportableError(
                f"column {column.name!r} is read as {known.type} by one part and as {column.type} by another"
            )
        return f"{_OWN}in/{column.name}"

    def const(self, array: Any, dtype: Any = None) -> str:
        """The name of a constant tensor; equal ones are stored once. Strings are object or str arrays."""
        from onnx import numpy_helper

        array = np.asarray(array, dtype=dtype)
        raw = repr(array.tolist()).encode() if array.dtype.kind in "OU" else array.tobytes()
        key = (str(array.dtype), array.shape, raw)
        if key not in self._constants:
            name = self._fresh("c")
            self._initializers.append(
                numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
            )
            self._constants[key] = name
        return self._constants[key]

    def op(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; returns the name of that tensor."""
        return self.ops(op_type, *inputs, count=1, domain=domain, **attributes)[0]

    def ops(
        self, op_type: str, *inputs: str, count: int, domain: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with `count` outputs; returns the names of those tensors.

        An attribute that is a numpy array becomes a tensor attribute.
        """
        from onnx import helper, numpy_helper

        if domain not in DOMAINS:
            raise NotExportableError(f"operator domain {domain!r} is not one of {sorted(DOMAINS)}")
        names = tuple(self._fresh(op_type) for _ in range(count))
        given = {
            k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v
            for k, v in attributes.items()
            if v is not None
        }
        self._nodes.append(helper.make_node(op_type, list(inputs), list(names), domain=domain, **given))
        return names

    def once(self, part: object, emit: Callable[..., Any], *inputs: str) -> Any:
        """`emit(*inputs)`; for the same part and inputs only the first time, later calls get its answer."""
        key = (id(part), inputs)
        if key not in self._once:
            self._once[key] = (part, emit(*inputs))  # the part is kept, so that its id stays its own
        return self._once[key][1]

    def output(self, name: str, tensor: str, element: int) -> None:
        """Declare an output; `element` is the ONNX element type (1 float, 7 int64, 8 string, 11 double)."""
        self._outputs.append((name, tensor, element))

    def splice(self, model: Any, inputs: Mapping[str, str]) -> dict[str, str]:
        """Add another model's graph, its inputs bound to tensors of this one; returns its outputs' tensors.

        Names inside are prefixed, so nothing collides. Raises NotExportableError on a domain or version
        that this graph does not use.
        """
        from onnx import compose, version_converter

        for entry in model.opset_import:
            if entry.domain not in DOMAINS:
                raise NotExportableError(f"operator domain {entry.domain!r} is not one of {sorted(DOMAINS)}")
            if entry.domain == "" and entry.version != OPSET:
                model = version_converter.convert_version(model, OPSET)
        prefix = self._fresh("m") + "/"
        inner = compose.add_prefix(model, prefix).graph
        self._initializers.extend(inner.initializer)
        for value in inner.input:
            if value.name.removeprefix(prefix) in inputs:
                self._alias(inputs[value.name.removeprefix(prefix)], value.name)
        for node in inner.node:
            if node.op_type in OLD_TREES:
                self._modern(node)
            else:
                self._nodes.append(node)
        return {o.name.removeprefix(prefix): o.name for o in inner.output}

    def _modern(self, node: Any) -> None:
        """A tree node of an older version of its domain, in the form of the version that we use."""
        from conjoin.graph.tree_upgrade import emit_old_trees

        for tensor, name in zip(emit_old_trees(self, node), node.output, strict=True):
            self._alias(tensor, name)

    def build(self, metadata: Mapping[str, str] | None = None) -> Any:
        """The ModelProto. Unused nodes have no place: parts emit only what they need."""
        from onnx import helper

        inputs = [
            helper.make_tensor_value_info(c.name, _ELEMENT[c.type], ["rows", *(c.shape or (1,))])
            for c in self._inputs.values()
        ]
        outputs = [helper.make_tensor_value_info(n, e, None) for n, _, e in self._outputs]
        wires = [
            helper.make_node("Identity", [c.name], [f"{_OWN}in/{c.name}"]) for c in self._inputs.values()
        ]
        ends = [helper.make_node("Identity", [t], [n]) for n, t, _ in self._outputs]
        graph = helper.make_graph(
            [*wires, *self._nodes, *ends], "conjoin", inputs, outputs, initializer=self._initializers
        )
        opsets = [helper.make_opsetid(d, v) for d, v in DOMAINS.items()]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="conjoin", ir_version=IR_VERSION)
        helper.set_model_props(model, dict(metadata or {}))
        return model

    def concat(self, tensors: Sequence[str], axis: int = 1) -> str:
        """Join tensors along an axis; a single one is returned as it is."""
        return tensors[0] if len(tensors) == 1 else self.op("Concat", *tensors, axis=axis)

    def cast(self, tensor: str, element: int) -> str:
        """Change the element type (1 float, 7 int64, 11 double)."""
        return self.op("Cast", tensor, to=element)

    def _alias(self, source: str, name: str) -> None:
        from onnx import helper

        self._nodes.append(helper.make_node("Identity", [source], [name]))

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{_OWN}{stem}#{self._count}"


def constant_of(array: Array, dtype: type = np.float32) -> Array:
    """A contiguous copy in the graph's number type."""
    return np.ascontiguousarray(array, dtype=dtype)
