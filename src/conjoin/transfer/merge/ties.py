"""Tied weights: a tensor that some models store and others leave out, because it is their embedding."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from conjoin.transfer.checkpoints import Weights

CONFIG, MOST = "config.json", 100_000_000
KEY = "tie_word_embeddings"
_HEAD = re.compile(
    r"(?:^|\.)(?:lm_head|output|embed_out|proj_out|output_projection|predictions\.decoder|lm_head\.decoder)"
    r"\.weight$|(?:^|\.)(?:encoder|decoder)\.embed_tokens\.weight$"
)
_EMBEDDING = re.compile(
    r"(?:^|\.)(?:shared|embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|tokens_embed|token_embedding)"
    r"\.weight$"
)
_BIAS = re.compile(r"(?:^|\.)(?:predictions|lm_head)\.decoder\.bias$")
BLOCK = 1 << 20


def twin(model: Weights, name: str) -> str | None:
    """The tensor of this model that `name` would be tied to: its embedding. None where `name` is no head, or
    the model has no embedding.
    """
    if _BIAS.search(name):
        plain = name.replace(".decoder.bias", ".bias")
        return plain if plain in model else None
    if not _HEAD.search(name):
        return None
    found = [n for n in model if _EMBEDDING.search(n) and n != name and len(model[n].entry.shape) == 2]
    return min(found, key=lambda n: (not n.endswith("shared.weight"), len(n))) if found else None


def says_tied(model: Weights) -> bool | None:
    """What the model's config says of its head; None where it says nothing."""
    path = (model.path if model.path.is_dir() else model.path.parent) / CONFIG
    try:
        if path.stat().st_size > MOST:
            return None
        found: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    inner = found.get("text_config")
    for part in (found, inner if isinstance(inner, dict) else {}):
        if isinstance(part.get(KEY), bool):
            return bool(part[KEY])
    return None


def same(model: Weights, one: str, other: str) -> bool:
    """Whether two tensors of a model are the same to the bit."""
    first, second = model[one].entry, model[other].entry
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    a, b = _bits(model.array(one)), _bits(model.array(other))
    return all(np.array_equal(a[i : i + BLOCK], b[i : i + BLOCK]) for i in range(0, len(a), BLOCK))


def _bits(array: Any) -> Any:
    return array.reshape(-1).view(f"u{array.dtype.itemsize}")
