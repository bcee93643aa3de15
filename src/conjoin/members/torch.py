"""torch modules as members."""

from __future__ import annotations

import copy
import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from conjoin.contracts import Card, Column
from conjoin.errors import ColumnError, InputError, NotExportableError, listed
from conjoin.members import columns as read
from conjoin.members.wrapped import Given, Wrapped

if TYPE_CHECKING:
    from conjoin.contracts import Batch
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array


def module_member(
    module: Any, given: Given, *, softmax: bool = False, device: str = "cpu", rows: int = 1024
) -> Wrapped:
    """A member around a copy of a `torch.nn.Module`, in evaluation mode, without gradients.

    The kind must be given, or the classes. The module takes one float32 tensor: the batch's single column of
    tensors (n, ...), or its columns of numbers stacked to (n, d). softmax: it answers logits; one logit gets
    a sigmoid. device: where it runs. rows: how many rows run at once.
    """
    kind = given.kind or ("probabilities" if given.classes is not None else None)
    if kind is None:
        raise InputError("say what the module answers: wrap(module, kind='values') or classes=[...]")
    if kind == "probabilities" and given.classes is None:
        raise InputError("probabilities need the names of their columns: wrap(module, classes=[...])")
    if kind not in ("probabilities", "values", "quantiles", "embeddings"):
        raise InputError(f"a torch module answers numbers, not {kind}; wrap a function that reads them")
    columns = given.column_list()
    if any(c.type not in ("number", "boolean", "tensor") for c in columns):
        raise InputError("a torch module reads numbers: columns of type number, boolean or tensor")
    card = given.card(type(module).__name__, kind, columns=columns, classes=given.class_names(()))
    own = copy.deepcopy(module).eval().to(device)
    runner = _Runner(own, card, softmax and kind == "probabilities", device, rows)
    return Wrapped(card, runner.answer, runner.emit)


@dataclass(frozen=True, slots=True)
class _Runner:
    module: Any
    card: Card
    softmax: bool
    device: str
    rows: int

    def answer(self, batch: Batch) -> Array:
        """(n, ...) numbers of the module."""
        import torch

        data = module_input(batch, self.card.columns)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(data), self.rows):
                chunk = torch.from_numpy(data[start : start + self.rows]).to(self.device)
                raw = self.module(chunk)
                if not isinstance(raw, torch.Tensor):
                    raise InputError(f"the module answered a {type(raw).__name__}, not one tensor")
                if self.softmax:
                    raw = torch.sigmoid(raw) if _single(raw) else torch.softmax(raw, dim=-1)
                parts.append(raw.float().cpu().numpy())
        return np.concatenate(parts)

    def emit(self, graph: Graph) -> str:
        """The module through torch's exporter, spliced into the graph."""
        from conjoin.members.onnx import onnx_member

        columns = self.card.columns
        if not columns:
            raise NotExportableError(
                f"member {self.card.name!r} takes whatever numbers the batch has; name its columns to "
                "export it: wrap(module, columns=[...])"
            )
        kind, levels = self.card.kind, self.card.levels or None
        given = Given(self.card.name, kind, self.card.classes or None, levels, columns)
        return onnx_member(self._exported(), given, softmax=self.softmax).emit(graph)

    def _exported(self) -> bytes:
        import torch

        columns = self.card.columns
        shape = columns[0].shape if columns[0].type == "tensor" else (len(columns),)
        example = torch.zeros((2, *shape), device=self.device)
        target = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
            try:
                torch.onnx.export(
                    self.module, (example,), target, input_names=["x"], output_names=["y"], opset_version=17,
                    dynamic_axes={"x": {0: "rows"}, "y": {0: "rows"}}, dynamo=False,
                )  # fmt: skip
            except Exception as error:  # whatever an operator's own exporter raises
                raise NotExportableError(
                    f"member {self.card.name!r}: torch cannot export this module to ONNX: {error}"
                ) from error
        return target.getvalue()


def _single(raw: Any) -> bool:
    return bool(raw.ndim == 1 or raw.shape[-1] == 1)


def module_input(batch: Batch, columns: tuple[Column, ...]) -> Array:
    """(n, ...) float32: the one tensor that a module takes, of a batch's columns. Raises ColumnError."""
    names = [c.name for c in columns]
    read.require(batch, names)
    chosen = {n: batch[n] for n in names} if names else dict(batch)
    tensors = [a for a in chosen.values() if a.ndim > 1]
    if len(tensors) == 1 and (not names or len(names) == 1):
        return _float(tensors[0])
    if tensors:
        raise ColumnError(
            f"the batch has {len(tensors)} columns of tensors ({listed(chosen)}); say which the module "
            "reads: wrap(module, columns=[...])"
        )
    numeric = names or [n for n, a in chosen.items() if a.dtype.kind in "fiub"]
    if not numeric:
        raise ColumnError(f"the batch has no columns of numbers; it has {listed(batch)}")
    return _float(read.matrix(chosen, numeric))


def _float(array: Array) -> Array:
    return cast("Array", np.ascontiguousarray(array, dtype=np.float32))
