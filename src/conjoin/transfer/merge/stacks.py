"""Where the layers of a model are, told from the names of its tensors; and which part of it a module is.

A stack is all that is called `prefix.NUMBER.rest`: `model.layers.`, `encoder.block.`, `vision.blocks.`. The
first number of a name is that of its layer, so experts (`layers.3.mlp.experts.7.up`) stay inside their layer;
a number at the very start that is always the same (`0.model.layers.3.up`) is a part of the prefix.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_NUMBER = re.compile(r"^(.*?(?:^|\.))(\d+)(?:\.|$)")
OTHER_SENSES = re.compile(r"vision|visual|image|vit\b|audio|speech|merger|projector|connector", re.IGNORECASE)
"""Stacks that do not read text, in models that also read text."""
ROLES = {
    "text": re.compile(r"(?:^|\.)(?:language_model|text_model|text_decoder|llm)\."),
    "vision": re.compile(r"(?:^|\.)[^.]*(?:vision|visual|image)[^.]*\."),
    "audio": re.compile(r"(?:^|\.)[^.]*(?:audio|speech)[^.]*\."),
    "projector": re.compile(r"(?:^|\.)[^.]*(?:projector|merger|connector|aligner)[^.]*\."),
}
"""What tensors of a part are called -> its name in modules of any architecture."""
REST = ("default", "text", "text_decoder", "text_model", "language_model", "decoder", "shared")
"""Modules that take what no other module takes, the first that is there."""
SECOND = 0.5
"""A second stack with this share of the tensors of the largest is as important."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the tensors of a model stand.

    >>> found = Layout(["emb.w", "h.0.a", "h.0.experts.4.b", "h.1.a", "head.0.w"])
    >>> found.counts
    {'h.': 2, 'head.': 1}
    >>> found.place("h.0.experts.4.b"), found.depth("h.1.a"), found.depth("emb.w")
    (('h.', 0), 1.0, 0.0)
    """

    names: Sequence[str]

    @cached_property
    def _fixed(self) -> str:
        """The number at the start of every name that has one, with its dot, where it is always the same."""
        first = {n.partition(".")[0] for n in self.names}
        found = {f for f in first if f.isdigit()}
        return f"{found.pop()}." if len(found) == 1 and len(first) == 1 else ""

    @cached_property
    def places(self) -> Mapping[str, tuple[str, int]]:
        """Tensors of stacks -> the prefix of their stack and the number of their layer."""
        skip, out = len(self._fixed), {}
        for name in self.names:
            if found := _NUMBER.match(name[skip:]):
                out[name] = (name[:skip] + found[1], int(found[2]))
        return out

    @cached_property
    def counts(self) -> dict[str, int]:
        """Prefix -> how many layers its stack has."""
        out: dict[str, int] = {}
        for prefix, number in self.places.values():
            out[prefix] = max(out.get(prefix, 0), number + 1)
        return out

    def place(self, name: str) -> tuple[str, int] | None:
        """The stack and layer of a tensor; None beside the stacks."""
        return self.places.get(name)

    def depth(self, name: str) -> float:
        """How deep in its stack a tensor is: 0 in the first layer and beside the stacks, 1 in the last."""
        found = self.place(name)
        if found is None:
            return 0.0
        last = self.counts[found[0]] - 1
        return found[1] / last if last else 1.0

    def main(self, names: Iterable[str]) -> tuple[str, ...]:
        """The stack that recipes without modules mean by "layers": of those that read text the one with the
        most tensors. More than one where others are as large (encoder and decoder); none without stacks.
        """
        sizes = Counter(self.places[n][0] for n in names if n in self.places)
        text = {p: c for p, c in sizes.items() if not OTHER_SENSES.search(p)} or dict(sizes)
        if not text:
            return ()
        largest = max(text, key=lambda p: (text[p], p))
        return (largest, *(p for p in text if p != largest and text[p] >= SECOND * text[largest]))


def owners(names: Iterable[str], modules: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Tensor -> its module, and tensors that belong to none.

    A module is named by a part of the names (`encoder`, `visual`, `model.language_model`), by its stack
    (`model.layers`), or by its role (text, vision, audio, projector). Where several fit, the longer wins.

    >>> owners(["visual.0.w", "visual.merger.w", "head.w"], ["vision_tower", "projector", "text"])[0]
    {'visual.0.w': 'vision_tower', 'visual.merger.w': 'projector', 'head.w': 'text'}
    """
    tests = {m: _tests(m) for m in modules}
    rest = next((r for r in REST if r in modules), None)
    out, none = {}, []
    for name in names:
        ends = {m: max((t.end() for r in rs if (t := r.search(name))), default=0) for m, rs in tests.items()}
        best = max(ends, key=lambda m: ends[m], default="")
        if best and ends[best]:
            out[name] = best
        elif rest:
            out[name] = rest
        else:
            none.append(name)
    return out, none


def _tests(module: str) -> list[re.Pattern[str]]:
    own = re.compile(rf"(?:^|\.){re.escape(module.strip('.'))}(?:\.|$)")
    return [own, *(ROLES[r] for r in ROLES if role(module) == r)]


def role(text: str) -> str:
    """What a module or a stack reads: text, vision, audio, projector; else an empty word.

    >>> role("vision_tower"), role("model.visual.blocks."), role("encoder")
    ('vision', 'vision', '')
    """
    for name in ("projector", "vision", "audio", "text"):
        if ROLES[name].search(f"{text.strip('.')}.") or text == name:
            return name
    return ""


def set_depth(config: dict[str, Any], prefix: str, count: int) -> bool:
    """Put the number of layers of a stack into a model's config; whether there was a place for it.

    >>> config = {"encoder_layers": 4, "decoder_layers": 4, "num_hidden_layers": 4}
    >>> set_depth(config, "model.decoder.layers.", 6), config["decoder_layers"], config["encoder_layers"]
    (True, 6, 4)
    """
    kind = role(prefix)
    if kind in ("vision", "audio"):
        part = config.get(f"{kind}_config")
        keys: tuple[str, ...] = ("num_hidden_layers", "depth", "layers", "encoder_layers")
    elif "decoder" in prefix:
        part, keys = config, ("decoder_layers", "num_decoder_layers")
    elif "encoder" in prefix:
        part, keys = config, ("encoder_layers", "num_encoder_layers")
        if "num_decoder_layers" in config:
            keys = (*keys, "num_layers")
    else:
        part, keys = config, ()
    if not isinstance(part, dict):
        return False
    held = [k for k in keys if isinstance(part.get(k), int)]
    for key in held:
        part[key] = count
    return bool(held)
