"""The values of a method's parameters for one tensor, from a recipe's settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conjoin.errors import InputError
from conjoin.transfer.merge.recipe import Input, Recipe, Settings
from conjoin.transfer.weights import checked

DIVIDED = {"linear": "normalize", "multislerp": "normalize_weights"}
"""Methods that divide by the sum of the weights -> the parameter that says so."""


def values_of(
    recipe: Recipe, outer: Sequence[Settings], name: str, inputs: Sequence[tuple[Input, str]], depth: float
) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """Parameters of the tensor `name`, and those of its models.

    outer: settings that hold for all models, the nearest first. inputs: the models, each with its own name of
    the tensor. depth: 0 in the first layer, 1 in the last. Raises InputError with the line.
    """
    shared: dict[str, Any] = {}
    each: dict[str, tuple[Any, ...]] = {}
    for wanted, spec in recipe.method.parameters.items():
        if spec.per_model:
            values = [_value(recipe, wanted, (s.parameters, *outer), n, depth, s) for s, n in inputs]
            each[wanted] = tuple(values)
        else:
            shared[wanted] = _value(recipe, wanted, outer, name, depth, None)
    switch = DIVIDED.get(recipe.method.name)
    if switch and shared[switch] and sum(each["weight"]) == 0:
        recipe.refuse(
            f"the weights of {name} sum to 0; change them, or set {switch}: false",
            recipe.lines.get("merge_method", 0),
        )
    return shared, each


def _value(
    recipe: Recipe, wanted: str, levels: Sequence[Settings], name: str, depth: float, source: Input | None
) -> Any:
    method = recipe.method
    for settings in levels:
        if wanted in settings:
            found = settings[wanted].at(name, depth, lambda v: checked(method, wanted, v))
            if found is not None:
                return found
    try:
        return checked(method, wanted, None)
    except InputError as error:
        of = f" of {source.model}" if source else ""
        line = source.line if source else recipe.lines.get("merge_method", 0)
        recipe.refuse(f"{error} for {name}{of}", line)
