"""What lies beside the weights of a model: its config, and its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conjoin.errors import FileError, InputError
from conjoin.transfer.merge.plan import Plan
from conjoin.transfer.merge.recipe import Recipe

CONFIG = "config.json"
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "chat_template.jinja",
)
OTHERS = ("generation_config.json", "preprocessor_config.json", "processor_config.json")
DEPTHS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
"""Keys of a config that hold the number of layers."""
MOST = 500_000_000


def files_of(recipe: Recipe, found: Plan) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The files of the answer by name, and notes. They are the base's, or the first model's.

    Raises InputError where the recipe asks for a tokenizer and those of the models differ.
    """
    folders = [_folder(c.path) for c in found.inputs]
    notes = _tokens(recipe, found.models, folders)
    home = folders[0]
    if recipe.tokens and recipe.tokens.source not in ("base", "union"):
        home = folders[found.models.index(recipe.tokens.source)]
    out = {name: _read(home / name) for name in TOKENIZER if (home / name).is_file()}
    out |= {name: _read(folders[0] / name) for name in OTHERS if (folders[0] / name).is_file()}
    if (folders[0] / CONFIG).is_file():
        configs = {i: f / CONFIG for i, f in enumerate(folders)}
        out[CONFIG] = _config(recipe, found, configs[0])
    return out, notes


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST:
            raise FileError(f"{path} is larger than any such file")
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is no JSON: {error}") from error


def _config(recipe: Recipe, found: Plan, path: Path) -> bytes:
    """The config with the type of the weights and the number of layers of the answer."""
    config = _json(path)
    if not isinstance(config, dict):
        raise FileError(f"{path} must hold a JSON object")
    wanted = recipe.out_dtype or recipe.dtype
    if wanted:
        names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
        key = "dtype" if "dtype" in config else "torch_dtype"
        config[key] = names.get(wanted, wanted.lower())
    if found.layers is not None:
        for part in (config, config.get("text_config")):
            if isinstance(part, dict):
                _restack(part, found.layers)
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()


def _restack(config: dict[str, Any], layers: Sequence[tuple[int, int]]) -> None:
    for key in DEPTHS:
        if isinstance(config.get(key), int):
            config[key] = len(layers)
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and all(i < len(kinds) for _, i in layers):
        config["layer_types"] = [kinds[i] for _, i in layers]


def _tokens(recipe: Recipe, models: Sequence[str], folders: Sequence[Path]) -> tuple[str, ...]:
    """Notes about tokenizers. Raises InputError."""
    line = recipe.lines.get("tokenizer_source", recipe.lines.get("tokenizer", 0))
    if recipe.tokens and recipe.tokens.source not in ("base", "union", *models):
        recipe.refuse(f"the tokenizer of {recipe.tokens.source!r} is no model of this recipe", line)
    paths = [f / "tokenizer.json" for f in folders]
    there = [p for p in paths if p.is_file()]
    other = [p for p in there if _read(p) != _read(there[0]) and _vocabulary(p) != _vocabulary(there[0])]
    if recipe.tokens and (other or len(there) < len(paths)):
        which = other[0] if other else next(p for p in paths if not p.is_file())
        recipe.refuse(
            f"{which} has another vocabulary than {there[0] if there else paths[0]}, or is not there; "
            "vocabularies that differ are not joined yet",
            line,
        )
    if other:
        return (f"{other[0]} has another vocabulary than {there[0]}; the tokenizer is that of {models[0]}",)
    return ()


def _vocabulary(path: Path) -> Any:
    found = _json(path)
    try:
        added = sorted((t["id"], t["content"]) for t in found.get("added_tokens") or [])
        return (found.get("model") or {}).get("vocab"), added
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no tokenizer: {error!r}") from error
