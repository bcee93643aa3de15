"""Recipes as records; `recipe_of` gives the YAML that conjoin reads."""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import yaml

ParameterSetting = Any


@dataclass
class InputModelDefinition:
    model: str
    parameters: dict | None = None


@dataclass
class InputSliceDefinition:
    model: str
    layer_range: list
    parameters: dict | None = None


@dataclass
class OutputSliceDefinition:
    sources: list
    base_model: str | None = None
    parameters: dict | None = None


@dataclass
class MergeConfiguration:
    merge_method: str
    base_model: str | None = None
    models: list | None = None
    slices: list | None = None
    modules: dict | None = None
    parameters: dict | None = field(default=None)
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    tokenizer: Any = None
    chat_template: str | None = None


def recipe_of(config):
    """The YAML of a configuration."""
    return yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True)


def _plain(value):
    if is_dataclass(value):
        found = {f.name: getattr(value, f.name) for f in fields(value)}
        return {k: _plain(v) for k, v in found.items() if v is not None and v != {}}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
