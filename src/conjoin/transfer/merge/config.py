"""The config of a merged model: that of the base, with what the merge changed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from conjoin.errors import FileError, listed
from conjoin.transfer.checkpoints.dtypes import FLOATS, NAMES
from conjoin.transfer.checkpoints.header import SIZES
from conjoin.transfer.merge.parts import Recipe
from conjoin.transfer.merge.plan import Plan
from conjoin.transfer.merge.vocabulary import read_bytes, read_vocabulary

CONFIG, GENERATION = "config.json", "generation_config.json"
DEPTHS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
"""Keys that hold the number of layers."""
_PER_LAYER = re.compile(r"layer|num_.*heads|intermediate_size|window|block|attention_types|rope|experts")
_NUMBERS = re.compile(r"(?:_only_layers|_layer_ids|_layer_idx|_layer_indices|_layers_idx)$")
_TOKEN = re.compile(r"_token_(?:id|index)s?$")


def configs_of(
    recipe: Recipe, found: Plan, folders: Sequence[Path]
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """config.json and generation_config.json of the answer, and notes. Raises FileError."""
    if not (folders[0] / CONFIG).is_file():
        return {}, ()
    read = [read_object(f / CONFIG) if (f / CONFIG).is_file() else {} for f in folders]
    config, notes = json.loads(json.dumps(read[0])), []
    _retype(recipe, found, config)
    for part in _parts(config):
        if found.joined.rows is not None and "vocab_size" in part:
            part["vocab_size"] = found.joined.rows
    if found.joined.rows is not None and not any("vocab_size" in p for p in _parts(config)):
        config["vocab_size"] = found.joined.rows
    if found.layers is not None:
        for part in _parts(config):
            _restack(config, part, read, found.layers)
    for prefix, layers in found.stacks.items():
        _restack(config, _part_of(config, prefix), read, layers)
    if found.untied:
        for part in _parts(config):
            if part is config or "tie_word_embeddings" in part:
                part["tie_word_embeddings"] = False
    home = found.joined.home
    if home:
        notes += _renumber(found, config, read[home], folders)
    if "auto_map" in config:
        notes.append("the config names code (auto_map), which is not copied; it must lie beside the model")
    out = {CONFIG: dumped(config)}
    generation = next(
        (f / GENERATION for f in (folders[home], folders[0]) if (f / GENERATION).is_file()), None
    )
    if generation is not None:
        out[GENERATION] = generation.read_bytes()
        if home and generation.parent != folders[home]:
            settings = read_object(generation)
            notes += _renumber(found, settings, read[home], folders)
            out[GENERATION] = dumped(settings)
    return out, tuple(dict.fromkeys(notes))


def dumped(found: Any) -> bytes:
    """JSON as people read it."""
    return (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode()


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises FileError."""
    try:
        found = json.loads(read_bytes(path))
    except FileError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise FileError(f"{path} must hold a JSON object")
    return found


def _parts(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The config, and those of its language model within."""
    yield config
    for key in ("text_config", "llm_config", "language_config"):
        if isinstance(config.get(key), dict):
            yield config[key]


def _retype(recipe: Recipe, found: Plan, config: dict[str, Any]) -> None:
    """The type of most weights, where the recipe gives one or the config has another one."""
    sizes: Counter[str] = Counter()
    for task in found.tasks:
        if task.dtype in FLOATS:
            sizes[task.dtype] += SIZES[task.dtype] * max(1, _product(task.shape))
    if not sizes:
        return
    most = recipe.out_dtype or recipe.dtype or sizes.most_common(1)[0][0]
    name = next((n for n, d in NAMES.items() if d == most), most.lower())
    if recipe.out_dtype or recipe.dtype or "dtype" in config or "torch_dtype" in config:
        config["dtype" if "dtype" in config else "torch_dtype"] = name
    for part in config.values():
        if isinstance(part, dict):
            for key in ("dtype", "torch_dtype"):
                if isinstance(part.get(key), str):
                    part[key] = name


def _product(shape: Sequence[int]) -> int:
    out = 1
    for size in shape:
        out *= size
    return out


def _part_of(config: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The part of a config that a stack of layers belongs to, by the prefix of its tensors."""
    for sense in ("vision", "visual", "audio"):
        if sense in prefix:
            wanted = "vision" if sense == "visual" else sense
            return next((v for k, v in config.items() if wanted in k and isinstance(v, dict)), config)
    return list(_parts(config))[-1]


def _restack(
    config: dict[str, Any],
    part: dict[str, Any],
    every: Sequence[Mapping[str, Any]],
    layers: Sequence[tuple[int, int]],
) -> None:
    """The number of layers, and lists with an item for each or with numbers of layers."""
    depth = next((part[k] for k in DEPTHS if type(part.get(k)) is int), None)
    if depth is None:
        return
    for key, value in part.items():
        if not isinstance(value, list) or _TOKEN.search(key):
            continue
        if _NUMBERS.search(key) and all(type(v) is int for v in value):
            part[key] = [new for new, (_, old) in enumerate(layers) if old in value]
        elif len(value) == depth and _PER_LAYER.search(key):
            theirs = [_same_part(config, part, other).get(key) for other in every]
            part[key] = [_item(theirs, model, i, value) for model, i in layers]
    for key in DEPTHS:
        if type(part.get(key)) is int:
            part[key] = len(layers)


def _same_part(config: dict[str, Any], part: dict[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    name = next((k for k, v in config.items() if v is part), None)
    found = other if name is None else other.get(name)
    return found if isinstance(found, Mapping) else {}


def _item(theirs: Sequence[Any], model: int, layer: int, value: Sequence[Any]) -> Any:
    found = theirs[model] if isinstance(theirs[model], list) else value
    return found[layer] if layer < len(found) else value[min(layer, len(value) - 1)]


def _renumber(
    found: Plan, config: dict[str, Any], home: Mapping[str, Any], folders: Sequence[Path]
) -> list[str]:
    """Ids of tokens (eos_token_id and so on) in the vocabulary of another model than the base."""
    base = read_vocabulary(folders[0])
    texts = {i: t for t, i in base.ids.items()} if base else {}
    ids = found.joined.vocabulary.ids if found.joined.vocabulary else {}
    lost = []
    for part in _parts(config):
        for key, value in list(part.items()):
            if not _TOKEN.search(key) or value is None:
                continue
            if key in home:
                part[key] = home[key]
                continue
            numbers = value if isinstance(value, list) else [value]
            moved = [ids.get(texts.get(n, "")) for n in numbers]
            if any(n is None for n in moved):
                lost.append(key)
                part[key] = None
            else:
                part[key] = moved if isinstance(value, list) else moved[0]
    return [f"tokens of the config are not in the new vocabulary: {listed(lost)}"] if lost else []
