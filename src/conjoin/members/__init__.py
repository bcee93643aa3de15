"""Members: models that answer, and adapters that make members of foreign models.

`wrap` looks a model's library up in ADAPTERS, by the modules of its class and the classes above it, so that
no library is imported to recognise another. Libraries that are not here can bring an adapter of their own: an
entry point in the group "conjoin.members", named like the library's top module, that loads to
`(model, given, **options) -> Member`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.contracts import Column, ColumnType, Member
from conjoin.errors import InputError, listed
from conjoin.members.boosters import catboost_member, lightgbm_member, xgboost_member
from conjoin.members.function import function_member
from conjoin.members.onnx import onnx_member
from conjoin.members.predictions import predictions_member
from conjoin.members.remote import remote
from conjoin.members.sklearn import estimator_member
from conjoin.members.torch import module_member
from conjoin.members.wrapped import Given
from conjoin.outputs import Output
from conjoin.tables import batch_of

if TYPE_CHECKING:
    Adapter = Callable[..., Member[Any]]


def file_member(path: str | Path, given: Given, **options: Any) -> Member[Any]:
    """A member of a file: an ONNX model, or a table of predictions in any format that `read_table` knows."""
    from conjoin.tables import read_table

    if Path(path).suffix.lower() == ".onnx":
        return onnx_member(path, given, **options)
    return predictions_member(read_table(path), given, **options)


def _is_dataframe(model: object) -> bool:
    import narwhals.stable.v2 as nw

    return bool(nw.dependencies.is_into_dataframe(model))


def frame_member(frame: Any, given: Given, **options: Any) -> Member[Any]:
    """A member of predictions in a dataframe."""
    return predictions_member(batch_of(frame), given, **options)


ADAPTERS: dict[str, Adapter] = {
    "sklearn": estimator_member,
    "lightgbm": lightgbm_member,
    "xgboost": xgboost_member,
    "catboost": catboost_member,
    "torch": module_member,
    "onnx": onnx_member,
}
"""Top module of a library -> `(model, given, **options) -> Member`."""

BUILT_IN: tuple[tuple[tuple[type, ...], Adapter], ...] = (
    ((Output, np.ndarray, Mapping), predictions_member),
    ((bytes,), onnx_member),
    ((str, Path), file_member),
)
"""Types of Python and numpy that `wrap` takes."""

GROUP = "conjoin.members"
"""Entry points in which other packages bring adapters."""


def wrap(
    model: Any,
    /,
    *,
    name: str | None = None,
    kind: str | None = None,
    classes: Sequence[object] | None = None,
    levels: Sequence[float] | None = None,
    columns: Sequence[str | Column] | Mapping[str, ColumnType] | None = None,
    **options: Any,
) -> Member[Any]:
    """A member of a model that is already there.

    model: a fitted estimator or pipeline of scikit-learn; a model of LightGBM, XGBoost or CatBoost; a
    `torch.nn.Module`; an ONNX file, its bytes or its ModelProto; a function `batch -> array | Output`; or
    predictions made elsewhere (an Output, an array, a batch, a dataframe, a file of a table). A member is
    returned as it is.
    name: how people call it. kind: "probabilities", "values", "quantiles", "labels" or "embeddings", where
    the model does not say. classes: names of the classes in the model's own order. levels: of quantiles.
    columns: names of the columns it reads in the order in which it was fitted, or name -> type.
    options: those of the adapter: `rowwise` and `deterministic` for functions; `softmax`, `device` and `rows`
    for torch; `output` and `softmax` for ONNX; `key` and `keys` for predictions.

    Raises InputError where the model is not recognised, not fitted, or leaves open what it answers.

    >>> member = wrap(lambda batch: batch["x"] / 10, classes=["no", "yes"])
    >>> member.predict({"x": np.array([3.0])}).values
    array([[0.7, 0.3]])
    """
    given = Given(name, kind, classes, levels, columns)
    adapter = _adapter_of(model)
    if adapter is None:
        if options or given != Given():
            raise InputError("this is a member already; its card says its name, kind and columns")
        return model  # type: ignore[no-any-return]
    try:
        return adapter(model, given, **options)
    except TypeError as error:
        if options and "unexpected keyword argument" in str(error):
            raise InputError(f"a {type(model).__name__} takes no such option: {error}") from error
        raise


def _adapter_of(model: object) -> Adapter | None:
    """The adapter of a model, None for a member. Raises InputError where nothing is known of its library."""
    for types, adapter in BUILT_IN:
        if isinstance(model, types):
            return adapter
    roots = [cls.__module__.partition(".")[0] for cls in type(model).__mro__]
    for root in roots:
        if root in ADAPTERS:
            return ADAPTERS[root]
    if isinstance(model, Member):
        return None
    for point in importlib.metadata.entry_points(group=GROUP):
        if point.name in roots:
            return point.load()  # type: ignore[no-any-return]
    if _is_dataframe(model):
        return frame_member
    if isinstance(model, type):
        raise InputError(f"{model.__name__} is a class; wrap a fitted object of it")
    if callable(model):
        return function_member
    raise InputError(
        f"a {type(model).__module__}.{type(model).__qualname__} is not recognised; known are "
        f"{listed(ADAPTERS)}, ONNX files, functions and predictions. Wrap a function that calls it: "
        "wrap(lambda batch: ..., kind=..., classes=...)"
    )


__all__ = ["ADAPTERS", "remote", "wrap"]
